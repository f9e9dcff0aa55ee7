"""The response cache as a client meets it: equal requests are answered once, and hits cost nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.replies.shelving import FILE_NAME
from tests.behaviours.gateway import Running, running
from tests.faults import chunks, client
from tests.faults.replies import answering, ok, plain
from tests.faults.serving import TurnpikeServer
from tests.faults.statuses import server_fault
from tests.faults.steps import Ask, Mode, Step, Tokens
from tests.faults.upstream import FaultUpstream
from tests.torture.gates import Gate, held_back

ROUTES = """
providers:
  up: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $10/M}}}}
models:
  m: {{targets: [up/one], cache: {{ttl: 10m}}}}
  brief: {{targets: [up/one], cache: 200ms}}
  plain: {{targets: [up/one]}}
  never: {{targets: [up/one], cache: false}}
  last: {{targets: [up/one, {{static: {{content: Busy.}}}}], cache: true}}
  "g/*": {{targets: ["up/*"], cache: true}}
  "r/*": {{targets: ["up/*"], cache: true, rate: 2/min}}
tenants: {{acme: {{}}, other: {{}}}}
defaults: {{retry: {{attempts: 1}}}}
keys:
  - {{name: phone, key: "{{key}}", tenant: acme, budget: $100/day}}
  - {{name: laptop, key: sk-test-laptop, tenant: acme}}
  - {{name: terse, key: sk-test-terse, tenant: acme, params: {{temperature: 0.5}}}}
  - {{name: narrow, key: sk-test-narrow, tenant: acme, models: [plain]}}
  - {{name: poor, key: sk-test-poor-key, tenant: acme, budget: $0.0007}}
  - {{name: stranger, key: sk-test-stranger, tenant: other}}
  - {{name: keeper, key: sk-test-keeper, cache: {{ttl: 1h}}}}
"""
COST = 57_000
"""7 tokens in and 5 out, in nano-USD."""
OFF = {"x-turnpike-cache": "off"}
ON = {"x-turnpike-cache": "on"}


class Stage:
    """A gateway and the upstream behind it."""

    def __init__(self, gateway: Running, up: FaultUpstream) -> None:
        """Keep both."""
        self.gateway = gateway
        self.up = up

    async def ask(
        self,
        model: str = "m",
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        path: str = client.CHAT,
        **fields: Any,
    ) -> client.Answer:
        """Ask; streams ask for their usage unless told otherwise."""
        return await client.ask(
            self.gateway.url, client.chat(model, **fields), key=key or self.gateway.key, headers=headers, path=path
        )

    async def word(self, model: str = "m", **how: Any) -> str | None:
        """Ask and give what the reply says of the cache."""
        answer = await self.ask(model, **how)
        assert answer.status == 200
        return answer.headers.get("x-turnpike-cache")


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Serve models and keys that cache, and some that do not."""
    async with FaultUpstream() as up, running(ROUTES.format(up=up.base_url), tmp_path) as gateway:
        yield Stage(gateway, up)


# ---------------------------------------------------------------- hits


async def test_an_equal_request_is_a_hit_and_costs_nothing(stage: Stage) -> None:
    """The same answer, its cost 0 in the body, the head and the books."""
    first, again = await stage.ask(), await stage.ask()
    assert (first.headers["x-turnpike-cache"], again.headers["x-turnpike-cache"]) == ("miss", "hit")
    assert again.json["choices"] == first.json["choices"]
    assert (first.json["usage"]["cost"], again.json["usage"]["cost"]) == (0.000057, 0)
    assert again.json["usage"]["completion_tokens"] == 5
    assert (again.headers["x-turnpike-cost"], again.headers["x-turnpike-provider"]) == ("0.000000000", "cache")
    assert again.headers["x-turnpike-attempts"] == "0"
    assert int(again.headers["age"]) <= 1
    assert len(stage.up.exchanges) == 1
    made, hit = await stage.gateway.settled_rows(2)
    assert (made.provider, made.cost_nano_usd) == ("up", COST)
    assert (hit.provider, hit.model, hit.route) == ("cache", "one", "m")
    assert (hit.cost_nano_usd, hit.cost_source, hit.hold_nano_usd) == (0, "computed", 0)
    assert (hit.saved_nano_usd, made.saved_nano_usd) == (COST, None)
    assert hit.request_id == again.headers["x-request-id"]


async def test_a_stream_is_replayed_as_a_stream(stage: Stage) -> None:
    """Byte for byte; only the cost in its usage, when the client asked for that, is 0."""
    first, again = await stage.ask(stream=True), await stage.ask(stream=True)
    assert again.headers["x-turnpike-cache"] == "hit"
    assert again.headers["content-type"] == "text/event-stream"
    assert again.body == first.body
    assert again.end is client.Ended.COMPLETE
    told: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    first, again = await stage.ask(**told), await stage.ask(**told)
    assert again.body == first.body.replace(b'"cost":0.000057', b'"cost":0')
    assert len(stage.up.exchanges) == 2


async def test_a_stream_and_a_whole_answer_are_not_equal(stage: Stage) -> None:
    """Neither is shown as the other; the form of the other surface is another one too."""
    await stage.ask()
    assert await stage.word(stream=True) == "miss"
    assert await stage.word(path="/api/v1/chat/completions") == "miss"
    assert await stage.word(path="/api/v1/chat/completions") == "hit"


async def test_the_order_of_members_makes_no_difference(stage: Stage) -> None:
    """Nor do spaces; any other value does."""
    await stage.ask(temperature=1, seed=5)
    body = b'{"seed": 5, "temperature": 1, "messages": [{"content": "Say hello.", "role": "user"}], "model": "m"}'
    same = await client.ask(stage.gateway.url, body, key=stage.gateway.key)
    assert same.headers["x-turnpike-cache"] == "hit"
    assert await stage.word(temperature=1, seed=6) == "miss"
    assert await stage.word(temperature=1, seed=5, user="somebody") == "miss"
    assert await stage.word(temperature=1, seed=5, something_new={"a": 1}) == "miss"


async def test_a_hundred_equal_requests_are_one_call(stage: Stage) -> None:
    """Who comes while the first runs waits for it."""
    gate = Gate()
    stage.up.replace_script([held_back(gate, lambda _: Tokens(7, 5))])
    asking = [asyncio.create_task(stage.ask()) for _ in range(100)]
    await stage.up.received()
    await asyncio.sleep(0.2)
    gate.is_open = True
    answers = await asyncio.gather(*asking)
    assert sorted(answer.headers["x-turnpike-cache"] for answer in answers) == ["hit"] * 99 + ["miss"]
    assert len(stage.up.exchanges) == 1
    rows = await stage.gateway.settled_rows(100)
    assert sorted(row.cost_nano_usd or 0 for row in rows) == [0] * 99 + [COST]


async def test_when_the_first_fails_the_others_go_their_own_way(stage: Stage) -> None:
    """A failing upstream is not asked by one after another."""
    gate = Gate()
    fault = server_fault(500)

    def plan(ask: Ask) -> Iterator[Step]:
        yield from gate.wait()
        yield from fault.plan(ask)

    stage.up.replace_script([answering("late_fault", plan, tokens=None, is_slow=True), ok()])
    asking = [asyncio.create_task(stage.ask()) for _ in range(10)]
    await stage.up.received()
    await asyncio.sleep(0.1)
    gate.is_open = True
    statuses = sorted([answer.status for answer in await asyncio.gather(*asking)])
    assert statuses == [200] * 9 + [502]
    assert len(stage.up.exchanges) == 10


async def test_a_first_that_leaves_takes_nothing_from_those_who_wait(stage: Stage) -> None:
    """The call goes on for them; alone it is cut off as ever."""
    gate = Gate()
    stage.up.replace_script([held_back(gate, lambda _: Tokens(7, 5))])
    async with client.call(stage.gateway.url, client.chat("m"), key=stage.gateway.key) as reply:
        exchange = await stage.up.received()
        follower = asyncio.create_task(stage.ask())
        await asyncio.sleep(0.1)
        await reply.leave()
        await asyncio.sleep(0.1)
        gate.is_open = True
        assert (await follower).headers["x-turnpike-cache"] == "hit"
    assert len(stage.up.exchanges) == 1
    gate.is_open = False
    async with client.call(stage.gateway.url, client.chat("m", "alone"), key=stage.gateway.key) as reply:
        exchange = await stage.up.received(2)
        await reply.leave()
        assert await stage.up.left(exchange) < 1e12


# ---------------------------------------------------------------- who shares


async def test_keys_of_a_tenant_share_and_nobody_else(stage: Stage) -> None:
    """Nor does a key with other params, whose request is another one; a model that is barred stays so."""
    await stage.ask()
    assert await stage.word(key="sk-test-laptop") == "hit"
    assert await stage.word(key="sk-test-stranger") == "miss"
    assert await stage.word(key="sk-test-keeper") == "miss"
    assert await stage.word(key="sk-test-terse") == "miss"
    assert (await stage.ask(key="sk-test-narrow")).status == 403


async def test_a_spent_budget_does_not_stand_in_the_way_of_a_hit(stage: Stage) -> None:
    """What costs nothing always fits."""
    await stage.ask(max_tokens=64)
    assert (await stage.ask(key="sk-test-poor-key", max_tokens=500)).status == 402
    assert await stage.word(key="sk-test-poor-key", max_tokens=64) == "hit"


async def test_a_rate_of_a_glob_counts_hits_too(stage: Stage) -> None:
    """They belong to the model of the file that answers to the name, as misses do."""
    assert [await stage.word("r/one"), await stage.word("r/one")] == ["miss", "hit"]
    assert (await stage.ask("r/one")).status == 429
    assert {row.alias for row in await stage.gateway.settled_rows(2)} == {"r/*"}


async def test_another_table_is_another_cache(tmp_path: Path) -> None:
    """What was answered under other routes is not given again; the same routes find it after a restart."""
    async with FaultUpstream() as up:
        routes = ROUTES.format(up=up.base_url)
        for text, word in ((routes, "miss"), (routes, "hit"), (routes + "# changed\n", "miss")):
            async with running(text, tmp_path) as gateway:
                assert await Stage(gateway, up).word() == word


async def test_an_answer_grows_old(stage: Stage) -> None:
    """After its time it is made anew."""
    assert [await stage.word("brief"), await stage.word("brief")] == ["miss", "hit"]
    await asyncio.sleep(0.25)
    assert await stage.word("brief") == "miss"


# ---------------------------------------------------------------- who asks for it


async def test_it_is_off_unless_somebody_asks_for_it(stage: Stage) -> None:
    """Then replies say nothing of it."""
    assert [await stage.word("plain"), await stage.word("plain")] == [None, None]
    assert [await stage.word("never"), await stage.word("never")] == [None, None]
    assert len(stage.up.exchanges) == 4


@pytest.mark.parametrize(
    "how",
    [{"headers": ON}, {"turnpike": {"cache": True}}, {"key": "sk-test-keeper"}],
    ids=["header", "body", "key"],
)
@pytest.mark.parametrize("model", ["plain", "never"])
async def test_a_request_or_its_key_can_ask_for_it(stage: Stage, model: str, how: dict[str, Any]) -> None:
    """Both win over the model; what is said of the cache is no part of the request, and does not go upstream."""
    assert [await stage.word(model, **how), await stage.word(model, **how)] == ["miss", "hit"]
    assert "turnpike" not in stage.up.exchanges[0].body


@pytest.mark.parametrize(
    "how",
    [
        {"headers": OFF},
        {"headers": {"cache-control": "max-age=0, no-store"}},
        {"turnpike": {"cache": False}},
        {"headers": ON, "turnpike": {"cache": False}},
    ],
    ids=["header", "no-store", "body", "both"],
)
async def test_a_request_can_forbid_it(stage: Stage, how: dict[str, Any]) -> None:
    """Neither is it answered from it nor is its answer kept; who forbids it wins."""
    await stage.ask()
    assert await stage.word(**how) is None
    assert await stage.word(messages=[{"role": "user", "content": "new"}], **how) is None
    assert await stage.word(messages=[{"role": "user", "content": "new"}]) == "miss"


async def test_an_unclear_wish_is_refused(stage: Stage) -> None:
    """By name."""
    assert (await stage.ask(headers={"x-turnpike-cache": "maybe"})).status == 400
    refused = await stage.ask(turnpike={"cache": "yes"})
    assert (refused.status, refused.error["param"]) == (400, "turnpike")


async def test_the_operator_can_forbid_it_altogether(tmp_path: Path) -> None:
    """Whoever asks for it then."""
    async with (
        FaultUpstream() as up,
        running(ROUTES.format(up=up.base_url) + "cache: false\n", tmp_path) as gateway,
    ):
        stage = Stage(gateway, up)
        assert [await stage.word(headers=ON), await stage.word(headers=ON)] == [None, None]


async def test_an_idempotency_key_and_the_cache_go_together(stage: Stage) -> None:
    """A hit answers the key too, and is then replayed for it."""
    await stage.ask()
    for word, header in (("hit", "x-turnpike-cache"), ("true", "idempotency-replayed")):
        answer = await stage.ask(headers={"Idempotency-Key": "k"})
        assert answer.headers[header] == word
    assert len(stage.up.exchanges) == 1


# ---------------------------------------------------------------- what is kept


def answered(words: int, finish_reason: str) -> Mode:
    """Answer in one piece with so many words and this finish reason."""
    tokens = Tokens(7, words)
    answer = chunks.answer("m", words, usage=chunks.usage(tokens))
    answer["choices"][0]["finish_reason"] = finish_reason
    return answering(finish_reason, lambda _: plain(answer, reported=tokens), tokens=tokens)


@pytest.mark.parametrize(
    "mode",
    [server_fault(500), answered(5, "content_filter"), answered(5, "error"), answered(0, "stop")],
    ids=["fault", "filtered", "error", "empty"],
)
async def test_only_whole_and_good_answers_are_kept(stage: Stage, mode: Mode) -> None:
    """The next one is asked for anew."""
    stage.up.replace_script([mode, ok()])
    await stage.ask()
    assert await stage.word() == "miss"


async def test_an_answer_cut_short_for_want_of_money_is_not_kept(stage: Stage) -> None:
    """Who asks next may have the money for all of it; one that a client's own cap ended is as good as any."""
    stage.up.replace_script([answered(5, "length")])
    clamped = await stage.ask()
    assert "x-turnpike-clamped" in clamped.headers
    assert await stage.word(key="sk-test-laptop") == "miss"
    assert await stage.word(key="sk-test-laptop", max_tokens=5) == "miss"
    assert await stage.word(key="sk-test-laptop", max_tokens=5) == "hit"


async def test_a_fixed_answer_is_not_kept(stage: Stage) -> None:
    """It says that nobody else could answer just then."""
    stage.up.replace_script([server_fault(500), ok()])
    fixed = await stage.ask("last")
    assert fixed.headers["x-turnpike-provider"] == "static"
    assert await stage.word("last") == "miss"


async def test_a_damaged_file_is_moved_aside(tmp_path: Path) -> None:
    """It never stops a start: a new one is begun, the log says what is lost."""
    async with FaultUpstream() as up:
        server = TurnpikeServer(ROUTES.format(up=up.base_url).replace("{key}", "sk-test-phone"), tmp_path)
        server.data.mkdir(mode=0o700)
        (server.data / FILE_NAME).write_bytes(b"this is no database, and long enough to be taken for one" * 100)
        try:
            await server.start()
            for word in ("miss", "hit"):
                answer = await client.ask(server.url, client.chat("m"), key="sk-test-phone")
                assert answer.headers["x-turnpike-cache"] == word
            await server.terminate()
        finally:
            await server.kill()
        assert "replies_moved_aside" in server.logs
        assert [path.name for path in server.data.glob("cache.db.damaged-*")]
        assert (server.data / FILE_NAME).stat().st_mode & 0o777 == 0o600
