"""The pool of connections to all providers and the one request each call makes.

The hot path keeps what does not change: a provider's headers, and one timeout value per connect timeout. Every limit
has a name below; replies are asked for uncompressed, no redirect is followed, no cookie kept, no proxy variable read.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Final

import aiohttp

from proxy import __version__
from proxy.codecs.wire import Call, say_nothing
from proxy.errors import UpstreamError
from proxy.routing.table import Provider
from proxy.upstream.faults import FAULTS, connect_failure, read_open_fault
from proxy.upstream.pooling import PooledRequest, PooledResponse, StaleConnectionError, demand_fresh, when_sent
from proxy.upstream.reply import AiohttpReply
from proxy.upstream.resolver import Resolver

CONNECTIONS_MAX: Final = 5_000
"""Of one process, to all providers together; beyond it a call waits, and its connect clock runs."""
IDLE_S_MAX: Final = 20.0
"""How long a connection may wait in the pool: below the idle limits of common providers and their balancers."""
ADDRESS_S_MAX: Final = 30
"""How long an address found for a name is used without asking again."""
READ_BUFFER_BYTES: Final = 64 * 1024
"""Read ahead of a slow reader on each connection; twice as much pauses the socket."""
HEADER_BYTES_MAX: Final = 16 * 1024
"""Of one header, and of the status line."""
HEADERS_MAX: Final = 100
PROVIDERS_MAX: Final = 1_000
"""Providers whose headers are kept; beyond it they are written anew."""

ONE_WRITE_BYTES_MAX: Final = 1024 * 1024
"""A longer body goes out in pieces, each when the one before it is taken."""

KEEP_ALIVE_IDLE_S: Final = 60
KEEP_ALIVE_EVERY_S: Final = 20
KEEP_ALIVE_TRIES: Final = 3
_KEEP_ALIVE: Final = (
    ("TCP_KEEPIDLE", KEEP_ALIVE_IDLE_S),
    ("TCP_KEEPINTVL", KEEP_ALIVE_EVERY_S),
    ("TCP_KEEPCNT", KEEP_ALIVE_TRIES),
)


class AiohttpUpstream:
    """Calls providers over HTTP; keeps the interface `codecs.wire.Upstream`. One for each process and event loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._resolver: Resolver | None = None
        self._headers: dict[str, tuple[Provider, Mapping[str, str]]] = {}
        self._is_closed = False

    async def open(
        self,
        provider: Provider,
        call: Call,
        *,
        connect_timeout_s: float,
        on_sent: Callable[[], None] = say_nothing,
    ) -> AiohttpReply:
        """Send the call and wait for status and headers; raises `UpstreamError`. The wait is the caller's to cancel."""
        when_sent.set(on_sent)
        try:
            try:
                response = await self._post(provider, call, connect_timeout_s)
            except StaleConnectionError:
                response = await self._post(provider, call, connect_timeout_s, middlewares=(demand_fresh,))
        except FAULTS as error:
            raise UpstreamError(read_open_fault(error)) from error
        return AiohttpReply(response)

    async def close(self) -> None:
        """Close every connection; calls after that fail as if no connection could be made."""
        self._is_closed = True
        session, self._session = self._session, None
        if session is not None and self._resolver is not None:
            await session.close()
            await self._resolver.close()

    def _post(
        self,
        provider: Provider,
        call: Call,
        connect_timeout_s: float,
        *,
        middlewares: Sequence[aiohttp.ClientMiddlewareType] = (),
    ) -> Awaitable[aiohttp.ClientResponse]:
        session = self._session or self._start()
        headers = self._headers_of(provider)
        return session.post(
            provider.base_url + call.path,
            data=call.body if len(call.body) <= ONE_WRITE_BYTES_MAX else BytesIO(call.body),
            headers={**headers, **call.headers} if call.headers else headers,
            timeout=_timeout(connect_timeout_s),
            ssl=provider.verify,
            allow_redirects=False,
            middlewares=middlewares,
        )

    def _start(self) -> aiohttp.ClientSession:
        if self._is_closed:
            raise UpstreamError(connect_failure("No connection was made: the gateway is stopping."))
        self._resolver = Resolver()
        self._session = _make_session(self._resolver)
        return self._session

    def _headers_of(self, provider: Provider) -> Mapping[str, str]:
        known = self._headers.get(provider.name)
        if known is not None and known[0] is provider:
            return known[1]
        if len(self._headers) >= PROVIDERS_MAX:
            self._headers.clear()
        headers = _write_headers(provider)
        self._headers[provider.name] = (provider, headers)
        return headers


def _write_headers(provider: Provider) -> dict[str, str]:
    """Write what every call of a provider carries; what its entry in routes.yaml says wins, but for the encoding."""
    headers = {"user-agent": f"turnpike/{__version__}", "accept": "*/*", "content-type": "application/json"}
    if provider.api_key is not None:
        place, key = provider.flags.key_header, provider.api_key.reveal()
        headers[place] = f"Bearer {key}" if place == "authorization" else key
    headers.update((name.lower(), value) for name, value in provider.headers.items())
    headers["accept-encoding"] = "identity"
    return headers


@lru_cache(maxsize=64)
def _timeout(connect_timeout_s: float) -> aiohttp.ClientTimeout:
    """Bound the way to a connection as a whole: the wait for a free one, name, TCP and TLS."""
    return aiohttp.ClientTimeout(total=None, connect=connect_timeout_s, sock_connect=connect_timeout_s)


def _make_session(resolver: Resolver) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=CONNECTIONS_MAX,
        keepalive_timeout=IDLE_S_MAX,
        ttl_dns_cache=ADDRESS_S_MAX,
        resolver=resolver,
        socket_factory=make_socket,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        request_class=PooledRequest,
        response_class=PooledResponse,
        trust_env=False,
        read_bufsize=READ_BUFFER_BYTES,
        max_line_size=HEADER_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
        max_headers=HEADERS_MAX,
    )


def make_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Make a socket that notices a dead peer, and that keeps address translators on the way from forgetting it."""
    family, kind, protocol, _name, _address = address
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in _KEEP_ALIVE:
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return sock
