"""The reply to a POST, written on its connection (floor 5): what uvicorn's cycle does, in fewer steps.

Every chat request is answered through here, and every event of a stream. The cycle stays the one place that says how
far the reply is, because uvicorn and the protocol around it act on that.
"""

from __future__ import annotations

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from proxy.edge.outbox import Outbox

_LAST_CHUNK = b"0\r\n\r\n"


class Reply:
    """One reply on its way out; its `send` is the ASGI one."""

    __slots__ = ("_cycle", "_outbox")

    def __init__(self, cycle: RequestResponseCycle, outbox: Outbox) -> None:
        """Answer the request of a cycle."""
        self._cycle = cycle
        self._outbox = outbox

    async def send(self, message: Message) -> None:
        """Write the head or a piece of the body, waiting for a client that does not read; nothing once it has left."""
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        if message["type"] == "http.response.body":
            self._send_body(message.get("body", b""), is_last=not message.get("more_body", False))
        else:
            self._send_head(message["status"], message["headers"])

    def _send_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        cycle = self._cycle
        if cycle.response_started:
            raise RuntimeError("the reply has begun already")
        cycle.response_started = True
        if cycle.waiting_for_100_continue and cycle.more_body:
            cycle.keep_alive = False  # the body may never be sent now, and the next request be taken for it
        cycle.waiting_for_100_continue = False
        # HTTP/1.0 knows no chunks: there the end of the connection is the end of the body (RFC 9112 6.1).
        cycle.chunked_encoding = None if cycle.scope["http_version"] == "1.0" else True
        lines = [STATUS_LINE[status]]
        for name, value in (*cycle.default_headers, *headers):
            if name == b"content-length":
                cycle.chunked_encoding = False
                cycle.expected_content_length = int(value)
            elif name == b"connection":
                cycle.keep_alive = False
                continue
            lines.append(b"%b: %b\r\n" % (name, value))
        if cycle.chunked_encoding:
            lines.append(b"transfer-encoding: chunked\r\n")
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
            raise RuntimeError("a header holds a line end")
        self._outbox.write(head + b"\r\n")

    def _send_body(self, body: bytes, *, is_last: bool) -> None:
        cycle = self._cycle
        if not cycle.response_started or cycle.response_complete:
            raise RuntimeError("a body comes behind its head, and nothing behind its end")
        if cycle.chunked_encoding:
            if body:
                body = b"%x\r\n%b\r\n" % (len(body), body)
            if is_last:
                body += _LAST_CHUNK
        elif cycle.chunked_encoding is False:
            cycle.expected_content_length -= len(body)
            if cycle.expected_content_length < 0 or (is_last and cycle.expected_content_length):
                raise RuntimeError("the body is not as long as its head says")
        self._outbox.write(body)
        if is_last:
            cycle.response_complete = True
            cycle.message_event.set()
            if not cycle.keep_alive:
                self._outbox.close()
            cycle.on_response()
