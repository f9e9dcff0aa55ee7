"""Who asks, and what they may ask for (floor 1b, pure). `edge.auth` makes a `Principal` of a client key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from proxy.routing.caching import CacheRule
from proxy.routing.conditions import tighten

if TYPE_CHECKING:
    from proxy.routing.table import Table

OUTPUT_CAPS = frozenset({"max_tokens", "max_completion_tokens"})
_ONE_OPTION = (OUTPUT_CAPS, frozenset({"reasoning", "reasoning_effort"}))


@dataclass(frozen=True, slots=True)
class Principal:
    """One client key as a request sees it."""

    name: str
    tenant: str | None = None
    models: tuple[str, ...] | None = None
    """Aliases and globs it may ask for; None is all."""
    default_model: str | None = None
    """The key's, else its tenant's."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """The key's over its tenant's."""
    has_budget: bool = False
    tenant_models: tuple[str, ...] | None = None
    """What its tenant lets it ask for: both must."""
    max_cost_nano_usd: int | None = None
    """Ceiling of one request: the lower of the key's and its tenant's."""
    revision: int = 1
    """Of the key's record: an admission under an older one is refused."""
    parent: str | None = None
    """The key that made its key: it pays as well."""
    maker_models: tuple[str, ...] | None = None
    """What that key may ask for: its own may ask for no more."""
    view: Table | None = field(default=None, compare=False, repr=False)
    """The table as its tenant sees it, None when that is the table in force."""
    cache: CacheRule | None = None
    """What routes.yaml says of the key."""

    @property
    def lists(self) -> tuple[tuple[str, ...], ...]:
        """Give the lists of what it may ask for, each of which must name it; none: all."""
        return tuple(names for names in (self.models, self.tenant_models, self.maker_models) if names is not None)

    def may_ask(self, model: str) -> bool:
        """Tell whether it may ask for this name, suffix and all, exactly as written."""
        return all(_allows(names, model) for names in (self.models, self.tenant_models, self.maker_models))


def _allows(names: tuple[str, ...] | None, model: str) -> bool:
    return names is None or any(matches(pattern, model) for pattern in names)


def lay_over(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Let the fields of `upper` win over defaults; what goes by two names is one option under either.

    Conditions on providers are limits and not options: they add up.
    """
    said = [names for names in _ONE_OPTION if not names.isdisjoint(upper)]
    kept = {name: value for name, value in lower.items() if not any(name in names for names in said)}
    laid = {**kept, **upper}
    ours, theirs = kept.get("provider"), upper.get("provider")
    if isinstance(ours, dict) and (theirs is None or isinstance(theirs, dict)):
        laid["provider"] = tighten(ours, theirs or {})
    return laid


def asked_output_tokens(body: Mapping[str, Any]) -> int | None:
    """Give the output cap the client (or a default param) asks for; of two the higher: a model may heed either."""
    caps = [cap for name in OUTPUT_CAPS if isinstance(cap := body.get(name), int) and cap >= 1]
    return max(caps, default=None)


def matches(pattern: str, name: str) -> bool:
    """Match a name against a pattern with at most one `*`; linear, so no pattern can be an attack."""
    return fill(pattern, name) is not None


def fill(pattern: str, name: str) -> str | None:
    """Give what the `*` of `pattern` stands for in `name`, "" for a pattern without one, None when they differ."""
    head, star, tail = pattern.partition("*")
    if not star:
        return "" if pattern == name else None
    if len(name) < len(head) + len(tail) or not name.startswith(head) or not name.endswith(tail):
        return None
    return name[len(head) : len(name) - len(tail)]


def covers(pattern: str, other: str) -> bool:
    """Tell whether every name that `other` matches is one that `pattern` matches; each has at most one `*`."""
    if "*" not in other or "*" not in pattern:
        return matches(pattern, other) if "*" not in other else False
    head, _, tail = pattern.partition("*")
    other_head, _, other_tail = other.partition("*")
    return other_head.startswith(head) and other_tail.endswith(tail)
