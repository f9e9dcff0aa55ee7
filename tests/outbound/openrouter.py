"""A server beside the test that speaks for OpenRouter's accounts: each path answers what it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson


@dataclass
class Accounts:
    """What is answered, and what was asked."""

    answers: dict[str, bytes] = field(default_factory=dict)
    """Whole HTTP replies by path."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Path and credential."""
    is_silent: bool = False
    port: int = 0

    @property
    def base_url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/api/v1"

    def tell_key(self, usage: object, *, byok_usage: object = 0, limit_remaining: object = None) -> None:
        """Answer `GET key`."""
        data = {"label": "k", "usage": usage, "byok_usage": byok_usage, "limit_remaining": limit_remaining}
        self.answers["/api/v1/key"] = reply(orjson.dumps({"data": data}))

    def tell_credits(self, total: object, used: object) -> None:
        """Answer `GET credits`."""
        data = {"total_credits": total, "total_usage": used}
        self.answers["/api/v1/credits"] = reply(orjson.dumps({"data": data}))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request on its connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        path = head[0].split()[1]
        names = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
        self.asked.append((path, names["authorization"].removeprefix("Bearer ")))
        if self.is_silent:
            await reader.read()
        writer.write(self.answers.get(path, reply(b'{"error": {"code": 403}}', status=403)))
        writer.close()


def reply(body: bytes, *, status: int = 200, headers: str = "") -> bytes:
    """Frame a reply."""
    return f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{headers}connection: close\r\n\r\n".encode() + body


@asynccontextmanager
async def speaking() -> AsyncIterator[Accounts]:
    """Serve on a free port of loopback."""
    accounts = Accounts()
    server = await asyncio.start_server(accounts.serve, "127.0.0.1", 0)
    accounts.port = server.sockets[0].getsockname()[1]
    async with server:
        yield accounts
