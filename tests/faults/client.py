"""A raw-socket HTTP client for tests against our server: it times every event, and can leave at any point.

    async with call(server.url, {"model": "m", "stream": True, "messages": [...]}, key=server.key) as reply:
        events = [event async for event in reply.events()]
        assert reply.end is Ended.COMPLETE

Its event parser is its own, so that a fault of ours cannot hide in the tests. Times are monotonic seconds.
"""

from __future__ import annotations

import asyncio
import enum
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

from tests.faults.events import Event, EventReader
from tests.faults.steps import Json

T = TypeVar("T")

TIMEOUT_S: Final = 20.0
"""How long one read may take before the test is given up."""
READ_BYTES: Final = 64 * 1024
HEAD_BYTES_MAX: Final = 256 * 1024
RST_ON_CLOSE: Final = struct.pack("ii", 1, 0)
CHAT: Final = "/v1/chat/completions"


class Ended(enum.Enum):
    """How the body of a reply ended."""

    COMPLETE = "complete"
    """By its terminal chunk or its length; by the close only when the head told neither."""
    CUT = "cut"
    """The connection was closed before that."""
    RESET = "reset"


class Leaving(enum.Enum):
    """Ways for a client to go."""

    FIN = "fin"
    RST = "rst"
    HALF = "half-close"


@dataclass(slots=True)
class Reply:
    """One request under way: `head`, then `events` or `read`; `leave` at any point."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    sent_at: float
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    """Names in lower case."""
    head_at: float | None = None
    first_body_at: float | None = None
    ended_at: float | None = None
    end: Ended | None = None
    """How the body ended; None while it has not."""

    async def head(self) -> Self:
        """Read status and headers, once; ConnectionError when the connection ends before them."""
        if self.head_at is not None:
            return self
        try:
            block = await _timed(self.reader.readuntil(b"\r\n\r\n"))
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("closed before the head of the reply was whole") from error
        first, *lines = block.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1])
        pairs = (line.partition(":") for line in lines if line)
        self.headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        self.head_at = time.monotonic()
        return self

    async def parts(self) -> AsyncIterator[bytes]:
        """Give the body as it arrives, its framing taken off; afterwards `end` tells how it ended."""
        await self.head()
        try:
            async for part in self._unframed():
                self.first_body_at = self.first_body_at or time.monotonic()
                yield part
            self.end = Ended.COMPLETE
        except asyncio.IncompleteReadError as error:
            if error.partial and not self._is_chunked:
                yield error.partial
            self.end = Ended.CUT
        except ConnectionError:
            self.end = Ended.RESET
        self.ended_at = time.monotonic()

    async def read(self) -> bytes:
        """Read the body as far as it comes."""
        return b"".join([part async for part in self.parts()])

    async def events(self) -> AsyncIterator[Event]:
        """Give each event and each block of comments when it has arrived; an event the end has cut comes last."""
        reader = EventReader()
        async for part in self.parts():
            for event in reader.feed(part, at=time.monotonic()):
                yield event
        for event in reader.rest(at=time.monotonic()):
            yield event

    async def leave(self, how: Leaving = Leaving.FIN) -> float:
        """Go away and give the moment of it; after a half-close the rest of the reply can still be read."""
        moment = time.monotonic()
        if how is Leaving.RST:
            sock: socket.socket = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
        else:
            # Closing with unread data would send a RST at once: the FIN goes first.
            self.writer.write_eof()
        if how is not Leaving.HALF:
            self.writer.transport.abort()
            await asyncio.sleep(0)  # the socket is closed in the next round of the loop
        return moment

    @property
    def _is_chunked(self) -> bool:
        return self.headers.get("transfer-encoding", "").lower() == "chunked"

    async def _unframed(self) -> AsyncIterator[bytes]:
        """Give the body's parts; IncompleteReadError when the connection ends before the body does."""
        if self._is_chunked:
            async for part in self._chunks():
                yield part
            return
        length = self.headers.get("content-length")
        left = int(length) if length is not None else None
        while left is None or left > 0:
            part = await _timed(self.reader.read(min(READ_BYTES, left or READ_BYTES)))
            if not part:
                break
            left = left - len(part) if left is not None else None
            yield part
        if left:
            raise asyncio.IncompleteReadError(b"", left)

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            line = await _timed(self.reader.readuntil(b"\r\n"))
            size = int(line.split(b";")[0], 16)
            part = await _timed(self.reader.readexactly(size + 2))
            if size == 0:
                return
            yield part[:-2]


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole reply to a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    end: Ended
    seconds: float
    """From the request's last byte to the reply's."""

    @property
    def json(self) -> Json:
        """The parsed body."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The `error` member of the parsed body."""
        error: dict[str, Any] = self.json["error"]
        return error


@asynccontextmanager
async def call(
    url: str,
    payload: object,
    *,
    key: str | None = None,
    path: str = CHAT,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Reply]:
    """Send a POST with a JSON body (bytes go as they are) on its own connection, and hand over the reply to come."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    async with _sent(url, _request("POST", url, path, body=body, headers=_fields(key, headers))) as reply:
        yield reply


async def ask(
    url: str,
    payload: object,
    *,
    key: str | None = None,
    path: str = CHAT,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send a POST with a JSON body and read the whole reply."""
    async with call(url, payload, key=key, path=path, headers=headers) as reply:
        return await _whole(reply)


async def get(url: str, path: str, *, key: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    """Send a GET and read the whole reply."""
    async with _sent(url, _request("GET", url, path, body=None, headers=_fields(key, headers))) as reply:
        return await _whole(reply)


@asynccontextmanager
async def raw(url: str, data: bytes) -> AsyncIterator[Reply]:
    """Send bytes as they are, for requests that no well-behaved client writes."""
    async with _sent(url, data) as reply:
        yield reply


def chat(model: str, prompt: str = "Say hello.", **fields: object) -> dict[str, Any]:
    """Write a chat request."""
    return {"model": model, "messages": [{"role": "user", "content": prompt}]} | fields


def _fields(key: str | None, headers: Mapping[str, str] | None) -> dict[str, str]:
    credentials = {"authorization": f"Bearer {key}"} if key is not None else {}
    return credentials | dict(headers or {})


def _request(method: str, url: str, path: str, *, body: bytes | None, headers: Mapping[str, str]) -> bytes:
    fields = {"host": urlsplit(url).netloc, "accept": "*/*"}
    if body is not None:
        fields |= {"content-type": "application/json", "content-length": str(len(body))}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in (fields | dict(headers)).items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


@asynccontextmanager
async def _sent(url: str, data: bytes) -> AsyncIterator[Reply]:
    address = urlsplit(url)
    assert address.hostname
    reader, writer = await _timed(asyncio.open_connection(address.hostname, address.port, limit=HEAD_BYTES_MAX))
    try:
        writer.write(data)
        await _timed(writer.drain())
        yield Reply(reader, writer, sent_at=time.monotonic())
    finally:
        writer.close()
        with suppress(ConnectionError):
            await _timed(writer.wait_closed())


async def _whole(reply: Reply) -> Answer:
    body = await reply.read()
    assert reply.end is not None
    assert reply.ended_at is not None
    return Answer(reply.status, reply.headers, body, reply.end, reply.ended_at - reply.sent_at)


async def _timed(work: Awaitable[T]) -> T:
    async with asyncio.timeout(TIMEOUT_S):
        return await work
