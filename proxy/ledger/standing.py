"""How limits stand inside the writer's transaction (floor 2, SQLite): read where they are decided upon, never kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from sqlite3 import Cursor

from proxy.ledger.admission import Charge, Reserve
from proxy.ledger.rules import read_limits
from proxy.ledger.sql import STATEMENTS
from proxy.policy.calendar import Window
from proxy.policy.limits import RATE_SLOTS, Balance, Flow, Rate
from proxy.policy.scopes import Rule, Subject, parse_scope, places_of, rules_of

FOREVER_S = 253_402_300_800
"""The end of a window that has none: the year 10000, so that every window can be compared with a moment."""
_STATEMENTS_KEPT_MAX = 128
_SUBJECTS_KEPT_MAX = 4_096
_SCOPES_KEPT_MAX = 16_384

_FIND_BALANCE = STATEMENTS["find_balance"]
_FIND_BALANCES_VERSION = STATEMENTS["find_balances_version"]
_IS_KEPT = STATEMENTS["is_kept"]
_FIND_FLOW = STATEMENTS["find_flow"]
_CHARGE_RATE = STATEMENTS["charge_rate"]
_CORRECT_RATE = STATEMENTS["correct_rate"]


class Rules:
    """What holds for whom, remembered as long as no limit changes anywhere: that is asked in every transaction."""

    def __init__(self) -> None:
        self._version: int | None = None
        self._known: dict[Subject, Sequence[Rule]] = {}

    def find(self, cursor: Cursor, subject: Subject, version: int) -> Sequence[Rule]:
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

    def select(self, cursor: Cursor, scopes: Iterable[str]) -> list[str]:
        """Give those scopes that have some."""
        (version,) = cursor.execute(_FIND_BALANCES_VERSION).fetchone()
        if version != self._version or len(self._known) >= _SCOPES_KEPT_MAX:
            self._version = version
            self._known.clear()
        known, selected = self._known, []
        for scope in scopes:
            is_kept = known.get(scope)
            if is_kept is None:
                is_kept = known[scope] = cursor.execute(_IS_KEPT, (scope,)).fetchone() is not None
            if is_kept:
                selected.append(scope)
        return selected


class SqliteStanding:
    """The `Standing` of admission.py for one transaction."""

    __slots__ = ("_cursor", "_rules", "_version")

    def __init__(self, cursor: Cursor, rules: Rules, version: int) -> None:
        self._cursor = cursor
        self._rules = rules
        self._version = version

    def find_rules(self, subject: Subject) -> Sequence[Rule]:
        """Give every rule that holds for an attempt."""
        return self._rules.find(self._cursor, subject, self._version)

    def find_balance(self, scope: str, window: Window) -> Balance:
        """Read a window's balance."""
        return find_balance(self._cursor, scope, window)

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


def find_balance(cursor: Cursor, scope: str, window: Window) -> Balance:
    """Read a window's balance, made of the attempts that count in it when nobody has asked for it yet."""
    ends_s = window.ends_s or FOREVER_S
    place = (scope, ends_s, window.starts_s)
    found = cursor.execute(_FIND_BALANCE, place).fetchone()
    if found is None:
        condition, values = condition_of(scope)
        opening = STATEMENTS["open_balance"].format(condition=condition)
        cursor.execute(opening, (*place, window.starts_s, ends_s, *values))
        found = cursor.execute(_FIND_BALANCE, place).fetchone()
    return Balance(*found)


def charge_rates(cursor: Cursor, charges: Iterable[Charge]) -> None:
    """Count what was let in."""
    for charge in charges:
        cursor.execute(_CHARGE_RATE, charge)


def correct_rates(cursor: Cursor, reserve: Reserve, tokens: int) -> None:
    """Tell the rates of tokens how many an attempt had in truth."""
    difference = tokens - reserve.tokens
    if difference:
        for scope, window_s, slot in reserve.slots:
            cursor.execute(_CORRECT_RATE, (difference, scope, window_s, slot))


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
