"""Servers that end a connection before any request: at once, or in the middle of a TLS handshake."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, cast

from tests.faults.ports import HOST

RST_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class _Resetting(asyncio.Protocol):
    """Sends RST as soon as it is connected, or as soon as the peer has said anything."""

    def __init__(self, *, when_spoken_to: bool) -> None:
        self._waits = when_spoken_to

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self._waits:
            self._reset()

    def data_received(self, data: bytes) -> None:
        self._reset()

    def _reset(self) -> None:
        sock: socket.socket = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
        self._transport.abort()


@asynccontextmanager
async def resetting(*, mid_handshake: bool) -> AsyncIterator[str]:
    """Give a base URL whose connections are reset: once accepted, or (https) once the client has said hello."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Resetting(when_spoken_to=mid_handshake), HOST, 0, backlog=2048)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"{'https' if mid_handshake else 'http'}://{HOST}:{port}/v1"
