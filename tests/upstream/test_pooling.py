"""Connections that waited in the pool: what came unasked is never read as an answer, and idleness is nobody's fault."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from proxy.errors import FailureKind, UpstreamError
from proxy.routing.table import Provider
from proxy.upstream import HttpUpstream, client, pooling
from tests.faults.cuts import (
    SETTLE_S,
    close_before_headers,
    close_inside_headers,
    hang_mid_stream,
    reset_before_headers,
)
from tests.faults.lies import surplus_later, surplus_response
from tests.faults.replies import ok, ok_paced
from tests.faults.steps import Mode
from tests.faults.upstream import FaultUpstream
from tests.upstream.conftest import CONNECT_S, answering, ask, call_of, fail, provider_at, raw_server, read_request

REST_S = 0.02
SLOTS = 5


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


# ---------------------------------------------------------------- how many, how long


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a pool have five connections."""
    monkeypatch.setattr(pooling, "CONNECTIONS_MAX", SLOTS)


async def cancel_one(adapter: HttpUpstream, provider: Provider, number: int) -> None:
    """Start a stream and cancel it at a moment of its own, every fifth one twice."""
    task = asyncio.create_task(ask(adapter, provider, call_of(is_stream=True)))
    if number % 2:
        for _ in range(number // 2 % 40):
            await asyncio.sleep(0)
    else:
        await asyncio.sleep(number % 20 / 4000)
    task.cancel()
    if number % 5 == 4:
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("at_once", [1, 8])
async def test_a_crowd_of_cancelled_calls_loses_no_slot(adapter: HttpUpstream, at_once: int) -> None:
    """400 of them, cancelled anywhere from the wait for a slot to the last piece; then five serve at a time again."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for piece in (b"5\r\nfirst\r\n", b"6\r\nsecond\r\n", b"0\r\n\r\n"):
                await asyncio.sleep(0.001)
                if not writer.is_closing():
                    writer.write(piece)

    async with raw_server(drip) as base_url:
        provider = provider_at(base_url)
        for start in range(0, 400, at_once):
            numbers = range(start, start + at_once)
            await asyncio.gather(*(cancel_one(adapter, provider, number) for number in numbers))
        bodies = await asyncio.gather(*(ask(adapter, provider) for _ in range(2 * SLOTS)))
        assert bodies == [b"firstsecond"] * (2 * SLOTS)


@pytest.mark.usefixtures("narrow")
async def test_a_call_beyond_the_limit_waits_under_its_connect_clock(adapter: HttpUpstream) -> None:
    """Nothing was sent when it ends; whoever is more patient gets a connection that was given back."""
    async with FaultUpstream([ok_paced(2, every_s=0.05)]) as up:
        provider = provider_at(up.base_url)
        busy = [asyncio.create_task(ask(adapter, provider, call_of(is_stream=True))) for _ in range(SLOTS)]
        await up.until(lambda: len(up.exchanges) == SLOTS)
        with pytest.raises(UpstreamError) as caught:
            await adapter.open(provider, call_of(), connect_timeout_s=0.02)
        assert (caught.value.failure.kind, caught.value.failure.may_have_cost) == (FailureKind.TIMEOUT, False)
        waiting = [asyncio.create_task(ask(adapter, provider, call_of(f"m{number}"))) for number in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.gather(*busy, *waiting[1:])
        assert {exchange.model for exchange in up.exchanges[SLOTS:]} == {"m1", "m2"}
        assert len(up.connections) == SLOTS


@pytest.mark.usefixtures("narrow")
async def test_a_slot_granted_to_one_who_leaves_goes_to_the_next(adapter: HttpUpstream) -> None:
    """In the very turn of the loop in which it was granted; whoever has waited longest comes first."""
    async with FaultUpstream() as up:
        provider = provider_at(up.base_url)
        held = [await adapter.open(provider, call_of(), connect_timeout_s=CONNECT_S) for _ in range(SLOTS)]
        waiting = [asyncio.create_task(ask(adapter, provider, call_of(f"m{number}"))) for number in range(4)]
        await asyncio.sleep(0)
        await held[0].close()
        waiting[0].cancel()
        assert all(await asyncio.gather(*waiting[1:]))
        assert [exchange.model for exchange in up.exchanges[SLOTS:]] == ["m1", "m2", "m3"]
        for reply in held:
            await reply.close()


@pytest.mark.usefixtures("narrow")
async def test_a_waiting_connection_makes_room_for_another_provider(adapter: HttpUpstream) -> None:
    """The one that has waited longest."""
    async with FaultUpstream() as one, FaultUpstream() as other:
        await asyncio.gather(*(ask(adapter, provider_at(one.base_url)) for _ in range(SLOTS)))
        assert await ask(adapter, provider_at(other.base_url))
        await one.until(lambda: one.open_connections == SLOTS - 1)
        assert await ask(adapter, provider_at(one.base_url))
        assert len(one.connections) == SLOTS


async def test_a_connection_that_waits_too_long_is_closed(
    adapter: HttpUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the provider does it; a younger one has its own time."""
    monkeypatch.setattr(pooling, "IDLE_S_MAX", 0.1)
    async with FaultUpstream([ok(), ok_paced(2, every_s=0.03), ok()]) as up:
        provider = provider_at(up.base_url)
        await asyncio.gather(ask(adapter, provider), ask(adapter, provider))
        assert up.open_connections == 2
        await up.until(lambda: up.open_connections == 1)
        await up.until(lambda: up.open_connections == 0)
        assert await ask(adapter, provider)
        assert len(up.connections) == 3


async def test_a_connection_past_its_time_is_not_used(adapter: HttpUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should a busy loop be late to close it."""
    async with FaultUpstream() as up:
        provider = provider_at(up.base_url)
        await ask(adapter, provider)
        monkeypatch.setattr(pooling, "IDLE_S_MAX", -1.0)
        await ask(adapter, provider)
        assert len(up.connections) == 2


async def test_providers_that_check_certificates_differently_share_nothing(adapter: HttpUpstream) -> None:
    """Nor do two ports of one host."""
    async with FaultUpstream() as up:
        for verify in (True, False, True):
            await ask(adapter, provider_at(up.base_url, verify=verify))
        assert len(up.connections) == 2


async def test_closing_ends_what_is_under_way_and_what_is_being_made(adapter: HttpUpstream) -> None:
    """A reader gets an error, whoever waits for a connection gets none."""
    async with FaultUpstream([hang_mid_stream()]) as up:
        provider = provider_at(up.base_url)
        reply = await adapter.open(provider, call_of(is_stream=True), connect_timeout_s=CONNECT_S)
        dialing = asyncio.create_task(fail(adapter, provider))
        await asyncio.sleep(0)
        await adapter.close()
        assert (await dialing).kind is FailureKind.CONNECT
        with pytest.raises(UpstreamError, match="broken_stream"):
            await reply.read_all(1 << 20)
        await reply.close()
        await up.until(lambda: up.open_connections == 0)


async def test_a_reader_overtaken_by_a_close_never_reads_anothers_answer(adapter: HttpUpstream) -> None:
    """The end of the body, a close from another task and the next call in one turn of the loop."""
    async with FaultUpstream([ok_paced(1, every_s=0.02), ok()]) as up:
        provider = provider_at(up.base_url)
        reply = await adapter.open(provider, call_of(is_stream=True), connect_timeout_s=CONNECT_S)
        seen = b""

        async def read_on() -> None:
            nonlocal seen
            while piece := await reply.read():
                seen += piece

        reader = asyncio.create_task(read_on())
        await up.until(lambda: up.exchanges[0].end is not None)
        await reply.close()
        assert orjson.loads(await ask(adapter, provider))["choices"]
        await asyncio.gather(reader, return_exceptions=True)
        assert b'"message"' not in seen
