"""Which budgets there are, by the limits as they are written (floor 2, pure); how they stand the ledgers tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from proxy.ledger.records import BudgetState
from proxy.money import UTC_NAME, Budget, Period
from proxy.policy.calendar import Window, find_window
from proxy.policy.limits import Balance, Limits
from proxy.policy.scopes import parse_scope

PERSONAL = frozenset({"user", "tag"})
"""Kinds of scopes of which there is one for each that has come."""


class KeptBalance(NamedTuple):
    """One window that is kept."""

    scope: str
    window: Window
    balance: Balance


class OpenBudget(NamedTuple):
    """One budget in its window of now."""

    scope: str
    budget: Budget
    window: Window

    def state(self, balance: Balance) -> BudgetState:
        """Tell how it stands."""
        return BudgetState(
            scope=self.scope,
            period=self.budget.period.value,
            limit_nano_usd=self.budget.limit_nano_usd,
            posted_nano_usd=balance.posted_nano_usd,
            held_nano_usd=balance.held_nano_usd,
            resets_at_s=self.window.ends_s,
            is_soft=self.budget.is_soft,
        )


def list_open(places: Mapping[str, Limits], now_s: float) -> list[OpenBudget]:
    """List the budgets of places themselves, in the order of the places."""
    return [
        OpenBudget(place, budget, find_window(budget.period, now_s, budget.timezone))
        for place, limits in places.items()
        for budget in limits.budgets
    ]


def match_personal(
    places: Mapping[str, Limits], kept: Iterable[KeptBalance], *, owners: Mapping[str, str | None], now_s: float
) -> list[BudgetState]:
    """Tell how the budgets of users and tags stand, as far as they are kept.

    `owners` says of keys whose users theirs are: the tenant, else the key that made them; None: their own.
    """
    states: dict[tuple[str, Budget], BudgetState] = {}
    for one in kept:
        scope = parse_scope(one.scope)
        if scope.kind not in PERSONAL:
            continue
        for limits in _templates(places, scope.kind, scope.name, owner=scope.owner, owners=owners):
            for budget in limits.budgets:
                if find_window(budget.period, now_s, budget.timezone) == one.window:
                    states[one.scope, budget] = OpenBudget(one.scope, budget, one.window).state(one.balance)
    return list(states.values())


def state_all(
    places: Mapping[str, Limits],
    scopes: Iterable[str],
    find_balance: Callable[[str, Window], Balance],
    *,
    owners: Mapping[str, str | None],
    now_s: float,
) -> list[BudgetState]:
    """Tell how every budget stands in books that sum anew each time; `scopes` are all in which anything counts."""
    windows = {find_window(period, now_s, zone) for period in Period for zone in _list_zones(places)}
    kept = [KeptBalance(scope, window, find_balance(scope, window)) for scope in scopes for window in windows]
    states = [one.state(find_balance(one.scope, one.window)) for one in list_open(places, now_s)]
    return [*states, *match_personal(places, kept, owners=owners, now_s=now_s)]


def _list_zones(places: Mapping[str, Limits]) -> set[str]:
    """Give every time zone that some budget is in."""
    inner = [*places.values()]
    for limits in places.values():
        inner += [*(() if limits.users is None else (limits.users,)), *(of_tag for _, of_tag in limits.tags)]
    return {UTC_NAME, *(budget.timezone for limits in inner for budget in limits.budgets)}


def _templates(
    places: Mapping[str, Limits], kind: str, name: str, *, owner: str, owners: Mapping[str, str | None]
) -> Iterator[Limits]:
    """Give what places say of one user or tag of an owner."""
    keys = [key for key, over in owners.items() if (over or key) == owner]
    for place in ("global", f"tenant:{owner}", *(f"key:{key}" for key in keys)):
        limits = places.get(place)
        if limits is None:
            continue
        if kind == "user" and limits.users is not None:
            yield limits.users
        elif kind == "tag":
            yield from (of_tag for tag, of_tag in limits.tags if name.startswith(f"{tag}="))
