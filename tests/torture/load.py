"""A steady load from many clients: requests leave at a given rate whatever becomes of those before them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from types import TracebackType
from typing import Any, Final, Self

from tests.faults import client
from tests.faults.client import Ended, Reply
from tests.torture.books import NANO_PER_USD

IN_FLIGHT_MAX: Final = 2_000
"""Requests under way at once; above it the load itself has failed."""


@dataclass(frozen=True, slots=True)
class Question:
    """One request to make."""

    model: str
    key: str
    is_stream: bool
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Seen:
    """What its client saw."""

    question: Question
    asked_s: float = 0.0
    """By the monotonic clock."""
    took_s: float = 0.0
    """Until the reply had ended, however it did."""
    status: int | None = None
    """None: no reply, or none whose head was whole."""
    request_id: str | None = None
    retry_after: str | None = None
    attempts: int | None = None
    cost_nano_usd: int | None = None
    """What the reply said it cost."""
    is_whole: bool = False
    """The answer came to its proper end, without an error in it."""
    trouble: str = ""

    def __str__(self) -> str:
        kind = "stream" if self.question.is_stream else "json"
        return f"{kind} {self.question.model} id={self.request_id} status={self.status} {self.trouble}".rstrip()


async def put(url: str, question: Question) -> Seen:
    """Ask one question and note what came, whatever it was."""
    seen = Seen(question, asked_s=time.monotonic())
    fields: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if question.is_stream else {}
    payload = client.chat(question.model, **fields, **question.fields)
    try:
        async with client.call(url, payload, key=question.key) as reply:
            await _note(await reply.head(), seen)
    except (ConnectionError, TimeoutError) as error:
        seen.trouble = f"{type(error).__name__}: {error}"
    seen.took_s = time.monotonic() - seen.asked_s
    return seen


async def _note(reply: Reply, seen: Seen) -> None:
    seen.status = reply.status
    seen.request_id = reply.headers.get("x-request-id")
    seen.retry_after = reply.headers.get("retry-after")
    seen.attempts = int(reply.headers.get("x-turnpike-attempts", "0")) or None
    if reply.headers.get("content-type", "").startswith("text/event-stream"):
        await _note_stream(reply, seen)
    else:
        cost = reply.headers.get("x-turnpike-cost")
        body = await reply.read()
        seen.cost_nano_usd = None if cost is None else int(Decimal(cost) * NANO_PER_USD)
        seen.is_whole = reply.end is Ended.COMPLETE and reply.status == 200
        if reply.status != 200:
            seen.trouble = body[:300].decode(errors="replace")


async def _note_stream(reply: Reply, seen: Seen) -> None:
    is_done = False
    async for event in reply.events():
        is_done = event.is_done
        if event.data is None or event.is_done or not event.is_whole:
            continue
        chunk = event.json
        if "error" in chunk:
            seen.trouble = str(chunk["error"])[:300]
        elif (chunk.get("usage") or {}).get("cost") is not None:
            seen.cost_nano_usd = round(chunk["usage"]["cost"] * NANO_PER_USD)
    seen.is_whole = is_done and reply.end is Ended.COMPLETE and not seen.trouble
    if not seen.is_whole:
        seen.trouble = seen.trouble or f"ended {reply.end}"


class Load:
    """Asks at a rate while its block runs; leaving the block ends the asking and waits for what is under way."""

    def __init__(self, url: str, ask: Callable[[int], Question], *, rate_per_s: float) -> None:
        self.seen: list[Seen] = []
        self._url = url
        self._ask = ask
        self._every_s = 1 / rate_per_s
        self._in_flight = 0
        self._tasks = asyncio.TaskGroup()
        self._pace: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._pace = self._tasks.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._pace is not None
        self._pace.cancel()
        await self._tasks.__aexit__(kind, error, trace)

    async def _run(self) -> None:
        begun_s = time.monotonic()
        for number in itertools.count(1):
            assert self._in_flight < IN_FLIGHT_MAX, "the server takes in more than it answers"
            self._tasks.create_task(self._put(self._ask(number)))
            await asyncio.sleep(max(0.0, begun_s + number * self._every_s - time.monotonic()))

    async def _put(self, question: Question) -> None:
        self._in_flight += 1
        self.seen.append(await put(self._url, question))
        self._in_flight -= 1
