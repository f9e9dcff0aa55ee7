"""How a connection is made: a name looked up, its addresses tried, TLS spoken.

Proxies are not supported, and the variables that name one are not read: where calls go is said in routes.yaml alone.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Final

from proxy.upstream.connection import Connection
from proxy.upstream.faults import NameFault
from proxy.upstream.request import Origin
from proxy.upstream.resolver import Address, Resolver

KEEP_ALIVE_IDLE_S: Final = 60
KEEP_ALIVE_EVERY_S: Final = 20
KEEP_ALIVE_TRIES: Final = 3
_KEEP_ALIVE: Final = (
    ("TCP_KEEPIDLE", KEEP_ALIVE_IDLE_S),
    ("TCP_KEEPINTVL", KEEP_ALIVE_EVERY_S),
    ("TCP_KEEPCNT", KEEP_ALIVE_TRIES),
)
NEXT_ADDRESS_S: Final = 0.25
"""How long an address may be silent before the next one is tried beside it (RFC 8305 5)."""
ADDRESSES_MAX: Final = 8
"""Addresses tried for one connection."""


class Dialer:
    """Makes connections; one for each pool."""

    def __init__(self) -> None:
        """Prepare; TLS is set up when it is first needed, in a thread: it reads some hundred certificates."""
        self._resolver = Resolver()
        self._contexts: dict[bool, asyncio.Future[ssl.SSLContext]] = {}
        """Being made or made: a burst of first calls waits for one, as each takes a core for 50 ms."""

    async def dial(self, origin: Origin, forget: Callable[[Connection], None]) -> Connection:
        """Make a connection; raises OSError or, for a name that cannot be one, ValueError. `forget` as its class."""
        loop = asyncio.get_running_loop()
        context = await self._context(verify=origin.verify) if origin.is_tls else None
        sock = await connect(await self._find(origin.host, origin.port))
        name = origin.host.rstrip(".") if context is not None else None
        _, connection = await loop.create_connection(
            lambda: Connection(origin, forget), sock=sock, ssl=context, server_hostname=name
        )
        return connection

    def close(self) -> None:
        """Look no further name up."""
        self._resolver.close()

    async def _find(self, host: str, port: int) -> Sequence[Address]:
        if is_address(host):
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
            return [Address(family, protocol, address) for family, _type, protocol, _name, address in infos]
        try:
            return await self._resolver.resolve(host, port)
        except OSError as error:
            raise NameFault from error

    async def _context(self, *, verify: bool) -> ssl.SSLContext:
        making = self._contexts.get(verify)
        if making is None or (making.done() and making.exception() is not None):
            making = self._contexts[verify] = asyncio.ensure_future(asyncio.to_thread(make_context, verify=verify))
        # Shielded: a caller that gives up must not take it from the others.
        return await asyncio.shield(making)


def is_address(host: str) -> bool:
    """Tell whether a host is an address and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def make_context(*, verify: bool) -> ssl.SSLContext:
    """Make what all connections that check certificates share, or all that do not."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def make_socket(address: Address) -> socket.socket:
    """Make a socket that notices a dead peer, and that keeps address translators on the way from forgetting it."""
    sock = socket.socket(address.family, socket.SOCK_STREAM, address.protocol)
    sock.settimeout(0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in _KEEP_ALIVE:
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return sock


async def connect(addresses: Sequence[Address]) -> socket.socket:
    """Connect to whichever address answers first, the next one being tried when those before fail or stay silent.

    Raises the first address's OSError when none answers.
    """
    left = interleave(addresses)[:ADDRESSES_MAX]
    if len(left) == 1:
        return await _connect(left[0])
    tries: set[asyncio.Task[socket.socket]] = set()
    faults: list[BaseException] = []
    try:
        while left or tries:
            if left:
                tries.add(asyncio.create_task(_connect(left.pop(0))))
            patience_s = NEXT_ADDRESS_S if left else None
            done, _ = await asyncio.wait(tries, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                tries.discard(task)
                fault = task.exception()
                if fault is None:
                    return task.result()
                faults.append(fault)
    finally:
        for task in tries:
            task.add_done_callback(_discard)
            task.cancel()
    raise faults[0] if faults else NameFault


def interleave(addresses: Sequence[Address]) -> list[Address]:
    """Put the families in turn, the system's favourite first, so that a broken one costs one wait (RFC 8305 4)."""
    first = [address for address in addresses if address.family == addresses[0].family]
    others = [address for address in addresses if address.family != addresses[0].family]
    return [address for pair in zip_longest(first, others) for address in pair if address is not None]


async def _connect(address: Address) -> socket.socket:
    sock = make_socket(address)
    try:
        await asyncio.get_running_loop().sock_connect(sock, address.sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


def _discard(task: asyncio.Task[socket.socket]) -> None:
    """Close the connection of one that came second."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
