"""A served app and raw sockets to it, for tests of the connection itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from proxy.edge.framing import Limits
from proxy.edge.protocol import EdgeProtocol
from proxy.edge.server import Asgi

QUICK = replace(Limits(), head_s=0.15, body_s=0.15, linger_s=0.3, stall_s=0.3, keep_alive_s=1)
"""Limits a test can wait for."""
PATIENT = replace(QUICK, head_s=10.0, body_s=10.0)
"""For tests that must not meet a deadline."""
CLOSE = b"connection: close"
POST = b"POST /x HTTP/1.1"


@dataclass
class Served:
    """A listening app and its connections."""

    port: int
    state: ServerState

    async def until_connections(self, count: int) -> None:
        """Wait until the server has exactly so many connections."""
        async with asyncio.timeout(3.0):
            while len(self.state.connections) != count:  # noqa: ASYNC110  # uvicorn's set has no event
                await asyncio.sleep(0.01)


class EchoApp:
    """Answers with what it was asked; `/slow` streams until it is told to go on or the client leaves."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        self.scopes: list[Any] = []
        self.left = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["path"] == "/early":
            await _answer(send, b"early")
            return
        if scope["path"] == "/eager":
            await self._stream(receive, send)
            return
        if scope["path"] == "/idle":
            await self.go_on.wait()
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
                return
            body, more = body + message["body"], message["more_body"]
        self.asked.append((scope["method"], scope["path"], body))
        if scope["path"] == "/slow":
            await self._stream(receive, send)
        elif scope["path"] == "/cut":
            await self._cut(scope, send)
        elif scope["path"] == "/big":
            await _answer(send, b"x" * 16_000_000)
        else:
            await _answer(send, b"%s %s %s" % (scope["method"].encode(), scope["path"].encode(), body))

    async def _stream(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        gone = asyncio.ensure_future(_departure(receive))
        resumed = asyncio.ensure_future(self.go_on.wait())
        await asyncio.wait((gone, resumed), return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            self.left.set()
        gone.cancel()
        resumed.cancel()
        await send({"type": "http.response.body", "body": b"last"})

    async def _cut(self, scope: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"data: error\n\n", "more_body": True})
        scope["extensions"]["turnpike.cut"]()
        await send({"type": "http.response.body", "body": b"never sent", "more_body": True})


async def _departure(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(send: Any, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def served(app: Asgi, limits: Limits | None = None) -> AsyncIterator[Served]:
    """Serve an app on a free loopback port through the hardened protocol."""
    limits = limits or QUICK
    config = uvicorn.Config(
        app, ws="none", lifespan="off", log_config=None, access_log=False, timeout_keep_alive=limits.keep_alive_s
    )
    state, protocol = ServerState(), EdgeProtocol.limited(limits)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: protocol(config, state, {}), "127.0.0.1", 0)
    try:
        yield Served(server.sockets[0].getsockname()[1], state)
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        for task in list(state.tasks):
            task.cancel()
        await asyncio.sleep(0)


@dataclass
class Client:
    """One raw connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        """Put bytes on the wire."""
        self.writer.write(data)

    async def read_all(self, timeout_s: float = 5.0) -> bytes:
        """Read until the server closes; a reset ends it like a close."""
        received = b""
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    data = await self.reader.read(65536)
                except ConnectionError:
                    return received
                if not data:
                    return received
                received += data

    async def read_reply(self, timeout_s: float = 5.0) -> tuple[int, bytes]:
        """Read one reply that has a length; gives its status and body."""
        async with asyncio.timeout(timeout_s):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
            return int(head.split(b" ")[1]), await self.reader.readexactly(length)


@asynccontextmanager
async def connected(served: Served) -> AsyncIterator[Client]:
    """Open a raw connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def ask(served: Served, data: bytes, *, timeout_s: float = 5.0) -> bytes:
    """Send bytes on a fresh connection and give everything that came back until it closed."""
    async with connected(served) as client:
        client.send(data)
        return await client.read_all(timeout_s)


def head(line: bytes = b"GET /x HTTP/1.1", *fields: bytes, host: bytes = b"gateway") -> bytes:
    """Write a request head."""
    return b"\r\n".join([line, b"host: " + host, *fields, b"", b""])


def status_of(reply: bytes) -> int:
    """Read the status of a raw reply, 0 when there is none."""
    return int(reply.split(b" ", 2)[1]) if reply else 0
