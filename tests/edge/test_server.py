"""The listening side: addresses, the ready line's truth, and an end that breaks no stream."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import uvicorn

from proxy.edge import server
from proxy.edge.server import END_AT_ONCE, END_GENTLY, ListenError, address_of, listen, listen_beside, serve
from tests.edge.connection import EchoApp, head


@contextlib.asynccontextmanager
async def running(app: Any, **options: Any) -> AsyncIterator[tuple[asyncio.Task[None], int]]:
    """Serve an app as `turnpike serve` does; gives the serving task and the port once it is ready."""
    ready = asyncio.Event()
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    task = asyncio.ensure_future(serve(app, listeners=[listener], on_ready=ready.set, **options))
    async with asyncio.timeout(5):
        await ready.wait()
    try:
        yield task, port
    finally:
        if not task.done():
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0)
            signal.raise_signal(signal.SIGTERM)
            await asyncio.wait((task,), timeout=5)


def test_a_free_port_is_found_and_shown() -> None:
    """Port 0 takes any; the address has the one it got."""
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert address_of(listener, "127.0.0.1") == f"http://127.0.0.1:{port}"
        assert port > 0


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    """As URLs have it."""
    with listen("::1", 0) as listener:
        assert address_of(listener, "::1").startswith("http://[::1]:")


def test_a_name_is_listened_on_as_ipv4_where_it_can() -> None:
    """It is what clients try when they are told 127.0.0.1."""
    with listen("localhost", 0) as listener:
        assert listener.family is socket.AF_INET


def test_a_port_in_use_is_named_with_the_remedy() -> None:
    """Before anything else is opened."""
    with listen("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=f"127.0.0.1 port {port} .*--port"):
            listen("127.0.0.1", port)


def test_a_host_nobody_knows_is_named() -> None:
    """No traceback of the resolver."""
    with pytest.raises(ListenError, match=r"no\.such\.host\.invalid"):
        listen("no.such.host.invalid", 0)


async def test_requests_are_answered_once_it_is_ready() -> None:
    """And without the server's name in the reply."""
    async with running(EchoApp()) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head(b"GET /x HTTP/1.1", b"connection: close"))
        reply = await reader.read()
        writer.close()
        assert reply.startswith(b"HTTP/1.1 200")
        assert b"\r\ndate: " in reply
        assert b"\r\nserver: " not in reply


async def test_sigterm_lets_a_running_stream_finish_and_accepts_no_other() -> None:
    """It ends with its terminal chunk; idle connections are closed at once."""
    app = EchoApp()
    async with running(app) as (task, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        idle, idle_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head(b"GET /slow HTTP/1.1"))
        await reader.readuntil(b"first")
        signal.raise_signal(signal.SIGTERM)
        assert await asyncio.wait_for(idle.read(), 2) == b""
        with pytest.raises(OSError, match=r"refused|Connect"):
            await asyncio.open_connection("127.0.0.1", port)
        assert not task.done()
        app.go_on.set()
        assert (await reader.read()).endswith(b"last\r\n0\r\n\r\n")
        await asyncio.wait_for(task, 2)
        writer.close()
        idle_writer.close()


class StubbornApp:
    """Streams for ever and notes how it ended."""

    def __init__(self) -> None:
        self.settled = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            self.settled.set()
            raise


async def _open_stream(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head(b"GET /x HTTP/1.1"))
    await reader.readuntil(b"first")
    return reader, writer


async def test_a_stream_that_outlives_the_drain_is_cut_and_settles() -> None:
    """The client sees that it is incomplete; `serve` returns only once the request has ended."""
    app = StubbornApp()
    async with running(app, drain_s=0) as (task, port):
        reader, writer = await _open_stream(port)
        signal.raise_signal(signal.SIGTERM)
        assert not (await asyncio.wait_for(reader.read(), 3)).endswith(b"0\r\n\r\n")
        await asyncio.wait_for(task, 3)
        assert app.settled.is_set()
        writer.close()


async def test_a_second_signal_ends_the_wait() -> None:
    """Soon, and with everything settled."""
    app = StubbornApp()
    async with running(app) as (task, port):
        _, writer = await _open_stream(port)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        assert not task.done()
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(task, 3)
        assert app.settled.is_set()
        writer.close()


async def test_a_request_that_never_settles_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `SETTLE_S` the process ends without it: the ledger resolves what it left."""
    monkeypatch.setattr(server, "SETTLE_S", 0.05)
    release = asyncio.Event()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    async with running(app, drain_s=0) as (task, port):
        _, writer = await _open_stream(port)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(task, 3)
        writer.close()
        release.set()


# ---------------------------------------------------------------- one of several workers


@contextlib.contextmanager
def parent() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give a parent's line to its worker, and the worker's end of it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


async def test_a_worker_leaves_signals_to_its_parent() -> None:
    """A terminal sends them to both, and the parent passes them on."""
    with parent() as (ours, theirs):
        async with running(EchoApp(), orders=theirs) as (task, port):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0.3)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head(b"GET /x HTTP/1.1", b"connection: close"))
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
            ours.send(END_GENTLY)
            await asyncio.wait_for(task, 3)


async def test_a_worker_told_to_end_gently_lets_a_stream_finish() -> None:
    """Told twice too: only another order ends the wait."""
    app = EchoApp()
    with parent() as (ours, theirs):
        async with running(app, orders=theirs) as (task, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head(b"GET /slow HTTP/1.1"))
            await reader.readuntil(b"first")
            ours.send(END_GENTLY)
            ours.send(END_GENTLY)
            await asyncio.sleep(0.3)
            assert not task.done()
            app.go_on.set()
            assert (await reader.read()).endswith(b"last\r\n0\r\n\r\n")
            await asyncio.wait_for(task, 3)
            writer.close()


@pytest.mark.parametrize("how", ["told", "told while draining", "orphaned", "orphaned while draining"])
async def test_a_worker_ends_soon_when_told_so_or_orphaned(how: str) -> None:
    """Its streams are cut and settled."""
    app = StubbornApp()
    with parent() as (ours, theirs):
        async with running(app, orders=theirs) as (task, port):
            _, writer = await _open_stream(port)
            if how.endswith("draining"):
                ours.send(END_GENTLY)
                await asyncio.sleep(0.3)
                assert not task.done()
            if how.startswith("told"):
                ours.send(END_AT_ONCE)
            else:
                ours.close()
            await asyncio.wait_for(task, 3)
            assert app.settled.is_set()
            writer.close()


def test_siblings_share_a_port_that_nobody_else_can_take() -> None:
    """Connections are spread over those that listen; the first one only holds the address."""
    with listen("127.0.0.1", 0) as anchor:
        port = anchor.getsockname()[1]
        with listen_beside(anchor) as first, listen_beside(anchor) as second:
            first.listen()
            second.listen()
            with pytest.raises(ListenError):
                listen("127.0.0.1", port)
            with contextlib.ExitStack() as stack:
                for _ in range(64):
                    stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                counts = [_count_waiting(listener) for listener in (first, second)]
        assert sum(counts) == 64
        assert min(counts) > 8


def _count_waiting(listener: socket.socket) -> int:
    listener.settimeout(0)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


async def test_a_signal_during_the_start_ends_it_without_a_ready_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is promised that will not be kept."""
    ready: list[str] = []

    async def startup(self: uvicorn.Server, sockets: object = None) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(uvicorn.Server, "startup", startup)
    with listen("127.0.0.1", 0) as listener:
        await asyncio.wait_for(serve(EchoApp(), listeners=[listener], on_ready=lambda: ready.append("ready")), 3)
    assert ready == []
