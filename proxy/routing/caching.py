"""Whether an answer may be kept and given again (floor 1b, pure): what routes.yaml and the request say of it.

The response cache is off until somebody asks for it. The nearest word counts: the request's, the key's, the model's,
that of `defaults`; only the operator's `cache: false` at the top of the file is beyond all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

PROVIDER = "cache"
"""Stands in the books where a provider would, for an answer that was there already; no provider may have the name."""
DEFAULT_TTL_S = 600.0
"""How long an answer is kept when nobody says."""


@dataclass(frozen=True, slots=True)
class CacheRule:
    """A `cache:` of routes.yaml on a key, a model or `defaults`."""

    is_on: bool = True
    ttl_s: float | None = None
    """How long an answer may be given again; None: whatever is said further away."""


@dataclass(frozen=True, slots=True)
class Caching:
    """What a whole routes.yaml says of the response cache."""

    is_allowed: bool = True
    """False: `cache: false` at the top, and nobody's wish counts."""
    is_used: bool = False
    """Some key or model, or `defaults`, switches it on: no request can be passed by without a look."""
    ttl_s: float | None = None
    default: CacheRule | None = None
    """That of `defaults`."""


class Wish(NamedTuple):
    """What a request says of itself."""

    cache: bool | None = None
    """None: nothing."""
    idempotency_key: str | None = None


NO_WISH = Wish()


def find_ttl_s(caching: Caching, *, asked: bool | None, key: CacheRule | None, route: CacheRule | None) -> float | None:
    """Tell for how long the answer to a request may be given again, seconds; None: it may not."""
    rules = [rule for rule in (key, route, caching.default) if rule is not None]
    is_on = (bool(rules) and rules[0].is_on) if asked is None else asked
    if not (is_on and caching.is_allowed):
        return None
    said = [rule.ttl_s for rule in rules if rule.ttl_s is not None]
    return said[0] if said else (caching.ttl_s or DEFAULT_TTL_S)
