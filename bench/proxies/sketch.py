"""The sketch: what a metering gateway must do at least, on any of the clients. LEDGER: batch, durable or none.

JSON parse, key by its digest, a rate window, model rewrite, usage out of the reply, cost, a row in SQLite.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
from relaying import (
    EVENT_STREAM,
    Message,
    Receive,
    Send,
    client,
    read_and_close,
    read_body,
    send_json,
    serve_lifespan,
    stream_out,
)

LEDGER = os.environ.get("LEDGER", "batch")
KEYS_COUNT = 1_000
TENANTS_COUNT = 50
BATCH_WAIT_S = 0.02
ROUTES = {"mock": ("openai/gpt-4o-mini", 0.15e-6, 0.6e-6)}
USAGE = b'"usage":{'
SCHEMA = """
create table ledger(id text primary key, ts real, key_id int, tenant int, model text, upstream text, state int,
                    prompt int, completion int, cost real, ms real);
create index by_key on ledger(key_id, ts);
"""
WRITE = """
insert into ledger values(?,?,?,?,?,?,?,?,?,?,?) on conflict(id) do update set state = excluded.state,
prompt = excluded.prompt, completion = excluded.completion, cost = excluded.cost, ms = excluded.ms
"""


class Refusal(Exception):
    """A request the sketch does not forward."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.body = orjson.dumps({"error": {"message": text, "type": "invalid_request_error"}})


class Book:
    """The ledger: rows gathered on the event loop, written in a thread, several in one commit."""

    def __init__(self) -> None:
        path = Path(tempfile.mkdtemp(prefix="sketch-")) / "ledger.db"
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("pragma journal_mode=wal")
        self._database.execute(f"pragma synchronous={'full' if LEDGER == 'durable' else 'normal'}")
        self._database.executescript(SCHEMA)
        self._rows: list[tuple[Any, ...]] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._write_on())

    async def add(self, row: tuple[Any, ...]) -> None:
        """Book a row; where the ledger is durable, return when it is on disk."""
        if LEDGER == "none":
            return
        self._rows.append(row)
        self._wake.set()
        if LEDGER == "durable":
            written = asyncio.get_running_loop().create_future()
            self._waiters.append(written)
            await written

    def _write(self, rows: list[tuple[Any, ...]]) -> None:
        self._database.execute("begin")
        self._database.executemany(WRITE, rows)
        self._database.execute("commit")

    async def _write_on(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            if LEDGER == "batch":
                await asyncio.sleep(BATCH_WAIT_S)
            self._wake.clear()
            rows, self._rows = self._rows, []
            waiters, self._waiters = self._waiters, []
            await loop.run_in_executor(None, self._write, rows)
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)


class Meter:
    """Finds the usage in what passes, and books it."""

    __slots__ = ("_sketch", "_tail", "began_s", "key", "model", "price", "request_id", "usage")

    def __init__(self, sketch: Sketch, key: dict[str, Any], route: tuple[str, float, float]) -> None:
        self._sketch = sketch
        self._tail = b""
        self.began_s = time.monotonic()
        self.key = key
        self.model, *self.price = route
        self.request_id = f"req_{secrets.token_hex(12)}"
        self.usage: dict[str, int] | None = None

    def look(self, piece: bytes) -> None:
        """See one piece of the stream. Crude: a usage event split over two reads may be missed."""
        if USAGE not in piece and not self._tail:
            return
        text = self._tail + piece
        usage_at = text.rfind(USAGE)
        if text.find(b"}\n", usage_at) < 0:
            self._tail = text[usage_at:]
            return
        self._tail = b""
        data_at = text.rfind(b"data: ", 0, usage_at) + len(b"data: ")
        try:
            self.usage = orjson.loads(text[data_at : text.index(b"\n", usage_at)]).get("usage")
        except ValueError:
            return

    async def hold(self, request: dict[str, Any], characters: int) -> None:
        """Write ahead: the reservation is on disk before the upstream call."""
        estimate = characters / 4 * self.price[0] + request.get("max_tokens", 1024) * self.price[1]
        await self._book(0, (0, 0), estimate, 0)

    async def settle(self) -> None:
        """Book what was used."""
        usage = self.usage or {}
        counts = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        cost = counts[0] * self.price[0] + counts[1] * self.price[1]
        self.key["spent"] += cost
        await self._book(1, counts, cost, time.monotonic() - self.began_s)

    async def _book(self, state: int, counts: tuple[int, int], cost: float, took_s: float) -> None:
        key = self.key
        row = (self.request_id, time.time(), key["id"], key["tenant"], self.model, "mock", state, *counts, cost, took_s)
        await self._sketch.book.add(row)


class Sketch:
    """The ASGI application."""

    book: Book

    def __init__(self) -> None:
        self._keys = {
            hashlib.sha256(f"sk-bench-{number}".encode()).digest(): {
                "id": number,
                "tenant": number % TENANTS_COUNT,
                "limit": 1e9,
                "spent": 0.0,
                "window": [0, 0],
            }
            for number in range(KEYS_COUNT)
        }

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send, self._open)
            return
        body = await read_body(receive)
        try:
            request, meter = self._admit(scope, body)
        except Refusal as refusal:
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
            await send({"type": "http.response.body", "body": refusal.body})
            return
        contents = [message.get("content") for message in request["messages"]]
        characters = sum(len(content) for content in contents if isinstance(content, str))
        request["model"] = meter.model
        if request.get("stream"):
            request.setdefault("stream_options", {})["include_usage"] = True
        if LEDGER == "durable":
            await meter.hold(request, characters)
        reply = await client().open(orjson.dumps(request))
        if reply.ctype.startswith(EVENT_STREAM):
            await stream_out(reply, send, receive, meter)
            return
        data = await read_and_close(reply)
        meter.usage = orjson.loads(data).get("usage")
        await meter.settle()
        await send_json(reply, data, send, ((b"x-request-id", meter.request_id.encode()),))

    def _open(self) -> None:
        self.book = Book()

    def _admit(self, scope: Message, body: bytes) -> tuple[dict[str, Any], Meter]:
        key = self._key_of(scope)
        window, second = key["window"], int(time.monotonic())
        if window[0] != second:
            window[:] = second, 0
        window[1] += 1
        try:
            request = orjson.loads(body)
            route = ROUTES[request["model"]]
        except (ValueError, KeyError) as error:
            raise Refusal(400, "bad request") from error
        if key["spent"] > key["limit"]:
            raise Refusal(402, "budget")
        return request, Meter(self, key, route)

    def _key_of(self, scope: Message) -> dict[str, Any]:
        for name, value in scope["headers"]:
            if name == b"authorization":
                key = self._keys.get(hashlib.sha256(value[7:]).digest())
                if key is not None:
                    return key
        raise Refusal(401, "bad key")
