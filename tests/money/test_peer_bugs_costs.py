"""What other gateways booked wrongly or not at all, played here; `peer_bugs.txt` says whose bug each is."""

from __future__ import annotations

import json

import pytest

from tests.faults import chunks, client
from tests.faults.replies import answering, ok, ok_paced, plain, streamed
from tests.faults.steps import Ask, Mode, Plan, Send, Tokens
from tests.money.stage import IN, OUT, Stage

TOKENS = Tokens(100, 50)
COST_NANO_USD = TOKENS.prompt * IN + TOKENS.completion * OUT


def told(name: str, plan: Plan) -> Mode:
    """Name an answer of one test's own."""
    return answering(name, plan, tokens=TOKENS)


async def test_a_name_in_the_reply_changes_no_price(played: Stage) -> None:
    """A dated or unheard-of model name in the answer is not looked up: the target's price holds, never 0."""
    for name in ("one-2026-11-20", "something-else-entirely", "", None):
        body = chunks.answer("one", usage=chunks.usage(TOKENS)) | {"model": name}
        played.up.replace_script([told("renamed", lambda _ask, body=body: plain(body))])  # type: ignore[misc]
        answer = await played.ask("m")
        (row,) = await played.rows(answer)
        assert (row.cost_nano_usd, row.cost_source, row.model) == (COST_NANO_USD, "computed", "one")


async def test_each_attempt_is_priced_as_its_own_target(played: Stage) -> None:
    """A billed failure at the cheap one and an answer of the dear one: two rows, two prices, and their sum is told."""
    played.up.replace_script([ok()])
    answer = await played.ask("mixed", max_tokens=500)
    failed, served = await played.rows(answer)
    empty = failed.usage
    assert (failed.provider, failed.error) == ("up", "invalid_reply")
    assert failed.cost_nano_usd == empty.input_tokens * IN + empty.output_tokens * OUT > 0
    assert (served.provider, served.error) == ("dear", None)
    assert served.cost_nano_usd == 100 * (chunks.PROMPT_TOKENS * IN + chunks.COMPLETION_TOKENS * OUT)
    assert answer.headers["x-turnpike-cost"] == f"{(failed.cost_nano_usd + served.cost_nano_usd) / 1e9:.9f}"


async def test_why_another_target_answered_is_kept(played: Stage) -> None:
    """The row of the first attempt says what was wrong with it, and that it cost nothing."""
    answer = await played.ask("sinking")
    failed, served = await played.rows(answer)
    assert (failed.attempt, failed.status, failed.error, failed.state) == (1, 502, "server_error", "voided")
    assert failed.cost_nano_usd == 0
    assert (served.attempt, served.status, served.error, served.state) == (2, 200, None, "posted")


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
async def test_refused_by_every_target_is_an_error_with_rows(played: Stage, *, is_stream: bool) -> None:
    """Two targets that say 422: an error with its words, no 200, and a row for each that was asked."""
    answer = await played.ask("refused", stream=is_stream)
    assert 400 <= answer.status < 500
    assert answer.error["message"]
    rows = await played.rows(answer)
    assert len(rows) == len(played.up.exchanges) >= 1
    assert {(row.state, row.cost_nano_usd, row.status) for row in rows} == {("voided", 0, 422)}


async def test_zeros_beside_nothing_are_no_count(played: Stage) -> None:
    """Somebody asked, so a prompt of no tokens is a form nobody filled in: unknown is never 0, it is estimated."""
    body = chunks.answer("one", 0, usage=chunks.usage(Tokens(0, 0)))
    played.up.replace_script([told("nothing", lambda _ask: plain(body))])
    (row,) = await played.rows(await played.ask("m"))
    assert (row.cost_source, row.usage.output_tokens) == ("estimated", 0)
    assert row.cost_nano_usd == row.usage.input_tokens * IN > 0
    assert "usage_missing" in row.usage.anomalies


async def test_a_zero_output_is_not_estimated(played: Stage) -> None:
    """The prompt was read and nothing written: only the prompt is booked, and it is the provider's count."""
    body = chunks.answer("one", 0, usage=chunks.usage(Tokens(100, 0)))
    played.up.replace_script([told("read only", lambda _ask: plain(body))])
    (row,) = await played.rows(await played.ask("m"))
    assert (row.cost_nano_usd, row.cost_source) == (100 * IN, "computed")


ERROR = "Upstream is overloaded, please come back in a while. " * 400


@pytest.mark.parametrize("status", [400, 429, 500, 503])
async def test_the_words_of_an_error_are_no_output(played: Stage, status: int) -> None:
    """A refusal of twenty thousand characters costs nothing: it is not counted as a completion."""
    refusal = {"error": {"message": ERROR, "type": "server_error", "code": None}}
    played.up.replace_script([told("refusing", lambda _ask: plain(refusal, status=status))])
    answer = await played.ask("m", stream=True)
    assert answer.status >= 400
    (row,) = await played.rows(answer)
    assert (row.state, row.cost_nano_usd, row.usage.output_tokens) == ("voided", 0, 0)


async def test_the_words_of_an_error_in_a_stream_are_no_output(played: Stage) -> None:
    """One word was delivered before the error: that word is counted, the error's thousands are not."""

    def plan(ask: Ask) -> object:
        error = {"error": {"message": ERROR, "type": "server_error", "code": 502}}
        return streamed([*chunks.word_events(ask.model, 1), Send(chunks.event(error))])

    played.up.replace_script([told("breaking", plan)])  # type: ignore[arg-type]  # a generator is an iterable of steps
    answer = await played.ask("m", stream=True)
    (row,) = await played.rows(answer)
    assert (row.cost_source, row.state) == ("estimated", "posted")
    assert 0 < row.usage.output_tokens < 10


async def test_reasoning_counts_when_no_usage_comes(played: Stage) -> None:
    """What was thought aloud is output: a stream without usage is not booked by its answer alone."""
    thought = "First I consider the question from every side. " * 50

    def plan(ask: Ask) -> object:
        deltas = [{"role": "assistant", "reasoning_content": thought}, {"content": "Yes."}]
        events = [Send(chunks.event(chunks.chunk_of(ask.model, chunks.choice(delta)))) for delta in deltas]
        return streamed([*events, *chunks.ending(ask.model, None)])

    played.up.replace_script([told("thinking", plan)])  # type: ignore[arg-type]  # as above
    (row,) = await played.rows(await played.ask("m", stream=True))
    assert row.cost_source == "estimated"
    assert row.usage.output_tokens > 400
    assert row.cost_nano_usd == row.usage.input_tokens * IN + row.usage.output_tokens * OUT


@pytest.mark.parametrize("count", range(7))
async def test_a_stream_left_at_any_point_has_its_row(played: Stage, count: int) -> None:
    """Behind each event, the first and the last too: one row, at least the tokens that were sent, nothing held."""
    played.up.replace_script([ok_paced(5, every_s=0.01)])
    payload = client.chat("m", stream=True)
    words = 0
    async with client.call(played.gateway.url, payload, key=played.gateway.key) as reply:
        events = reply.events()
        for _ in range(count):
            event = await anext(events)
            words += bool(json.loads(event.data or b"{}")["choices"][0]["delta"].get("content"))
        await played.up.received()
        await reply.leave()
    (row,) = await played.gateway.settled_rows()
    assert row.cost_source in ("estimated", "computed")
    assert row.usage.output_tokens >= words
    assert row.cost_nano_usd == row.usage.input_tokens * IN + row.usage.output_tokens * OUT > 0
    assert (await played.budget("app")).held_nano_usd == 0
