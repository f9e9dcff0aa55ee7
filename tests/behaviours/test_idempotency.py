"""`Idempotency-Key` as a client meets it: sent again it is never billed again (reliability.md R18)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.money import Budget, Period
from proxy.policy.limits import Limits
from tests.behaviours.gateway import Running, running
from tests.faults import chunks, client
from tests.faults.cuts import hang_mid_stream
from tests.faults.replies import ok
from tests.faults.serving import TurnpikeServer
from tests.faults.statuses import server_fault
from tests.faults.steps import Tokens
from tests.faults.upstream import FaultUpstream
from tests.torture.books import Books
from tests.torture.gates import Gate, held_back, held_midway

ROUTES = """
providers:
  up: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $10/M}}}}
models:
  m: up/one
  n: up/two
tenants: {{acme: {{}}, other: {{}}}}
defaults: {{retry: {{attempts: 1}}}}
keys:
  - {{name: phone, key: "{{key}}", tenant: acme, budget: $100/day}}
  - {{name: laptop, key: sk-test-laptop, tenant: acme}}
  - {{name: stranger, key: sk-test-stranger, tenant: other}}
  - {{name: loner, key: sk-test-loner}}
"""
COST = 57_000
"""7 tokens in and 5 out, in nano-USD."""


class Stage:
    """A gateway and the upstream behind it."""

    def __init__(self, gateway: Running, up: FaultUpstream) -> None:
        """Keep both."""
        self.gateway = gateway
        self.up = up

    async def ask(self, word: str = "k", *, key: str | None = None, **fields: Any) -> client.Answer:
        """Ask with an `Idempotency-Key`."""
        return await client.ask(self.gateway.url, a_chat(**fields), key=key or self.gateway.key, headers=keyed(word))


def a_chat(model: str = "m", prompt: str = "Say hello.", **fields: Any) -> Mapping[str, object]:
    """Write a request; streams ask for their usage."""
    if fields.get("stream"):
        fields["stream_options"] = {"include_usage": True}
    return client.chat(model, prompt, **fields)


def keyed(word: str) -> dict[str, str]:
    """Give the header."""
    return {"Idempotency-Key": word}


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Serve four keys of two tenants and none."""
    async with FaultUpstream() as up, running(ROUTES.format(up=up.base_url), tmp_path) as gateway:
        yield Stage(gateway, up)


@pytest.mark.parametrize("is_stream", [False, True], ids=["json", "stream"])
async def test_an_answer_is_replayed_as_it_was(stage: Stage, *, is_stream: bool) -> None:
    """Byte for byte, with one upstream call and one charge; the second row costs nothing and says who answered."""
    first = await stage.ask(stream=is_stream)
    again = await stage.ask(stream=is_stream)
    assert (first.status, again.status) == (200, 200)
    assert again.body == first.body
    assert again.end is client.Ended.COMPLETE
    assert again.headers["content-type"] == first.headers["content-type"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["x-turnpike-cost"] == "0.000000000"
    assert len(stage.up.exchanges) == 1
    made, replayed = await stage.gateway.settled_rows(2)
    assert (made.provider, made.cost_nano_usd) == ("up", COST)
    assert (replayed.provider, replayed.model, replayed.cost_nano_usd) == ("cache", "one", 0)
    assert (replayed.hold_nano_usd, replayed.state, replayed.status) == (0, "posted", 200)
    assert (replayed.saved_nano_usd, made.saved_nano_usd) == (COST, None)
    assert (replayed.usage.output_tokens, made.usage.output_tokens) == (0, 5)
    assert replayed.request_id == again.headers["x-request-id"]


@pytest.mark.parametrize("is_stream", [False, True], ids=["json", "stream"])
async def test_a_hundred_at_once_are_one_call_and_one_charge(stage: Stage, *, is_stream: bool) -> None:
    """Whoever comes while the first runs waits and gets its answer."""
    gate = Gate()
    stage.up.replace_script([held_back(gate, lambda _: Tokens(7, 5))])
    asking = [asyncio.create_task(stage.ask(stream=is_stream)) for _ in range(100)]
    await stage.up.received()
    await asyncio.sleep(0.2)
    gate.is_open = True
    answers = await asyncio.gather(*asking)
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 99
    assert len(stage.up.exchanges) == 1
    rows = await stage.gateway.settled_rows(100)
    assert sorted(row.cost_nano_usd or 0 for row in rows) == [0] * 99 + [COST]


async def test_a_changed_body_is_refused(stage: Stage) -> None:
    """422, and nothing goes upstream; members in another order and other spaces are no change."""
    await stage.ask(prompt="one")
    refused = await stage.ask(prompt="two")
    assert (refused.status, refused.error["code"]) == (422, "idempotency_key_reused")
    assert refused.headers["x-should-retry"] == "false"
    turned = b'{ "messages": [{"content": "one", "role": "user"}],  "model": "m" }'
    same = await client.ask(stage.gateway.url, turned, key=stage.gateway.key, headers=keyed("k"))
    assert (same.status, same.headers["idempotency-replayed"]) == (200, "true")
    assert len(stage.up.exchanges) == 1


async def test_a_changed_body_is_refused_while_the_first_runs(stage: Stage) -> None:
    """It neither waits nor takes the place of the first."""
    gate = Gate()
    stage.up.replace_script([held_back(gate, lambda _: Tokens(7, 5))])
    first = asyncio.create_task(stage.ask(prompt="one"))
    await stage.up.received()
    refused = await stage.ask(prompt="two")
    gate.is_open = True
    assert (refused.status, (await first).status) == (422, 200)


async def test_keys_of_a_tenant_share_and_nobody_else(stage: Stage) -> None:
    """The same word of another tenant's, or of a key without one, is another key."""
    await stage.ask()
    assert "idempotency-replayed" in (await stage.ask(key="sk-test-laptop")).headers
    assert "idempotency-replayed" not in (await stage.ask(key="sk-test-stranger")).headers
    assert "idempotency-replayed" not in (await stage.ask(key="sk-test-loner")).headers
    assert len(stage.up.exchanges) == 3


async def test_errors_are_not_kept(stage: Stage) -> None:
    """What was refused at the door or failed upstream is tried anew, under the same key."""
    invalid = await client.ask(
        stage.gateway.url, {"model": "m", "messages": []}, key=stage.gateway.key, headers=keyed("k")
    )
    assert invalid.status == 400
    stage.up.replace_script([server_fault(500), ok()])
    assert (await stage.ask()).status == 502
    answer = await stage.ask()
    assert answer.status == 200
    assert "idempotency-replayed" not in answer.headers


async def test_a_cut_stream_is_not_kept(stage: Stage) -> None:
    """Half an answer is none: the next one with the key gets a whole one."""
    mode = hang_mid_stream()
    stage.up.replace_script([mode, ok()])
    async with client.call(stage.gateway.url, a_chat(stream=True), key=stage.gateway.key, headers=keyed("k")) as reply:
        await anext(reply.events())
        await stage.up.stop()
        rest = await reply.read()
    assert b"error" in rest
    await stage.up.listen()
    answer = await stage.ask(stream=True)
    assert answer.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("word", ["", "x" * 256, "caf\xe9", "a\tb"])
async def test_a_bad_key_is_refused(stage: Stage, word: str) -> None:
    """One to 255 visible characters."""
    assert (await stage.ask(word)).status == 400
    assert not stage.up.exchanges


@pytest.mark.parametrize("how", list(client.Leaving))
@pytest.mark.parametrize("is_stream", [False, True], ids=["json", "stream"])
async def test_a_client_that_leaves_finds_its_answer_when_it_comes_back(
    stage: Stage, how: client.Leaving, *, is_stream: bool
) -> None:
    """The first call goes on without it, and is the only one."""
    gate = Gate()
    mode = held_midway(gate) if is_stream else held_back(gate, lambda _: Tokens(7, 3))
    stage.up.replace_script([mode])
    async with client.call(
        stage.gateway.url, a_chat(stream=is_stream), key=stage.gateway.key, headers=keyed("k")
    ) as reply:
        await stage.up.received()
        await asyncio.sleep(0.05)
        await reply.leave(how)
        again = asyncio.create_task(stage.ask(stream=is_stream))
        await asyncio.sleep(0.1)
        gate.is_open = True
        answer = await again
    assert (answer.status, answer.headers["idempotency-replayed"]) == (200, "true")
    if is_stream:
        assert answer.body.endswith(b"data: [DONE]\n\n")
    assert len(stage.up.exchanges) == 1
    rows = await stage.gateway.settled_rows(2)
    assert sorted(row.cost_nano_usd or 0 for row in rows) == [0, 37_000]
    assert {row.error for row in rows} == {None}


async def test_a_follower_becomes_the_first_when_that_fails(stage: Stage) -> None:
    """Nobody hangs: of those who wait one is the first then, and the others get its answer."""
    gate = Gate()
    stage.up.replace_script([held_back(gate, lambda _: Tokens(7, 5)), server_fault(500), ok()])
    first = asyncio.create_task(stage.ask())
    await stage.up.received()
    stage.up.replace_script([server_fault(500), ok()])
    followers = [asyncio.create_task(stage.ask()) for _ in range(5)]
    await asyncio.sleep(0.1)
    await stage.up.stop()
    await stage.up.listen()
    gate.is_open = True
    answers = await asyncio.gather(first, *followers)
    statuses = sorted(answer.status for answer in answers)
    assert statuses == [200] * 4 + [502] * 2
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 3


async def test_a_revoked_key_gets_no_replay(stage: Stage) -> None:
    """Nor one that may not ask for the model any more."""
    await stage.ask()
    assert await stage.gateway.gateway.ledger.revoke_key("phone")
    assert (await stage.ask()).status == 401


async def test_a_spent_budget_does_not_stand_in_the_way_of_a_replay(stage: Stage) -> None:
    """It costs nothing, so there is room for it."""
    await stage.ask()
    ledger = stage.gateway.gateway.ledger
    (record,) = [key for key in await ledger.list_keys() if key.name == "phone"]
    spent = Limits(budgets=(Budget(COST, Period.DAY),))
    await ledger.declare_keys([replace(record, limits=spent)])
    assert (await stage.ask(prompt="another", word="l")).status == 402
    again = await stage.ask()
    assert (again.status, again.headers["idempotency-replayed"]) == (200, "true")


@pytest.mark.parametrize("is_stream", [False, True], ids=["json", "stream"])
async def test_an_answer_outlives_kill_9(tmp_path: Path, *, is_stream: bool) -> None:
    """After a kill the same server on the same data folder gives the stored answer, and nothing goes upstream."""
    async with FaultUpstream() as up:
        server = TurnpikeServer(ROUTES.format(up=up.base_url).replace("{key}", "sk-test-phone"), tmp_path)
        try:
            await server.start()
            first = await client.ask(server.url, a_chat(stream=is_stream), key="sk-test-phone", headers=keyed("k"))
            await server.kill()
            await server.restart()
            again = await client.ask(server.url, a_chat(stream=is_stream), key="sk-test-phone", headers=keyed("k"))
        finally:
            await server.kill()
        assert again.body == first.body
        assert again.headers["idempotency-replayed"] == "true"
        assert len(up.exchanges) == 1
        rows = [row for found in Books(server.data).by_request().values() for row in found]
        assert sorted(row.cost_nano_usd or 0 for row in rows) == [0, COST]


async def test_a_killed_first_does_not_stand_in_the_way(tmp_path: Path) -> None:
    """The claim of a dead process counts for nothing: the retry is the first then, and waits for nobody."""
    async with FaultUpstream([hang_mid_stream(), ok()]) as up:
        server = TurnpikeServer(ROUTES.format(up=up.base_url).replace("{key}", "sk-test-phone"), tmp_path)
        try:
            await server.start()
            async with client.call(server.url, a_chat(stream=True), key="sk-test-phone", headers=keyed("k")) as reply:
                await anext(reply.events())
                await server.kill()
            await server.restart()
            answer = await client.ask(server.url, a_chat(stream=True), key="sk-test-phone", headers=keyed("k"))
        finally:
            await server.kill()
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert "idempotency-replayed" not in answer.headers
    assert answer.seconds < 2


async def test_two_processes_share_one_answer(tmp_path: Path) -> None:
    """Fifty with one key on either of two servers on one data folder: one upstream call, one charge."""
    gate = Gate()
    async with FaultUpstream([held_back(gate, lambda _: Tokens(7, 5))]) as up:
        routes = ROUTES.format(up=up.base_url).replace("{key}", "sk-test-phone")
        servers = [TurnpikeServer(routes, tmp_path) for _ in range(2)]
        try:
            for server in servers:
                await server.start()
            asking = [
                asyncio.create_task(client.ask(server.url, a_chat(), key="sk-test-phone", headers=keyed("k")))
                for _ in range(25)
                for server in servers
            ]
            await up.received()
            await asyncio.sleep(0.3)
            gate.is_open = True
            answers = await asyncio.gather(*asking)
        finally:
            for server in servers:
                await server.kill()
        assert {answer.status for answer in answers} == {200}
        assert len({answer.body for answer in answers}) == 1
        assert len(up.exchanges) == 1
        rows = [row for found in Books(tmp_path / "data").by_request().values() for row in found]
        assert sorted(row.cost_nano_usd or 0 for row in rows) == [0] * 49 + [COST]
    assert chunks.text(5) in answers[0].body.decode()
