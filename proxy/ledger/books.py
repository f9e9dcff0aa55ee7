"""What one call does inside the writer's transaction (floor 2, SQLite): reads, decides by the shared rules, writes.

No transaction begins or ends here, and nothing outlives it: keys, limits and balances are read in the transaction in
which they are decided upon (`sheet`). A call that raises leaves nothing behind: the writer rolls back to the savepoint
before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from sqlite3 import Cursor

from proxy.ledger import rows
from proxy.ledger.accounts import Accounts
from proxy.ledger.admission import (
    ERROR_ABANDONED,
    ERROR_OWNER_DIED,
    ERROR_UNSETTLED,
    Grant,
    PendingAttempt,
    find_free_id,
    judge_admission,
    judge_step,
    next_subject,
    pair_ends,
    subject_of,
)
from proxy.ledger.audit import Act
from proxy.ledger.correcting import Dead
from proxy.ledger.deeds import note_declaration
from proxy.ledger.late import LateBooks
from proxy.ledger.records import (
    Admission,
    Admitted,
    Advance,
    AttemptStart,
    KeyRecord,
    Outcome,
    Settlement,
)
from proxy.ledger.rolling import subject_of_row, sum_days
from proxy.ledger.rules import write_limits
from proxy.ledger.sheet import Sheet
from proxy.ledger.shelves import SqliteStore, put_limits
from proxy.ledger.sql import STATEMENTS
from proxy.policy.limits import NO_LIMITS, RATE_SLOTS, Limits
from proxy.policy.scopes import tag_scopes

BEGUN_MAX = 16_384
"""Attempts of this process whose facts are remembered until they end; of more they are read again."""
RESOLVED_PER_CALL_MAX = 500
"""How many attempts of a dead owner one transaction ends, so that requests are not kept waiting behind them."""

ROLLED_PER_CALL_MAX = 20
"""How many requests one transaction sums by day, so that nobody waits for it longer than for a few others."""

_IS_REQUEST_TAKEN = STATEMENTS["is_request_taken"]
_BEGIN_ATTEMPT = STATEMENTS["begin_attempt"]
_CLEAR_LAST_ATTEMPT = STATEMENTS["clear_last_attempt"]
_BEGIN_NEXT_ATTEMPT = STATEMENTS["begin_next_attempt"]
_FIND_PENDING = STATEMENTS["find_pending"]
_VOID_ATTEMPT = STATEMENTS["void_attempt"]
_FIND_PENDING_OF_OWNER = STATEMENTS["find_pending_of_owner"]


class Books:
    """The writing half of the ledger, in the name of one owner."""

    def __init__(self, owner_id: str) -> None:
        self._owner_id = owner_id
        self.sheet = Sheet()
        """What the calls of one transaction have in common."""
        self._accounts = Accounts(self.sheet)
        self.late = LateBooks(self._accounts)
        self._begun: dict[str, PendingAttempt] = {}
        """Attempts of this process that are alone in their request, by its id: what need not be read to end them.

        Whether they are still pending the store is asked all the same.
        """

    def admit(self, cursor: Cursor, admission: Admission) -> Outcome:
        """Check the key and every limit that holds, then write the holds under an id that is free."""
        key = self.sheet.find_key(admission.key_name)
        grant = judge_admission(admission, key, self.sheet)
        if not isinstance(grant, Grant):
            return grant
        request_id = admission.request_id
        begun = self._begin(cursor, request_id, admission, grant=grant)
        if begun is None:
            request_id = find_free_id(request_id, partial(_is_taken, cursor))
            begun = self._begin(cursor, request_id, admission, grant=grant)
        if len(admission.attempts) == 1 and begun is not None:
            if len(self._begun) >= BEGUN_MAX:
                self._begun.clear()
            self._begun[request_id] = begun
        self.sheet.charge(grant.charges)
        return Admitted(request_id, grant.quotas)

    def advance(self, cursor: Cursor, step: Advance) -> Outcome:
        """Post what the ended attempt cost and hold the next one under the same limits; refused, nothing changes."""
        pending = {attempt.number: attempt for attempt in _read_pending(cursor, step.request_id)}
        self._begun.pop(step.request_id, None)
        ended = pending.get(step.ended.number)
        if ended is None:
            raise ValueError(f"attempt {step.ended.number} of {step.request_id} is not pending")
        key = self.sheet.find_key(ended.subject.key_name)
        grant = judge_step(step, ended, key, self.sheet)
        if not isinstance(grant, Grant):
            return grant
        cursor.execute(_CLEAR_LAST_ATTEMPT, (step.request_id,))
        self._begin_next(cursor, step, ended, grant=grant)
        self._accounts.end(cursor, ended, step.ended, step.at_s)
        self.sheet.charge(grant.charges)
        return Admitted(step.request_id, grant.quotas)

    def settle(self, cursor: Cursor, settlement: Settlement) -> bool:
        """End every pending attempt of the request; False when none is pending, nor any that was given up."""
        request_id, ended, at_s = settlement
        begun = self._begun.pop(request_id, None)
        over = set() if begun is None else self._end_all(cursor, [begun], settlement)
        # What is remembered may have been ended by somebody else, who began another.
        over = over or self._end_all(cursor, _read_pending(cursor, request_id), settlement)
        late = {end.number: end for end in ended if end.number not in over}
        is_late = [self.late.settle(cursor, request_id, end, at_s) for end in late.values()]
        return bool(over) or any(is_late)

    def void(self, cursor: Cursor, begun: tuple[str, Sequence[AttemptStart], float]) -> None:
        """Void attempts whose caller left before it was told that they may begin; none of them had an upstream."""
        request_id, attempts, at_s = begun
        numbers = {start.number for start in attempts}
        for attempt in _read_pending(cursor, request_id):
            if attempt.number in numbers:
                cursor.execute(_VOID_ATTEMPT, (at_s, ERROR_ABANDONED, attempt.seq))
                self._accounts.release(attempt, posted=0, tokens=0)

    def resolve(self, cursor: Cursor, dead: Dead) -> int:
        """Leave nothing of a dead owner pending, at most `RESOLVED_PER_CALL_MAX` attempts at once; gives how many."""
        found = cursor.execute(_FIND_PENDING_OF_OWNER, (dead.owner_id, RESOLVED_PER_CALL_MAX)).fetchall()
        for attempt in map(rows.read_pending, found):
            if not self.late.leave_open(cursor, attempt, dead):
                self._accounts.post_in_full(cursor, attempt, at_s=dead.now_s, error=ERROR_OWNER_DIED)
        return len(found)

    def declare_keys(self, cursor: Cursor, declaration: tuple[Sequence[KeyRecord], Act]) -> None:
        """Make the declared keys exactly these; a key that did not change keeps its revision."""
        keys, act = declaration
        changed: list[str] = []
        missing = {key.name for key in _list_keys(cursor) if key.is_declared and key.is_enabled}
        for key in (replace(wanted, is_declared=True) for wanted in keys):
            missing.discard(key.name)
            found = cursor.execute(STATEMENTS["find_key_by_name"], (key.name,)).fetchone()
            if found is None:
                cursor.execute(STATEMENTS["insert_key"], rows.write_key(key))
            else:
                known = rows.read_key(found)
                kept = replace(key, created_at_s=known.created_at_s, revision=known.revision)
                if known == kept:
                    continue
                cursor.execute(STATEMENTS["replace_key"], rows.write_key_change(key))
            changed.append(key.name)
            put_limits(cursor, f"key:{key.name}", key.limits, is_declared=True)
        for name in sorted(missing):
            cursor.execute(STATEMENTS["disable_key"], (name,))
        note_declaration(SqliteStore(cursor), act, "keys.declare", changed=changed, gone=missing)

    def declare_limits(self, cursor: Cursor, declaration: tuple[Mapping[str, Limits], Act]) -> None:
        """Make the declared limits of all places but keys exactly these."""
        declared, act = declaration
        known = {
            place: rules
            for place, rules, is_declared, _prepaid in cursor.execute(STATEMENTS["list_limits"]).fetchall()
            if is_declared and not place.startswith("key:")
        }
        wanted = {place: write_limits(limits) for place, limits in declared.items() if limits != NO_LIMITS}
        if known == wanted:
            return
        gone = known.keys() - wanted.keys()
        for place in gone:
            put_limits(cursor, place, NO_LIMITS, is_declared=False)
        for place in wanted:
            put_limits(cursor, place, declared[place], is_declared=True)
        cursor.execute(STATEMENTS["renew_all_keys"])
        changed = [place for place in wanted if wanted[place] != known.get(place)]
        note_declaration(SqliteStore(cursor), act, "limits.declare", changed=changed, gone=gone)

    def prune_rates(self, cursor: Cursor, now_s: float) -> int:
        """Forget pieces of time that no window holds any more."""
        return cursor.execute(STATEMENTS["prune_rates"], (now_s, RATE_SLOTS, RATE_SLOTS)).rowcount

    def roll_up(self, cursor: Cursor, before_s: int) -> int:
        """Sum `ROLLED_PER_CALL_MAX` requests by day and forget their attempts; gives how many attempts."""
        place = (before_s, before_s, ROLLED_PER_CALL_MAX)
        ids = cursor.execute(STATEMENTS["list_rollable"], place).fetchall()
        found = [
            rows.read_attempt(row) for one in ids for row in cursor.execute(STATEMENTS["find_request"], one).fetchall()
        ]
        for day in sum_days(found):
            cursor.execute(STATEMENTS["add_day"], rows.write_day(day))
            tagged = [(scope, day.batch, day.number) for scope in tag_scopes(day.subject)]
            cursor.executemany(STATEMENTS["tag_day"], tagged)
        for row in found:
            scopes = tag_scopes(subject_of_row(row))
            cursor.executemany(STATEMENTS["forget_tag"], [(scope, row.at_s, row.seq) for scope in scopes])
        seqs = [(row.seq,) for row in found]
        cursor.executemany(STATEMENTS["forget_corrections"], seqs)
        cursor.executemany(STATEMENTS["forget_attempt"], seqs)
        return len(found)

    def drop_windows(self, cursor: Cursor, windows: Sequence[tuple[str, int, int]]) -> None:
        """Forget sums of windows that have passed."""
        cursor.executemany(STATEMENTS["drop_window"], windows)

    def _begin(self, cursor: Cursor, request_id: str, admission: Admission, *, grant: Grant) -> PendingAttempt | None:
        """Write the holds and give the last; None when the id is taken, which the first finds out without a look-up."""
        begun: PendingAttempt | None = None
        first, last = admission.attempts[0], admission.attempts[-1]
        assert first.number == 1, "a request's attempts count from 1, so its id is taken exactly when it has a first"
        for start in admission.attempts:
            reserve = grant.reserve(start)
            cursor.execute(
                _BEGIN_ATTEMPT,
                (
                    request_id,
                    start.number,
                    int(start is last),
                    self._owner_id,
                    admission.at_s,
                    admission.key_name,
                    admission.tenant,
                    admission.app,
                    admission.route,
                    int(admission.is_stream),
                    *rows.write_start(start, reserve=reserve),
                    admission.user,
                    rows.write_tags(admission.tags),
                    start.alias or admission.alias or admission.route,
                ),
            )
            if start is first and cursor.rowcount == 0:
                return None
            seq, subject, hold = cursor.lastrowid or 0, subject_of(admission, start), start.hold_nano_usd
            self._accounts.hold(cursor, subject, admission.at_s, hold)
            number, at_s = start.number, admission.at_s
            begun = PendingAttempt(seq, request_id, number, at_s, hold, start.is_priced, reserve, subject)
        return begun

    def _end_all(self, cursor: Cursor, pending: Sequence[PendingAttempt], settlement: Settlement) -> set[int]:
        """End attempts as a settlement says, those it does not name in full; gives which had not ended before."""
        over, at_s = set(), settlement.at_s
        for attempt, end in pair_ends(pending, settlement.ended):
            if end is None:
                has_ended = self._accounts.post_in_full(cursor, attempt, at_s=at_s, error=ERROR_UNSETTLED)
            else:
                has_ended = self._accounts.end(cursor, attempt, end, at_s)
            if has_ended:
                over.add(attempt.number)
        return over

    def _begin_next(self, cursor: Cursor, step: Advance, ended: PendingAttempt, *, grant: Grant) -> None:
        start = step.begins
        written = rows.write_start(start, reserve=grant.reserve(start))
        own = (start.number, self._owner_id, step.at_s, start.alias or None)
        cursor.execute(_BEGIN_NEXT_ATTEMPT, (*own, *written, ended.seq))
        self._accounts.hold(cursor, next_subject(ended.subject, start), step.at_s, start.hold_nano_usd)


def _is_taken(cursor: Cursor, request_id: str) -> bool:
    return cursor.execute(_IS_REQUEST_TAKEN, (request_id,)).fetchone() is not None


def _read_pending(cursor: Cursor, request_id: str) -> list[PendingAttempt]:
    return [rows.read_pending(row) for row in cursor.execute(_FIND_PENDING, (request_id,)).fetchall()]


def _list_keys(cursor: Cursor) -> list[KeyRecord]:
    return [rows.read_key(row) for row in cursor.execute(STATEMENTS["list_keys"]).fetchall()]
