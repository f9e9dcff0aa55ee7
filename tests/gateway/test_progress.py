"""How far open attempts have come: counted apart from the relay, exact while few run, cheap however many."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from proxy.gateway import Exchange, take_stock
from proxy.gateway import progress as under_test
from proxy.ledger.records import AttemptRow, KeyRecord
from proxy.ledger.resolution import Progress
from proxy.pricing import ModelFacts
from proxy.routing.principal import Principal
from proxy.routing.table import Dialect, Table
from tests.gateway.stage import HELD, Gate, Script, Stage, a_stage, a_table, a_target, events, in_time, whole

WORDS = events(40, reported=None)[:41]
"""A role and forty words, one token each but for three that are two or three."""


def openrouter() -> Table:
    """Make a table whose only target is OpenRouter's, which tells afterwards what a generation cost."""
    target = a_target("one/m")
    return a_table(replace(target, provider=replace(target.provider, dialect=Dialect.OPENROUTER)))


async def stand(stage: Stage, pieces: int) -> list[Progress]:
    """Read so many pieces of a stream and take stock twice, which changes nothing."""
    async with AsyncExitStack() as stack:
        exchange = await stack.enter_async_context(Exchange(stage.asked(stream=True), stage.service))
        await exchange.answer()
        for _ in range(pieces):
            await exchange.next_piece()
        first = await take_stock(stage.service.under_way)
        assert await take_stock(stage.service.under_way) == first
    assert not stage.service.under_way
    return first


async def booked(stage: Stage) -> AttemptRow:
    """The row of the one attempt, once it was left: by the full count of what came."""
    (row,) = await stage.rows()
    return row


async def test_what_was_delivered_is_priced() -> None:
    """By the same count that a client who leaves is booked by, and an estimate of the prompt."""
    stage = await a_stage(Script((*WORDS, HELD)))
    async with in_time():
        (progress,) = await stand(stage, 40)
    row = await booked(stage)
    assert progress.output_tokens >= row.usage.output_tokens > 40
    assert progress.output_tokens - row.usage.output_tokens <= 2
    cost = progress.input_tokens * 1_000 + progress.output_tokens * 2_000
    assert progress[:5] == ("req", 1, "chatcmpl-made-up", False, cost)
    assert 10 < progress.input_tokens < 60


async def test_many_streams_are_counted_by_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest few events stand for all that came."""
    monkeypatch.setattr(under_test, "EVENTS_PER_PASS", 1)
    monkeypatch.setattr(under_test, "EVENTS_PER_STREAM_MIN", 4)
    stage = await a_stage(Script((*WORDS, HELD)))
    async with in_time():
        (progress,) = await stand(stage, 40)
    assert 20 < progress.output_tokens < 90


async def test_what_has_been_put_away_is_a_token_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transcript that has read its events keeps their text alone."""
    monkeypatch.setattr("proxy.metering.RAW_BYTES_MAX", 0)
    stage = await a_stage(Script((*WORDS, HELD)))
    async with in_time():
        (progress,) = await stand(stage, 40)
    assert progress.output_tokens == 41


async def test_usage_told_on_the_way_is_believed() -> None:
    """A provider that counts as it goes, cost and all."""
    counted = events(3)
    stage = await a_stage(Script((*counted[:-2], counted[-2].replace(b'"choices":[]', b'"choices":[{}]'), HELD)))
    async with in_time():
        (progress,) = await stand(stage, 5)
    assert progress.input_tokens == 7
    assert progress.output_tokens >= 5
    assert progress.cost_nano_usd == 7_000 + progress.output_tokens * 2_000


@pytest.mark.parametrize(("table", "is_told"), [(openrouter(), True), (a_table(), False)])
async def test_before_an_answer_only_its_id_is_known(table: Table, *, is_told: bool) -> None:
    """A call that is billed to an end nobody sees: what came so far says nothing, but who can be asked is."""
    gate = Gate("read")
    script = Script((HELD,), headers={"content-type": "application/json", "x-generation-id": "gen-7"})
    stage = await a_stage(script, table=table, gate=gate)
    task = asyncio.create_task(leave_open(stage))
    async with in_time():
        await gate.reached.wait()
        told = await take_stock(stage.service.under_way)
        task.cancel()
        await asyncio.wait({task})
        await stage.service.drain()
    assert [(one.generation_id, one.can_look_up, one.cost_nano_usd) for one in told] == (
        [("gen-7", True, None)] if is_told else []
    )


async def leave_open(stage: Stage) -> None:
    """Ask for a JSON answer."""
    async with Exchange(stage.asked(stream=False), stage.service) as exchange:
        await exchange.answer()


async def test_an_end_that_is_not_in_the_books_yet_is_known() -> None:
    """Its settlement waits for the store: should the process die now, the cost is known."""
    gate = Gate("settle")
    stage = await a_stage(whole(), gate=gate)
    task = asyncio.create_task(leave_open(stage))
    async with in_time():
        await gate.reached.wait()
        (progress,) = await take_stock(stage.service.under_way)
        gate.opened.set()
        await task
    assert (progress.cost_nano_usd, progress.input_tokens, progress.output_tokens) == (17_000, 7, 5)


async def test_without_a_price_nothing_is_said() -> None:
    """An estimate would be no figure."""
    unpriced = a_table(a_target("one/m", facts=ModelFacts()))
    stage = await a_stage(Script((*WORDS, HELD)), table=unpriced, key=KeyRecord("app", digest="app"))
    asked = replace(stage.asked(stream=True), principal=Principal("app"))
    async with in_time(), Exchange(asked, stage.service) as exchange:
        await exchange.answer()
        await exchange.next_piece()
        assert await take_stock(stage.service.under_way) == []
