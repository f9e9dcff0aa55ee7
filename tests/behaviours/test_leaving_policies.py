"""Clients that leave: cut off where that stops the bill, read to the end where it does not, asked about afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from proxy.app.resolving import make_lookups
from proxy.gateway import drains
from proxy.ledger.records import AttemptRow
from proxy.usage import CostSource
from tests.behaviours.gateway import Running, running
from tests.faults import client
from tests.faults.client import Leaving
from tests.faults.router import RouterUpstream, bill
from tests.torture.waiting import wait_until

ROUTES = """
providers:
  router: {{dialect: openrouter, base_url: "{up}", api_key: sk-or-test, price: {{input: $1/M, output: $2/M}}}}
  maker: {{dialect: openai, base_url: "{up}", on_disconnect: drain, price: {{input: $1/M, output: $2/M}}}}
  local: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $2/M}}}}
models: {{"router/*": router/*, "maker/*": maker/*, "local/*": local/*}}
keys: [{{name: app, key: "{{key}}", budget: $100/day}}]
"""
WAIT_S = 5.0


@dataclass
class Stage:
    """A gateway and the upstream behind it."""

    gateway: Running
    up: RouterUpstream

    async def leave(self, model: str, *, is_stream: bool = True, after_events: int = 1) -> None:
        """Ask, wait for the upstream to have the request and the client for some events, and leave."""
        payload = client.chat(model, stream=True) if is_stream else client.chat(model)
        async with client.call(self.gateway.url, payload, key=self.gateway.key) as reply:
            events = reply.events()
            for _ in range(after_events if is_stream else 0):
                await anext(events)
            await until(lambda: self.up.calls > 0)
            await asyncio.sleep(0.05)
            await reply.leave(Leaving.RST)
        await asyncio.sleep(0.1)

    async def row(self) -> AttemptRow:
        """The one row there is."""
        (row,) = await self.gateway.rows()
        return row

    async def settled(self) -> AttemptRow:
        """The one row, once it is settled."""
        (row,) = await self.gateway.settled_rows()
        return row

    async def held(self) -> int:
        """What the key's budget holds."""
        (budget,) = await self.gateway.gateway.ledger.budgets("app", self.gateway.gateway.clock.now_s())
        return budget.held_nano_usd


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something."""
    assert await wait_until(condition, limit_s=WAIT_S) is not None


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Serve a gateway before an upstream that waits to be let on."""
    async with AsyncExitStack() as stack:
        up = await stack.enter_async_context(RouterUpstream())
        gateway = await stack.enter_async_context(running(ROUTES.format(up=up.base_url), tmp_path))
        yield Stage(gateway, up)


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
async def test_drain_reads_the_reply_to_its_end(stage: Stage, *, is_stream: bool) -> None:
    """The upstream is not left, the hold stays meanwhile, and its own usage is booked."""
    await stage.leave("maker/m", is_stream=is_stream)
    assert (stage.up.left, (await stage.row()).state) == (0, "pending")
    assert await stage.held() == (await stage.row()).hold_nano_usd
    stage.up.gate.set()
    row = await stage.settled()
    assert (row.error, row.cost_source, row.cost_nano_usd) == ("client_left", CostSource.REPORTED, 17_000)
    assert (row.usage.input_tokens, row.usage.output_tokens) == (7, 3)
    assert await stage.held() == 0


async def test_drain_goes_on_before_the_first_byte_too(stage: Stage) -> None:
    """Nothing has come yet: the call goes on all the same, and its usage is booked."""
    stage.up.words = 0
    stage.up.cost = None
    await stage.leave("maker/m", after_events=0)
    assert (stage.up.left, (await stage.row()).state) == (0, "pending")
    stage.up.gate.set()
    row = await stage.settled()
    assert (row.error, row.cost_source, row.usage.input_tokens) == ("client_left", CostSource.COMPUTED, 7)


@pytest.mark.parametrize("after_events", [0, 2])
async def test_cancel_closes_at_once(stage: Stage, after_events: int) -> None:
    """Where leaving stops the bill, what came is counted and booked."""
    await stage.leave("local/m", after_events=after_events)
    row = await stage.settled()
    assert (row.error, row.cost_source, stage.up.left) == ("client_left", CostSource.ESTIMATED, 1)


async def test_beyond_the_bound_it_is_cut_off(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than so many go on at once; the next is closed and estimated, before its first byte too."""
    monkeypatch.setattr(drains, "DRAINS_MAX", 0)
    await stage.leave("maker/m")
    row = await stage.settled()
    assert (row.error, row.cost_source) == ("client_left", CostSource.ESTIMATED)
    await until(lambda: stage.up.left == 1)
    stage.up.words = 0
    await stage.leave("maker/m", after_events=0)
    await until(lambda: stage.up.left == 2)
    assert {row.error for row in await stage.gateway.settled_rows(2)} == {"client_left"}


async def test_a_drain_has_its_time(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply without an end is cut off, and booked by what came."""
    monkeypatch.setattr(drains, "DRAIN_S_MAX", 0.2)
    await stage.leave("maker/m")
    row = await stage.settled()
    assert (row.error, row.cost_source, row.usage.output_tokens > 0) == ("client_left", CostSource.ESTIMATED, True)
    await until(lambda: stage.up.left == 1)


async def test_a_server_that_stops_settles_its_drains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits a little, then cuts off; nothing stays pending."""
    monkeypatch.setattr(drains, "STOP_S_MAX", 0.1)
    async with RouterUpstream() as up:
        async with running(ROUTES.format(up=up.base_url), tmp_path) as gateway:
            await Stage(gateway, up).leave("maker/m")
            assert [row.state for row in await gateway.rows()] == ["pending"]
        async with running(ROUTES.format(up=up.base_url), tmp_path) as gateway:
            (row,) = await gateway.rows()
    assert (row.state, row.error, row.cost_source) == ("posted", "client_left", CostSource.ESTIMATED)


async def test_openrouter_is_left_where_that_stops_the_bill(stage: Stage) -> None:
    """Booked by what came, then asked: its word corrects the row and the balance, exactly once."""
    stage.up.bills["gen-1"] = bill(0.000003, 30, 2, cancelled=True)
    await stage.leave("router/m")
    row = await stage.settled()
    assert (row.error, row.cost_source, row.generation_id) == ("client_left", CostSource.ESTIMATED, "gen-1")
    assert stage.up.left == 1
    await asyncio.sleep(1)
    lookups = make_lookups(stage.gateway.gateway)
    await lookups.run()
    await lookups.run()
    row = await stage.row()
    assert (row.cost_nano_usd, row.cost_source, row.usage.output_tokens) == (3_000, CostSource.REPORTED, 2)
    assert row.error == "client_left"
    assert stage.up.asked == [("gen-1", "Bearer sk-or-test")]
    (budget,) = await stage.gateway.gateway.ledger.budgets("app", row.at_s)
    assert (budget.posted_nano_usd, budget.held_nano_usd) == (3_000, 0)


@pytest.mark.parametrize(("behind", "is_stream"), [("Groq", True), ("OpenAI", False)])
async def test_openrouter_is_read_on_where_it_bills_all_the_same(stage: Stage, behind: str, *, is_stream: bool) -> None:
    """A stream of somebody who cannot be stopped, and any call that is no stream."""
    stage.up.provider = behind
    await stage.leave("router/m", is_stream=is_stream)
    assert (stage.up.left, (await stage.row()).state) == (0, "pending")
    stage.up.gate.set()
    row = await stage.settled()
    assert (row.error, row.cost_source, row.cost_nano_usd) == ("client_left", CostSource.REPORTED, 17_000)


async def test_openrouter_left_before_it_says_who_is_behind(stage: Stage) -> None:
    """The id in the head is enough to ask by."""
    stage.up.words = 0
    stage.up.bills["gen-1"] = bill(0)
    await stage.leave("router/m", after_events=0)
    row = await stage.settled()
    assert (row.cost_source, row.generation_id, stage.up.left) == (CostSource.ESTIMATED, "gen-1", 1)
    await asyncio.sleep(1)
    await make_lookups(stage.gateway.gateway).run()
    row = await stage.row()
    assert (row.state, row.cost_nano_usd, row.cost_source) == ("posted", 0, CostSource.REPORTED)
