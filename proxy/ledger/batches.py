"""Many calls in few statements (floor 2, SQLite, inside the writer's transaction).

At each statement the writer's thread lets go of the interpreter, and waits until the event loop lets go of it again.
So the ordinary calls of a batch, admissions and settlements, run together: what they ask for is read at once, they are
decided upon in their order by the rules of `admission` on running balances, and what they change is written at once.
All is read in the transaction that writes, and forgotten with it. Other calls run by themselves, in their place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from sqlite3 import Cursor
from typing import Any

from proxy.ledger import rows
from proxy.ledger.admission import (
    ERROR_UNSETTLED,
    KeyState,
    Outcome,
    PendingAttempt,
    find_free_id,
    find_held_nano_usd,
    find_posted_nano_usd,
    judge_admission,
    name_scope,
    pair_ends,
)
from proxy.ledger.books import FOREVER_S, Books, is_taken
from proxy.ledger.committer import AnyCall
from proxy.ledger.records import Admission, Admitted, Settlement
from proxy.ledger.sql import STATEMENTS, repeat
from proxy.policy.limits import Balance, Window

ROWS_MAX = 32
"""Rows of one statement: more cost as much each, and every number of rows is a statement of its own to be kept."""
TOGETHER_MIN = 6
"""Fewer calls are cheaper one by one (measured); at least 2, since calls of other kinds come alone."""
ENDED_TOGETHER_MIN = 8
"""Fewer ends are cheaper one by one (measured): an update from a list makes two tables of it first."""

_FIND_KEY_STATES = STATEMENTS["find_key_states"]
_FIND_REQUESTS = STATEMENTS["find_requests"]
_FIND_BALANCES = STATEMENTS["find_balances"]
_BEGIN_ATTEMPTS = STATEMENTS["begin_attempts"]
_END_ATTEMPT = STATEMENTS["end_attempt"]
_END_ATTEMPTS = STATEMENTS["end_attempts"]
_POST_IN_FULL = STATEMENTS["post_in_full"]
_WRITE_BALANCES = STATEMENTS["write_balances"]


class Batches:
    """Runs the calls of a transaction, in the name of one owner."""

    def __init__(self, books: Books, owner_id: str) -> None:
        """`books` run what is not run together."""
        self._books = books
        self._owner_id = owner_id

    def run(self, cursor: Cursor, calls: Sequence[AnyCall]) -> None:
        """Run calls as if one by one and set their outcomes; whatever it raises, nothing of them may be kept."""
        for part in _cut([call for call in calls if not call.is_abandoned]):
            if len(part) < TOGETHER_MIN or not self._run_together(cursor, part):
                for call in part:
                    call.outcome = call.work(cursor, call.argument)

    def _run_together(self, cursor: Cursor, calls: Sequence[AnyCall]) -> bool:
        """Run admissions and settlements; False, and nothing is written, when a window is asked for the first time."""
        arguments = [call.argument for call in calls]
        batch = _Batch(cursor, arguments, self._owner_id)
        try:
            for call in calls:
                call.outcome = batch.decide(call.argument)
        except _NotOpenedError:
            return False
        batch.write()
        return True


def _cut(calls: Iterable[AnyCall]) -> Iterator[list[AnyCall]]:
    """Cut a batch into runs of admissions and settlements, and other calls alone.

    A settlement begins a new run when an admission before it may have got that very id: what is settled together has
    its rows already.
    """
    run: list[AnyCall] = []
    wished: set[str] = set()
    for call in calls:
        argument = call.argument
        if isinstance(argument, Admission):
            wished.add(argument.request_id)
        elif not isinstance(argument, Settlement):
            yield run
            yield [call]
            run, wished = [], set()
            continue
        elif wished and not wished.isdisjoint((argument.request_id, argument.request_id.rpartition("-")[0])):
            yield run
            run, wished = [], set()
        run.append(call)
    yield run


class _NotOpenedError(Exception):
    """A window has no balance yet; `books` make one of the attempts that count in it."""


class _Batch:
    """A run of admissions and settlements: read when made, decided in order, then written."""

    def __init__(self, cursor: Cursor, arguments: Sequence[Admission | Settlement], owner_id: str) -> None:
        self._cursor = cursor
        self._owner_id = owner_id
        admissions = [argument for argument in arguments if isinstance(argument, Admission)]
        self._keys = _read_key_states(cursor, {admission.key_name for admission in admissions})
        self._asked = {argument.request_id for argument in arguments}
        self._pending = _read_requests(cursor, self._asked)
        """The ids in use of those that were asked for and of those given out since, with what is open of them."""
        moments = [(admission.key_name, admission.at_s) for admission in admissions]
        moments += [(attempt.key_name, attempt.at_s) for found in self._pending.values() for attempt in found]
        self._windows = _Windows(cursor, moments)
        self._starts: list[rows.Row] = []
        self._ends: list[rows.Row] = []
        self._forgotten: list[rows.Row] = []

    def decide(self, argument: Admission | Settlement) -> Outcome | bool:
        """Decide one call; the calls after it see what it did."""
        return self._admit(argument) if isinstance(argument, Admission) else self._settle(argument)

    def write(self) -> None:
        """Write what was decided."""
        _write(self._cursor, _BEGIN_ATTEMPTS, self._starts)
        if len(self._ends) < ENDED_TOGETHER_MIN:
            for end in self._ends:
                self._cursor.execute(_END_ATTEMPT, end)
        else:
            _write(self._cursor, _END_ATTEMPTS, self._ends)
        for end in self._forgotten:
            self._cursor.execute(_POST_IN_FULL, end)
        _write(self._cursor, _WRITE_BALANCES, self._windows.list_moved())

    def _admit(self, admission: Admission) -> Outcome:
        refusal = judge_admission(admission, self._keys.get(admission.key_name), self._windows.find)
        if refusal is not None:
            return refusal
        request_id = find_free_id(admission.request_id, self._is_taken)
        self._pending[request_id] = []
        self._starts += rows.write_starts(admission, request_id, self._owner_id)
        self._windows.move(admission.key_name, admission.at_s, posted=0, held=find_held_nano_usd(admission))
        return Admitted(request_id)

    def _is_taken(self, request_id: str) -> bool:
        return request_id in self._pending or (request_id not in self._asked and is_taken(self._cursor, request_id))

    def _settle(self, settlement: Settlement) -> bool:
        pending = self._pending.get(settlement.request_id)
        if not pending:
            return False
        self._pending[settlement.request_id] = []
        for attempt, end in pair_ends(pending, settlement.ended):
            if end is None:
                self._forgotten.append((settlement.at_s, ERROR_UNSETTLED, attempt.seq))
                posted = attempt.hold_nano_usd if attempt.is_priced else 0
            else:
                self._ends.append(rows.write_end(end, settlement.at_s, attempt.seq))
                posted = find_posted_nano_usd(end)
            self._windows.move(attempt.key_name, attempt.at_s, posted=posted, held=-attempt.hold_nano_usd)
        return True


class _Windows:
    """The balances that a batch may touch, as they stand after the calls decided so far."""

    def __init__(self, cursor: Cursor, moments: Iterable[tuple[str, float]]) -> None:
        """Read the windows in which these moments of keys may lie."""
        by_key: dict[str, list[float]] = {}
        for key_name, at_s in moments:
            by_key.setdefault(key_name, []).append(at_s)
        spans = [(name_scope(key_name), min(at_s), max(at_s)) for key_name, at_s in by_key.items()]
        self._sums: dict[str, dict[tuple[int, int], list[int]]] = {scope: {} for scope, _first_s, _last_s in spans}
        """By scope, then by end and start: posted and held."""
        for scope, ends_s, starts_s, posted, held in _read(cursor, _FIND_BALANCES, spans):
            self._sums[scope][ends_s, starts_s] = [posted, held]
        self._moved: set[tuple[str, int, int]] = set()

    def find(self, key_name: str, window: Window) -> Balance:
        """Give a window's balance; _NotOpenedError when there is none yet."""
        found = self._sums[name_scope(key_name)].get((window.ends_s or FOREVER_S, window.starts_s))
        if found is None:
            raise _NotOpenedError
        return Balance(*found)

    def move(self, key_name: str, at_s: float, *, posted: int, held: int) -> None:
        """Move what changed at an attempt's moment into every window that holds that moment."""
        scope = name_scope(key_name)
        for (ends_s, starts_s), sums in self._sums[scope].items():
            if starts_s <= at_s < ends_s:
                sums[0] += posted
                sums[1] += held
                self._moved.add((scope, ends_s, starts_s))

    def list_moved(self) -> list[rows.Row]:
        """Give the parameters of `write_balances`."""
        return [(*place, *self._sums[place[0]][place[1:]]) for place in self._moved]


def _read_key_states(cursor: Cursor, names: Iterable[str]) -> Mapping[str, KeyState]:
    found = _read(cursor, _FIND_KEY_STATES, [(name,) for name in names])
    return {name: rows.read_key_state(state) for name, *state in found}


def _read_requests(cursor: Cursor, request_ids: Iterable[str]) -> dict[str, list[PendingAttempt]]:
    requests: dict[str, list[PendingAttempt]] = {}
    for request_id, is_pending, *attempt in _read(cursor, _FIND_REQUESTS, [(wanted,) for wanted in request_ids]):
        pending = requests.setdefault(request_id, [])
        if is_pending:
            pending.append(PendingAttempt._make(attempt))
    return requests


def _read(cursor: Cursor, statement: str, wanted: Sequence[rows.Row]) -> list[Any]:
    return [row for part, values in _repeat(statement, wanted) for row in cursor.execute(part, values).fetchall()]


def _write(cursor: Cursor, statement: str, changed: Sequence[rows.Row]) -> None:
    for part, values in _repeat(statement, changed):
        cursor.execute(part, values)


def _repeat(statement: str, wanted: Sequence[rows.Row]) -> Iterator[tuple[str, list[Any]]]:
    """Give statements for so many rows, with their parameters; none for no row."""
    for first in range(0, len(wanted), ROWS_MAX):
        part = wanted[first : first + ROWS_MAX]
        yield repeat(statement, len(part)), list(chain.from_iterable(part))
