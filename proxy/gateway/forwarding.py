"""The few headers of a client's that a provider is told too (part of the gateway, floor 4; openrouter.md 1.8).

Never a credential, a cookie or an address: what is not named here stays here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from proxy.codecs.wire import Call
from proxy.routing.table import Dialect

VALUE_CHARS_MAX = 1_000
_BETA = "anthropic-beta"
_OPENROUTER_BETA = "x-anthropic-beta"
_METADATA = ("x-openrouter-metadata", "x-openrouter-experimental-metadata")
"""Its name, and the one it had before."""
_TO_OPENROUTER = ("x-session-id", *_METADATA, _OPENROUTER_BETA)
FORWARDED = frozenset({name.encode() for name in (*_TO_OPENROUTER, _BETA)})
"""Names as they stand in a request."""


def forward(call: Call, headers: Mapping[str, str], dialect: Dialect) -> Call:
    """Add to a call what its provider understands of the client's headers."""
    added: dict[str, str] = {}
    if dialect is Dialect.OPENROUTER:
        added = {name: headers[name] for name in _TO_OPENROUTER if name in headers}
    elif dialect is Dialect.ANTHROPIC:
        betas = [call.headers.get(_BETA), headers.get(_BETA), headers.get(_OPENROUTER_BETA)]
        if any(betas[1:]):
            added = {_BETA: ",".join(beta for beta in betas if beta)}
    return replace(call, headers={**call.headers, **added}) if added else call


def wants_metadata(headers: Mapping[str, str]) -> bool:
    """Tell whether the client asked for `openrouter_metadata` in the reply."""
    return any(headers.get(name, "").strip().lower() in ("enabled", "true") for name in _METADATA if headers)
