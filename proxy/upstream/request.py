"""The bytes of a request (RFC 9112), all but the body written once for each provider and path.

What its entry in routes.yaml says wins over our own headers, but for the encoding: replies are asked for uncompressed.
A call's own headers win over both, its credential among them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit

from proxy import __version__
from proxy.codecs.wire import Call
from proxy.routing.table import Provider

HEADS_MAX: Final = 256
"""Heads kept for one provider; beyond it they are written anew. Each key of a pool has heads of its own."""

_PORTS: Final = {"http": 80, "https": 443}
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_NO_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TARGET_SAFE: Final = "-._~!$&'()*+,;=:@/?%"
"""What may stand in a request's target as it is (RFC 3986 3.3, 3.4), besides letters and digits."""
_RESERVED: Final = frozenset({"content-length", "transfer-encoding"})
"""Headers that say where a body ends: ours alone."""


class Origin(NamedTuple):
    """Where connections lead; those of one origin can stand in for each other."""

    is_tls: bool
    host: str
    port: int
    verify: bool
    """Check the TLS certificate."""


class Envelope:
    """What every call of one provider has in common: where it goes, and its headers."""

    __slots__ = ("_headers", "_heads", "_prefix", "origin", "provider")

    def __init__(self, provider: Provider) -> None:
        """Write what does not change; raises ValueError for an entry that cannot be written as a request."""
        parts = urlsplit(provider.base_url)
        port = parts.port or _PORTS.get(parts.scheme)
        if port is None or not parts.hostname:
            raise ValueError("a base_url is http or https and names a host")
        self.provider = provider
        self.origin = Origin(parts.scheme == "https", parts.hostname, port, provider.verify)
        self._prefix = parts.path
        self._headers = _write_headers(provider, parts.netloc.rpartition("@")[2])
        self._heads: dict[object, bytes] = {}

    def head(self, call: Call) -> bytes:
        """Give everything before the body's length, `content-length: ` included; raises ValueError as the class."""
        key = (call.path, *call.headers.items()) if call.headers else call.path
        known = self._heads.get(key)
        if known is None:
            if len(self._heads) >= HEADS_MAX:
                self._heads.clear()
            known = self._heads[key] = self._write(call)
        return known

    def _write(self, call: Call) -> bytes:
        target = quote(self._prefix + call.path, safe=_TARGET_SAFE)
        headers = {**self._headers, **{name.lower(): value for name, value in call.headers.items()}}
        lines = [f"POST {target} HTTP/1.1", *(_line(name, value) for name, value in headers.items())]
        return "\r\n".join([*lines, "content-length: "]).encode()


def _write_headers(provider: Provider, host: str) -> Mapping[str, str]:
    headers = {
        "host": host,
        "user-agent": f"turnpike/{__version__}",
        "accept": "*/*",
        "content-type": "application/json",
    }
    if provider.api_key is not None:
        place, value = provider.credential_header(provider.api_key)
        headers[place] = value
    headers.update((name.lower(), value) for name, value in provider.headers.items())
    headers["accept-encoding"] = "identity"
    return headers


def _line(name: str, value: str) -> str:
    if not _NAME.fullmatch(name) or _NO_VALUE.search(value) or name in _RESERVED:
        raise ValueError("a header that cannot be sent")
    return f"{name}: {value}"
