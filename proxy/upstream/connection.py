"""One connection to a provider, and the exchange that is going on over it (RFC 9112).

The parser (llhttp) calls back as bytes arrive; whoever made the request waits on one future, looks at the state, and
waits again. Three rules hold it together:

* Bytes that nobody asked for end the connection: those that come while it waits in the pool, and those behind the end
  of an answer. Neither is read as somebody's answer, if it has come by then.
* A fault is a value. What had arrived before it is read first.
* What is not read is not read ahead without limit: the socket is paused. Bytes that add up to nothing, neither a header
  nor a piece of the body, are limited too.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from proxy.errors import Failure
from proxy.upstream.faults import CUT, NO_ANSWER, NOT_HTTP
from proxy.upstream.request import Origin

READ_BUFFER_BYTES: Final = 64 * 1024
"""Read ahead of a slow reader on each connection; twice as much pauses the socket."""
HEADER_BYTES_MAX: Final = 16 * 1024
"""Of one header, of the status line, and of whatever else comes without being part of a body."""
HEADERS_MAX: Final = 100
"""Of one answer, those of interim answers and trailers included."""
WRITE_BYTES_MAX: Final = 1024 * 1024
"""A longer body goes out in pieces, each when the one before it is taken."""
PIECE_BYTES: Final = 256 * 1024

_KEPT: Final = {
    name.encode(): name
    for name in (
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "request-id",
        "retry-after",
        "transfer-encoding",
        "x-generation-id",
        "x-openrouter-cache-status",
        "x-request-id",
        "x-should-retry",
    )
}
_FAMILIES_KEPT: Final = (b"x-ratelimit-", b"anthropic-ratelimit-", b"ratelimit-")
"""What is left of the provider's limits, in several spellings."""
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Connection(asyncio.Protocol):
    """One connection; serves one exchange at a time, from `begin` to `rest` or to its end."""

    __slots__ = (
        "_forget",
        "_header_count",
        "_is_busy",
        "_is_choked",
        "_is_framed",
        "_is_lost",
        "_is_paused",
        "_keeps_alive",
        "_loop",
        "_owes_body",
        "_parser",
        "_transport",
        "_unread",
        "_waiter",
        "cause",
        "failure",
        "fields",
        "idle_since",
        "is_complete",
        "on_body",
        "origin",
        "pieces",
        "status",
    )

    def __init__(self, origin: Origin, forget: Callable[[Connection], None]) -> None:
        """Prepare; `forget` is called once when the connection has ended."""
        self._loop = asyncio.get_running_loop()
        self._forget = forget
        self._waiter: asyncio.Future[None] | None = None
        self._is_busy = self._is_choked = self._is_lost = self._is_paused = False
        self.origin = origin
        self.idle_since = 0.0
        """On the loop's clock; 0 for a connection that has served nobody yet."""
        self.failure: Failure | None = None
        self.cause: BaseException | None = None
        self.pieces: list[bytes] = []
        """What of the body has arrived and was not taken."""
        self.on_body = self.pieces.append
        self.begin()
        self._is_busy = False
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        # What servers in use get wrong, and what leaves no doubt about where anything ends.
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True)

    # ---------------------------------------------------------------- the exchange, for whoever made the request

    def begin(self) -> float:
        """Be ready for the next exchange; give the moment it begins, on the loop's clock."""
        self._is_busy = True
        self._is_framed = self._keeps_alive = self._owes_body = False
        self._header_count = self._unread = 0
        self.status = 0
        """Of the answer, 0 until its whole head is in."""
        self.fields: dict[str, str] = {}
        """The headers that matter, names in lower case; the first of a repeated one counts."""
        self.is_complete = False
        return self._loop.time()

    def now(self) -> float:
        """Read the loop's clock."""
        return self._loop.time()

    def is_fit(self, since_s: float) -> bool:
        """Tell whether the connection may still serve: it lives, and has waited since `since_s` at most."""
        return self.idle_since > since_s and not self._transport.is_closing()

    @property
    def has_begun(self) -> bool:
        """Tell whether a single byte of the answer has arrived."""
        return self._unread > 0 or self._header_count > 0

    def write(self, data: bytes) -> None:
        """Send a whole request in one piece."""
        self._transport.write(data)

    async def write_long(self, head: bytes, body: bytes) -> None:
        """Send a request in pieces, and no further once an answer has begun or the connection has ended."""
        self._owes_body = True
        self._transport.write(head)
        rest = memoryview(body)
        while rest:
            while self._is_choked and not self.status and self.failure is None:
                await self.wait()
            if self.status or self.failure is not None:
                return
            self._transport.write(rest[:PIECE_BYTES])
            rest = rest[PIECE_BYTES:]
        self._owes_body = False

    def wait(self) -> asyncio.Future[None]:
        """Give a future that ends with the next thing to happen here; one task waits at a time."""
        waiter = self._waiter = self._loop.create_future()
        return waiter

    def take(self) -> bytes:
        """Take what has arrived of the body, in one piece."""
        pieces = self.pieces
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._unread = 0
        if self._is_paused:
            self._resume()
        return piece

    def rest(self, now_s: float) -> bool:
        """Wait for the next exchange, if this one has ended so that another may follow; tell whether it has."""
        if not (self.is_complete and self._keeps_alive) or self._owes_body or self._transport.is_closing():
            return False
        self._is_busy = False
        self.idle_since = now_s
        self.pieces.clear()
        if self._is_paused:
            self._resume()
        return True

    def cut(self) -> None:
        """End the connection now; in the middle of an answer by a reset.

        A reset cannot be taken for a half-close, and neither we nor the kernel first send on what the provider has not
        read yet: it learns at once that nobody waits for its answer.
        """
        if not self.is_complete:
            self._fail(CUT)
            self.pieces.clear()
            if not self._transport.is_closing():
                sock = self._transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.drop()
        self._wake()

    def drop(self) -> None:
        """End the connection; what has arrived of an answer can still be taken."""
        self._keeps_alive = False
        self._transport.abort()

    # ---------------------------------------------------------------- called by the parser

    def on_message_begin(self) -> None:
        """Refuse a second answer; an interim one is no answer."""
        if self.is_complete:
            raise ValueError("an answer nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header that matters."""
        self._unread = 0
        self._header_count += 1
        if self._header_count > HEADERS_MAX or len(name) + len(value) > HEADER_BYTES_MAX:
            raise ValueError("too many or too long headers")
        if self.status:
            return  # a trailer
        lowered = name.lower()
        known = _KEPT.get(lowered)
        if known is None:
            if not lowered.startswith(_FAMILIES_KEPT):
                return
            known = lowered.decode("latin-1")
        if known == "transfer-encoding" and known in self.fields:
            raise ValueError("two transfer encodings")
        self.fields.setdefault(known, value.strip().decode("latin-1"))

    def on_headers_complete(self) -> None:
        """Read how the body will end, and let the caller have the status; interim answers are passed over."""
        assert self._parser is not None, "it is the parser that calls"
        status = self._parser.get_status_code()
        fields = self.fields
        if status < 200:
            if status < 100 or status == 101:
                raise ValueError("a switch of protocols, or no status at all")
            fields.clear()
            return
        length, encoding = fields.pop("content-length", None), fields.pop("transfer-encoding", None)
        coding = "identity" if encoding is None else encoding.lower()
        if coding not in {"chunked", "identity"}:
            raise ValueError("a transfer encoding that was not asked for")
        self._is_framed = length is not None or coding == "chunked"
        self._keeps_alive = self._parser.should_keep_alive()
        self.status = status

    def on_message_complete(self) -> None:
        """Note the end of an answer."""
        if self.status:
            self.is_complete = True

    # ---------------------------------------------------------------- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first request."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        """Parse what arrives; what nobody asked for ends the connection."""
        if not self._is_busy or self.is_complete or self._parser is None:
            self.drop()
            return
        self._unread += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._spoil(error)
        if self._unread > HEADER_BYTES_MAX:
            self._weigh()
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def eof_received(self) -> None:
        """Take the provider's end for the end of both directions: nobody ends a request by half-closing."""
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """End what is going on; without the parser, which knows our methods, nothing keeps us in a cycle."""
        self._is_lost = True
        self._parser = None
        self._end(exc)
        self._forget(self)

    def pause_writing(self) -> None:
        """Hold the next piece of a long body back."""
        self._is_choked = True

    def resume_writing(self) -> None:
        """Let it go on."""
        self._is_choked = False
        self._wake()

    # ----------------------------------------------------------------

    def _spoil(self, error: Exception) -> None:
        """End the connection over what is no HTTP; behind a whole answer that spoils nothing else."""
        if not self.is_complete:
            self._fail(CUT if self.status else NOT_HTTP, error)
        self.drop()

    def _weigh(self) -> None:
        if self.pieces:
            if self._unread > 2 * READ_BUFFER_BYTES and not self._is_paused and not self._transport.is_closing():
                self._is_paused = True
                self._transport.pause_reading()
        elif not self.is_complete:
            self._spoil(ValueError("too much that is neither header nor body"))

    def _resume(self) -> None:
        self._is_paused = False
        if not self._is_lost and not self._transport.is_closing():
            self._transport.resume_reading()

    def _end(self, error: BaseException | None) -> None:
        """Take the end of what arrives for the body's where nothing else tells it (RFC 9112 6.3), else for a fault."""
        if self._is_busy and not self.is_complete:
            if self.status and not self._is_framed and error is None and self.failure is None:
                self.is_complete = True
            else:
                self._fail(CUT if self.status else NO_ANSWER, error)
        self._wake()

    def _fail(self, failure: Failure, cause: BaseException | None = None) -> None:
        """Note the first fault; its cause without the frames that would keep us alive."""
        if self.failure is None:
            self.failure = failure
            self.cause = None if cause is None else cause.with_traceback(None)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
