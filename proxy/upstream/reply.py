"""One reply of a provider on its way in: bytes as they come, a limit on what compression may blow up, and a quick end.

Closing is synchronous at heart: it aborts the socket, so that a cancelled task can close without waiting and a provider
whose receive buffer is full learns of it too. A body read to its end has already given its connection back to the pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import aiohttp

from proxy.errors import FailureKind, UpstreamError
from proxy.upstream.faults import FAULTS, read_body_fault, sent_failure

DECODED_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of a compressed reply, which we never ask for."""
DECODED_RATIO_MAX: Final = 100
"""Decoded bytes for each compressed byte, once DECODED_BYTES_FREE have come."""
DECODED_BYTES_FREE: Final = 1024 * 1024

_HEADERS_KEPT: Final = frozenset(
    {"content-type", "date", "request-id", "retry-after", "x-generation-id", "x-request-id", "x-should-retry"},
)
_HEADER_FAMILY_KEPT: Final = "x-ratelimit-"


class AbortingResponse(aiohttp.ClientResponse):
    """A response that, closed early, drops its connection without flushing what the provider has not read yet."""

    def close(self) -> None:
        """Abort the socket if the body is not at its end."""
        connection = self.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
        super().close()


class AiohttpReply:
    """What `AiohttpUpstream.open` gives; keeps the interface `codecs.wire.UpstreamReply`."""

    __slots__ = ("_content", "_decoded_bytes", "_is_encoded", "_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._content = response.content
        self._is_encoded = "Content-Encoding" in response.headers
        self._decoded_bytes = 0
        self.status = response.status
        self.headers: Mapping[str, str] = _keep_headers(response.headers)

    async def read(self) -> bytes:
        """Wait for the next piece, b"" at the proper end; raises `UpstreamError` for a cut or unreadable body."""
        try:
            piece = await self._content.readany()
        except FAULTS as error:
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
        self._response.close()

    def _check_growth(self, piece_bytes: int) -> None:
        self._decoded_bytes += piece_bytes
        allowed = max(DECODED_BYTES_FREE, DECODED_RATIO_MAX * self._content.total_raw_bytes)
        if self._decoded_bytes > min(DECODED_BYTES_MAX, allowed):
            self._response.close()
            raise UpstreamError(sent_failure(FailureKind.INVALID_REPLY, "The provider's compressed reply is too large."))


def _keep_headers(headers: Mapping[str, str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    for name, value in headers.items():
        lowered = name.lower()
        if lowered in _HEADERS_KEPT or lowered.startswith(_HEADER_FAMILY_KEPT):
            kept.setdefault(lowered, value)
    return kept
