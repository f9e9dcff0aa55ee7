"""The one exchange that a call is, and the one repeat of it that is safe.

A provider may close a waiting connection for idleness while our request is on its way. A POST may be sent twice only if
the first was not processed (RFC 9110 9.2.2). What tells: the connection had been idle, not one byte came back, and the
end came within the time that the provider's own close takes to cross the network. Then the request goes out once more,
on a fresh connection. A provider that closes a connection in steady use, or later, or mid-answer has failed an attempt.
No redirect is followed, no cookie kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NoReturn

from proxy.codecs.wire import Call, say_nothing
from proxy.errors import Failure, UpstreamError
from proxy.routing.table import Provider
from proxy.upstream.connection import WRITE_BYTES_MAX, Connection
from proxy.upstream.faults import CONNECT_FAULTS, connect_failure, read_connect_fault
from proxy.upstream.pooling import Pool
from proxy.upstream.reply import HttpReply
from proxy.upstream.request import Envelope, Origin

PROVIDERS_MAX: Final = 1_000
"""Providers whose requests' unchanging parts are kept; beyond it they are written anew."""
IDLE_S_MIN: Final = 1.0
"""Providers close for idleness after seconds; what was in use a moment ago was not closed for that."""
CROSSING_S_MAX: Final = 1.0
"""How long after our sending a close may arrive that was begun before it."""


class StaleConnectionError(Exception):
    """A connection was closed for idleness and the provider has not begun to work: the request may be repeated."""


class HttpUpstream:
    """Calls providers over HTTP; keeps the interface `codecs.wire.Upstream`. One for each process and event loop."""

    def __init__(self) -> None:
        self._pool: Pool | None = None
        self._envelopes: dict[str, Envelope] = {}
        self._is_closed = False

    async def open(
        self,
        provider: Provider,
        call: Call,
        *,
        connect_timeout_s: float,
        on_sent: Callable[[], None] = say_nothing,
    ) -> HttpReply:
        """Send the call and wait for status and headers; raises `UpstreamError`. The wait is the caller's to cancel."""
        pool = self._pool or self._start()
        envelope, head = self._write(provider, call)
        origin = envelope.origin
        connection = pool.take(origin) or await _acquire(pool, origin, connect_timeout_s)
        try:
            return await _ask(pool, connection, head, call.body, on_sent)
        except StaleConnectionError:
            connection = await _acquire(pool, origin, connect_timeout_s, is_fresh=True)
            return await _ask(pool, connection, head, call.body, on_sent)

    async def close(self) -> None:
        """Close every connection; calls after that fail as if no connection could be made."""
        self._is_closed = True
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
            await asyncio.sleep(0)

    def _start(self) -> Pool:
        if self._is_closed:
            raise UpstreamError(connect_failure("No connection was made: the gateway is stopping."))
        self._pool = Pool()
        return self._pool

    def _write(self, provider: Provider, call: Call) -> tuple[Envelope, bytes]:
        envelope = self._envelopes.get(provider.account_name)
        try:
            if envelope is None or envelope.provider is not provider:
                envelope = Envelope(provider)
                if len(self._envelopes) >= PROVIDERS_MAX:
                    self._envelopes.clear()
                self._envelopes[provider.account_name] = envelope
            return envelope, b"%b%d\r\n\r\n" % (envelope.head(call), len(call.body))
        except ValueError as error:
            raise UpstreamError(read_connect_fault(error)) from error


async def _acquire(pool: Pool, origin: Origin, connect_timeout_s: float, *, is_fresh: bool = False) -> Connection:
    try:
        return await pool.acquire(origin, connect_timeout_s, is_fresh=is_fresh)
    except CONNECT_FAULTS as error:
        raise UpstreamError(read_connect_fault(error)) from error


async def _ask(pool: Pool, connection: Connection, head: bytes, body: bytes, on_sent: Callable[[], None]) -> HttpReply:
    """Have one exchange up to the answer's head; raises `UpstreamError` or `StaleConnectionError`."""
    try:
        sent_at_s = connection.begin()
        on_sent()
        if len(body) <= WRITE_BYTES_MAX:
            connection.write(head + body)
        else:
            await connection.write_long(head, body)
        while not connection.status:
            if connection.failure is not None:
                _give_up(connection, connection.failure, sent_at_s)
            await connection.wait()
        return HttpReply(connection, pool.release)
    except BaseException:
        pool.release(connection)
        raise


def _give_up(connection: Connection, failure: Failure, sent_at_s: float) -> NoReturn:
    idle_s = sent_at_s - connection.idle_since if connection.idle_since else 0.0
    is_crossing = connection.now() - sent_at_s <= CROSSING_S_MAX
    if idle_s >= IDLE_S_MIN and is_crossing and not connection.has_begun:
        raise StaleConnectionError from connection.cause
    raise UpstreamError(failure) from connection.cause
