"""Names to addresses that may be called (part of `outbound`, floor 2; reliability.md S23).

What is given back is what a socket is then connected to: between the check and the call no name is asked for again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from proxy.policy.addresses import find_fault, find_host_fault, read_address

RESOLVE_S_MAX = 3.0
ADDRESSES_MAX = 4
"""Addresses of one name that are tried, in the order in which the name server gave them."""

Resolve = Callable[[str, int], Awaitable[list[str]]]


class AddressRefused(Exception):
    """A host that may not be called, or cannot be found; the message is a clause that names neither."""


async def find_addresses(host: str, port: int, *, allow_private: bool, resolve: Resolve) -> list[str]:
    """Give the addresses a host may be called at; raises `AddressRefused` when it may not, or there are none.

    One address that is not allowed refuses the name: who controls it would only have to wait for the other.
    """
    fault = find_host_fault(host, allow_private=allow_private)
    if fault is not None:
        raise AddressRefused(f"its host {fault}")
    if read_address(host) is not None:
        return [host]
    try:
        async with asyncio.timeout(RESOLVE_S_MAX):
            found = list(dict.fromkeys(await resolve(host, port)))
    except (OSError, UnicodeError):  # a TimeoutError is an OSError
        raise AddressRefused("its name cannot be resolved") from None
    for text in found:
        address = read_address(text)
        fault = "is not a public address" if address is None else find_fault(address, allow_private=allow_private)
        if fault is not None:
            raise AddressRefused(f"its name leads to what {fault}")
    if not found:
        raise AddressRefused("its name has no address")
    return found[:ADDRESSES_MAX]


async def ask_system(host: str, port: int) -> list[str]:
    """Ask the system's resolver."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [str(info[4][0]) for info in infos]
