"""Which addresses a URL of the operator's may lead to (floor 1a, pure; reliability.md S23).

An address is judged twice: as it is written, when routes.yaml is read, and as the name server gives it, just before a
socket connects to that very address. A name is never asked for twice, so it cannot mean something else the second time.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

PRIVATE_SUFFIXES = ("localhost", "local", "internal", "intranet", "lan", "home.arpa", "localdomain", "home", "corp")
"""Names under these are somebody's own, whatever they resolve to."""

_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_EMBEDDING = (
    IPv6Network("::ffff:0:0/96"),  # IPv4-mapped
    IPv6Network("::ffff:0:0:0/96"),  # IPv4-translated (SIIT)
    *_NAT64,
)
"""Networks whose last 32 bits are an IPv4 address, which then is what counts."""
_REFUSED_6 = (
    IPv6Network("::/96"),  # IPv4-compatible, unspecified, loopback
    IPv6Network("2001::/32"),  # Teredo: a tunnel to an IPv4 address
    IPv6Network("2002::/16"),  # 6to4: as that
    IPv6Network("3fff::/20"),  # documentation
    IPv6Network("5f00::/16"),  # segment routing
    IPv6Network("fec0::/10"),  # site-local of old
)
_REFUSED_4 = (
    IPv4Network("0.0.0.0/8"),
    IPv4Network("100.64.0.0/10"),  # carriers' own; Alibaba's metadata service too
    IPv4Network("168.63.129.16/32"),  # Azure's own services, on an address that is public elsewhere
    IPv4Network("192.0.0.0/24"),  # protocol assignments; Oracle's metadata service too
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
    IPv4Network("198.18.0.0/15"),  # benchmarks
)
_NEVER = (
    IPv4Network("169.254.0.0/16"),  # where clouds answer with a machine's credentials
    IPv4Network("168.63.129.16/32"),
    IPv4Network("100.100.100.200/32"),
    IPv4Network("192.0.0.192/32"),
    IPv6Network("fe80::/10"),
    IPv6Network("fd00:ec2::254/128"),
    IPv6Network("fd20:ce::254/128"),
)
"""What no `allow_private` opens."""
_NUMBERS = re.compile(r"(?:0[xX][0-9a-fA-F]*|[0-9]+)(?:\.(?:0[xX][0-9a-fA-F]*|[0-9]+))*\.?")
_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?")


def find_host_fault(host: str, *, allow_private: bool) -> str | None:
    """Tell why a URL's host may not be called, as it is written; None when it may, or its address has to tell."""
    address = read_address(host)
    if address is not None:
        return find_fault(address, allow_private=allow_private)
    if _NUMBERS.fullmatch(host):
        return "is a number that some read as an address; write the four decimal numbers"
    if not _NAME.fullmatch(host):
        return "is not the name of a host"
    labels = host.rstrip(".").lower()
    is_private = "." not in labels or labels.endswith(tuple(f".{suffix}" for suffix in PRIVATE_SUFFIXES))
    return "is a private name" if is_private and not allow_private else None


def find_fault(address: Address, *, allow_private: bool) -> str | None:
    """Tell why an address may not be connected to, None when it may."""
    address = _without_wrapping(address)
    if address.is_multicast or address.is_unspecified or any(address in network for network in _NEVER):
        return "is an address nothing may be sent to"
    return None if allow_private or is_public(address) else "is not a public address"


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the open internet; what wraps an IPv4 address is judged by that."""
    address = _without_wrapping(address)
    refused = _REFUSED_4 if isinstance(address, IPv4Address) else _REFUSED_6
    if any(address in network for network in refused):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def read_address(host: str) -> Address | None:
    """Read a literal address, None for a name; a zone (`%eth0`) makes it none of ours."""
    try:
        return None if "%" in host else ip_address(host)
    except ValueError:
        return None


def _without_wrapping(address: Address) -> Address:
    if isinstance(address, IPv6Address) and any(address in network for network in _EMBEDDING):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address
