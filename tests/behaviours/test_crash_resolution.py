"""kill -9 in mid-stream: what it cost is asked for, else known from the last checkpoint, else all that was held."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.gateway import CHECKPOINT_S
from tests.faults import client
from tests.faults.router import RouterUpstream, bill
from tests.faults.serving import TurnpikeServer
from tests.torture.books import Books, Row
from tests.torture.waiting import wait_until

ROUTES = """
providers:
  router: {{dialect: openrouter, base_url: "{up}", api_key: sk-or-test, price: {{input: $1/M, output: $2/M}}}}
  maker: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $2/M}}}}
models: {{"router/*": router/*, "maker/*": maker/*}}
keys: [{{name: app, key: sk-test-crash-key, budget: $100/day}}]
"""
RESOLVED_S_MAX = 10.0


async def crash(up: RouterUpstream, folder: Path, model: str, *, after_s: float) -> TurnpikeServer:
    """Kill the server so long after a stream has begun, and start it again on the same folder."""
    server = await TurnpikeServer(ROUTES.format(up=up.base_url), folder).start()
    async with client.call(server.url, client.chat(model, stream=True), key=server.key) as reply:
        await anext(reply.events())
        await asyncio.sleep(after_s)
        await server.kill()
    await server.restart()
    return server


async def resolved(server: TurnpikeServer) -> Row:
    """Wait for the one attempt to be posted; nothing of it may be pending by then."""
    books = Books(server.data)
    try:
        assert await books.until_settled(limit_s=RESOLVED_S_MAX) is not None
        assert await wait_until(lambda: books.rows()[0].state == "posted", limit_s=RESOLVED_S_MAX) is not None
    finally:
        await server.kill()
    (row,) = books.rows()
    assert books.find_faults() == []
    assert row.error == "owner_died"
    return row


async def test_what_the_provider_tells_is_booked(tmp_path: Path) -> None:
    """The id was in the checkpoint: OpenRouter is asked, late and again, and its amount is the cost."""
    async with RouterUpstream() as up:
        server = await crash(up, tmp_path, "router/m", after_s=CHECKPOINT_S + 0.7)
        books = Books(server.data)
        assert await wait_until(lambda: books.rows()[0].state == "unresolved", limit_s=RESOLVED_S_MAX) is not None
        assert not books.count_pending()
        assert [balance.held_nano_usd for balance in books.balances()] == [books.rows()[0].hold_nano_usd]
        assert await wait_until(lambda: bool(up.asked), limit_s=RESOLVED_S_MAX) is not None
        up.bills["gen-1"] = bill(0.000005)
        row = await resolved(server)
    assert (row.cost_nano_usd, row.cost_source) == (5_000, "reported")
    assert len(up.asked) > 1


async def test_how_far_it_had_come_is_booked(tmp_path: Path) -> None:
    """A provider that cannot be asked: the checkpoint's count is the estimate."""
    async with RouterUpstream(words=8) as up:
        row = await resolved(await crash(up, tmp_path, "maker/m", after_s=CHECKPOINT_S + 0.7))
    assert row.cost_source == "estimated"
    assert row.cost_nano_usd is not None
    assert 16_000 < row.cost_nano_usd < row.hold_nano_usd


@pytest.mark.parametrize("model", ["maker/m", "router/m"])
async def test_without_a_word_all_that_was_held_is_booked(tmp_path: Path, model: str) -> None:
    """It died before its first checkpoint."""
    async with RouterUpstream() as up:
        row = await resolved(await crash(up, tmp_path, model, after_s=0))
    assert row.is_posted_in_full
    assert not up.asked
