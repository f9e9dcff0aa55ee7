"""How an exchange ends: streams that break, books in trouble, refusals, bugs of ours; and what the log tells of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.clock import SystemClock
from proxy.codecs.wire import Surface
from proxy.errors import (
    FailureKind,
    LedgerUnavailable,
    NotFound,
    UpstreamError,
    UpstreamFailed,
)
from proxy.gateway import Exchange, KeyChanged
from proxy.ledger.records import Admission, Advance, Settlement
from proxy.ledger.records import Outcome as LedgerOutcome
from proxy.routing.principal import Principal
from proxy.usage import CostSource
from tests.faults import chunks
from tests.faults.steps import Tokens
from tests.gateway.stage import (
    FACTS,
    HELD,
    CountingLedger,
    Gate,
    Script,
    Stage,
    a_key,
    a_provider,
    a_stage,
    a_table,
    a_target,
    broken,
    events,
    failed,
    refused,
    streamed,
    whole,
)
from tests.gateway.telling import refuse, states, tell

PAIR = a_table("one/m", "two/m")


# ---------------------------------------------------------------- streams that break


async def test_a_stream_that_breaks_ends_with_an_error_event() -> None:
    """Booked first, never ended cleanly, and no other target is asked."""
    stage = await a_stage(streamed(*events()[:3], broken("Cut off.")), table=PAIR)
    told = await tell(stage, stage.asked(stream=True))
    assert told.body.startswith(b"".join(events()[:3]))
    assert told.chunks[-1]["error"]["message"] == "Cut off."
    assert "[DONE]" not in told.chunks
    assert (told.exchange.is_broken, told.exchange.error) == (True, "broken_stream")
    (row,) = await stage.rows()
    assert (row.state, row.error, row.cost_source) == ("posted", "broken_stream", "estimated")
    assert len(stage.upstream.calls) == 1
    health = stage.service.health.find("one/m")
    assert health is not None
    assert (health.successes, health.last_failure) == (1, FailureKind.BROKEN_STREAM)


async def test_a_stream_that_breaks_behind_its_usage_books_the_usage() -> None:
    """The provider's own figures were there, and the client gets them before the error."""
    usage = chunks.event(chunks.chunk_of("m", [], usage=chunks.usage(Tokens(7, 2))))
    stage = await a_stage(streamed(*events()[:3], usage, broken()))
    told = await tell(stage, stage.asked(stream=True, stream_options={"include_usage": True}))
    assert told.chunks[-2]["usage"]["cost"] == 0.000011
    assert "error" in told.chunks[-1]
    (row,) = await stage.rows()
    assert (row.cost_source, row.cost_nano_usd) == ("computed", 11_000)


async def test_a_broken_stream_on_openrouters_surface_is_its_frame() -> None:
    """With the id and model of the chunks before it."""
    stage = await a_stage(streamed(*events()[:3], broken("Cut off.")))
    told = await tell(stage, stage.asked(stream=True, surface=Surface.OPENROUTER))
    last = told.chunks[-1]
    assert (last["id"], last["error"]["code"]) == ("chatcmpl-made-up", 502)
    assert last["choices"][0]["finish_reason"] == "error"


async def test_what_a_provider_says_of_itself_is_not_passed_on() -> None:
    """Its host and our key are taken out of its words by value."""
    stage = await a_stage(streamed(*events()[:3], broken("up.example said sk-secret is bad")))
    told = await tell(stage, stage.asked(stream=True))
    assert told.chunks[-1]["error"]["message"] == "(host removed) said (key removed) is bad"


# ---------------------------------------------------------------- the books in trouble


class Troubled(CountingLedger):
    """Fails where it is told."""

    trouble = ""

    async def admit(self, admission: Admission) -> LedgerOutcome:
        self._fail("admit")
        return await super().admit(admission)

    async def advance(self, step: Advance) -> LedgerOutcome:
        self._fail("advance")
        return await super().advance(step)

    async def settle(self, settlement: Settlement) -> bool:
        await super().settle(settlement)
        self._fail("settle")
        return True

    def _fail(self, place: str) -> None:
        if self.trouble == place:
            raise LedgerUnavailable("the disk is full")


async def troubled(place: str, *scripts: Script) -> Stage:
    """Make a stage whose ledger fails at one of its writes."""
    ledger = Troubled(clock=SystemClock(), gate=Gate())
    ledger.trouble = place
    return await a_stage(*scripts, table=PAIR, ledger=ledger)


async def test_without_books_nothing_is_sent() -> None:
    """503, and no upstream call."""
    stage = await troubled("admit", whole())
    error, exchange = await refuse(stage, stage.asked())
    assert isinstance(error, LedgerUnavailable)
    assert not stage.upstream.calls
    assert (exchange.is_settled, exchange.attempts) == (True, 0)


async def test_books_that_fail_between_attempts_end_the_chain() -> None:
    """What was held is settled all the same, and the second attempt never began."""
    stage = await troubled("advance", refused(500), whole())
    error, exchange = await refuse(stage, stage.asked())
    assert isinstance(error, LedgerUnavailable)
    assert len(stage.upstream.calls) == 1
    assert exchange.is_settled
    assert await states(stage) == [("voided", "server_error")]


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
async def test_books_that_fail_at_the_end_keep_nobody_from_his_answer(*, is_stream: bool) -> None:
    """The ledger keeps the settlement; the log says what happened, and the stream still ends cleanly."""
    stage = await troubled("settle", streamed() if is_stream else whole())
    told = await tell(stage, stage.asked(stream=is_stream))
    assert told.exchange.error == "ledger_unavailable"
    assert not told.exchange.is_broken
    assert told.chunks[-1] == "[DONE]" if is_stream else b'"choices"' in told.body


# ---------------------------------------------------------------- refusals, bugs, the log


async def test_a_model_nobody_has_is_refused_before_anything_else() -> None:
    """There is no plan to tell of."""
    stage = await a_stage(whole())
    error, exchange = await refuse(stage, stage.asked(model="nothing"))
    assert isinstance(error, NotFound)
    record = exchange.record(404)
    assert (record.route, record.provider, record.attempts, record.cost_nano_usd) == (None, None, 0, 0)


async def test_a_model_without_a_ready_target_is_refused() -> None:
    """That is the operator's matter."""
    provider = a_provider("one", not_ready="ONE_API_KEY is not set")
    stage = await a_stage(whole(), table=a_table(replace(a_target("one/m"), provider=provider)))
    error, _ = await refuse(stage, stage.asked())
    assert error.status == 503


async def test_a_key_that_changed_is_planned_anew() -> None:
    """Nothing was written for the old one."""
    stage = await a_stage(whole())
    await stage.ledger.declare_keys([replace(a_key(), models=("chat",))])
    with pytest.raises(KeyChanged):
        async with Exchange(stage.asked(), stage.service) as exchange:
            await exchange.answer()
    assert await stage.rows() == []


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
async def test_a_bug_of_ours_leaves_no_hold(monkeypatch: pytest.MonkeyPatch, *, is_stream: bool) -> None:
    """Whatever it is: the upstream is closed, and the row says whose fault it was."""

    def fail(*_args: object, **_more: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("proxy.gateway.exchange.reply_headers", fail)
    stage = await a_stage(streamed() if is_stream else whole())
    with pytest.raises(ZeroDivisionError):
        await tell(stage, stage.asked(stream=is_stream))
    assert await states(stage) == [("posted", "internal_error" if is_stream else None)]
    assert stage.upstream.replies[0].is_closed


async def test_a_bug_while_ending_still_ends_the_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be worked out is posted in full."""

    async def fail(*_args: object, **_more: object) -> None:
        raise ZeroDivisionError

    stage = await a_stage(streamed(*events()[:3], HELD))
    exchange = Exchange(stage.asked(stream=True), stage.service)

    async def leave() -> None:
        async with exchange:
            await exchange.answer()
            monkeypatch.setattr("proxy.gateway.attempt.Attempt.conclude", fail)
            raise ConnectionResetError

    with pytest.raises(ZeroDivisionError):
        await leave()
    (row,) = await stage.rows()
    assert (row.state, row.cost_source, row.cost_nano_usd) == ("posted", "held", row.hold_nano_usd)


async def test_a_connection_that_fails_is_a_client_that_left() -> None:
    """Writing to it may raise; that is no bug of ours."""
    stage = await a_stage(streamed(*events()[:3], HELD))
    exchange = Exchange(stage.asked(stream=True), stage.service)

    async def leave() -> None:
        async with exchange:
            await exchange.answer()
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await leave()
    assert await states(stage) == [("posted", "client_left")]
    assert exchange.error == "client_left"


async def test_the_log_tells_of_the_last_attempt_and_of_all_costs() -> None:
    """One line per request."""
    stage = await a_stage(whole(choices=[]), whole(), table=PAIR)
    asked = replace(stage.asked(), principal=Principal("app", tenant="acme", has_budget=True))
    record = (await tell(stage, asked)).exchange.record(200)
    assert (record.request_id, record.key, record.tenant, record.route) == ("req", "app", "acme", "chat")
    assert (record.provider, record.model, record.status, record.attempts) == ("two", "m", 200, 2)
    assert (record.input_tokens, record.output_tokens) == (7, 5)
    assert (record.cost_nano_usd, record.cost_source) == (34_000, CostSource.COMPUTED)
    assert record.error is None
    assert record.first_token_ms is not None
    assert 0 <= record.first_token_ms <= record.latency_ms


async def test_the_request_reaches_the_upstream_as_it_was_asked() -> None:
    """Under the target's own model id; the ledger knows the app and whether it was a stream."""
    stage = await a_stage(streamed())
    asked = replace(stage.asked(stream=True, temperature=0.5, seed=7), app="My App")
    await tell(stage, asked)
    sent = stage.upstream.calls[0][1]
    assert (sent["model"], sent["temperature"], sent["seed"]) == ("m", 0.5, 7)
    (row,) = await stage.rows()
    assert (row.app, row.is_stream, row.route, row.model) == ("My App", True, "chat", "m")
    assert FACTS.context_tokens is not None
    assert row.hold_nano_usd <= (FACTS.context_tokens + 2 * FACTS.context_tokens) * 1000


async def test_a_failure_that_never_reached_the_wire_is_told_as_it_is() -> None:
    """The reason stands in the attempts."""
    stage = await a_stage(failed(FailureKind.CONNECT, "No connection."))
    error, _ = await refuse(stage, stage.asked())
    assert error.metadata["attempts"][0]["reason"] == "connect_error"
    assert isinstance(error, UpstreamFailed)
    assert not isinstance(error, UpstreamError)
