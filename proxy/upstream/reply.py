"""One reply of a provider on its way in: bytes as they come, unpacked if need be, and a quick end.

It holds its connection until the body has ended, and gives it back by itself the moment that is read. Closing is
synchronous at heart, so that a cancelled task can close without waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from proxy.errors import Failure, UpstreamError
from proxy.upstream.connection import Connection
from proxy.upstream.decoding import decoder_of
from proxy.upstream.faults import CUT, TOO_LONG


class HttpReply:
    """What `HttpUpstream.open` gives; keeps the interface `codecs.wire.UpstreamReply`."""

    __slots__ = ("_connection", "_decoder", "_failure", "_release", "headers", "status")

    def __init__(self, connection: Connection, release: Callable[[Connection], None]) -> None:
        """Take over a connection whose head is in; raises `UpstreamError` for a body that nobody here can decode."""
        self._decoder = decoder_of(connection.fields.pop("content-encoding", None))
        self._connection: Connection | None = connection
        self._release = release
        self._failure: Failure | None = None
        self.status = connection.status
        self.headers: Mapping[str, str] = connection.fields

    async def read(self) -> bytes:
        """Wait for the next piece, b"" at the proper end; raises `UpstreamError` for a cut or unreadable body."""
        while True:
            piece = await self._read_raw()
            decoder = self._decoder
            if decoder is None:
                return piece
            try:
                if not piece:
                    decoder.close()
                    return piece
                if unpacked := decoder.feed(piece):
                    return unpacked
            except UpstreamError as error:
                self._failure = error.failure
                self._let_go()
                raise

    async def read_all(self, bytes_max: int) -> bytes:
        """Read the rest of the body; raises `UpstreamError` when it is cut, unreadable or longer than `bytes_max`."""
        pieces = []
        room = bytes_max
        while piece := await self.read():
            room -= len(piece)
            if room < 0:
                raise UpstreamError(TOO_LONG)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def close(self) -> None:
        """Drop the connection at once unless the body has come to its end; never waits, and twice is once."""
        connection = self._connection
        if connection is not None:
            if connection.pieces or not connection.is_complete:
                self._failure = connection.failure or CUT
            self._let_go()

    async def _read_raw(self) -> bytes:
        while (connection := self._connection) is not None:
            if connection.pieces:
                piece = connection.take()
                if connection.is_complete:
                    self._let_go()
                return piece
            if connection.is_complete:
                self._let_go()
            elif connection.failure is not None:
                raise UpstreamError(connection.failure) from connection.cause
            else:
                # Whoever closes while we wait takes the connection away, and another exchange may have begun on it.
                await connection.wait()
        if self._failure is not None:
            raise UpstreamError(self._failure)
        return b""

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._release(connection)
