"""The hardened HTTP/1.1 connection (floor 5): uvicorn's httptools protocol with deadlines, limits and strict framing.

Stock uvicorn waits for ever for a request to arrive, has no limit on its head, and lets some requests pass that two
readers take for two different ones. This class adds what is missing around uvicorn's own callbacks:

* Between messages a connection is `IDLE`; from a request's first byte it is in the `HEAD`, after the blank line in the
  `BODY`, until the message is whole. Each of the two has a deadline; only one timer runs at a time.
* A refusal is written once, then the connection is *deaf*: what still arrives is thrown away, within limits, so that
  the client can read why. Requests that came before the refused one are answered first.
* `scope["extensions"]["turnpike.cut"]` closes the connection without ending the reply, for a stream that broke.

It knows nothing of what is asked: paths, keys and bodies are the app's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Any, ClassVar, NoReturn, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from proxy.edge.framing import (
    AFTER_CLOSE,
    CHUNK_OVERHEAD,
    HEAD_TOO_LARGE,
    MALFORMED,
    TARGET_TOO_LONG,
    TOO_MANY_CONNECTIONS,
    TOO_MANY_WAITING,
    TOO_SLOW,
    TRAILERS,
    Limits,
    Refusal,
    check_head,
    is_too_large,
    write_refusal,
)
from proxy.edge.outbox import Outbox
from proxy.edge.reply import Reply

CUT = "turnpike.cut"
"""ASGI extension: `scope["extensions"][CUT]()` closes the connection once what was written has left, without the
terminal chunk, so that a client cannot take the reply for whole. Nothing is logged; later sends are ignored."""

WHEN_LEFT = "turnpike.when_left"
"""ASGI extension: `scope["extensions"][WHEN_LEFT](callback)` has `callback` called once when the client leaves before
the reply is complete, None takes that back. It spares a task that would wait for `http.disconnect`."""

_CHUNK_SLACK_BYTES = 4 * 1024
"""Framing of a body that is never held against it: the last chunk and what one read can blur."""


_BODY_FIELDS = (b"content-length", b"transfer-encoding")


class _Phase(Enum):
    """How far the message being received has come."""

    IDLE = 0
    HEAD = 1
    BODY = 2


_IDLE, _HEAD, _BODY = _Phase.IDLE, _Phase.HEAD, _Phase.BODY


class _RefusedError(Exception):
    """Stops the parser inside a callback; the reason stands in the protocol."""


class _BodyReader:
    """Callbacks for a parser that is to read one body and nothing after it."""

    def __init__(self, protocol: EdgeProtocol) -> None:
        self._protocol = protocol
        self._is_done = False
        self.on_chunk_header = protocol.on_chunk_header

    def on_body(self, body: bytes) -> None:
        if not self._is_done:
            self._protocol.on_body(body)

    def on_message_complete(self) -> None:
        if not self._is_done:
            self._is_done = True
            self._protocol.on_message_complete()
            self._protocol.stop_listening()


class EdgeProtocol(HttpToolsProtocol):
    """One client connection."""

    limits: ClassVar[Limits] = Limits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # uvicorn's own, handed on
        """Take what uvicorn hands every protocol."""
        super().__init__(*args, **kwargs)
        self.url = b""
        self._extensions: dict[str, Any] = {CUT: self.cut, WHEN_LEFT: self.when_left}
        self._on_left: Callable[[], None] | None = None
        self._phase = _IDLE
        self._refusal: Refusal | None = None
        self._is_deaf = False
        self._is_lingering = False
        self._has_finished_message = False
        self._fields_max = 0
        self._read_bytes = 0
        self._unparsed_bytes = 0
        self._body_bytes = 0
        self._body_since_s = 0.0
        self._chunks = 0
        self._chunk_overhead_bytes = 0
        self._discarded_bytes = 0
        self._running: RequestResponseCycle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    @classmethod
    def limited(cls, limits: Limits) -> type[EdgeProtocol]:
        """Give the protocol with these limits: uvicorn makes one itself per connection."""
        return type("EdgeProtocol", (cls,), {"limits": limits})

    # ---------------------------------------------------------------- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin with the clock running: a client that sends nothing is closed like one that sends slowly."""
        super().connection_made(transport)
        self._outbox = Outbox(transport, self.loop, self.linger)
        surplus = len(self.connections) - self.limits.connections_max
        if surplus > self.limits.refused_max:
            transport.abort()
        elif surplus > 0:
            self._refuse(TOO_MANY_CONNECTIONS)
        else:
            self._arm(self.limits.head_s, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request being answered too: uvicorn tells the newest only, which may still wait behind it."""
        super().connection_lost(exc)
        self._disarm()
        self._unset_keepalive_if_required()
        self._unset_stall()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
            self._tell_left()

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, or throw it away when the connection is deaf."""
        if self._is_deaf:
            self._discard(len(data))
            return
        self._unset_keepalive_if_required()
        before, was_in_body, body_bytes = self._newest(), self._phase is _BODY, self._body_bytes
        self._read_bytes = len(data)
        self._has_finished_message = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self._refuse(self._refusal or MALFORMED)
            return
        if self._phase is not _BODY:
            self._watch_head(len(data))
        else:
            # A read that ended one body and began another was, as far as can be told, all content.
            if was_in_body and self._newest() is before:
                self._chunk_overhead_bytes += len(data) - (self._body_bytes - body_bytes)
            self._watch_body(len(data))

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not read."""
        super().pause_writing()
        self._unset_stall()
        self._stall = self.loop.call_later(self.limits.stall_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: it has read."""
        self._unset_stall()
        super().resume_writing()

    def cut(self) -> None:
        """Close the connection after what was written, leaving the running reply visibly unfinished."""
        cycle = self._running
        if cycle is None or cycle.response_complete:
            return
        cycle.disconnected = True
        cycle.message_event.set()
        self._on_left = None
        self._is_deaf = True
        self._outbox.flush()
        self._close()

    def when_left(self, callback: Callable[[], None] | None) -> None:
        """Call this when the client of the running request leaves, at once if it has left."""
        self._on_left = callback
        if callback is not None:
            # A connection that is not read from cannot be seen to end.
            self.flow.resume_reading()
            if self._running is None or self._running.disconnected:
                self._tell_left()

    def _tell_left(self) -> None:
        callback, self._on_left = self._on_left, None
        if callback is not None:
            callback()

    # ---------------------------------------------------------------- parser callbacks

    def on_message_begin(self) -> None:
        """Start a request's accounts."""
        newest = self._newest()
        if newest is not None and not newest.keep_alive:
            self._stop(AFTER_CLOSE)
        super().on_message_begin()
        self.scope["extensions"] = self._extensions
        self._phase = _HEAD
        self._fields_max = self.limits.fields_max

    def on_url(self, url: bytes) -> None:
        """Collect the target within its limit."""
        self.url += url
        if len(self.url) > self.limits.target_bytes_max:
            self._stop(TARGET_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header field; after the head none may come, as it would be a trailer."""
        if len(self.headers) >= self._fields_max:
            self._stop(TRAILERS if self._phase is _BODY else HEAD_TOO_LARGE)
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Check how the request is framed, then let uvicorn start it."""
        refusal = check_head(self.url, self.parser.get_http_version(), self.headers)
        if refusal is not None:
            self._stop(refusal)
        # Summed only when it can matter: most heads arrive whole in one small read.
        if self._unparsed_bytes + self._read_bytes > self.limits.head_bytes_max and is_too_large(
            self.headers, self.limits
        ):
            self._stop(HEAD_TOO_LARGE)
        if len(self.pipeline) >= self.limits.pipeline_max:
            self._stop(TOO_MANY_WAITING)
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False
        super().on_headers_complete()
        # Uvicorn stops reading while requests wait; then a client that leaves would not be noticed. They are bounded.
        self.flow.resume_reading()
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False
        self._disarm()
        self._phase = _BODY
        self._fields_max = 0
        self._unparsed_bytes = self._body_bytes = self._chunks = self._chunk_overhead_bytes = 0
        self._discarded_bytes = 0
        self._body_since_s = self.loop.time()

    def on_chunk_header(self) -> None:
        """Count a chunk."""
        self._chunks += 1

    def on_body(self, body: bytes) -> None:
        """Count the body and hand it on."""
        self._body_bytes += len(body)
        if self.pipeline and self._body_bytes > self.limits.waiting_body_bytes_max:
            self._stop(TOO_MANY_WAITING)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the body's clock."""
        if self.parser.should_upgrade() and any(name in _BODY_FIELDS for name, _ in self.headers):
            return
        self._disarm()
        self._phase = _IDLE
        self._has_finished_message = True
        super().on_message_complete()

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Answer a request that offers another protocol like any other; nothing that follows it is read.

        The parser takes everything after such a head for the other protocol. A body is one all the same (Java's HTTP
        client offers h2c with every POST), so a second parser reads it, from a head that says how it is framed.
        """
        if self._phase is not _BODY:
            self.stop_listening()
            return
        fields = b"".join(b"%s: %s\r\n" % field for field in self.headers if field[0] in _BODY_FIELDS)
        self.parser = httptools.HttpRequestParser(_BodyReader(self))
        self.parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % fields)
        self._watch_body(0)
        if rest:
            self.data_received(rest)

    def on_response_complete(self) -> None:
        """Leave no answered client hanging: neither one that does not read nor one that is still sending."""
        self._on_left = None
        if self._running is not None:
            vars(self._running).pop("send", None)
        super().on_response_complete()
        if self.transport.is_closing():
            self._guard_close()
        elif self._is_lingering:
            self._unset_keepalive_if_required()
        elif self._phase is _BODY and self.cycle.response_complete:
            self._arm(self.limits.linger_s, self._close)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # uvicorn's type is private
        self._running = cycle
        self._outbox.begin()
        cycle.transport = cast("asyncio.Transport", self._outbox)
        if cycle.scope["method"] == "POST":
            cycle.send = Reply(cycle, self._outbox).send  # type: ignore[method-assign,assignment]  # the hot path's own
        super()._start_asgi_task(cycle, app)

    # ---------------------------------------------------------------- deadlines and limits

    def _watch_head(self, size: int) -> None:
        """Count reads that finished no message: the parser shows a header field only once it is whole."""
        if not self._has_finished_message:
            self._unparsed_bytes += size
            if self._unparsed_bytes > self.limits.head_bytes_max + self.limits.target_bytes_max:
                self._refuse(HEAD_TOO_LARGE)
                return
        newest = self._newest()
        is_answered = newest is None or newest.response_complete
        if self._deadline is None and (self._phase is _HEAD or is_answered) and not self.transport.is_closing():
            self._arm(self.limits.head_s, self._head_is_late)

    def _watch_body(self, size: int) -> None:
        """Hold a body to its pace and its chunks to their content."""
        allowed = _CHUNK_SLACK_BYTES + self._chunks * self.limits.chunk_overhead_bytes_max
        if self._chunk_overhead_bytes > allowed:
            self._refuse(CHUNK_OVERHEAD)
        elif self.cycle.response_complete:
            self._discard(size)
        elif self._deadline is None:
            self._arm(self.limits.body_s, self._body_is_late)

    def _head_is_late(self) -> None:
        self._deadline = None
        if self._phase is _IDLE and not self._unparsed_bytes:
            self._close()
        else:
            self._refuse(TOO_SLOW)

    def _body_is_late(self) -> None:
        """Close, unless the body keeps the pace or it is we who do not read."""
        self._deadline = None
        allowed_s = self.limits.body_s + self._body_bytes / self.limits.body_bytes_per_s
        left_s = self._body_since_s + allowed_s - self.loop.time()
        if self.flow.read_paused:
            left_s = max(left_s, self.limits.body_s)
        if left_s > 0:
            self._arm(left_s, self._body_is_late)
        else:
            self._refuse(TOO_SLOW)

    def _arm(self, seconds: float, then: Callable[[], None]) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, then)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _unset_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    # ---------------------------------------------------------------- the end of a connection

    def _stop(self, refusal: Refusal) -> NoReturn:
        """Leave the parser from within a callback; `data_received` then refuses."""
        self._refusal = refusal
        raise _RefusedError(refusal.code)

    def _refuse(self, refusal: Refusal) -> None:
        """Take no more from this client: answer what came before, then say why, then close."""
        broken = self._newest() if self._phase is _BODY else None
        before = self._newest() if broken is None else None
        if broken is not None and self.pipeline and self.pipeline[0][0] is broken:
            self.pipeline.popleft()
            before, broken = (self.pipeline[0][0] if self.pipeline else self._running), None
        self.stop_listening()
        if before is not None and not before.response_complete:
            before.keep_alive = False
        elif broken is not None and broken.response_started:
            self.transport.abort()
        else:
            if broken is not None:
                broken.disconnected = True
                broken.message_event.set()
            self.transport.write(write_refusal(refusal, self.url))
            self.linger()

    def linger(self) -> None:
        """End our side now and the connection a little later, so that a client still sending reads what we wrote.

        Closing at once would answer its next bytes with a reset, which throws away what it has not read yet.
        """
        if self._phase is _IDLE and not self._is_deaf:
            self._close()
            return
        self.stop_listening()
        self._is_lingering = True
        self.transport.write_eof()
        self._arm(self.limits.linger_s, self._close)

    def _newest(self) -> RequestResponseCycle | None:
        """Give the request that came last, None before the first: uvicorn's type knows no "before"."""
        return cast("RequestResponseCycle | None", self.cycle)

    def stop_listening(self) -> None:
        """Throw away from now on what this client sends."""
        self._disarm()
        self._unset_keepalive_if_required()
        self._is_deaf = True
        self.flow.resume_reading()

    def _discard(self, size: int) -> None:
        self._discarded_bytes += size
        if self._discarded_bytes > self.limits.linger_bytes_max:
            self.transport.abort()

    def _close(self) -> None:
        """Close once what was written has left, and at the latest after a stall."""
        self.transport.close()
        self._guard_close()

    def _guard_close(self) -> None:
        if self.transport.get_write_buffer_size():
            self._arm(self.limits.stall_s, self.transport.abort)
