"""The pool of connections to all providers: who may use which, and how many there are.

Deciding never awaits: a connection is popped, a slot is claimed and both are given back in one turn of the event loop
each. Only the wait for a slot and the making of a connection take time, and both run under the caller's connect clock.
Whoever holds a connection gives it back exactly once, in whatever state: one that may serve again waits for the next
request, the youngest first, so that connections beyond the need grow old and are closed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from proxy.upstream.connection import Connection
from proxy.upstream.dialing import Dialer
from proxy.upstream.request import Origin

CONNECTIONS_MAX: Final = 5_000
"""Of one process, to all providers together; beyond it a call waits, and its connect clock runs."""
IDLE_S_MAX: Final = 20.0
"""How long a connection may wait in the pool: below the idle limits of common providers and their balancers."""


class Pool:
    """All connections of one process and event loop."""

    def __init__(self) -> None:
        """Start empty."""
        self._loop = asyncio.get_running_loop()
        self._dialer = Dialer()
        self._open: set[Connection] = set()
        self._idle: dict[Origin, dict[Connection, None]] = {}
        self._in_use = 0
        self._dialing = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    def take(self, origin: Origin) -> Connection | None:
        """Give a connection that is at hand, None when there is none or too many are in use."""
        if self._in_use >= CONNECTIONS_MAX:
            return None
        connection = self._pop(origin)
        if connection is not None:
            self._in_use += 1
        return connection

    async def acquire(self, origin: Origin, connect_timeout_s: float, *, is_fresh: bool = False) -> Connection:
        """Wait for a slot, then give a connection; a fresh one has served nobody yet.

        Raises OSError (TimeoutError, gaierror, SSLError) or ValueError when none can be made in time.
        """
        async with asyncio.timeout(connect_timeout_s):
            await self._claim()
            try:
                connection = None if is_fresh else self._pop(origin)
                return connection or await self._dial(origin)
            except BaseException:
                self._give_up_slot()
                raise

    def release(self, connection: Connection) -> None:
        """Take a connection back that was given; it is kept if it may serve again, else it ends now."""
        now_s = self._loop.time()
        if not self._is_closed and connection.rest(now_s):
            waiting = self._idle.get(connection.origin)
            if waiting is None:
                waiting = self._idle[connection.origin] = {}
            waiting[connection] = None
            if self._sweeper is None:
                self._sweeper = self._loop.call_at(now_s + IDLE_S_MAX, self._sweep)
        else:
            self._end(connection)
        self._give_up_slot()

    def close(self) -> None:
        """End every connection, those in use too; none is made any more."""
        self._is_closed = True
        self._dialer.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._open):
            self._end(connection)

    def _pop(self, origin: Origin) -> Connection | None:
        waiting = self._idle.get(origin)
        while waiting:
            connection, _ = waiting.popitem()
            if connection.is_fit(self._loop.time() - IDLE_S_MAX):
                return connection
            self._end(connection)
        return None

    async def _claim(self) -> None:
        if self._in_use < CONNECTIONS_MAX:
            self._in_use += 1
            return
        turn = self._loop.create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_up_slot()
            raise

    def _give_up_slot(self) -> None:
        """Hand the slot to the one who has waited longest, or count it as free."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._in_use -= 1

    async def _dial(self, origin: Origin) -> Connection:
        if self._is_closed:
            raise ConnectionError("the gateway is stopping")
        if len(self._open) + self._dialing >= CONNECTIONS_MAX:
            self._evict()
        self._dialing += 1
        try:
            connection = await self._dialer.dial(origin, self._forget)
        finally:
            self._dialing -= 1
        self._open.add(connection)
        if self._is_closed:
            self._end(connection)
            raise ConnectionError("the gateway is stopping")
        return connection

    def _evict(self) -> None:
        """End the connection that has waited longest: those in use leave room for one more, so there is one."""
        oldest = min(
            (next(iter(waiting)) for waiting in self._idle.values() if waiting), key=lambda one: one.idle_since
        )
        self._end(oldest)

    def _sweep(self) -> None:
        """End what has waited too long, and come back when the next one has."""
        self._sweeper = None
        expired_s = self._loop.time() - IDLE_S_MAX
        for origin, waiting in list(self._idle.items()):
            for connection in list(waiting):
                if connection.is_fit(expired_s):
                    break
                self._end(connection)
            if not waiting:
                del self._idle[origin]
        left = [next(iter(waiting)).idle_since for waiting in self._idle.values()]
        if left:
            self._sweeper = self._loop.call_at(min(left) + IDLE_S_MAX, self._sweep)

    def _end(self, connection: Connection) -> None:
        self._forget(connection)
        connection.cut()

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        waiting = self._idle.get(connection.origin)
        if waiting is not None:
            waiting.pop(connection, None)
