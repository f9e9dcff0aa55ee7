"""What a request must look like before it is read (floor 5, but pure): limits of its head, and one way to frame a body.

A request that two readers could take for two different ones is refused, never repaired: whatever stands in front of us
may have read the other one (RFC 9112 sections 3.2, 6.1 and 11.2). The parser refuses most of it (bare line ends, folded
lines, odd lengths); this module holds what it lets pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from proxy.edge.errors import error_body, surface_of
from proxy.errors import RequestError

_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_VERSIONS = ("1.1", "1.0")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may take of us before a request is whole, and after it was answered."""

    target_bytes_max: int = 8 * 1024
    """Of the request line's target."""
    head_bytes_max: int = 32 * 1024
    """Of all header names and values together."""
    fields_max: int = 100
    head_s: float = 10.0
    """From the first byte (or the connection) to the blank line."""
    body_s: float = 30.0
    """From the blank line to the last byte of the body, plus what `body_bytes_per_s` allows."""
    body_bytes_per_s: int = 100_000
    """A body that keeps this pace is waited for however long it is."""
    chunk_overhead_bytes_max: int = 32
    """Framing per chunk, on average: room for the size and its line ends, none for extensions worth the name."""
    pipeline_max: int = 16
    """Requests that wait behind the one being answered; after them the connection closes."""
    waiting_body_bytes_max: int = 64 * 1024
    """Of the body of each of them."""
    keep_alive_s: int = 75
    """Idle time between requests: above the 60 s of common balancers, so that they close first."""
    stall_s: float = 60.0
    """A client that reads nothing for so long while bytes wait for it is cut off."""
    linger_s: float = 2.0
    """How long what a refused or early answered client still sends is thrown away, so that it can read the answer."""
    linger_bytes_max: int = 64 * 1024 * 1024
    """How much of it."""
    connections_max: int = 10_000
    refused_max: int = 256
    """Connections above `connections_max` that are told so; those beyond are dropped."""


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a connection's bytes are not taken for a request."""

    status: int
    code: str
    message: str


MALFORMED = Refusal(400, "invalid_http", "This is not a well-formed HTTP request.")
TARGET_TOO_LONG = Refusal(414, "uri_too_long", "The request's target is too long.")
HEAD_TOO_LARGE = Refusal(431, "headers_too_large", "The request's header fields are too many or too large.")
TOO_SLOW = Refusal(408, "request_timeout", "The request took too long to arrive.")
TOO_MANY_CONNECTIONS = Refusal(503, "overloaded", "The gateway has too many connections; try again shortly.")
TOO_MANY_WAITING = Refusal(400, "invalid_http", "Too much was sent without waiting for the answer before.")
AFTER_CLOSE = Refusal(400, "invalid_http", "A request came on a connection that was about to close.")
TRAILERS = Refusal(400, "invalid_http", "Trailer fields are not accepted.")
CHUNK_OVERHEAD = Refusal(400, "invalid_http", "The body's chunks hold more framing than content.")

_TARGET = Refusal(400, "invalid_http", "The request's target must be a path, such as /v1/chat/completions.")
_VERSION = Refusal(505, "invalid_http", "Only versions 1.1 and 1.0 of HTTP are spoken here.")
_HOST_FIELD = Refusal(400, "invalid_http", "The request must have exactly one valid Host header.")
_TRANSFER_CODING = Refusal(
    400, "invalid_http", "The only Transfer-Encoding accepted is one `chunked`, not in HTTP 1.0."
)
_LENGTH = Refusal(400, "invalid_http", "The request must have at most one Content-Length, and none beside chunks.")

_ONCE = {b"host": _HOST_FIELD, b"transfer-encoding": _TRANSFER_CODING, b"content-length": _LENGTH}
"""Fields that decide how a request is read, and what to say when one comes twice."""


def check_head(target: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]) -> Refusal | None:
    """Check a parsed request head, names in lower case; None when there is one way only to read it."""
    if not target.startswith(b"/") or b"#" in target:
        return _TARGET
    if version not in _VERSIONS:
        return _VERSION
    seen: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _ONCE:
            if name in seen:
                return _ONCE[name]
            seen[name] = value
    host = seen.get(b"host")
    if not (version == "1.0" if host is None else _HOST.fullmatch(host)):
        return _HOST_FIELD
    return _check_framing(seen.get(b"transfer-encoding"), seen.get(b"content-length"), version)


def is_too_large(headers: Iterable[tuple[bytes, bytes]], limits: Limits) -> bool:
    """Tell whether a head's fields pass the limit together."""
    return sum(len(name) + len(value) for name, value in headers) > limits.head_bytes_max


def write_refusal(refusal: Refusal, target: bytes) -> bytes:
    """Write the whole HTTP answer of a refusal; the connection is closed after it."""
    kind = "invalid_request_error" if refusal.status < 500 else "api_error"
    error = RequestError(refusal.message, code=refusal.code)
    error.status, error.type = refusal.status, kind
    body = error_body(error, surface_of(target.decode("latin-1")))
    wait = b"retry-after: 1\r\n" if refusal.status == 503 else b""
    phrase = HTTPStatus(refusal.status).phrase.encode()
    head = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%sconnection: close\r\n\r\n"
    return head % (refusal.status, phrase, len(body), wait) + body


def _check_framing(coding: bytes | None, length: bytes | None, version: str) -> Refusal | None:
    if coding is not None and (version != "1.1" or coding.lower() != b"chunked"):
        return _TRANSFER_CODING
    if length is not None and (coding is not None or not length.isdigit()):
        return _LENGTH
    return None
