"""Connections that waited in the pool: what came unasked is never read as an answer, and idleness is nobody's fault."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from proxy.errors import FailureKind
from proxy.upstream import HttpUpstream, client
from tests.faults.cuts import SETTLE_S, close_before_headers, close_inside_headers, reset_before_headers
from tests.faults.lies import surplus_later, surplus_response
from tests.faults.replies import ok
from tests.faults.steps import Mode
from tests.faults.upstream import FaultUpstream
from tests.upstream.conftest import answering, ask, call_of, fail, provider_at, raw_server

REST_S = 0.02


@pytest.fixture
def soon_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a pooled connection for one that has waited long after a moment of `rest`."""
    monkeypatch.setattr(client, "IDLE_S_MIN", REST_S / 2)


async def rest() -> None:
    """Let pooled connections grow idle."""
    await asyncio.sleep(REST_S)


@pytest.mark.parametrize("mode", [surplus_response(), surplus_later()])
async def test_an_answer_nobody_asked_for_reaches_nobody(adapter: HttpUpstream, mode: Mode) -> None:
    """Whether it comes with the real one or while the connection waits: the next request goes out on another."""
    async with FaultUpstream([mode]) as up:
        for _ in range(3):
            assert orjson.loads(await ask(adapter, provider_at(up.base_url)))["choices"]
            await up.until(lambda: up.exchanges[-1].end is not None)
            await asyncio.sleep(SETTLE_S)
        assert len(up.connections) == 3


@pytest.mark.usefixtures("soon_idle")
async def test_garbage_on_a_waiting_connection_reaches_nobody(adapter: HttpUpstream) -> None:
    """Half a status line behind the answer spoils nothing but its connection."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    async with raw_server(answering(answer + b"\x00garbage")) as base_url:
        for _ in range(3):
            assert await ask(adapter, provider_at(base_url)) == b"{}"
            await rest()


@pytest.mark.usefixtures("soon_idle")
@pytest.mark.parametrize("ending", [close_before_headers(), reset_before_headers()])
async def test_a_connection_closed_for_idleness_is_no_failed_attempt(adapter: HttpUpstream, ending: Mode) -> None:
    """The request goes out once more on a fresh connection, with the same body; other waiting ones are passed over."""
    async with FaultUpstream([ok(), ok(), ending, ok()]) as up:
        provider = provider_at(up.base_url)
        await asyncio.gather(*(ask(adapter, provider) for _ in range(2)))
        await rest()
        assert orjson.loads(await ask(adapter, provider, call_of("again")))["choices"]
        assert [exchange.model for exchange in up.exchanges] == ["m", "m", "again", "again"]
        assert up.exchanges[3].connection.number == len(up.connections) - 1 == 2
        assert await ask(adapter, provider)


@pytest.mark.usefixtures("soon_idle")
async def test_a_request_is_repeated_once_only(adapter: HttpUpstream) -> None:
    """What the fresh connection says is what happened."""
    async with FaultUpstream([ok(), close_before_headers()]) as up:
        provider = provider_at(up.base_url)
        await ask(adapter, provider)
        await rest()
        failure = await fail(adapter, provider)
        assert (failure.kind, failure.may_have_cost) == (FailureKind.BROKEN_STREAM, True)
        assert len(up.exchanges) == 3


@pytest.mark.usefixtures("soon_idle")
async def test_an_answer_that_had_begun_is_not_asked_for_twice(adapter: HttpUpstream) -> None:
    """Half a head is a sign of work."""
    async with FaultUpstream([ok(), close_inside_headers()]) as up:
        provider = provider_at(up.base_url)
        await ask(adapter, provider)
        await rest()
        assert (await fail(adapter, provider)).may_have_cost
        assert len(up.exchanges) == 2


@pytest.mark.usefixtures("soon_idle")
async def test_a_provider_that_took_its_time_is_not_asked_twice(
    adapter: HttpUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A close begun before our request arrives soon after it, or it was not that."""
    monkeypatch.setattr(client, "CROSSING_S_MAX", -1.0)
    async with FaultUpstream([ok(), close_before_headers()]) as up:
        provider = provider_at(up.base_url)
        await ask(adapter, provider)
        await rest()
        assert (await fail(adapter, provider)).may_have_cost
        assert len(up.exchanges) == 2


async def test_a_connection_in_steady_use_is_not_closed_for_idleness(adapter: HttpUpstream) -> None:
    """A provider that hangs up on a second request of the same moment has failed it."""
    async with FaultUpstream([ok(), close_before_headers()]) as up:
        provider = provider_at(up.base_url)
        await ask(adapter, provider)
        assert (await fail(adapter, provider)).may_have_cost
        assert len(up.exchanges) == 2
