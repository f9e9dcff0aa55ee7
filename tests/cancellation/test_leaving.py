"""A client that goes away closes the upstream at once, and what it caused is booked exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from tests.behaviours.gateway import Running, running
from tests.faults import client
from tests.faults.client import Leaving
from tests.faults.ports import blackhole_port
from tests.faults.upstream import FaultUpstream

ROUTES = """
providers:
  up: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $2/M}}}}
  spare: {{dialect: openai, base_url: "{spare}", price: {{input: $1/M, output: $2/M}}}}
models:
  "up/*": ["up/fault:*"]
  "pair/*": ["up/fault:*", spare/healthy]
defaults: {{retry: {{attempts: 3}}}}
keys:
  - {{name: app, key: "{{key}}", budget: $100/day}}
"""
CLOSE_S = 1.0
"""A bound that a loaded machine keeps too; the figure itself is measured by `make torture`."""
HOWS = [Leaving.FIN, Leaving.RST, Leaving.HALF]


class Stage:
    """A gateway and the two upstreams behind it."""

    def __init__(self, gateway: Running, up: FaultUpstream, spare: FaultUpstream) -> None:
        """Keep them together."""
        self.gateway = gateway
        self.up = up
        self.spare = spare


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Serve a gateway between a client that leaves and an upstream that is busy."""
    async with AsyncExitStack() as stack:
        up = await stack.enter_async_context(FaultUpstream())
        spare = await stack.enter_async_context(FaultUpstream())
        routes = ROUTES.format(up=up.base_url, spare=spare.base_url)
        yield Stage(await stack.enter_async_context(running(routes, tmp_path)), up, spare)


async def leave_during(stage: Stage, model: str, how: Leaving, *, is_stream: bool, after_events: int = 0) -> float:
    """Ask, wait for the upstream to have the request (the client some events), leave; gives seconds to the close."""
    fields: dict[str, Any] = {"stream": True} if is_stream else {}
    async with client.call(stage.gateway.url, client.chat(model, **fields), key=stage.gateway.key) as reply:
        exchange = await stage.up.received()
        if after_events:
            events = reply.events()
            for _ in range(after_events):
                await anext(events)
        moment = await reply.leave(how)
        return await stage.up.left(exchange) - moment


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
async def test_leaving_before_the_first_byte_closes_the_upstream(
    stage: Stage, how: Leaving, *, is_stream: bool
) -> None:
    """Nothing has come yet: the call is ended, its row says who left, no other target is tried."""
    waited_s = await leave_during(stage, "pair/hang_before_headers", how, is_stream=is_stream)
    assert waited_s < CLOSE_S
    (row,) = await stage.gateway.settled_rows()
    assert (row.error, row.state, row.attempt) == ("client_left", "posted", 1)
    assert row.cost_source == ("estimated" if is_stream else "held")
    assert not stage.spare.exchanges


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("mode", ["hang_mid_stream", "comments_forever"])
async def test_leaving_while_the_upstream_is_silent(stage: Stage, how: Leaving, mode: str) -> None:
    """A silent upstream gives no write to fail on: only the watcher can notice."""
    after_events = 1 if mode == "hang_mid_stream" else 0
    waited_s = await leave_during(stage, f"up/{mode}", how, is_stream=True, after_events=after_events)
    assert waited_s < CLOSE_S
    (row,) = await stage.gateway.settled_rows()
    assert (row.error, row.cost_source) == ("client_left", "estimated")


@pytest.mark.parametrize("how", HOWS)
async def test_leaving_mid_stream_books_what_was_delivered(stage: Stage, how: Leaving) -> None:
    """The prompt and the words that came are counted here, since no usage will come."""
    waited_s = await leave_during(stage, "up/ok_paced", how, is_stream=True, after_events=3)
    assert waited_s < CLOSE_S
    (row,) = await stage.gateway.settled_rows()
    assert (row.error, row.cost_source, row.state) == ("client_left", "estimated", "posted")
    assert row.usage.input_tokens > 0
    assert row.usage.output_tokens > 0
    assert row.cost_nano_usd is not None
    assert 0 < row.cost_nano_usd < row.hold_nano_usd


async def test_leaving_during_a_wait_between_tries_ends_the_request(stage: Stage) -> None:
    """While the gateway waits to try again nothing is open upstream, and nothing more is tried."""
    payload = client.chat("up/status_500")
    async with client.call(stage.gateway.url, payload, key=stage.gateway.key) as reply:
        await stage.up.received()
        await asyncio.sleep(0.1)
        await reply.leave()
    (row,) = await stage.gateway.settled_rows()
    assert (row.state, row.cost_nano_usd) == ("voided", 0)
    assert len(stage.up.exchanges) == 1


async def test_leaving_after_the_last_byte_is_a_success(stage: Stage) -> None:
    """A client that closes behind `[DONE]` has had its answer."""
    payload = client.chat("up/ok", stream=True)
    async with client.call(stage.gateway.url, payload, key=stage.gateway.key) as reply:
        async for event in reply.events():
            if event.data == b"[DONE]":
                await reply.leave(Leaving.RST)
                break
    (row,) = await stage.gateway.settled_rows()
    assert (row.error, row.cost_source) == (None, "computed")


async def test_many_leaving_at_once_leave_nothing_open(stage: Stage) -> None:
    """Fifty clients that vanish in one moment: fifty rows, none pending, no upstream connection left."""
    await asyncio.gather(*(vanish(stage) for _ in range(50)))
    rows = await stage.gateway.settled_rows(50)
    assert len(rows) == 50
    assert {row.error for row in rows} == {"client_left"}
    await stage.up.until(lambda: stage.up.open_connections == 0)
    (budget,) = await stage.gateway.gateway.ledger.budgets("app", rows[0].at_s)
    assert budget.held_nano_usd == 0
    assert budget.posted_nano_usd == sum(row.cost_nano_usd or 0 for row in rows)


async def vanish(stage: Stage) -> None:
    """Ask for an endless stream and leave after its first event."""
    payload = client.chat("up/hang_mid_stream", stream=True)
    async with client.call(stage.gateway.url, payload, key=stage.gateway.key) as reply:
        await anext(reply.events())
        await reply.leave(Leaving.RST)


async def test_leaving_while_still_connecting_costs_nothing(tmp_path: Path) -> None:
    """No byte of the request went out, so nothing can have been billed: the hold is voided."""
    with blackhole_port() as up:
        async with running(ROUTES.format(up=up, spare=up), tmp_path) as gateway:
            async with client.call(gateway.url, client.chat("up/ok", max_tokens=16_000), key=gateway.key) as reply:
                await asyncio.sleep(0.2)
                await reply.leave()
            (row,) = await gateway.settled_rows()
    assert (row.state, row.cost_nano_usd, row.error) == ("voided", 0, "client_left")


async def test_leaving_is_told_to_the_request_under_way(stage: Stage) -> None:
    """The one before it on the same connection may still be letting go of its upstream: it takes nothing back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(stage.gateway.url.rsplit(":", 1)[1].split("/")[0]))
    writer.write(raw_request(stage, "up/ok_late_end"))
    async with asyncio.timeout(CLOSE_S):
        await reader.readuntil(b"0\r\n\r\n")
    writer.write(raw_request(stage, "up/hang_mid_stream"))
    async with asyncio.timeout(CLOSE_S):
        await reader.readuntil(b"data: ")
    await asyncio.sleep(0.1)
    writer.transport.abort()
    async with asyncio.timeout(CLOSE_S):
        await stage.up.left(stage.up.exchanges[1])
    rows = await stage.gateway.settled_rows(2)
    assert [row.error for row in rows] == [None, "client_left"]


def raw_request(stage: Stage, model: str) -> bytes:
    """Write a streaming request, for a connection that is used again."""
    body = orjson.dumps(client.chat(model, stream=True))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {stage.gateway.key}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
