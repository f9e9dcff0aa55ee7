"""One transaction for many calls, and the spool of those that must not be lost (floor 2, the writer's thread only).

* Every call runs behind a savepoint of its own: one that fails is rolled back alone.
* When the transaction itself fails, nothing of it happened. What is not kept is refused and never tried again here,
  because its caller decides what follows. What is *kept* (settlements) goes to the spool and is tried again, in order
  and with backoff, until it is durable or the ledger is closed.
* After such a failure the connection is thrown away: when an fsync fails, the kernel may have dropped what it could not
  write, so asking the same connection again could be told a lie.
* Until a transaction is durable again the store counts as failing. Nothing may come meanwhile, so the thread tries by
  itself, with a page of no consequence.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections import deque
from collections.abc import Callable
from contextlib import closing
from typing import Any, Generic, Protocol, TypeVar

from proxy.clock import Clock
from proxy.errors import LedgerUnavailable
from proxy.ledger.locks import Turnstile
from proxy.ledger.schema import explain

BATCH_MAX = 256
"""Calls in one transaction; more would keep the first of them waiting for the last."""
CROWDED_BATCH_MAX = 24
"""As above where other workers write too: they wait for as long as a transaction takes."""
CROWDED_SWITCH_S = 0.0001
"""How soon, there, a thread asks for Python's lock that a busy event loop gives up no sooner; 5 ms otherwise."""
BACKOFF_FIRST_S = 0.05
BACKOFF_S_MAX = 1.0

_SWITCH_S = sys.getswitchinterval()

_BUGS = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
"""What only a mistake of ours raises: its caller is told, and nobody else is harmed."""

_MISTAKES = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError, OverflowError)
"""As `_BUGS`, in SQLite's words; trying again cannot help, so nothing of this kind waits in the spool."""

ArgumentT = TypeVar("ArgumentT")
ResultT = TypeVar("ResultT")


Undo = Callable[[sqlite3.Cursor, Any], None]
"""Takes back what a call has written, given the call."""


class Call(Generic[ArgumentT, ResultT]):
    """One thing to do in the transaction, and whom to tell."""

    __slots__ = (
        "argument",
        "asked_s",
        "error",
        "future",
        "is_abandoned",
        "is_kept",
        "is_shared",
        "outcome",
        "undo",
        "work",
    )

    def __init__(
        self,
        work: Callable[[sqlite3.Cursor, ArgumentT], ResultT],
        argument: ArgumentT,
        *,
        future: asyncio.Future[ResultT] | None,
        is_kept: bool,
        is_shared: bool = False,
        undo: Undo | None = None,
    ) -> None:
        self.work = work
        self.is_shared = is_shared
        """It reads and writes through what the batch has in common, and nowhere beside it."""
        self.argument = argument
        self.future = future
        self.is_kept = is_kept
        self.undo = undo
        self.asked_s: float = 0
        """By the monotonic clock; only where somebody wants to know how long it took."""
        self.is_abandoned = False
        self.outcome: ResultT | None = None
        """Set by the thread; None as long as nothing is durable, but for the batch that is being written."""
        self.error: Exception | None = None


AnyCall = Call[Any, Any]


class Common(Protocol):
    """What the shared calls of a batch have in common (`sheet`)."""

    def begin(self, cursor: sqlite3.Cursor) -> None:
        """Forget what was read."""
        ...

    def flush(self) -> None:
        """Write what has changed."""
        ...


class Nothing:
    """What calls have in common that share nothing."""

    def begin(self, cursor: sqlite3.Cursor) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""


class Committer:
    """The thread's own half of the writer: nothing here is touched by another thread."""

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        turnstile: Turnstile,
        clock: Clock,
        *,
        common: Common,
        on_turn: Callable[[float], None] | None = None,
        is_crowded: bool = False,
    ) -> None:
        """Write through connections that `connect` makes; `is_crowded`: other processes write as much as this one."""
        self._on_turn = on_turn
        self._is_crowded = is_crowded
        self.batch_max = CROWDED_BATCH_MAX if is_crowded else BATCH_MAX
        """How many calls to hand over at once."""
        self._connect = connect
        self._common = common
        self._clock = clock
        self._turnstile = turnstile
        self._connection: sqlite3.Connection | None = None
        self._spool: deque[AnyCall] = deque()
        self._backoff_s = BACKOFF_FIRST_S
        self._due_s = clock.monotonic_s()
        """When the spool is tried again, whatever comes until then."""
        self.is_failing = False
        """The last transaction was not taken. Written by the thread alone; anybody may look."""

    @property
    def patience_s(self) -> float | None:
        """How long to wait for new calls before something is tried again; None: for ever, there is nothing to try."""
        return self._backoff_s if self._spool or self.is_failing else None

    def write(self, calls: list[AnyCall], *, is_last: bool) -> list[AnyCall]:
        """Write a batch and, when the store takes things, the spool; gives the calls that are over."""
        # Nothing came for as long as we were patient; or things come all the time, but it is high time.
        is_due = not calls or is_last or self._clock.monotonic_s() >= self._due_s
        if self._spool:
            # What is kept stays in order: later settlements queue behind those that wait.
            self._spool.extend(call for call in calls if call.is_kept)
            calls = [call for call in calls if not call.is_kept]
        if not calls and not self._spool and self.is_failing:
            self._commit([Call(_touch, None, future=None, is_kept=False)])
        over, is_written = self._commit(calls) if calls else ([], is_due)
        while self._spool and is_written:
            batch = [self._spool.popleft() for _ in range(min(self.batch_max, len(self._spool)))]
            told, is_written = self._commit(batch)
            over += told
        if is_last:
            over += self._give_up()
        return over

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _commit(self, calls: list[AnyCall]) -> tuple[list[AnyCall], bool]:
        """Write one transaction; gives the calls that are over, and whether the store took it."""
        asked_s = self._clock.monotonic_s()
        if self._is_crowded:
            # Until we are out of it again: with Python's lock in a busy loop's hands, others would wait for that too.
            sys.setswitchinterval(CROWDED_SWITCH_S)
        try:
            with self._turnstile:
                if self._on_turn is not None:
                    self._on_turn(self._clock.monotonic_s() - asked_s)
                self._write(calls)
        except (sqlite3.Error, OSError) as error:
            self.close()
            self.is_failing = True
            return self._fail(calls, error), False
        finally:
            if self._is_crowded:
                sys.setswitchinterval(_SWITCH_S)
        self.is_failing = False
        again = {call: None for call in calls if call.is_kept and isinstance(call.error, LedgerUnavailable)}
        if not again:
            self._backoff_s = BACKOFF_FIRST_S
            return calls, True
        self._put_back(list(again))
        return [call for call in calls if call not in again], False

    def _write(self, calls: list[AnyCall]) -> None:
        # A cursor left open by a failure would keep its connection's files and locks alive, closed or not.
        with closing(self._open()) as cursor:
            if not _run_freely(cursor, calls, self._common):
                _run_guarded(cursor, calls, self._common)
            cursor.execute("COMMIT")

    def _open(self) -> sqlite3.Cursor:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection.cursor()

    def _fail(self, calls: list[AnyCall], error: Exception) -> list[AnyCall]:
        """Nothing of a batch happened: put back what is kept, refuse the others."""
        for call in calls:
            call.outcome = None
            call.error = call.error or _refuse(error)
        self._put_back([call for call in calls if call.is_kept])
        return [call for call in calls if not call.is_kept]

    def _put_back(self, calls: list[AnyCall]) -> None:
        for call in reversed(calls):
            call.error = None
            self._spool.appendleft(call)
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_S_MAX)
        self._due_s = self._clock.monotonic_s() + self._backoff_s

    def _give_up(self) -> list[AnyCall]:
        """At the very end: tell those whose settlement the store never took; the next start posts their holds."""
        left = list(self._spool)
        self._spool.clear()
        for call in left:
            call.error = LedgerUnavailable("the ledger was closed before it could be written")
        return left


def _touch(cursor: sqlite3.Cursor, _nothing: None) -> None:
    """Write the first page as it is: an update that changes nothing would not be written."""
    (version,) = cursor.execute("PRAGMA user_version").fetchone()
    cursor.execute(f"PRAGMA user_version = {version}")


def _run_freely(cursor: sqlite3.Cursor, calls: list[AnyCall], common: Common) -> bool:
    """Run a batch in a transaction without savepoints, which cost a tenth of it; False when a call failed."""
    cursor.execute("BEGIN IMMEDIATE")
    common.begin(cursor)
    try:
        for call in calls:
            if call.is_abandoned:
                continue
            if call.is_shared:
                call.outcome = call.work(cursor, call.argument)
            else:
                common.flush()
                common.begin(cursor)
                call.outcome = call.work(cursor, call.argument)
                common.flush()
                common.begin(cursor)
        common.flush()
    except (sqlite3.Error, *_BUGS):
        if cursor.connection.in_transaction:
            cursor.execute("ROLLBACK")
        return False
    return True


def _run_guarded(cursor: sqlite3.Cursor, calls: list[AnyCall], common: Common) -> None:
    """Run a batch anew, each call behind a savepoint of its own; raises only when the whole transaction is gone."""
    cursor.execute("BEGIN IMMEDIATE")
    for call in calls:
        call.outcome = None
        if call.is_abandoned:
            continue
        cursor.execute("SAVEPOINT call")
        common.begin(cursor)
        try:
            call.outcome = call.work(cursor, call.argument)
            common.flush()
        except (sqlite3.Error, *_BUGS) as error:
            call.error = _refuse(error)
            if not cursor.connection.in_transaction:
                raise
            cursor.execute("ROLLBACK TO call")
        cursor.execute("RELEASE call")


def _refuse(error: Exception) -> Exception:
    """Say what a caller is told: the store's failures in our words, our own mistakes as mistakes."""
    if isinstance(error, _MISTAKES):
        refusal: Exception = ValueError(f"the ledger cannot hold this: {error}")
    elif isinstance(error, sqlite3.Error | OSError):
        refusal = explain(error)
    else:
        return error
    refusal.__cause__ = error
    return refusal
