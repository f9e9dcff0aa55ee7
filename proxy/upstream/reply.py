"""One reply of a provider on its way in: bytes as they come, a limit on what compression may blow up, and a quick end.

Closing is synchronous at heart, so that a cancelled task can close without waiting. A body read to its end has already
given its connection back to the pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import aiohttp

from proxy.errors import FailureKind, UpstreamError
from proxy.upstream.faults import FAULTS, UNREADABLE, read_body_fault, sent_failure

DECODED_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of a compressed reply, which we never ask for."""
DECODED_RATIO_MAX: Final = 100
"""Decoded bytes for each compressed byte, once DECODED_BYTES_FREE have come."""
DECODED_BYTES_FREE: Final = 1024 * 1024

_ENCODINGS: Final = frozenset({"identity", "gzip", "deflate", "br", "zstd"})
"""What aiohttp decodes, or says that it cannot; anything else it would hand over as it is."""
_HEADERS_KEPT: Final = frozenset(
    {"content-type", "date", "request-id", "retry-after", "x-generation-id", "x-request-id", "x-should-retry"},
)
_HEADER_FAMILY_KEPT: Final = "x-ratelimit-"


class AiohttpReply:
    """What `AiohttpUpstream.open` gives; keeps the interface `codecs.wire.UpstreamReply`."""

    __slots__ = ("_content", "_decoded_bytes", "_is_encoded", "_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        """Take the response over; raises `UpstreamError` when its body is encoded in a way nobody here can decode."""
        self._response = response
        self._content = response.content
        encoding = response.headers.get("Content-Encoding")
        self._is_encoded = encoding is not None
        if encoding is not None and encoding.lower() not in _ENCODINGS:
            response.close()
            raise UpstreamError(sent_failure(FailureKind.INVALID_REPLY, UNREADABLE))
        self._decoded_bytes = 0
        self.status = response.status
        self.headers: Mapping[str, str] = _keep_headers(response.headers)

    async def read(self) -> bytes:
        """Wait for the next piece, b"" at the proper end; raises `UpstreamError` for a cut or unreadable body."""
        try:
            piece = await self._content.readany()
        except FAULTS as error:
            piece = self._take_what_came_before(error)
            if not piece:
                raise UpstreamError(read_body_fault(error)) from error
        if self._is_encoded:
            self._check_growth(len(piece))
        return piece

    async def read_all(self, bytes_max: int) -> bytes:
        """Read the rest of the body; raises `UpstreamError` when it is cut, unreadable or longer than `bytes_max`."""
        pieces = []
        room = bytes_max
        while piece := await self.read():
            room -= len(piece)
            if room < 0:
                raise UpstreamError(sent_failure(FailureKind.INVALID_REPLY, "The provider's reply is too long."))
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def close(self) -> None:
        """Drop the connection at once unless the body was read to its end; never waits, and twice is once."""
        if not self._response.closed:
            self._response.close()

    def _take_what_came_before(self, error: Exception) -> bytes:
        """Give what had arrived when the body broke: aiohttp hides it behind the error, yet it is billed."""
        if self._response.closed:
            return b""
        self._content.set_exception(None)  # type: ignore[arg-type]  # there is no other way to what is buffered
        piece = self._content.read_nowait()
        self._content.set_exception(error)
        return piece

    def _check_growth(self, piece_bytes: int) -> None:
        self._decoded_bytes += piece_bytes
        allowed = max(DECODED_BYTES_FREE, DECODED_RATIO_MAX * self._content.total_raw_bytes)
        if self._decoded_bytes > min(DECODED_BYTES_MAX, allowed):
            self._response.close()
            raise UpstreamError(sent_failure(FailureKind.INVALID_REPLY, "The provider's reply grows too much."))


def _keep_headers(headers: Mapping[str, str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    for name, value in headers.items():
        lowered = name.lower()
        if lowered in _HEADERS_KEPT or lowered.startswith(_HEADER_FAMILY_KEPT):
            kept.setdefault(lowered, value)
    return kept
