"""How limits stand inside the writer's transaction (floor 2, SQLite): read where they are decided upon, never kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from sqlite3 import Cursor

from proxy.ledger.admission import Charge
from proxy.ledger.rules import read_limits
from proxy.ledger.sql import STATEMENTS
from proxy.policy.calendar import Window
from proxy.policy.limits import RATE_SLOTS, Balance, Flow, Limits, Rate
from proxy.policy.scopes import parse_scope

FOREVER_S = 253_402_300_800
"""The end of a window that has none: the year 10000, so that every window can be compared with a moment."""
_STATEMENTS_KEPT_MAX = 128

_FIND_BALANCE = STATEMENTS["find_balance"]
_FIND_FLOW = STATEMENTS["find_flow"]
_CHARGE_RATE = STATEMENTS["charge_rate"]


class SqliteStanding:
    """The `Standing` of admission.py for one transaction."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def find_limits(self, places: Sequence[str]) -> Mapping[str, Limits]:
        """Give the limits of those places that have some."""
        found = self._cursor.execute(fill_places("find_limits", len(places)), places).fetchall()
        if not found:
            return {}
        limits = {place: read_limits(rules, prepaid) for place, rules, prepaid in found}
        return {place: limits[place] for place in places if place in limits}

    def find_balance(self, scope: str, window: Window) -> Balance:
        """Read a window's balance, made of the attempts that count in it when nobody has asked for it yet."""
        ends_s = window.ends_s or FOREVER_S
        place = (scope, ends_s, window.starts_s)
        found = self._cursor.execute(_FIND_BALANCE, place).fetchone()
        if found is None:
            condition, values = condition_of(scope)
            opening = STATEMENTS["open_balance"].format(condition=condition)
            self._cursor.execute(opening, (*place, window.starts_s, ends_s, *values))
            found = self._cursor.execute(_FIND_BALANCE, place).fetchone()
        return Balance(*found)

    def find_flow(self, scope: str, rate: Rate, at_s: float) -> Flow:
        """Sum what a rate has let through."""
        since = rate.slot_of(at_s) - RATE_SLOTS
        return Flow(*self._cursor.execute(_FIND_FLOW, (scope, rate.window_s, since)).fetchone())

    def count_open(self, scope: str) -> int:
        """Count a scope's attempts under way."""
        condition, values = condition_of(scope)
        (count,) = self._cursor.execute(STATEMENTS["count_open"].format(condition=condition), values).fetchone()
        assert isinstance(count, int)
        return count


def charge_rates(cursor: Cursor, charges: Iterable[Charge]) -> None:
    """Count what was let in."""
    for charge in charges:
        cursor.execute(_CHARGE_RATE, charge)


def correct_rates(cursor: Cursor, scopes: Sequence[str], at_s: float, difference: int) -> None:
    """Tell the rates that hold for some scopes how many tokens an attempt of that moment had in truth."""
    windows = cursor.execute(fill_places("list_windows", len(scopes)), scopes).fetchall()
    for scope, window_s in windows:
        slot = int(at_s * RATE_SLOTS // window_s)
        cursor.execute(STATEMENTS["correct_rate"], (difference, scope, window_s, slot))


def condition_of(scope: str) -> tuple[str, tuple[str, ...]]:
    """Say in SQL whose attempts count in a scope, with the parameters of it."""
    kind, name, owner = parse_scope(scope)
    if kind == "global":
        return STATEMENTS["scope_global"], ()
    if kind == "user":
        return STATEMENTS["scope_user"], (name, owner)
    if kind == "key":
        return STATEMENTS["scope_key"], (name, name)
    return STATEMENTS[f"scope_{kind}"], (scope if kind == "tag" else name,)


@lru_cache(maxsize=_STATEMENTS_KEPT_MAX)
def fill_places(name: str, count: int) -> str:
    """Give a statement with as many parameters as it needs for its places."""
    return STATEMENTS[name].format(places=", ".join("?" * count))
