"""Which rules hold and which scopes are kept (floor 2, SQLite): remembered as long as a version number says so."""

from __future__ import annotations

from functools import lru_cache
from sqlite3 import Cursor

from proxy.ledger.rules import read_limits
from proxy.ledger.sql import STATEMENTS
from proxy.policy.calendar import Window
from proxy.policy.limits import Balance
from proxy.policy.scopes import Rules, Subject, accounts_of, parse_scope, places_of, rules_of

FOREVER_S = 253_402_300_800
"""The end of a window that has none: the year 10000, so that every window can be compared with a moment."""
_STATEMENTS_KEPT_MAX = 128
_SUBJECTS_KEPT_MAX = 4_096
_SCOPES_KEPT_MAX = 16_384

_FIND_BALANCE = STATEMENTS["find_balance"]
_IS_KEPT = STATEMENTS["is_kept"]


class KnownRules:
    """What holds for whom, remembered as long as no limit changes anywhere: that is asked in every transaction."""

    def __init__(self) -> None:
        self._version: int | None = None
        self._known: dict[Subject, Rules] = {}

    def find(self, cursor: Cursor, subject: Subject, version: int) -> Rules:
        """Give every rule that holds for an attempt; `version` is that of the limits in this transaction."""
        if version != self._version or len(self._known) >= _SUBJECTS_KEPT_MAX:
            self._version = version
            self._known.clear()
        rules = self._known.get(subject)
        if rules is None:
            places = places_of(subject)
            written = cursor.execute(fill_places("find_limits", len(places)), places).fetchall()
            limits = {place: read_limits(rules, prepaid) for place, rules, prepaid in written}
            found = {place: limits[place] for place in places if place in limits}
            rules = self._known[subject] = rules_of(subject, found)
        return rules


class Kept:
    """Which scopes have windows that are kept, remembered as long as no new one comes: the others need no move."""

    def __init__(self) -> None:
        self._version: int | None = None
        self._known: dict[str, bool] = {}
        self._selected: dict[Subject, list[str]] = {}

    def refresh(self, version: int) -> None:
        """Forget everything when there may be new ones; `version` is that of the balances in this transaction."""
        if version != self._version or max(len(self._known), len(self._selected)) >= _SCOPES_KEPT_MAX:
            self._version = version
            self._known.clear()
            self._selected.clear()

    def learn(self, scope: str) -> None:
        """Take note of a window that this transaction has opened."""
        self._known[scope] = True
        self._selected.clear()

    def select(self, cursor: Cursor, subject: Subject) -> list[str]:
        """Give those scopes of an attempt that have some."""
        found = self._selected.get(subject)
        if found is not None:
            return found
        known, selected = self._known, []
        for scope in accounts_of(subject):
            is_kept = known.get(scope)
            if is_kept is None:
                is_kept = known[scope] = cursor.execute(_IS_KEPT, (scope,)).fetchone() is not None
            if is_kept:
                selected.append(scope)
        self._selected[subject] = selected
        return selected


def find_balance(cursor: Cursor, scope: str, window: Window) -> Balance:
    """Read a window's balance; from the first time on that anybody asks for it, every attempt moves it."""
    ends_s = window.ends_s or FOREVER_S
    place = (scope, ends_s, window.starts_s)
    found = cursor.execute(_FIND_BALANCE, place).fetchone()
    if found is None:
        opening, values = fill_window("open_balance", scope, window)
        cursor.execute(opening, (*place, *values))
        found = cursor.execute(_FIND_BALANCE, place).fetchone()
    return Balance(*found)


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


def open_condition_of(scope: str) -> tuple[str, tuple[str, ...]]:
    """Say the same of attempts under way."""
    return (STATEMENTS["scope_tag_open"], (scope,)) if parse_scope(scope).kind == "tag" else condition_of(scope)


def fill_window(name: str, scope: str, window: Window) -> tuple[str, tuple[str | int, ...]]:
    """Give a statement that sums a scope's window, and its parameters: those of rolled-up days, then of attempts."""
    condition, values = condition_of(scope)
    span = (window.starts_s, window.ends_s or FOREVER_S)
    within: tuple[str | int, ...] = values
    if parse_scope(scope).kind == "tag":
        condition, within = STATEMENTS["scope_tag_within"], (scope, *span)
    statement = STATEMENTS[name].format(condition=condition, day_condition=day_condition_of(scope))
    return statement, (*span, *values, *span, *within)


def day_condition_of(scope: str) -> str:
    """Say the same of days that have been rolled up, with the same parameters."""
    return STATEMENTS["day_scope_tag"] if parse_scope(scope).kind == "tag" else condition_of(scope)[0]


@lru_cache(maxsize=_STATEMENTS_KEPT_MAX)
def fill_places(name: str, count: int) -> str:
    """Give a statement with as many parameters as it needs for its places."""
    return STATEMENTS[name].format(places=", ".join("?" * count))
