"""One attempt: what the ledger hears before it, and what is booked after it, however it ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from proxy.clock import ManualClock
from proxy.codecs.openai import OpenAICodec
from proxy.codecs.surface import Cost
from proxy.errors import Failure, FailureKind, UpstreamError
from proxy.gateway.attempt import CLIENT_LEFT, Attempt, Line, failure_of, shown_cost
from proxy.ledger.records import AttemptStart, AttemptState
from proxy.metering import Booking
from proxy.policy.timeouts import Clocks
from proxy.pricing import ModelFacts
from proxy.routing.plan import Candidate
from proxy.routing.table import Dialect, ProviderFlags, Secret, Target
from proxy.tokens import Family, count, estimate_input
from proxy.usage import CostSource, Usage
from tests.faults import chunks
from tests.faults.steps import Tokens
from tests.gateway.stage import (
    FACTS,
    HELD,
    FakeUpstream,
    Gate,
    Script,
    a_provider,
    a_target,
    an_errand,
    broken,
    events,
    failed,
    in_time,
    refused,
    streamed,
    whole,
)

CLOCKS = Clocks(connect_s=1.0, first_token_s=5.0, idle_s=5.0, total_s=5.0)
HOLD = 1_000_000
BODY = {"messages": [{"role": "user", "content": "Say hello."}]}
NO_USAGE = streamed(*events(reported=None))
PROMPT_TOKENS = estimate_input(BODY, "m")


def an_attempt(
    *scripts: Script | UpstreamError | str,
    target: Target | None = None,
    is_stream: bool = True,
    hold: int = HOLD,
    gate: Gate | None = None,
    **fields: Any,
) -> Attempt:
    """Make a first attempt at a target, the hold being all it can cost."""
    target = target or a_target("one/m")
    candidate = Candidate(target, {**BODY, "stream": is_stream, **fields}, CLOCKS, worst_case_nano_usd=hold)
    line = Line(FakeUpstream(*scripts, gate=gate), OpenAICodec(is_openrouter=False))
    return Attempt(1, 0, candidate, line=line, hold_nano_usd=hold, errand=an_errand(candidate, line.codec))


async def run(attempt: Attempt, clock: ManualClock | None = None) -> None:
    """Call and read to the end; raises as the relay does."""
    async with in_time():
        await attempt.open(clock or ManualClock(), total_left_s=5.0)
        if attempt.candidate.body["stream"]:
            attempt.relay.start(total_left_s=5.0)
            while await attempt.relay.take() is not None:
                pass


async def fail(attempt: Attempt) -> Failure:
    """Call until it fails."""
    with pytest.raises(UpstreamError) as caught:
        await run(attempt)
    return caught.value.failure


# ---------------------------------------------------------------- before


@pytest.mark.parametrize("is_priced", [True, False])
def test_the_ledger_hears_of_an_attempt_before_it_begins(*, is_priced: bool) -> None:
    """Whom it calls, what it holds, and whether a price is known."""
    attempt = an_attempt(target=a_target("one/m", facts=FACTS if is_priced else ModelFacts()))
    assert attempt.start() == AttemptStart(1, "one", "m", HOLD, is_priced=is_priced)
    assert not attempt.relay.was_sent


async def test_an_attempt_times_itself() -> None:
    """From its call on; before it there is nothing to tell."""
    clock = ManualClock()
    clock.advance(50.0)
    attempt = an_attempt(streamed())
    assert attempt.elapsed_ms(clock) == 0
    assert attempt.first_token_ms is None
    await attempt.open(clock, total_left_s=5.0)
    assert attempt.first_token_ms == 0
    clock.advance(1.2345)
    assert attempt.elapsed_ms(clock) == 1234


# ---------------------------------------------------------------- what is booked


async def test_tokens_of_the_provider_are_priced() -> None:
    """Computed, and posted with all that the row tells."""
    clock = ManualClock()
    clock.advance(1.0)
    attempt = an_attempt(streamed())
    await run(attempt, clock)
    clock.advance(2.0)
    booking = await attempt.conclude(clock)
    assert booking == Booking((7 + 2 * 5) * 1000, CostSource.COMPUTED, Usage(input_tokens=7, output_tokens=5))
    end = attempt.end
    assert end is not None
    assert (end.number, end.state, end.status, end.error, end.is_overrun) == (1, AttemptState.POSTED, 200, None, False)
    assert (end.cost_nano_usd, end.cost_source, end.usage) == (17_000, CostSource.COMPUTED, booking.usage)
    assert (end.latency_ms, end.first_token_ms, end.generation_id) == (2000, 0, "chatcmpl-made-up")


async def test_an_amount_of_the_provider_comes_first() -> None:
    """Above the hold it is the truth all the same, and marked."""
    attempt = an_attempt(
        whole(chunks.answer("m", usage=chunks.usage(chunks.DEFAULT_TOKENS, cost=0.5))), is_stream=False, hold=100
    )
    await run(attempt)
    await attempt.conclude(ManualClock())
    assert attempt.end is not None
    assert (attempt.end.cost_nano_usd, attempt.end.cost_source) == (500_000_000, CostSource.REPORTED)
    assert attempt.end.is_overrun
    assert "reported_cost_diverges" in attempt.end.usage.anomalies


async def test_without_usage_the_tokens_are_counted_here() -> None:
    """The prompt and what was delivered, off the event loop."""
    attempt = an_attempt(NO_USAGE)
    await run(attempt)
    booking = await attempt.conclude(ManualClock())
    assert booking.source is CostSource.ESTIMATED
    assert booking.usage.input_tokens == PROMPT_TOKENS
    assert booking.usage.output_tokens == count(chunks.text(5), Family.UNKNOWN)
    assert attempt.end is not None
    assert attempt.end.usage.anomalies == ("usage_missing",)


async def test_a_whole_reply_without_usage_is_counted_by_its_text() -> None:
    """There is no transcript of it."""
    attempt = an_attempt(whole(chunks.answer("m")), is_stream=False)
    await run(attempt)
    booking = await attempt.conclude(ManualClock())
    assert booking.usage == Usage(PROMPT_TOKENS, count(chunks.text(5), Family.UNKNOWN))


async def test_a_price_nobody_knows_makes_a_cost_nobody_knows() -> None:
    """Unknown is never 0."""
    attempt = an_attempt(streamed(), target=a_target("one/m", facts=ModelFacts()), hold=0)
    await run(attempt)
    booking = await attempt.conclude(ManualClock())
    assert (booking.cost_nano_usd, booking.source) == (None, CostSource.UNKNOWN)
    assert attempt.end is not None
    assert attempt.end.state is AttemptState.POSTED


async def test_what_was_never_sent_costs_nothing() -> None:
    """The client left before the call."""
    attempt = an_attempt()
    booking = await attempt.conclude(ManualClock(), error=CLIENT_LEFT)
    assert (booking.cost_nano_usd, booking.source) == (0, None)
    assert attempt.end is not None
    assert (attempt.end.state, attempt.end.error, attempt.end.status) == (AttemptState.VOIDED, CLIENT_LEFT, None)
    assert attempt.end.generation_id is None


@pytest.mark.parametrize("script", [refused(500), refused(401), failed(FailureKind.CONNECT)])
async def test_what_was_refused_costs_nothing(script: Script | UpstreamError) -> None:
    """The upstream has said so, or was never reached."""
    attempt = an_attempt(script)
    failure = await fail(attempt)
    booking = await attempt.conclude(ManualClock(), error=failure)
    assert booking.cost_nano_usd == 0
    assert attempt.end is not None
    assert (attempt.end.state, attempt.end.error) == (AttemptState.VOIDED, failure.kind.value)


async def test_a_failure_that_may_have_cost_is_estimated() -> None:
    """The request was taken; what came of it nobody knows but the prompt was read."""
    attempt = an_attempt(failed(FailureKind.TIMEOUT, may_have_cost=True))
    booking = await attempt.conclude(ManualClock(), error=await fail(attempt))
    assert (booking.source, booking.usage) == (CostSource.ESTIMATED, Usage(input_tokens=PROMPT_TOKENS))


async def test_an_empty_answer_with_usage_is_booked() -> None:
    """It failed, but it was billed."""
    attempt = an_attempt(whole(choices=[]), is_stream=False)
    booking = await attempt.conclude(ManualClock(), error=await fail(attempt))
    assert (booking.cost_nano_usd, booking.source) == (17_000, CostSource.COMPUTED)


@pytest.mark.parametrize(("is_billed", "state"), [(True, AttemptState.POSTED), (False, AttemptState.VOIDED)])
async def test_a_cut_stream_costs_what_its_provider_charges_for_one(state: AttemptState, *, is_billed: bool) -> None:
    """Makers bill what they wrote; OpenRouter insures against failures."""
    provider = a_provider("one", flags=ProviderFlags(billed_when_cut=is_billed))
    attempt = an_attempt(streamed(*events()[:3], broken()), target=replace(a_target("one/m"), provider=provider))
    booking = await attempt.conclude(ManualClock(), error=await fail(attempt))
    assert attempt.end is not None
    assert attempt.end.state is state
    assert bool(booking.cost_nano_usd) == is_billed


@pytest.mark.parametrize("reason", [None, "", "stop"])
@pytest.mark.parametrize("tokens", [Tokens(7, 0), Tokens(7, 5)])
@pytest.mark.parametrize("is_billed", [True, False])
async def test_neither_a_word_nor_a_finish_reason_is_an_insured_failure(
    reason: str | None, tokens: Tokens, *, is_billed: bool
) -> None:
    """OpenRouter charges nothing for it (openrouter.md 4.7); a maker bills the prompt it has read."""
    provider = a_provider("one", flags=ProviderFlags(billed_when_cut=is_billed))
    choices = [{"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": reason}]
    answer = chunks.answer("m", choices=choices, usage=chunks.usage(tokens))
    attempt = an_attempt(whole(answer), is_stream=False, target=replace(a_target("one/m"), provider=provider))
    await run(attempt)
    booking = await attempt.conclude(ManualClock())
    if is_billed or reason or tokens.completion:
        assert booking.cost_nano_usd == (tokens.prompt + 2 * tokens.completion) * 1000
        assert booking.source is CostSource.COMPUTED
    else:
        assert booking == Booking(0, None, Usage(input_tokens=7))
        assert attempt.end is not None
        assert attempt.end.state is AttemptState.VOIDED


@pytest.mark.parametrize(
    ("finish_reasons", "usage", "source"),
    [
        ((None, None), {"cost": 0.004}, CostSource.REPORTED),
        ((None, "stop"), {}, CostSource.COMPUTED),
        ((None, None), None, CostSource.ESTIMATED),
    ],
)
async def test_what_is_insured_is_a_whole_reply_without_an_amount(
    finish_reasons: tuple[str | None, ...], usage: dict[str, Any] | None, source: CostSource
) -> None:
    """A fee is charged all the same, one choice that finished is an answer, and without counts nobody knows."""
    provider = a_provider("one", flags=ProviderFlags(billed_when_cut=False))
    message = {"role": "assistant", "content": ""}
    choices = [{"index": at, "message": message, "finish_reason": why} for at, why in enumerate(finish_reasons)]
    reported = None if usage is None else chunks.usage(Tokens(7, 0), **usage)
    answer = chunks.answer("m", choices=choices, usage=reported)
    attempt = an_attempt(whole(answer), is_stream=False, target=replace(a_target("one/m"), provider=provider))
    await run(attempt)
    booking = await attempt.conclude(ManualClock())
    assert booking.source is source
    assert booking.cost_nano_usd


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize("dialect", [Dialect.OPENROUTER, Dialect.OPENAI])
@pytest.mark.parametrize(
    ("status", "is_replayed"), [("HIT", True), ("hit", True), ("MISS", False), ("", False), (None, False)]
)
async def test_an_answer_out_of_the_provider_s_own_cache_is_free(
    status: str | None, dialect: Dialect, *, is_replayed: bool, is_stream: bool
) -> None:
    """OpenRouter's header says so and its usage is zeroed (openrouter.md 4.8); beside any other zeros are no count."""
    nothing = Tokens(0, 0)
    script = (
        streamed(*events(reported=nothing)) if is_stream else whole(chunks.answer("m", usage=chunks.usage(nothing)))
    )
    told = {} if status is None else {"x-openrouter-cache-status": status}
    target = replace(a_target("one/m"), provider=a_provider("one", dialect=dialect))
    attempt = an_attempt(replace(script, headers={**script.headers, **told}), is_stream=is_stream, target=target)
    await run(attempt)
    assert attempt.relay.is_replayed is is_replayed
    booking = await attempt.conclude(ManualClock())
    assert attempt.end is not None
    if is_replayed and dialect is Dialect.OPENROUTER:
        assert booking == Booking(0, None, Usage())
        assert attempt.end.state is AttemptState.VOIDED
    else:
        assert (booking.source, booking.usage.input_tokens) == (CostSource.ESTIMATED, PROMPT_TOKENS)
        assert attempt.end.state is AttemptState.POSTED


async def test_a_prompt_that_was_not_counted_is_counted_here() -> None:
    """Beside the output the provider counted."""
    attempt = an_attempt(streamed(*events(reported=Tokens(0, 50))))
    await run(attempt)
    booking = await attempt.conclude(ManualClock())
    assert (booking.source, booking.usage) == (CostSource.ESTIMATED, Usage(PROMPT_TOKENS, 50))
    assert booking.cost_nano_usd == (PROMPT_TOKENS + 2 * 50) * 1000


async def test_a_client_that_leaves_a_stream_pays_for_what_it_was_sent() -> None:
    """And for the prompt."""
    attempt = an_attempt(streamed(*events()[:3], HELD))
    await attempt.open(ManualClock(), total_left_s=5.0)
    attempt.relay.start(total_left_s=5.0)
    await attempt.relay.take()
    await attempt.relay.close()
    booking = await attempt.conclude(ManualClock(), error=CLIENT_LEFT)
    assert booking.source is CostSource.ESTIMATED
    assert booking.usage == Usage(PROMPT_TOKENS, count(chunks.text(1), Family.UNKNOWN))


async def test_a_client_that_leaves_before_a_whole_answer_is_booked_in_full() -> None:
    """The provider writes on, and nobody sees how much."""
    gate = Gate("open")
    attempt = an_attempt(whole(), is_stream=False, gate=gate)
    task = asyncio.create_task(attempt.open(ManualClock(), total_left_s=5.0))
    await gate.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    booking = await attempt.conclude(ManualClock(), error=CLIENT_LEFT)
    assert (booking.cost_nano_usd, booking.source) == (HOLD, CostSource.HELD)


@pytest.mark.parametrize(("given", "kept"), [("x" * 300, "x" * 200), (17, None), (None, None)])
async def test_the_id_of_a_reply_is_kept_within_bounds(given: object, kept: str | None) -> None:
    """What is no text is no id."""
    attempt = an_attempt(whole(chunks.answer("m", id=given)), is_stream=False)
    await run(attempt)
    await attempt.conclude(ManualClock())
    assert attempt.end is not None
    assert attempt.end.generation_id == kept


# ---------------------------------------------------------------- what the client is shown


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (chunks.usage(chunks.DEFAULT_TOKENS), Cost(17_000, CostSource.COMPUTED)),
        (chunks.usage(chunks.DEFAULT_TOKENS, cost=0.00001), Cost(10_000, CostSource.REPORTED)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, None),
        ({}, None),
        (None, None),
    ],
)
async def test_a_chunk_with_usage_is_priced_as_it_would_be_booked(usage: object, cost: Cost | None) -> None:
    """One without says nothing about money."""
    attempt = an_attempt(streamed())
    await attempt.open(ManualClock(), total_left_s=5.0)
    assert attempt.cost_of(chunks.chunk_of("m", [], usage=usage)) == cost


def test_what_is_not_charged_for_is_shown_as_reported() -> None:
    """The provider's own terms say 0."""
    assert shown_cost(Booking(0, None, Usage())) == Cost(0, CostSource.REPORTED)
    assert shown_cost(Booking(5, CostSource.HELD, Usage())) == Cost(5, CostSource.HELD)


def test_a_failure_never_names_our_host_or_key() -> None:
    """By value, the longest first, so that a host is not left with its port."""
    error = failed(
        FailureKind.SERVER_ERROR,
        "no route to up.example:8443 (up.example) for sk-secret",
        status=500,
        code="sk-secret",
        metadata={"raw": ["at up.example", {"key": "sk-secret", "tries": 3}]},
    )
    failure = failure_of(error, a_provider("one"))
    assert failure.message == "no route to (host removed) ((host removed)) for (key removed)"
    assert (failure.kind, failure.status, failure.code) == (FailureKind.SERVER_ERROR, 500, "(key removed)")
    assert failure.metadata == {"raw": ["at (host removed)", {"key": "(key removed)", "tries": 3}]}


def test_a_provider_without_host_or_key_hides_nothing() -> None:
    """An empty text is in every text."""
    provider = replace(a_provider("sim"), base_url="", api_key=None)
    assert failure_of(failed(FailureKind.SERVER_ERROR, "as it is"), provider).message == "as it is"
    keyed = replace(provider, api_key=Secret("sk-other"))
    assert failure_of(failed(FailureKind.SERVER_ERROR, "sk-other"), keyed).message == "(key removed)"
