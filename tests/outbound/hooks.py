"""A webhook's other end on loopback, which answers as it is told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Reply = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Received:
    """One message as it came in."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Read the body."""
        return orjson.loads(self.body)


@dataclass
class Hook:
    """A server that keeps what it is sent."""

    port: int = 0
    replies: list[bytes | Reply] = field(default_factory=list)
    """What the next messages are answered with; 200 after that."""
    received: list[Received] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Give its address, with a token as Slack's have."""
        return f"http://127.0.0.1:{self.port}/hook/s3cret-token?x=1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one message and answer it."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.rstrip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.received.append(Received(first.split(" ")[1], headers, body))
            reply = self.replies.pop(0) if self.replies else GOOD
            if isinstance(reply, bytes):
                writer.write(reply)
                await writer.drain()
            else:
                await reply(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def status(code: int, more: str = "", body: str = "no") -> bytes:
    """An answer with a status."""
    return f"HTTP/1.1 {code} X\r\n{more}content-length: {len(body)}\r\n\r\n{body}".encode()


@asynccontextmanager
async def hooking(tls: ssl.SSLContext | None = None) -> AsyncIterator[Hook]:
    """Serve while the block runs."""
    hook = Hook()
    server = await asyncio.start_server(hook.serve, "127.0.0.1", 0, ssl=tls)
    hook.port = server.sockets[0].getsockname()[1]
    try:
        yield hook
    finally:
        server.close()
        await server.wait_closed()
