"""Replies that come compressed although none was asked for: unpacked in bounded steps, with a limit on their growth."""

from __future__ import annotations

import zlib
from typing import Any, Final

from proxy.errors import UpstreamError
from proxy.upstream.faults import GROWS, UNREADABLE

DECODED_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of one reply."""
DECODED_RATIO_MAX: Final = 100
"""Decoded bytes for each compressed byte, once DECODED_BYTES_FREE have come."""
DECODED_BYTES_FREE: Final = 1024 * 1024

_GZIP: Final = zlib.MAX_WBITS | 16
_WINDOWS: Final = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": zlib.MAX_WBITS}
_PLAIN: Final = frozenset({"", "identity"})
_DEFLATE_METHOD: Final = 8
"""Low half of a zlib stream's first byte (RFC 1950 2.2); what begins otherwise is bare, as some servers send it."""


class Decoder:
    """Unpacks one body."""

    __slots__ = ("_engine", "_packed_bytes", "_unpacked_bytes", "_window")

    def __init__(self, window: int) -> None:
        """Prepare for what zlib calls `wbits`."""
        self._window = window
        self._engine: Any = None
        self._packed_bytes = self._unpacked_bytes = 0

    def feed(self, packed: bytes) -> bytes:
        """Unpack a piece, to b"" if it does not suffice; raises `UpstreamError` for what is unreadable or grows."""
        self._packed_bytes += len(packed)
        pieces = []
        while packed:
            if self._engine is None or self._engine.eof:
                self._engine = zlib.decompressobj(self._choose_window(packed))
            pieces.append(self._step(packed))
            packed = self._engine.unused_data
        return b"".join(pieces)

    def close(self) -> None:
        """Check that the body is at its own end too; raises `UpstreamError`."""
        if self._engine is not None and not self._engine.eof:
            raise UpstreamError(UNREADABLE)

    def _step(self, packed: bytes) -> bytes:
        allowed = min(DECODED_BYTES_MAX, max(DECODED_BYTES_FREE, DECODED_RATIO_MAX * self._packed_bytes))
        try:
            # One byte more than there is room for tells what fits from what does not.
            piece: bytes = self._engine.decompress(packed, max(allowed - self._unpacked_bytes, 0) + 1)
        except zlib.error as error:
            raise UpstreamError(UNREADABLE) from error
        self._unpacked_bytes += len(piece)
        if self._unpacked_bytes > allowed:
            raise UpstreamError(GROWS)
        return piece

    def _choose_window(self, packed: bytes) -> int:
        is_bare = self._window == zlib.MAX_WBITS and packed[0] & 0x0F != _DEFLATE_METHOD
        return -zlib.MAX_WBITS if is_bare else self._window


def decoder_of(encoding: str | None) -> Decoder | None:
    """Give the decoder for a Content-Encoding, None when there is nothing to decode.

    Raises `UpstreamError` for one that nobody here can decode: it is never handed on as if it were text.
    """
    coding = (encoding or "").strip().lower()
    if coding in _PLAIN:
        return None
    if coding not in _WINDOWS:
        raise UpstreamError(UNREADABLE)
    return Decoder(_WINDOWS[coding])
