"""What a request counts towards (floor 1a, pure).

A *scope* is one account that balances and rates are kept of: `key:mobile`, `user:acme/42`, `global`. A *place* is where
limits are written: a key, a tenant, a model, a provider, the whole gateway. The limits of a place hold for the scope of
the same name; what it says of users and tags holds for the scope of each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote

from proxy.money import Budget
from proxy.policy.limits import Limits, Rate

GLOBAL = "global"
PAYER_GATEWAY = "gateway"
PAYER_TENANT = "tenant"
"""The tenant's own credential: its money, so no limit of the operator's account counts it."""


_SUBJECTS_KEPT_MAX = 4_096
"""Of which the names are remembered: most requests differ from another in nothing of it."""
_UPSTREAM = ("provider:", "target:", "upstream:")
_PERSONAL = frozenset({"user", "tag"})
_KINDS = frozenset({"key", "tenant", "model", "provider", "target", "upstream", *_PERSONAL})


class Subject(NamedTuple):
    """One attempt, as limits see it."""

    key_name: str
    tenant: str | None
    user: str | None
    """The request's `user`."""
    tags: tuple[tuple[str, str], ...]
    """Names and values, sorted by name."""
    alias: str
    """The key of `models` that answers to what was asked for."""
    provider: str
    model: str
    upstream_key: str | None = None
    """Which credential of a provider's pool."""
    payer: str = PAYER_GATEWAY
    parent: str | None = None
    """The key that made the key: it pays as well."""
    patterns: tuple[str, ...] = ()
    """Of the provider's models, those with a limit of their own that this one is among (`*:free`)."""


class Rules(NamedTuple):
    """Everything that holds for an attempt, by kind; each with the scope it holds for."""

    budgets: tuple[tuple[str, Budget], ...] = ()
    rates: tuple[tuple[str, Rate, float], ...] = ()
    """With how long a request may wait for it, in seconds."""
    parallel: tuple[tuple[str, int, float], ...] = ()
    """The same of attempts under way."""

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing holds."""
        return not (self.budgets or self.rates or self.parallel)


class Scope(NamedTuple):
    """A scope in its parts."""

    kind: str
    name: str
    owner: str = ""
    """Whose user or tag: the tenant, else the key that made the key, else the key."""


@lru_cache(maxsize=_SUBJECTS_KEPT_MAX)
def places_of(subject: Subject) -> tuple[str, ...]:
    """Name the places whose limits hold for an attempt, the key's first."""
    places = [f"key:{subject.key_name}", f"model:{subject.alias}"]
    if subject.parent is not None:
        places.append(f"key:{subject.parent}")
    if subject.tenant is not None:
        places.append(f"tenant:{subject.tenant}")
    if subject.payer == PAYER_GATEWAY:
        provider = subject.provider
        places += (GLOBAL, f"provider:{provider}", f"target:{provider}/{subject.model}")
        places += (f"target:{provider}/{pattern}" for pattern in subject.patterns)
        if subject.upstream_key is not None:
            places.append(f"upstream:{provider}/{subject.upstream_key}")
    return tuple(places)


@lru_cache(maxsize=_SUBJECTS_KEPT_MAX)
def accounts_of(subject: Subject) -> tuple[str, ...]:
    """Name the scopes in which an attempt's money counts."""
    scopes = [f"key:{subject.key_name}", f"model:{subject.alias}"]
    if subject.parent is not None:
        scopes.append(f"key:{subject.parent}")
    if subject.payer == PAYER_GATEWAY:
        scopes += (f"provider:{subject.provider}", GLOBAL)
    if subject.tenant is not None:
        scopes.append(f"tenant:{subject.tenant}")
    if subject.user is not None:
        scopes.append(_user_scope(subject))
    if subject.tags:
        scopes += tag_scopes(subject)
    return tuple(scopes)


@lru_cache(maxsize=_SUBJECTS_KEPT_MAX)
def scopes_of(subject: Subject) -> frozenset[str]:
    """Name every scope that an attempt counts in, of money and of calls."""
    return frozenset((*accounts_of(subject), *places_of(subject)))


def rules_of(subject: Subject, found: Mapping[str, Limits]) -> Rules:
    """Give every rule that holds, of the limits found at an attempt's places."""
    held: list[tuple[str, Limits]] = []
    for place, limits in found.items():
        held.append((place, limits))
        if limits.users is not None and subject.user is not None:
            held.append((_user_scope(subject), limits.users))
        if limits.tags and subject.tags:
            of_tag = dict(limits.tags)
            given = [(name, value) for name, value in subject.tags if name in of_tag]
            held += ((_tag_scope(subject, name, value), of_tag[name]) for name, value in given)
    return Rules(
        budgets=tuple((scope, budget) for scope, limits in held for budget in limits.budgets),
        rates=tuple((scope, rate, limits.wait_s) for scope, limits in held for rate in limits.rates),
        parallel=tuple(
            (scope, limits.parallel, limits.wait_s) for scope, limits in held if limits.parallel is not None
        ),
    )


def join_rules(several: Sequence[Rules]) -> Rules:
    """Give the rules of several attempts that are asked for together, each once."""
    return Rules(
        tuple(dict.fromkeys(budget for rules in several for budget in rules.budgets)),
        tuple(dict.fromkeys(rate for rules in several for rate in rules.rates)),
        tuple(dict.fromkeys(limit for rules in several for limit in rules.parallel)),
    )


def tag_scopes(subject: Subject) -> list[str]:
    """Name the scopes of an attempt's tags alone."""
    return [_tag_scope(subject, name, value) for name, value in subject.tags]


def is_upstream(scope: str) -> bool:
    """Tell whether a scope counts upstream calls, of which a request may make several."""
    return scope.startswith(_UPSTREAM)


def parse_scope(text: str) -> Scope:
    """Take a scope apart; ValueError for a text that is none."""
    if text == GLOBAL:
        return Scope(GLOBAL, "")
    kind, colon, name = text.partition(":")
    if not colon or kind not in _KINDS:
        raise ValueError(f"{text!r} is no scope")
    if kind not in _PERSONAL:
        return Scope(kind, name)
    owner, slash, rest = name.partition("/")
    if not slash:
        raise ValueError(f"{text!r} names nobody's {kind}")
    return Scope(kind, rest, unquote(owner))


def _owner(subject: Subject) -> str:
    return quote(next(name for name in (subject.tenant, subject.parent, subject.key_name) if name is not None), safe="")


def _user_scope(subject: Subject) -> str:
    return f"user:{_owner(subject)}/{subject.user}"


def _tag_scope(subject: Subject, name: str, value: str) -> str:
    return f"tag:{_owner(subject)}/{name}={value}"
