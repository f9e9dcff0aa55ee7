"""What routes.yaml says of the response cache (part of `files`, floor 2)."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.files.schema import CacheOptions
from proxy.routing.caching import CacheRule, Caching


def build_cache(options: CacheOptions | None) -> CacheRule | None:
    """Turn a `cache:` into a rule; None when nothing is said."""
    return None if options is None else CacheRule(options.enabled, options.ttl)


def build_caching(top: CacheOptions | None, default: CacheOptions | None, rules: Iterable[CacheRule | None]) -> Caching:
    """Join the `cache:` of the whole file and that of `defaults`; `rules` are those of its models and keys."""
    rule = build_cache(default)
    return Caching(
        is_allowed=top is None or top.enabled,
        is_used=any(said is not None and said.is_on for said in (rule, *rules)),
        ttl_s=None if top is None else top.ttl,
        default=rule,
    )


def note_idle(caching: Caching, *, is_said: bool) -> list[str]:
    """Say that a `cache:` of the whole file switches nothing on by itself."""
    if not is_said or not caching.is_allowed or caching.is_used:
        return []
    return ["cache: no model, key or default switches it on; it serves requests that ask for it (x-turnpike-cache: on)"]
