"""One request's way: planned, held, tried, relayed and settled, with the money between the attempts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest

from proxy.clock import SystemClock
from proxy.codecs.wire import Surface
from proxy.errors import (
    PolicyRefusal,
    UpstreamFailed,
    UpstreamTimeout,
)
from proxy.gateway import Exchange
from proxy.gateway.outflow import TAIL_FRAMES_MAX
from proxy.ledger.records import Advance
from proxy.ledger.records import Outcome as LedgerOutcome
from proxy.money import format_usd
from proxy.policy.limits import NO_LIMITS
from proxy.pricing import ModelFacts
from proxy.routing.principal import Principal
from proxy.routing.table import Dialect, Timeouts
from proxy.sse import DONE_EVENT
from tests.faults import chunks
from tests.faults.steps import Tokens
from tests.gateway.stage import (
    HELD,
    PRICES,
    CountingLedger,
    Gate,
    Script,
    a_key,
    a_provider,
    a_stage,
    a_table,
    a_target,
    events,
    in_time,
    refused,
    streamed,
    whole,
)
from tests.gateway.telling import refuse, states, tell

PAIR = a_table("one/m", "two/m")


# ---------------------------------------------------------------- answers


async def test_a_whole_answer_is_settled_before_it_is_given() -> None:
    """With its cost in the body and in the headers."""
    stage = await a_stage(whole())
    async with Exchange(stage.asked(), stage.service) as exchange:
        assert exchange.is_settled
        answer = await exchange.answer()
        assert exchange.is_settled
        (row,) = await stage.rows()
        assert (row.state, row.cost_nano_usd, row.cost_source) == ("posted", 17_000, "computed")
    assert answer.body is not None
    assert orjson.loads(answer.body)["usage"]["cost"] == 0.000017
    assert answer.headers["x-turnpike-cost"] == "0.000017000"
    assert answer.headers["x-turnpike-cost-source"] == "computed"
    assert answer.headers["x-turnpike-attempts"] == "1"
    assert stage.upstream.replies[0].is_closed
    assert exchange.attempts == 1


async def test_a_stream_is_settled_before_its_last_bytes_are_given() -> None:
    """All but the end is relayed before; usage that nobody asked for is left out, on the wire it was asked for."""
    gate = Gate("settle")
    stage = await a_stage(streamed(), gate=gate)
    pieces: list[bytes] = []
    async with in_time(), Exchange(stage.asked(stream=True), stage.service) as exchange:
        assert (await exchange.answer()).body is None
        reading = asyncio.create_task(read(exchange, pieces))
        await gate.reached.wait()
        assert not exchange.is_settled
        assert b"".join(pieces) == b"".join(events()[:-2])
        gate.opened.set()
        await reading
        assert exchange.is_settled
    assert pieces[-1] == DONE_EVENT
    assert stage.upstream.calls[0][1]["stream_options"] == {"include_usage": True}


async def read(exchange: Exchange, pieces: list[bytes]) -> None:
    """Take what the stream gives as it comes."""
    while piece := await exchange.next_piece():
        pieces.append(piece)


@pytest.mark.parametrize("wish", [{"stream_options": {"include_usage": True}}, {"usage": {"include": True}}])
async def test_usage_that_was_asked_for_carries_its_cost(wish: dict[str, Any]) -> None:
    """Asked for as OpenAI or as OpenRouter has it; the same figure as in the books."""
    stage = await a_stage(streamed())
    told = await tell(stage, stage.asked(stream=True, **wish))
    usage = told.chunks[-2]["usage"]
    (row,) = await stage.rows()
    assert (usage["cost"], usage["cost_source"], row.cost_nano_usd) == (0.000017, "computed", 17_000)
    assert told.chunks[-1] == "[DONE]"


@pytest.mark.parametrize("done", [b"", b"data: [DONE]\n\n", b"data:[DONE]\n\n", b"event: end\ndata: [DONE]\n\n"])
async def test_a_stream_ends_with_one_terminal_event(done: bytes) -> None:
    """However the upstream writes it, and when it does not."""
    stage = await a_stage(Script((*events()[:-1], done)))
    told = await tell(stage, stage.asked(stream=True))
    assert told.chunks.count("[DONE]") == 1
    assert told.chunks[-1] == "[DONE]"


async def test_usage_in_the_midst_of_a_stream_is_no_end_of_it() -> None:
    """What looked like the end is given when more comes."""
    usage = chunks.event(chunks.chunk_of("m", [], usage=chunks.usage(Tokens(7, 1))))
    good = events()
    stage = await a_stage(streamed(*good[:2], usage, *good[2:]))
    told = await tell(stage, stage.asked(stream=True, stream_options={"include_usage": True}))
    assert [bool(chunk.get("usage")) for chunk in told.chunks[:-1]] == [False] * 2 + [True] + [False] * 5 + [True]
    (row,) = await stage.rows()
    assert row.usage.output_tokens == 5


async def test_usage_that_never_ends_is_not_held_back() -> None:
    """Only so many frames wait for the end: the rest is the client's at once, and all of it in order."""
    parts = [chunks.event(chunks.chunk_of("m", [], usage=chunks.usage(Tokens(7, count)))) for count in range(1, 31)]
    stage = await a_stage(streamed(*events()[:-2], *parts, chunks.DONE))
    told = await tell(stage, stage.asked(stream=True, stream_options={"include_usage": True}))
    counts = [chunk["usage"]["completion_tokens"] for chunk in told.chunks[:-1] if chunk.get("usage")]
    assert counts == list(range(1, 31))
    assert told.chunks.count("[DONE]") == 1
    assert told.pieces[-1].count(b'"usage"') <= TAIL_FRAMES_MAX
    (row,) = await stage.rows()
    assert row.usage.output_tokens == 30


async def test_on_openrouters_surface_every_chunk_has_its_keys() -> None:
    """`provider` in the first one, `finish_reason` in every choice, and usage without asking."""
    bare = chunks.event(chunks.chunk_of("m", [{"index": 0, "delta": {"content": "x"}}]))
    stage = await a_stage(streamed(bare, bare, *events()[-3:]))
    told = await tell(stage, stage.asked(stream=True, surface=Surface.OPENROUTER))
    parts = told.chunks[:-1]
    assert [part.get("provider") for part in parts] == ["one", None, None, None]
    assert all("finish_reason" in choice for part in parts for choice in part["choices"])
    assert parts[-1]["usage"]["cost"] == 0.000017


async def test_openrouters_own_chunks_pass_as_they_came() -> None:
    """They have the keys already."""
    table = a_table(replace(a_target("one/m"), provider=a_provider("one", dialect=Dialect.OPENROUTER)))
    stage = await a_stage(streamed(*events(reported=None)), table=table)
    told = await tell(stage, stage.asked(stream=True, surface=Surface.OPENROUTER))
    assert told.body == b"".join(events(reported=None))


async def test_comments_within_a_stream_pass() -> None:
    """They keep the client's connection alive."""
    stage = await a_stage(streamed(*events()[:2], chunks.COMMENT, *events()[2:]))
    assert chunks.COMMENT in (await tell(stage, stage.asked(stream=True))).body


async def test_the_id_is_the_ledgers() -> None:
    """A repeated one is suffixed, and the second request is told the new one."""
    stage = await a_stage(whole())
    ids = [(await tell(stage, stage.asked())).answer.headers["x-request-id"] for _ in range(2)]
    assert ids == ["req", "req-2"]


# ---------------------------------------------------------------- fallback


async def test_the_next_target_is_asked_when_one_fails() -> None:
    """Each has its row; the failed one is closed before the next is called."""
    stage = await a_stage(refused(500), whole(), table=PAIR)
    told = await tell(stage, stage.asked())
    assert [name for name, _ in stage.upstream.calls] == ["one", "two"]
    assert told.answer.headers["x-turnpike-provider"] == "two"
    assert told.answer.headers["x-turnpike-attempts"] == "2"
    assert await states(stage) == [("voided", "server_error"), ("posted", None)]
    assert all(reply.is_closed for reply in stage.upstream.replies)
    health = stage.service.health
    found = [health.find("one/m"), health.find("two/m")]
    assert [(one.successes, one.failures) for one in found if one is not None] == [(0, 1), (1, 0)]


async def test_the_cost_told_is_that_of_all_attempts() -> None:
    """An empty answer that was billed is paid for too."""
    stage = await a_stage(whole(choices=[]), whole(), table=PAIR)
    told = await tell(stage, stage.asked())
    assert told.answer.headers["x-turnpike-cost"] == "0.000034000"
    assert [row.cost_nano_usd for row in await stage.rows()] == [17_000, 17_000]


async def test_one_unknown_cost_makes_the_sum_unknown() -> None:
    """A figure that leaves something out would be a lie."""
    table = a_table(a_target("one/m", facts=ModelFacts()), "two/m")
    stage = await a_stage(whole(choices=[]), whole(), table=table, key=replace(a_key(), limits=NO_LIMITS))
    told = await tell(stage, replace(stage.asked(), principal=Principal("app")))
    assert "x-turnpike-cost" not in told.answer.headers
    assert [row.cost_nano_usd for row in await stage.rows()] == [None, 17_000]


async def test_a_cost_that_is_unknown_stays_so_whatever_follows() -> None:
    """A second failure of unknown cost, and no figure is made up for the log."""
    table = a_table(a_target("one/m", facts=ModelFacts()), a_target("two/m", facts=ModelFacts()))
    stage = await a_stage(whole(choices=[]), table=table, key=replace(a_key(), limits=NO_LIMITS))
    _, exchange = await refuse(stage, replace(stage.asked(), principal=Principal("app")))
    assert exchange.record(502).cost_nano_usd is None


async def test_every_target_failing_is_one_error_with_all_attempts() -> None:
    """And every hold is ended."""
    stage = await a_stage(refused(500, "first"), refused(502, "second"), table=PAIR)
    error, exchange = await refuse(stage, stage.asked())
    assert isinstance(error, UpstreamFailed)
    assert [attempt["provider"] for attempt in error.metadata["attempts"]] == ["one", "two"]
    assert await states(stage) == [("voided", "server_error"), ("voided", "server_error")]
    assert (exchange.is_settled, exchange.error) == (True, "server_error")


async def test_the_last_target_is_tried_again_after_a_wait() -> None:
    """Retry-After is honoured."""
    slow_down = replace(refused(429), headers={"content-type": "application/json", "retry-after": "0.1"})
    stage = await a_stage(slow_down, whole(), table=a_table("one/m", retries=2))
    started_s = stage.service.clock.monotonic_s()
    told = await tell(stage, stage.asked())
    assert told.answer.headers["x-turnpike-attempts"] == "2"
    assert stage.service.clock.monotonic_s() - started_s >= 0.1


async def test_a_wait_beyond_the_total_clock_is_not_waited() -> None:
    """The client is told at once what it would be told then."""
    table = a_table(a_target("one/m", timeouts=Timeouts(total_s=0.1)), retries=3)
    stage = await a_stage(refused(500), table=table)
    error, _ = await refuse(stage, stage.asked())
    assert len(error.metadata["attempts"]) == 1
    assert await states(stage) == [("voided", "server_error")]


async def test_no_target_is_called_when_the_total_clock_is_over() -> None:
    """A call of no time could only cost money."""
    table = a_table(a_target("one/m", timeouts=Timeouts(total_s=0.05)), "two/m")
    stage = await a_stage(HELD, table=table)
    error, _ = await refuse(stage, stage.asked())
    assert isinstance(error, UpstreamTimeout)
    assert [name for name, _ in stage.upstream.calls] == ["one"]


async def test_a_late_request_is_a_timeout_that_costs_nothing() -> None:
    """Its time was over before its first call."""
    stage = await a_stage(whole())
    asked = stage.asked()
    error, _ = await refuse(stage, replace(asked, received_s=asked.received_s - 1_000))
    assert isinstance(error, UpstreamTimeout)
    assert not stage.upstream.calls
    assert await states(stage) == [("voided", "timeout")]


# ---------------------------------------------------------------- money between attempts


async def hold_of_one(**fields: Any) -> int:
    """Tell what is held for a request."""
    stage = await a_stage(whole())
    await tell(stage, stage.asked(**fields))
    (row,) = await stage.rows()
    return row.hold_nano_usd


async def test_a_chain_ends_where_the_budget_does() -> None:
    """402 tells what was tried, and the attempt that was not allowed has no row."""
    limit = await hold_of_one(max_tokens=1_000) + 17_000 - 1
    stage = await a_stage(whole(choices=[]), whole(), table=PAIR, key=a_key(usd=format_usd(limit)))
    error, _ = await refuse(stage, stage.asked(max_tokens=1_000))
    assert isinstance(error, PolicyRefusal)
    assert error.code == "budget_exceeded"
    assert [attempt["provider"] for attempt in error.metadata["attempts"]] == ["one"]
    assert await states(stage) == [("posted", "invalid_reply")]
    assert len(stage.upstream.calls) == 1


async def test_a_chain_ends_where_the_requests_own_ceiling_does() -> None:
    """What earlier attempts cost counts against it; the ledger is not asked."""
    hold = await hold_of_one(max_tokens=1_000)
    table = a_table("one/m", "two/m", max_cost_nano_usd=hold + 17_000 - 1)
    stage = await a_stage(whole(choices=[]), whole(), table=table)
    error, _ = await refuse(stage, stage.asked(max_tokens=1_000))
    assert isinstance(error, PolicyRefusal)
    assert (error.code, error.metadata["left"]) == ("max_cost_exceeded", format_usd(hold - 1))
    assert len(error.metadata["attempts"]) == 1
    assert "advance" not in stage.upstream.gate.passed


async def test_below_its_ceiling_a_chain_goes_on() -> None:
    """Both limits hold at once, and here both have room."""
    table = a_table("one/m", "two/m", max_cost_nano_usd=10**9)
    stage = await a_stage(refused(500), whole(), table=table)
    assert (await tell(stage, stage.asked(max_tokens=100))).answer.headers["x-turnpike-attempts"] == "2"


async def test_a_first_hold_is_enough_for_every_target() -> None:
    """The dearest is held at first, so that a fallback within it needs no more money."""
    dear = a_target("two/m", facts=ModelFacts(replace(PRICES, output=PRICES.output * 10), context_tokens=8_000))
    stage = await a_stage(refused(500), whole(), table=a_table("one/m", dear), key=a_key(usd="0.0204"))
    await tell(stage, stage.asked(max_tokens=1_000))
    first, second = await stage.rows()
    assert first.hold_nano_usd == second.hold_nano_usd


class Revoking(CountingLedger):
    """Revokes the key before it lets a next attempt begin."""

    async def advance(self, step: Advance) -> LedgerOutcome:
        await self.revoke_key("app")
        return await super().advance(step)


async def test_a_key_revoked_between_attempts_ends_the_chain() -> None:
    """With the failure so far; its hold is ended."""
    ledger = Revoking(clock=SystemClock(), gate=Gate())
    stage = await a_stage(refused(500), whole(), table=PAIR, ledger=ledger)
    error, _ = await refuse(stage, stage.asked())
    assert isinstance(error, UpstreamFailed)
    assert await states(stage) == [("voided", "server_error")]
