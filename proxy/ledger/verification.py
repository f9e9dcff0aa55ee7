"""Does the ledger add up? Everything in it that follows from something else is worked out again (floor 2, SQLite).

Balances are what their attempts come to; an attempt's columns are those of its state; a request's attempts are numbered
without gaps and the last one says so. All of it is asked of one moment, beside whoever writes, and nothing is written.

What stands on damaged pages, or under another schema, is not looked at: the answer would mean nothing.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any

from proxy.ledger.budgeting import PERSONAL
from proxy.ledger.owners import seize_dead
from proxy.ledger.records import AttemptState
from proxy.ledger.schema import explain
from proxy.ledger.snapshot import open_snapshot
from proxy.ledger.sql import load_migrations, parse_blocks
from proxy.ledger.standing import FOREVER_S, condition_of, day_condition_of
from proxy.policy.calendar import QUARTER_S, Window
from proxy.policy.limits import Balance
from proxy.policy.scopes import GLOBAL, parse_scope

FINDINGS_MAX = 100
"""Findings of one kind that are told; what is beyond is only mentioned."""
STATEMENTS = parse_blocks(resources.files("proxy.ledger").joinpath("verification.sql").read_text("utf-8"))

_WINDOW_S_MAX = 31 * 86_400 + 7_200
"""The longest month, and the time by which a clock that is put back in it makes it longer."""
_LENGTHS_S = ((3_600, 3_600), (22 * 3_600, 26 * 3_600), (166 * 3_600, 170 * 3_600), (670 * 3_600, _WINDOW_S_MAX))
"""Shortest and longest hour, day, week and month; a clock may be put forward or back by up to two hours."""
_DIMENSIONS = MappingProxyType(
    {
        "key": ("key_name", "1"),
        "tenant": ("tenant", "tenant IS NOT NULL"),
        "model": ("alias", "alias IS NOT NULL"),
        "provider": ("provider", "payer = 'gateway'"),
        GLOBAL: ("''", "payer = 'gateway'"),
    }
)
"""Kinds with few scopes: what names one, and whose attempts count."""
_HEADING = "***"
"""Begins the line in which SQLite says which database its verdicts are about."""
_PRIMARY_CODE = 0xFF
"""The part of an error's code that says its kind; the rest says more."""


class Check(StrEnum):
    """What a finding is about."""

    PAGES = "pages"
    SCHEMA = "schema"
    BALANCE = "balance"
    SCOPE = "scope"
    WINDOW = "window"
    STATE = "state"
    HOLD = "hold"
    NUMBERS = "numbers"
    LAST = "last"
    DAY = "day"
    POSTINGS = "postings"
    CORRECTION = "correction"
    LOOKUP = "lookup"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not add up; every amount in the texts is in nano-USD."""

    check: Check
    expected: str
    found: str
    scope: str | None = None
    """Of a balance, with its window."""
    window: Window | None = None
    request_id: str | None = None
    attempt: int | None = None
    """None: the finding is about the whole request."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """Open holds of a process that no longer lives: no mistake, the next process that looks posts them in full."""

    owner: str
    attempts: int
    held_nano_usd: int


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found at one moment."""

    schema: int
    attempts: int = 0
    """As the other two: 0 when damaged pages or another schema kept them from being counted."""
    requests: int = 0
    balances: int = 0
    findings: tuple[Finding, ...] = ()
    is_cut: bool = False
    """There are more findings of some kind than `FINDINGS_MAX`."""
    orphans: tuple[Orphan, ...] = ()

    @property
    def is_good(self) -> bool:
        """Tell whether everything adds up."""
        return not self.findings


Row = tuple[Any, ...]
Find = Callable[[sqlite3.Connection], Iterator[Finding]]


def verify(path: Path, *, owners: Path) -> Verification:
    """Work out anew what a ledger's file says; `owners` is the folder where living processes have their locks.

    Raises LedgerUnavailable when the file is not there, cannot be read, is newer than this version, or is no ledger.
    """
    try:
        with open_snapshot(path) as (connection, schema):
            return _verify(connection, schema, owners)
    except (OSError, sqlite3.Error) as error:
        raise explain(error) from error


def _verify(connection: sqlite3.Connection, schema: int, owners: Path) -> Verification:
    newest = load_migrations()[-1].version
    if 0 < schema < newest:
        return Verification(schema, findings=(_tell_old_schema(schema, newest),))
    findings, is_cut = _take(_find_schema_faults, connection)
    if findings:
        return Verification(schema, findings=findings, is_cut=is_cut)
    # Before what takes long: an owner whose holds we see as open may end meanwhile, and would be taken for dead.
    orphans = _find_orphans(connection, owners)
    findings, is_cut = _take(_find_page_faults, connection)
    if findings:
        return Verification(schema, findings=findings, is_cut=is_cut, orphans=orphans)
    attempts, requests, balances = connection.execute(STATEMENTS["count_books"]).fetchone()
    taken = [_take(find, connection) for find in _CHECKS]
    return Verification(
        schema=schema,
        attempts=attempts,
        requests=requests,
        balances=balances,
        findings=tuple(finding for findings, _ in taken for finding in findings),
        is_cut=any(is_cut for _, is_cut in taken),
        orphans=orphans,
    )


def _take(find: Find, connection: sqlite3.Connection) -> tuple[tuple[Finding, ...], bool]:
    """Give what one check finds, and whether there is more."""
    found = tuple(islice(find(connection), FINDINGS_MAX + 1))
    return found[:FINDINGS_MAX], len(found) > FINDINGS_MAX


def _tell_old_schema(schema: int, newest: int) -> Finding:
    """Say of books from before an upgrade that they are no more than that: nothing of them need be damaged."""
    found = f"schema {schema}, of an older release, which can verify it; the start of a server brings it up to date"
    return Finding(Check.SCHEMA, f"schema {newest}", found)


def _find_orphans(connection: sqlite3.Connection, owners: Path) -> tuple[Orphan, ...]:
    pending = [Orphan(*row) for row in connection.execute(STATEMENTS["sum_pending"])]
    with seize_dead(owners, [orphan.owner for orphan in pending]) as dead:
        names = {owner.id for owner in dead}
    return tuple(orphan for orphan in pending if orphan.owner in names)


def _ask(connection: sqlite3.Connection, name: str) -> Iterator[Row]:
    """Ask one of the blocks that find something."""
    yield from connection.execute(STATEMENTS[name], (FINDINGS_MAX + 1,))


def _find_page_faults(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Tell SQLite's verdicts line by line, and that it gave up when it did: that is a verdict too."""
    try:
        for (verdict,) in _ask(connection, "find_page_faults"):
            for line in verdict.splitlines():
                if line != "ok" and not line.startswith(_HEADING):
                    yield Finding(Check.PAGES, expected="ok", found=line)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_CORRUPT:
            raise
        yield Finding(Check.PAGES, expected="ok", found=str(error))


def _find_schema_faults(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Compare tables and indexes with what the migrations make in an empty file."""
    found = set(connection.execute(STATEMENTS["list_objects"]))
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as empty:
        for migration in load_migrations():
            for statement in migration.statements:
                empty.execute(statement)
        wanted = set(empty.execute(STATEMENTS["list_objects"]))
    for kind, name in sorted(wanted ^ found):
        is_there = (kind, name) in found
        yield Finding(
            Check.SCHEMA,
            expected=f"no {kind} {name}" if is_there else f"{kind} {name}",
            found="one" if is_there else "none",
        )


def _find_false_windows(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Scopes that nobody counts in, and windows that no period has."""
    for scope, starts_s, ends_s in connection.execute(STATEMENTS["list_balances"]):
        window = _read_window(starts_s, ends_s)
        if _kind_of(scope) is None:
            yield Finding(Check.SCOPE, "key:NAME, global and so on", scope, scope=scope, window=window)
        if not _is_of_calendar(window):
            found = f"{starts_s} to {ends_s} (seconds since the epoch)"
            yield Finding(Check.WINDOW, "an hour, day, week, month or all time", found, scope=scope, window=window)


def _find_false_balances(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Balances that are not what their scope's attempts come to."""
    scopes: dict[str, list[str]] = {}
    for scope in dict.fromkeys(scope for scope, _, _ in connection.execute(STATEMENTS["list_balances"])):
        scopes.setdefault(_kind_of(scope) or "", []).append(scope)
    makers = {f"key:{name}" for (name,) in connection.execute(STATEMENTS["list_makers"])}
    # A key that made others has their attempts in its account too: no single column says so.
    yield from _compare_singly(connection, [scope for scope in scopes.get("key", []) if scope in makers])
    scopes["key"] = [scope for scope in scopes.get("key", []) if scope not in makers]
    for kind, of_kind in scopes.items():
        if kind in _DIMENSIONS:
            yield from _compare_kind(connection, kind, of_kind)
        elif kind:
            yield from _compare_singly(connection, of_kind)


def _compare_kind(connection: sqlite3.Connection, kind: str, scopes: Iterable[str]) -> Iterator[Finding]:
    """Compare all scopes of a kind in one walk over the attempts."""
    left = dict.fromkeys(scopes)
    dimension, condition = _DIMENSIONS[kind]
    quarters = connection.execute(STATEMENTS["sum_quarters"].format(dimension=dimension, condition=condition))
    for name, of_scope in groupby(quarters, key=itemgetter(0)):
        scope = GLOBAL if kind == GLOBAL else f"{kind}:{name}"
        if scope in left:
            del left[scope]
            yield from _compare_balances(connection, scope, _Sums(of_scope))
    for scope in left:
        yield from _compare_balances(connection, scope, _Sums(()))


def _compare_singly(connection: sqlite3.Connection, scopes: Iterable[str]) -> Iterator[Finding]:
    """Compare scopes of which there may be very many, each with few attempts: an index finds those."""
    for scope in scopes:
        condition, values = condition_of(scope)
        statement = STATEMENTS["sum_quarters_of_scope"].format(
            condition=condition, day_condition=day_condition_of(scope)
        )
        yield from _compare_balances(connection, scope, _Sums(connection.execute(statement, values * 2)))


def _compare_balances(connection: sqlite3.Connection, scope: str, sums: _Sums) -> Iterator[Finding]:
    for starts_s, ends_s, posted, held in connection.execute(STATEMENTS["list_balances_of_scope"], (scope,)):
        window = _read_window(starts_s, ends_s)
        expected, found = sums.find(starts_s, ends_s), Balance(posted, held)
        # One that is no window is told as that; its sums would be those of another.
        if expected != found and _is_of_calendar(window):
            texts = _show_balance(expected), _show_balance(found)
            yield Finding(Check.BALANCE, *texts, scope=scope, window=window)


def _kind_of(scope: str) -> str | None:
    """Tell what kind of scope counts money under this name, None when none does."""
    try:
        kind = parse_scope(scope).kind
    except ValueError:
        return None
    return kind if kind in _DIMENSIONS or kind in PERSONAL else None


def _find_false_states(connection: sqlite3.Connection) -> Iterator[Finding]:
    for request_id, number, state, *columns in _ask(connection, "find_false_states"):
        ended_at_s, cost, source = (_show(value) for value in columns)
        found = f"{state}, ended {ended_at_s}, cost {cost}, source {source}"
        yield Finding(Check.STATE, _STATES.get(state, "a known state"), found, request_id=request_id, attempt=number)


def _find_false_holds(connection: sqlite3.Connection) -> Iterator[Finding]:
    for request_id, number, is_priced, hold, cost, is_overrun in _ask(connection, "find_false_holds"):
        if hold and not is_priced:
            expected, found = "nothing held without a price", f"hold {hold}"
        else:
            expected = "marked as overrun exactly when the cost is above the hold"
            found = f"hold {hold}, cost {_show(cost)}, {'marked' if is_overrun else 'not marked'}"
        yield Finding(Check.HOLD, expected, found, request_id=request_id, attempt=number)


def _find_false_numbers(connection: sqlite3.Connection) -> Iterator[Finding]:
    for request_id, numbers in _ask(connection, "find_false_numbers"):
        yield Finding(Check.NUMBERS, "attempts 1, 2, 3 and so on", f"attempts {numbers}", request_id=request_id)


def _find_false_lasts(connection: sqlite3.Connection) -> Iterator[Finding]:
    for request_id, number, later in _ask(connection, "find_early_lasts"):
        expected, found = f"attempt {later} is the last one", f"attempt {number} is marked as it"
        yield Finding(Check.LAST, expected, found, request_id=request_id, attempt=number)
    for request_id, number in _ask(connection, "find_missing_lasts"):
        yield Finding(Check.LAST, "marked as the last one", "not marked", request_id=request_id, attempt=number)


def _find_false_days(connection: sqlite3.Connection) -> Iterator[Finding]:
    for batch, number, cost, by_source, *counts in _ask(connection, "find_false_days"):
        requests, failed, wanted_requests, wanted_failed = counts
        yield Finding(
            Check.DAY,
            f"cost {by_source}, {wanted_requests} requests of which {wanted_failed} failed",
            f"cost {cost}, {requests} requests of which {failed} failed",
            request_id=f"batch {batch}",
            attempt=number,
        )


def _find_false_postings(connection: sqlite3.Connection) -> Iterator[Finding]:
    for kind, seq, left in _ask(connection, "find_false_postings"):
        yield Finding(Check.POSTINGS, "legs that sum to 0", f"{left} nano-USD left of {kind} {seq}")


def _find_false_corrections(connection: sqlite3.Connection) -> Iterator[Finding]:
    for request_id, number, expected, found in _ask(connection, "find_false_corrections"):
        texts = f"cost {_show(expected)} nano-USD by its corrections", f"cost {_show(found)}"
        yield Finding(Check.CORRECTION, *texts, request_id=request_id, attempt=number)
    for seq, attempt_seq in _ask(connection, "find_stray_corrections"):
        yield Finding(Check.CORRECTION, "an attempt that has ended", f"correction {seq} of attempt row {attempt_seq}")


def _find_false_lookups(connection: sqlite3.Connection) -> Iterator[Finding]:
    for request_id, number, state, is_asked in _ask(connection, "find_false_lookups"):
        expected = "asked for only when it has ended or is unresolved, and by an id"
        found = f"{state}, {'to be asked' if is_asked else 'nobody to be asked'}"
        yield Finding(Check.LOOKUP, expected, found, request_id=request_id, attempt=number)


class _Sums:
    """What one key's attempts come to between two moments, from running totals over its quarters of an hour."""

    def __init__(self, quarters: Iterable[Row]) -> None:
        self._starts_s: list[int] = []
        self._totals = [Balance(0, 0)]
        for _key_name, starts_s, posted, held in quarters:
            self._starts_s.append(starts_s)
            self._totals.append(self._totals[-1].plus(posted, held))

    def find(self, starts_s: int, ends_s: int) -> Balance:
        """Sum a window that begins and ends with a quarter."""
        before = self._totals[bisect_left(self._starts_s, starts_s)]
        until = self._totals[bisect_left(self._starts_s, ends_s)]
        return until.plus(-before.posted_nano_usd, -before.held_nano_usd)


def _read_window(starts_s: int, ends_s: int) -> Window:
    return Window(starts_s, None if ends_s == FOREVER_S else ends_s)


def _is_of_calendar(window: Window) -> bool:
    """Tell whether some period of some time zone may have this window."""
    if window.ends_s is None:
        return window.starts_s == 0
    length_s = window.ends_s - window.starts_s
    is_whole = window.starts_s % QUARTER_S == window.ends_s % QUARTER_S == 0
    return is_whole and any(low <= length_s <= high for low, high in _LENGTHS_S)


def _show_balance(balance: Balance) -> str:
    return f"posted {balance.posted_nano_usd}, held {balance.held_nano_usd} nano-USD"


def _show(value: object) -> str:
    return "none" if value is None else str(value)


_STATES: Mapping[str, str] = MappingProxyType(
    {
        AttemptState.PENDING.value: "pending: no end, no cost, no source",
        AttemptState.POSTED.value: "posted: an end, a source, and a cost unless the source is unknown",
        AttemptState.VOIDED.value: "voided: an end, cost 0, no source",
        AttemptState.UNRESOLVED.value: "unresolved: no cost, no source",
    }
)
_CHECKS: tuple[Find, ...] = (
    _find_false_windows,
    _find_false_balances,
    _find_false_states,
    _find_false_holds,
    _find_false_numbers,
    _find_false_lasts,
    _find_false_days,
    _find_false_postings,
    _find_false_corrections,
    _find_false_lookups,
)
