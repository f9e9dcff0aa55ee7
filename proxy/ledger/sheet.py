"""What the calls of one transaction have in common (floor 2, SQLite): read once, kept up to date, written once.

A batch is one transaction that nobody else can write beside, so what its first call has read is still so for its last:
every balance, rate and key is read at most once in a batch, and what the batch made of it is written at its end. Calls
that do not go through here must find everything written, and leave nothing remembered (`flush`, `begin`).

Across batches only this is remembered: which rules there are and which scopes have windows at all, each as long as a
version number that every transaction reads says that there are no others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from sqlite3 import Cursor

from proxy.ledger.admission import Charge, KeyState, Reserve
from proxy.ledger.sql import STATEMENTS
from proxy.ledger.standing import FOREVER_S, Kept, KnownRules, find_balance, open_condition_of
from proxy.policy.calendar import Window
from proxy.policy.limits import RATE_SLOTS, Balance, Flow, Rate
from proxy.policy.scopes import Rules, Subject, scopes_of

_FIND_KEY_STATE = STATEMENTS["find_key_state"]
_FIND_BALANCES_VERSION = STATEMENTS["find_balances_version"]
_LIST_WINDOWS = STATEMENTS["list_windows"]
_WRITE_BALANCE = STATEMENTS["write_balance"]
_FIND_FLOW = STATEMENTS["find_flow"]
_CHARGE_RATE = STATEMENTS["charge_rate"]
_CORRECT_RATE = STATEMENTS["correct_rate"]

Slot = tuple[str, int, int]
"""Scope, window in seconds and slot."""


class _Row:
    """One window of a scope."""

    __slots__ = ("ends_s", "held", "is_changed", "posted", "starts_s")

    def __init__(self, starts_s: int, ends_s: int, posted: int, held: int) -> None:
        self.starts_s = starts_s
        self.ends_s = ends_s
        self.posted = posted
        self.held = held
        self.is_changed = False


class _Account:
    """The windows of a scope that end after some moment."""

    __slots__ = ("rows", "since_s")

    def __init__(self, since_s: float, rows: list[_Row]) -> None:
        self.since_s = since_s
        self.rows = rows


class _Passing:
    """What a rate's window has let through, as of one piece of time."""

    __slots__ = ("oldest", "requests", "slot", "tokens")

    def __init__(self, slot: int, requests: int, tokens: int, oldest: int | None) -> None:
        self.slot = slot
        self.requests = requests
        self.tokens = tokens
        self.oldest = oldest


class Sheet:
    """The `Standing` of admission.py, and everything that a batch changes in it."""

    def __init__(self) -> None:
        """Begin with nothing read; `begin` comes before anything else."""
        self._cursor: Cursor
        self._rules = KnownRules()
        self._kept = Kept()
        self._keys: dict[str, KeyState | None] = {}
        self._limits_version: int | None = None
        self._is_kept_known = False
        self._accounts: dict[str, _Account] = {}
        self._passing: dict[tuple[str, int], _Passing] = {}
        self._charges: defaultdict[Slot, list[int]] = defaultdict(lambda: [0, 0])
        self._corrections: defaultdict[Slot, int] = defaultdict(int)
        self._open: dict[str, int] = {}

    def begin(self, cursor: Cursor) -> None:
        """Forget what was read, because the transaction is another one or somebody else has written in it."""
        self._cursor = cursor
        self._limits_version = None
        self._is_kept_known = False
        for read in (self._keys, self._accounts, self._passing, self._charges, self._corrections, self._open):
            read.clear()

    def flush(self) -> None:
        """Write what has changed."""
        cursor = self._cursor
        for scope, account in self._accounts.items():
            for row in account.rows:
                if row.is_changed:
                    cursor.execute(_WRITE_BALANCE, (row.posted, row.held, scope, row.ends_s, row.starts_s))
                    row.is_changed = False
        self._flush_rates()

    # ------------------------------------------------------------ reading

    def find_key(self, name: str) -> KeyState | None:
        """Read a key's state, and with it which limits there are."""
        if name in self._keys:
            return self._keys[name]
        found = self._cursor.execute(_FIND_KEY_STATE, (name,)).fetchone()
        if found is None:
            key = None
        else:
            key = KeyState._make(found[:3])
            self._limits_version = found[3]
        self._keys[name] = key
        return key

    def find_rules(self, subject: Subject) -> Rules:
        """Give every rule that holds for an attempt; its key was looked up before."""
        assert self._limits_version is not None, "an attempt's key is judged before its limits are"
        return self._rules.find(self._cursor, subject, self._limits_version)

    def find_balance(self, scope: str, window: Window) -> Balance:
        """Read a window's balance, made of the attempts that count in it when nobody has asked for it yet."""
        starts_s, ends_s = window.starts_s, window.ends_s or FOREVER_S
        account = self._accounts.get(scope)
        if account is None or account.since_s >= ends_s:
            account = self._read_account(scope, starts_s)
        for row in account.rows:
            if row.starts_s == starts_s and row.ends_s == ends_s:
                return Balance(row.posted, row.held)
        row = self._open_window(scope, starts_s, ends_s)
        account.rows.append(row)
        return Balance(row.posted, row.held)

    def find_flow(self, scope: str, rate: Rate, at_s: float) -> Flow:
        """Sum what a rate has let through."""
        slot, window_s = rate.slot_of(at_s), rate.window_s
        passing = self._passing.get((scope, window_s))
        if passing is None or passing.slot != slot:
            self._flush_rates()
            found = self._cursor.execute(_FIND_FLOW, (scope, window_s, *rate.find_slots(at_s))).fetchone()
            passing = self._passing[scope, window_s] = _Passing(slot, *found)
        return Flow(passing.requests, passing.tokens, passing.oldest)

    def count_open(self, scope: str) -> int:
        """Count a scope's attempts under way."""
        count = self._open.get(scope)
        if count is None:
            condition, values = open_condition_of(scope)
            statement = STATEMENTS["count_open"].format(condition=condition)
            (count,) = self._cursor.execute(statement, values).fetchone()
            assert isinstance(count, int)
            self._open[scope] = count
        return count

    # ------------------------------------------------------------ changing

    def move(self, subject: Subject, at_s: float, *, posted: int, held: int) -> None:
        """Move what changed at an attempt's moment in every window that is kept of its scopes."""
        if not self._is_kept_known:
            (version,) = self._cursor.execute(_FIND_BALANCES_VERSION).fetchone()
            self._kept.refresh(version)
            self._is_kept_known = True
        for scope in self._kept.select(self._cursor, subject):
            account = self._accounts.get(scope)
            if account is None or account.since_s > at_s:
                account = self._read_account(scope, at_s)
            for row in account.rows:
                if row.starts_s <= at_s < row.ends_s:
                    row.posted += posted
                    row.held += held
                    row.is_changed = True

    def charge(self, charges: Iterable[Charge]) -> None:
        """Count what was let in by rates that were asked."""
        for scope, window_s, slot, requests, tokens in charges:
            counts = self._charges[scope, window_s, slot]
            counts[0] += requests
            counts[1] += tokens
            passing = self._passing[scope, window_s]
            passing.requests += requests
            passing.tokens += tokens
            passing.oldest = slot if passing.oldest is None else passing.oldest

    def correct(self, reserve: Reserve, tokens: int) -> None:
        """Tell the rates of tokens how many an attempt had in truth."""
        difference = tokens - reserve.tokens
        if not difference:
            return
        for scope, window_s, slot in reserve.slots:
            self._corrections[scope, window_s, slot] += difference
            passing = self._passing.get((scope, window_s))
            if passing is not None and abs(slot - passing.slot) <= RATE_SLOTS:
                passing.tokens = max(0, passing.tokens + difference)

    def note_open(self, subject: Subject, difference: int) -> None:
        """Count one more attempt under way, or one less, where that was asked."""
        if self._open:
            scopes = scopes_of(subject)
            for scope in self._open:
                if scope in scopes:
                    self._open[scope] += difference

    # ------------------------------------------------------------ the store

    def _read_account(self, scope: str, since_s: float) -> _Account:
        former = self._accounts.get(scope)
        if former is not None:
            self.flush()
        found = self._cursor.execute(_LIST_WINDOWS, (scope, since_s)).fetchall()
        account = self._accounts[scope] = _Account(since_s, [_Row(*row) for row in found])
        return account

    def _open_window(self, scope: str, starts_s: int, ends_s: int) -> _Row:
        window = Window(starts_s, None if ends_s == FOREVER_S else ends_s)
        balance = find_balance(self._cursor, scope, window)
        self._kept.learn(scope)
        return _Row(starts_s, ends_s, balance.posted_nano_usd, balance.held_nano_usd)

    def _flush_rates(self) -> None:
        for place, (requests, tokens) in self._charges.items():
            self._cursor.execute(_CHARGE_RATE, (*place, requests, tokens))
        self._charges.clear()
        for place, difference in self._corrections.items():
            self._cursor.execute(_CORRECT_RATE, (difference, *place))
        self._corrections.clear()
