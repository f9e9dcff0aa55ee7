"""An upstream that behaves as OpenRouter does when a client leaves: an id in the head, and the bill only when asked.

    async with RouterUpstream() as up:
        up.bills["gen-1"] = bill(0.002, 30, 9)      # 404 until then

A stream says `words` words, then waits until `gate` is set, and ends with usage. Requests are one per connection.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.faults import chunks
from tests.faults.ports import HOST
from tests.faults.steps import Json, Tokens

HEAD_BYTES_MAX = 64 * 1024


def bill(total_cost: object, prompt: int = 30, completion: int = 9, **more: object) -> Json:
    """Write the record of a generation."""
    counts = {"native_tokens_prompt": prompt, "native_tokens_completion": completion, "tokens_prompt": 1}
    return {"data": {"id": "gen-1", "total_cost": total_cost, "is_byok": False, **counts, **more}}


@dataclass
class RouterUpstream:
    """Serves; an async context manager."""

    words: int = 3
    provider: str | None = "OpenAI"
    """Who is behind it, as chunks name them; None: they do not."""
    gives_id: bool = True
    cost: float | None = 0.000017
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    bills: dict[str, Json] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Ids that were looked up, with the credential."""
    calls: int = 0
    left: int = 0
    """Calls that were broken off."""
    base_url: str = ""
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.base_url = f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}/api/v1"
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, target, _ = head.split("\r\n", 1)[0].split(" ")
            fields = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
            }
            if method == "GET":
                writer.write(self._tell(target, fields.get("authorization")))
            else:
                body = json.loads(await reader.readexactly(int(fields["content-length"])))
                await self._answer(body, reader, writer)
        with suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    def _tell(self, target: str, credential: str | None) -> bytes:
        generation_id = parse_qs(urlsplit(target).query)["id"][0]
        self.asked.append((generation_id, credential))
        known = self.bills.get(generation_id)
        status, content = ("200 OK", known) if known is not None else ("404 Not Found", {"error": {"code": 404}})
        data = chunks.dumps(content)
        return f"HTTP/1.1 {status}\r\ncontent-length: {len(data)}\r\nconnection: close\r\n\r\n".encode() + data

    async def _answer(self, body: Json, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls += 1
        told = f"x-generation-id: gen-{self.calls}\r\n" if self.gives_id else ""
        kind = "text/event-stream" if body.get("stream") else "application/json"
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{told}connection: close\r\n\r\n".encode())
        extra: dict[str, Any] = {"id": f"gen-{self.calls}"} if self.gives_id else {"id": None}
        extra |= {"provider": self.provider} if self.provider is not None else {}
        model = body["model"]
        if body.get("stream"):
            for word in chunks.words(self.words):
                writer.write(chunks.event(chunks.content(model, word, **extra)))
        await writer.drain()
        gone = asyncio.ensure_future(reader.read(1))
        opened = asyncio.ensure_future(self.gate.wait())
        await asyncio.wait({gone, opened}, return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()
        if gone.done():
            self.left += 1
            return
        gone.cancel()
        usage = chunks.usage(Tokens(7, self.words), **({} if self.cost is None else {"cost": self.cost}))
        if body.get("stream"):
            writer.write(chunks.event(chunks.finish(model, **extra)))
            writer.write(chunks.event(chunks.chunk_of(model, [], **extra, usage=usage)) + chunks.DONE)
        else:
            writer.write(chunks.dumps(chunks.answer(model, self.words, **extra, usage=usage)))
        await writer.drain()
