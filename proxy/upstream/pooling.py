"""Which pooled connections a request may use, and the one repeat that is safe.

Two things go wrong with a connection that waited in the pool, and neither is the fault of a request:

* Bytes nobody asked for have arrived on it. They would be read as the next answer, so it is dropped before anything is sent.
* The provider closed it for idleness while our request was on its way. A POST may be sent twice only if the first was not
  processed (RFC 9110 9.2.2). What tells: the connection had been idle, not one byte came back, and the end came within the
  time the provider's own close takes to cross the network. Then the request goes out once more, on a fresh connection.
  A provider that closes on a connection in steady use, later, or mid-answer has failed an attempt, and that is recorded.
"""

from __future__ import annotations

import asyncio
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
POOLED_TRIES_MAX: Final = 100
"""Pooled connections looked at for one request; each that does not serve is dropped."""

_released_at: WeakKeyDictionary[ResponseHandler, float] = WeakKeyDictionary()


class UnfitConnectionError(aiohttp.ClientConnectionError):
    """The pool gave a connection that may not be used; nothing was sent on it."""


class PooledRequest(aiohttp.ClientRequest):
    """A request that looks at its connection before it goes out."""

    is_repeat = False
    idle_s: float | None = None
    """How long the connection had waited in the pool, None for a fresh one."""
    sent_at = 0.0

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Send, or raise `UnfitConnectionError` before anything is sent."""
        protocol = conn.protocol
        assert protocol is not None
        self.sent_at = self.loop.time()
        released_at = _released_at.pop(protocol, None)
        self.idle_s = None if released_at is None else self.sent_at - released_at
        if protocol.should_close or (self.is_repeat and self.idle_s is not None):
            raise UnfitConnectionError
        conn.add_callback(partial(self._note_release, protocol))
        return await super().send(conn)

    def was_closed_for_idleness(self) -> bool:
        """Tell whether a connection that ended without an answer can only have been closed for its idleness."""
        if self.is_repeat or self.idle_s is None:
            return False
        return self.idle_s >= IDLE_S_MIN and self.loop.time() - self.sent_at <= CROSSING_S_MAX

    def _note_release(self, protocol: ResponseHandler) -> None:
        _released_at[protocol] = self.loop.time()


async def choose_connection(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Send the request on a connection that is fit for it, at most twice (an aiohttp client middleware)."""
    assert isinstance(request, PooledRequest)
    for _ in range(POOLED_TRIES_MAX):
        try:
            return await handler(request)
        except UnfitConnectionError:
            continue
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if not request.was_closed_for_idleness():
                raise
            request.is_repeat = True
    raise aiohttp.ClientConnectionError
