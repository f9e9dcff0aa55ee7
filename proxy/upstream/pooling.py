"""Which pooled connections a request may use, and the one repeat that is safe.

Two things go wrong with a connection that waited in the pool, and neither is the fault of a request:

* Bytes nobody asked for have arrived on it. They would be read as the next answer, so it is dropped before anything is
  sent.
* The provider closed it for idleness while our request was on its way. A POST may be sent twice only if the first was
  not processed (RFC 9110 9.2.2). What tells: the connection had been idle, not one byte came back, and the end came
  within the time that the provider's own close takes to cross the network. Then the request goes out once more, on a
  fresh connection. A provider that closes a connection in steady use, or later, or mid-answer has failed an attempt.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Final
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

IDLE_S_MIN: Final = 1.0
"""Providers close for idleness after seconds; what was in use a moment ago was not closed for that."""
CROSSING_S_MAX: Final = 1.0
"""How long after our sending a close may arrive that was begun before it."""
POOLED_TRIES_MAX: Final = 1_000
"""Pooled connections dropped in search of a fresh one."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_released_at: WeakKeyDictionary[ResponseHandler, float] = WeakKeyDictionary()


when_sent: ContextVar[Callable[[], None]] = ContextVar("when_sent")
"""What to call as the request of this task goes out; aiohttp hands nothing of ours through to the request itself."""


class StaleConnectionError(aiohttp.ClientConnectionError):
    """A pooled connection was of no use and the provider has not begun to work: the request may be repeated."""


class PooledResponse(aiohttp.ClientResponse):
    """A response that knows how long its connection had waited, and drops it at once when closed early."""

    idle_s = 0.0
    """How long the connection had waited in the pool, 0 for a fresh one."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Wait for status and headers; raises `StaleConnectionError` for a connection that was closed for idleness."""
        if self.idle_s < IDLE_S_MIN:
            return await super().start(connection)
        sent_at = self._loop.time()
        try:
            return await super().start(connection)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            has_begun = isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)
            if has_begun or self._loop.time() - sent_at > CROSSING_S_MAX:
                raise
            raise StaleConnectionError from error

    def close(self) -> None:
        """Reset the connection if the body is not at its end.

        A reset cannot be taken for a half-close, and neither we nor the kernel first send on what the provider has not
        read yet: it learns at once that nobody waits for its answer.
        """
        transport = self.connection.transport if self.connection is not None else None
        if transport is not None and not transport.is_closing():
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()
        super().close()


class PooledRequest(aiohttp.ClientRequest):
    """A request that looks at its connection before it goes out."""

    needs_fresh = False

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Send, or raise `StaleConnectionError` before anything is sent."""
        protocol = conn.protocol
        assert protocol is not None
        released_at = _released_at.pop(protocol, None)
        if protocol.should_close or (self.needs_fresh and released_at is not None):
            raise StaleConnectionError
        conn.add_callback(partial(_note_release, protocol, self.loop.time))
        when_sent.get()()
        response = await super().send(conn)
        if released_at is not None:
            assert isinstance(response, PooledResponse)
            response.idle_s = self.loop.time() - released_at
        return response


async def demand_fresh(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send on a fresh connection only (an aiohttp client middleware); pooled ones met on the way are dropped."""
    assert isinstance(request, PooledRequest)
    request.needs_fresh = True
    for _ in range(POOLED_TRIES_MAX):
        try:
            return await handler(request)
        except StaleConnectionError:
            continue
    raise StaleConnectionError


def _note_release(protocol: ResponseHandler, clock: Callable[[], float]) -> None:
    _released_at[protocol] = clock()
