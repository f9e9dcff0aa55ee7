"""Key pools as a client meets them: who is called with which key, and what becomes of those that are limited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.behaviours.accounts import (
    AccountUpstream,
    limited,
    limited_elsewhere,
    out_of_free_requests,
    refusing,
    with_quota,
)
from tests.behaviours.gateway import Running, running
from tests.faults import client
from tests.faults.replies import good, ok_paced
from tests.faults.upstream import FaultUpstream

ROUTES = """
providers:
  up:
    dialect: openai
    base_url: "{up}"
    price: {{input: $1/M, output: $2/M}}
    api_keys: [{{key: sk-a, name: a}}, {{key: sk-b, name: b}}, {{key: sk-c, name: c}}]
  paced:
    dialect: openai
    base_url: "{up}"
    price: {{input: $1/M, output: $2/M}}
    api_keys: [{{key: sk-a, name: a, rate: 2/min}}, {{key: sk-b, name: b, rate: 3/min}}]
  narrow:
    dialect: openai
    base_url: "{up}"
    price: {{input: $1/M, output: $2/M}}
    api_keys: [{{key: sk-a, name: a, parallel: 1}}, {{key: sk-b, name: b, parallel: 1}}]
  claude:
    dialect: anthropic
    base_url: "{up}"
    price: {{input: $1/M, output: $2/M}}
    api_keys: [sk-a, sk-b]
  router:
    dialect: openrouter
    base_url: "{up}"
    api_keys: [{{key: sk-a, name: a}}, {{key: sk-f, name: gratis, free: true}}]
    model_rates: {{}}
  gratis:
    dialect: openrouter
    base_url: "{up}"
    api_keys: [{{key: sk-f, free: true}}]
  crowd:
    dialect: openai
    base_url: "{up}"
    api_keys: [{crowd}]
  spare: {{dialect: openai, base_url: "{spare}", price: {{input: $1/M, output: $2/M}}}}
models:
  m: up/m
  backed: [up/m, spare/m]
  few: paced/m
  few-backed: [paced/m, spare/m]
  slim: narrow/m
  sonnet: claude/sonnet
  free: "router/x/y:free"
  paid: router/x/y
  only-free: [gratis/x/y, spare/m]
  many: crowd/m
defaults: {{retry: {{attempts: 1}}}}
keys: [{{name: app, key: "{{key}}"}}]
"""
CROWD = 30


class Stage:
    """A gateway, the upstream with accounts behind it, and another one behind that."""

    def __init__(self, gateway: Running, up: AccountUpstream, spare: FaultUpstream) -> None:
        """Keep all three."""
        self.gateway = gateway
        self.up = up
        self.spare = spare

    async def ask(self, model: str = "m", **fields: Any) -> client.Answer:
        """Ask for a model."""
        return await client.ask(self.gateway.url, client.chat(model, **fields), key=self.gateway.key)

    async def ask_all(self, count: int, model: str = "m") -> list[int]:
        """Ask so often at once, and give the statuses."""
        return [answer.status for answer in await asyncio.gather(*(self.ask(model) for _ in range(count)))]

    async def labels(self) -> list[str | None]:
        """Give which keys the books name, in order."""
        return [row.upstream_key for row in await self.gateway.settled_rows(0)]


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Serve pools."""
    async with AccountUpstream() as up, FaultUpstream() as spare:
        crowd = ", ".join(f"sk-{number}" for number in range(CROWD))
        routes = ROUTES.format(up=up.base_url, spare=spare.base_url, crowd=crowd)
        async with running(routes, tmp_path) as gateway:
            yield Stage(gateway, up, spare)


async def test_with_nothing_known_all_keys_take_turns(stage: Stage) -> None:
    """Thirty requests at once: ten calls with each of three keys, and the books say which."""
    assert await stage.ask_all(30) == [200] * 30
    assert stage.up.calls == {"sk-a": 10, "sk-b": 10, "sk-c": 10}
    labels = await stage.labels()
    assert {label: labels.count(label) for label in "abc"} == {"a": 10, "b": 10, "c": 10}


async def test_the_key_under_the_fewest_calls_is_next(stage: Stage) -> None:
    """Two keys are busy with a long answer, so a third and a fourth request both go to the idle one."""
    slow = ok_paced(5, every_s=0.1).plan
    stage.up.plans |= {"sk-a": slow, "sk-b": slow}
    busy = [asyncio.ensure_future(stage.ask(stream=True)) for _ in range(2)]
    await stage.up.received(2)
    for _ in range(3):
        assert (await stage.ask()).status == 200
    await asyncio.gather(*busy)
    assert stage.up.calls == {"sk-a": 1, "sk-b": 1, "sk-c": 3}


async def test_the_key_with_most_left_is_next(stage: Stage) -> None:
    """Once each has told what is left, the fullest one serves."""
    stage.up.plans |= {"sk-a": with_quota(5, 100), "sk-b": with_quota(90, 100), "sk-c": with_quota(40, 100)}
    for _ in range(8):
        assert (await stage.ask()).status == 200
    assert stage.up.calls == {"sk-a": 1, "sk-b": 6, "sk-c": 1}


async def test_a_key_with_nothing_left_is_not_called_until_it_has(stage: Stage) -> None:
    """It said so itself, with a good answer; the moment its window ends it is full again."""
    stage.up.plans |= {"sk-a": with_quota(0, 100, reset="2s"), "sk-b": with_quota(50, 100), "sk-c": limited("60")}
    for _ in range(6):
        assert (await stage.ask()).status == 200
    assert stage.up.calls["sk-a"] == 1
    await asyncio.sleep(2.05)
    assert (await stage.ask()).status == 200
    assert stage.up.calls["sk-a"] == 2


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_limited_key_makes_way_at_once_and_rests(stage: Stage, *, is_stream: bool) -> None:
    """The request is answered with the next key, both attempts are in the books, and the others go on."""
    stage.up.plans["sk-a"] = limited("30")
    answers = [await stage.ask(stream=is_stream) for _ in range(7)]
    assert [answer.status for answer in answers] == [200] * 7
    assert [answer.headers["x-turnpike-attempts"] for answer in answers] == ["2", *["1"] * 6]
    assert stage.up.calls == {"sk-a": 1, "sk-b": 4, "sk-c": 3}
    first, second, *_ = await stage.gateway.settled_rows(8)
    assert [(row.upstream_key, row.status, row.cost_source) for row in (first, second)] == [
        ("a", 429, None),
        ("b", 200, "computed"),
    ]
    assert "sk-a" not in str(await stage.gateway.rows())


async def test_a_limited_key_is_back_when_its_time_is_over(stage: Stage) -> None:
    """A second is a second."""
    stage.up.plans["sk-a"] = limited("1")
    assert await stage.ask_all(3) == [200] * 3
    del stage.up.plans["sk-a"]
    assert stage.up.calls["sk-a"] == 1
    await asyncio.sleep(1.05)
    assert await stage.ask_all(6) == [200] * 6
    assert stage.up.calls["sk-a"] > 1


async def test_when_every_key_rests_the_client_is_told_the_smallest_wait(stage: Stage) -> None:
    """429 without another call upstream, and with what is left of the first rest."""
    stage.up.plans |= {"sk-a": limited("30"), "sk-b": limited("12"), "sk-c": limited("45")}
    answer = await stage.ask()
    assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
    assert 2 < float(answer.headers["retry-after"]) <= 12
    assert [one["reason"] for one in answer.error["metadata"]["attempts"]] == ["rate_limited"] * 3
    again = await stage.ask()
    assert again.status == 429
    assert 2 < float(again.headers["retry-after"]) <= 12
    assert len(stage.up.exchanges) == 3
    assert len(await stage.gateway.settled_rows(3)) == 3


async def test_when_every_key_rests_the_next_target_answers(stage: Stage) -> None:
    """At the first request after three calls, from then on at once."""
    stage.up.plans |= dict.fromkeys(("sk-a", "sk-b", "sk-c"), limited("30"))
    answers = [await stage.ask("backed") for _ in range(2)]
    assert [(one.status, one.headers["x-turnpike-attempts"]) for one in answers] == [(200, "4"), (200, "1")]
    assert len(stage.up.exchanges) == 3
    assert len(stage.spare.exchanges) == 2


@pytest.mark.parametrize(("status", "why"), [(401, "credentials"), (402, "credits"), (403, "credentials")])
async def test_a_refused_key_rests_and_health_says_so(stage: Stage, status: int, why: str) -> None:
    """The others go on; the gateway is degraded, without a name."""
    stage.up.plans["sk-b"] = refusing(status)
    health = (await client.get(stage.gateway.url, "/health")).json
    assert health["status"] == "ok"
    assert [(await stage.ask()).status for _ in range(6)] == [200] * 6
    assert stage.up.calls["sk-b"] == 1
    rows = await stage.gateway.settled_rows(7)
    assert [row.error for row in rows if row.upstream_key == "b"] == [why]
    answer = await client.get(stage.gateway.url, "/health")
    assert (answer.status, answer.json["status"]) == (200, "degraded")
    assert b"up/" not in answer.body


async def test_when_every_key_is_refused_it_is_the_gateways_matter(stage: Stage) -> None:
    """503 that no SDK tries again, now and while they rest."""
    stage.up.plans |= dict.fromkeys(("sk-a", "sk-b", "sk-c"), refusing(401))
    for _ in range(2):
        answer = await stage.ask()
        assert (answer.status, answer.error["code"]) == (503, "upstream_credentials")
        assert answer.headers["x-should-retry"] == "false"
    assert len(stage.up.exchanges) == 3


async def test_one_dead_key_does_not_hide_that_the_others_are_only_limited(stage: Stage) -> None:
    """Waiting helps, so the client is told to wait, whichever key was tried last."""
    stage.up.plans |= {"sk-a": limited("20"), "sk-b": limited("40"), "sk-c": refusing(401)}
    for _ in range(2):
        answer = await stage.ask()
        assert answer.status == 429
        assert 5 < float(answer.headers["retry-after"]) <= 20


async def test_a_free_key_serves_what_costs_nothing_and_nothing_else(stage: Stage) -> None:
    """It goes first there; the key with credit is kept for what needs credit."""
    assert [(await stage.ask("free")).status for _ in range(3)] == [200] * 3
    assert [(await stage.ask("paid")).status for _ in range(3)] == [200] * 3
    assert [(one.body["model"], one.headers["authorization"]) for one in stage.up.exchanges] == [
        *[("x/y:free", "Bearer sk-f")] * 3,
        *[("x/y", "Bearer sk-a")] * 3,
    ]
    assert (await stage.ask("only-free")).headers["x-turnpike-provider"] == "spare"


async def test_a_days_free_requests_used_up_rest_the_free_models_alone(stage: Stage) -> None:
    """The 429 names window and reset: the free models wait for it, what costs money goes on with the same key."""
    reset_ms = int((time.time() + 3_000) * 1000)
    stage.up.plans |= {"sk-f": out_of_free_requests(reset_ms), "sk-a": out_of_free_requests(reset_ms, limit=1000)}
    answer = await stage.ask("free")
    assert (answer.status, answer.headers["retry-after"]) == (429, "60")
    assert (await stage.ask("free")).status == 429
    assert (await stage.ask("paid")).status == 200
    assert stage.up.calls == {"sk-f": 1, "sk-a": 2}


async def test_a_limit_behind_openrouter_is_no_keys(stage: Stage) -> None:
    """No other key would be answered: none is tried, and none rests."""
    stage.up.plans["sk-a"] = limited_elsewhere()
    for _ in range(2):
        answer = await stage.ask("paid")
        assert answer.status == 429
        assert len(answer.error["metadata"]["attempts"]) == 1
    assert stage.up.calls == {"sk-a": 2}


async def test_rates_of_the_keys_are_kept_by_the_books(stage: Stage) -> None:
    """Two a minute with one key and three with the other: five of thirty, and nothing more goes out."""
    statuses = await stage.ask_all(30, "few")
    assert (statuses.count(200), statuses.count(429)) == (5, 25)
    assert stage.up.calls == {"sk-a": 2, "sk-b": 3}
    answer = await stage.ask("few")
    assert 30 < float(answer.headers["retry-after"]) <= 61
    assert (await stage.ask("few-backed")).headers["x-turnpike-provider"] == "spare"


async def test_calls_at_once_of_a_key_are_kept_by_the_books(stage: Stage) -> None:
    """One stream with each key; the third request is refused until one ends."""
    stage.up.plans |= dict.fromkeys(("sk-a", "sk-b"), ok_paced(5, every_s=0.1).plan)
    busy = [asyncio.ensure_future(stage.ask("slim", stream=True)) for _ in range(2)]
    await stage.up.received(2)
    assert (await stage.ask("slim")).status == 429
    await asyncio.gather(*busy)
    assert (await stage.ask("slim")).status == 200
    assert stage.up.calls["sk-a"] + stage.up.calls["sk-b"] == 3


async def test_a_crowd_of_limited_keys_is_not_tried_to_its_end(stage: Stage) -> None:
    """Sixteen make way, the seventeenth ends the request; those behind it begin with keys that do not rest."""
    stage.up.plans |= {f"sk-{number}": limited("60") for number in range(CROWD - 1)}
    assert (await stage.ask("many")).status == 429
    assert len(stage.up.exchanges) == 17
    assert (await stage.ask("many")).status == 200
    assert max(stage.up.calls.values()) == 1


async def test_other_dialects_have_their_own_header(stage: Stage) -> None:
    """Anthropic's key goes out as `x-api-key`, and only there."""
    stage.up.plans["sk-a"] = limited("9")
    assert (await stage.ask("sonnet")).status == 502
    assert [one.headers.get("x-api-key") for one in stage.up.exchanges] == ["sk-a", "sk-b"]
    assert not any("authorization" in one.headers for one in stage.up.exchanges)


async def test_a_client_that_leaves_gives_its_key_back(stage: Stage) -> None:
    """Nobody counts as under way who is not."""
    stage.up.plans["sk-a"] = ok_paced(200, every_s=0.05).plan
    async with client.call(stage.gateway.url, client.chat("m", stream=True), key=stage.gateway.key) as reply:
        await reply.head()
        await reply.leave()
    await stage.gateway.settled_rows()
    stage.up.plans["sk-a"] = good
    assert await stage.ask_all(3) == [200] * 3
    assert stage.up.calls == {"sk-a": 2, "sk-b": 1, "sk-c": 1}
