"""What one call does inside the writer's transaction (floor 2, SQLite): reads, decides by the shared rules, writes.

No transaction begins or ends here, and nothing is remembered between calls: keys, limits and balances are read where
they are decided upon. A call that raises leaves nothing behind: the writer rolls back to the savepoint before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from sqlite3 import Cursor

from proxy.ledger import rows
from proxy.ledger.admission import (
    ERROR_ABANDONED,
    ERROR_OWNER_DIED,
    ERROR_UNSETTLED,
    KeyState,
    Outcome,
    PendingAttempt,
    find_free_id,
    find_held_nano_usd,
    find_posted_nano_usd,
    judge_admission,
    judge_step,
    name_scope,
    pair_ends,
)
from proxy.ledger.records import (
    Admission,
    Admitted,
    Advance,
    AttemptEnd,
    AttemptStart,
    KeyRecord,
    Settlement,
)
from proxy.ledger.sql import STATEMENTS
from proxy.policy.limits import Balance, Window

RESOLVED_PER_CALL_MAX = 500
"""How many attempts of a dead owner one transaction ends, so that requests are not kept waiting behind them."""
FOREVER_S = 253_402_300_800
"""The end of a window that has none: the year 10000, so that every window can be compared with a moment."""

_FIND_KEY_STATE = STATEMENTS["find_key_state"]
_FIND_BALANCE = STATEMENTS["find_balance"]
_OPEN_BALANCE = STATEMENTS["open_balance"]
_MOVE_BALANCES = STATEMENTS["move_balances"]
_IS_REQUEST_TAKEN = STATEMENTS["is_request_taken"]
_BEGIN_ATTEMPT = STATEMENTS["begin_attempt"]
_CLEAR_LAST_ATTEMPT = STATEMENTS["clear_last_attempt"]
_BEGIN_NEXT_ATTEMPT = STATEMENTS["begin_next_attempt"]
_FIND_PENDING = STATEMENTS["find_pending"]
_END_ATTEMPT = STATEMENTS["end_attempt"]
_POST_IN_FULL = STATEMENTS["post_in_full"]
_VOID_ATTEMPT = STATEMENTS["void_attempt"]
_FIND_PENDING_OF_OWNER = STATEMENTS["find_pending_of_owner"]


class Books:
    """The writing half of the ledger, in the name of one owner."""

    def __init__(self, owner_id: str) -> None:
        self._owner_id = owner_id

    def admit(self, cursor: Cursor, admission: Admission) -> Outcome:
        """Check the key and its budget, then write the holds under an id that is free."""
        key = _read_key_state(cursor, admission.key_name)
        refusal = judge_admission(admission, key, partial(_open_balance, cursor))
        if refusal is not None:
            return refusal
        request_id = admission.request_id
        if not self._begin(cursor, request_id, admission):
            request_id = find_free_id(request_id, partial(_is_taken, cursor))
            self._begin(cursor, request_id, admission)
        _move(cursor, admission.key_name, admission.at_s, posted=0, held=find_held_nano_usd(admission))
        return Admitted(request_id)

    def advance(self, cursor: Cursor, step: Advance) -> Outcome:
        """Post what the ended attempt cost and hold the next one under the same limit; refused, nothing changes."""
        pending = {attempt.number: attempt for attempt in _read_pending(cursor, step.request_id)}
        ended = pending.get(step.ended.number)
        if ended is None:
            raise ValueError(f"attempt {step.ended.number} of {step.request_id} is not pending")
        key = _read_key_state(cursor, ended.key_name)
        refusal = judge_step(step, ended, key, partial(_open_balance, cursor))
        if refusal is not None:
            return refusal
        cursor.execute(_CLEAR_LAST_ATTEMPT, (step.request_id,))
        self._begin_next(cursor, step, after_seq=ended.seq)
        _move(cursor, ended.key_name, step.at_s, posted=0, held=step.begins.hold_nano_usd)
        _end(cursor, ended, step.ended, step.at_s)
        return Admitted(step.request_id)

    def settle(self, cursor: Cursor, settlement: Settlement) -> bool:
        """End every pending attempt of the request; False when none is pending."""
        pending = _read_pending(cursor, settlement.request_id)
        for attempt, end in pair_ends(pending, settlement.ended):
            if end is None:
                _post_in_full(cursor, attempt, at_s=settlement.at_s, error=ERROR_UNSETTLED)
            else:
                _end(cursor, attempt, end, settlement.at_s)
        return bool(pending)

    def void(self, cursor: Cursor, begun: tuple[str, Sequence[AttemptStart], float]) -> None:
        """Void attempts whose caller left before it was told that they may begin; none of them had an upstream."""
        request_id, attempts, at_s = begun
        numbers = {start.number for start in attempts}
        for attempt in _read_pending(cursor, request_id):
            if attempt.number in numbers:
                cursor.execute(_VOID_ATTEMPT, (at_s, ERROR_ABANDONED, attempt.seq))
                _move(cursor, attempt.key_name, attempt.at_s, posted=0, held=-attempt.hold_nano_usd)

    def resolve(self, cursor: Cursor, dead: tuple[str, float]) -> int:
        """Post in full what a dead owner left, at most `RESOLVED_PER_CALL_MAX` attempts; gives how many."""
        owner_id, now_s = dead
        found = cursor.execute(_FIND_PENDING_OF_OWNER, (owner_id, RESOLVED_PER_CALL_MAX)).fetchall()
        for attempt in map(PendingAttempt._make, found):
            _post_in_full(cursor, attempt, at_s=now_s, error=ERROR_OWNER_DIED)
        return len(found)

    def create_key(self, cursor: Cursor, key: KeyRecord) -> bool:
        """Add a key unless its name is taken."""
        return cursor.execute(STATEMENTS["insert_key"], rows.write_key(key)).rowcount == 1

    def revoke_key(self, cursor: Cursor, name: str) -> bool:
        """Disable a key, again if need be; False when there is none of that name."""
        cursor.execute(STATEMENTS["disable_key"], (name,))
        return _read_key_state(cursor, name) is not None

    def declare_keys(self, cursor: Cursor, keys: Iterable[KeyRecord]) -> None:
        """Make the declared keys exactly these; a key that did not change keeps its revision."""
        missing = {key.name for key in _list_keys(cursor) if key.is_declared and key.is_enabled}
        for key in (replace(wanted, is_declared=True) for wanted in keys):
            missing.discard(key.name)
            found = cursor.execute(STATEMENTS["find_key_by_name"], (key.name,)).fetchone()
            if found is None:
                cursor.execute(STATEMENTS["insert_key"], rows.write_key(key))
                continue
            known = rows.read_key(found)
            if known != replace(key, created_at_s=known.created_at_s, revision=known.revision):
                cursor.execute(STATEMENTS["replace_key"], rows.write_key_change(key))
        for name in sorted(missing):
            cursor.execute(STATEMENTS["disable_key"], (name,))

    def _begin(self, cursor: Cursor, request_id: str, admission: Admission) -> bool:
        """Write the holds; False when the id is taken, which the first of them finds out without a look-up more."""
        first, last = admission.attempts[0], admission.attempts[-1]
        assert first.number == 1, "a request's attempts count from 1, so its id is taken exactly when it has a first"
        for start in admission.attempts:
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
                    start.provider,
                    start.model,
                    start.hold_nano_usd,
                    int(start.is_priced),
                ),
            )
            if start is first and cursor.rowcount == 0:
                return False
        return True

    def _begin_next(self, cursor: Cursor, step: Advance, *, after_seq: int) -> None:
        start = step.begins
        parameters = (start.number, self._owner_id, step.at_s, start.provider, start.model, start.hold_nano_usd)
        cursor.execute(_BEGIN_NEXT_ATTEMPT, (*parameters, int(start.is_priced), after_seq))


def _read_key_state(cursor: Cursor, name: str) -> KeyState | None:
    found = cursor.execute(_FIND_KEY_STATE, (name,)).fetchone()
    if found is None:
        return None
    is_enabled, expires_at_s, revision, limit_nano_usd, period = found
    return KeyState(bool(is_enabled), expires_at_s, revision, rows.read_budget(limit_nano_usd, period))


def _open_balance(cursor: Cursor, key_name: str, window: Window) -> Balance:
    """Read a window's balance, made of the attempts that count in it when nobody has asked for it yet."""
    scope, ends_s = name_scope(key_name), window.ends_s or FOREVER_S
    place = (scope, ends_s, window.starts_s)
    found = cursor.execute(_FIND_BALANCE, place).fetchone()
    if found is None:
        cursor.execute(_OPEN_BALANCE, (*place, key_name, window.starts_s, ends_s))
        found = cursor.execute(_FIND_BALANCE, place).fetchone()
    return Balance(*found)


def _move(cursor: Cursor, key_name: str, at_s: float, *, posted: int, held: int) -> None:
    cursor.execute(_MOVE_BALANCES, (posted, held, name_scope(key_name), at_s, at_s))


def _is_taken(cursor: Cursor, request_id: str) -> bool:
    return cursor.execute(_IS_REQUEST_TAKEN, (request_id,)).fetchone() is not None


def _read_pending(cursor: Cursor, request_id: str) -> list[PendingAttempt]:
    return [PendingAttempt._make(row) for row in cursor.execute(_FIND_PENDING, (request_id,)).fetchall()]


def _end(cursor: Cursor, attempt: PendingAttempt, end: AttemptEnd, at_s: float) -> None:
    cursor.execute(_END_ATTEMPT, rows.write_end(end, at_s, attempt.seq))
    posted = find_posted_nano_usd(end)
    _move(cursor, attempt.key_name, attempt.at_s, posted=posted, held=-attempt.hold_nano_usd)


def _post_in_full(cursor: Cursor, attempt: PendingAttempt, *, at_s: float, error: str) -> None:
    cursor.execute(_POST_IN_FULL, (at_s, error, attempt.seq))
    posted = attempt.hold_nano_usd if attempt.is_priced else 0
    _move(cursor, attempt.key_name, attempt.at_s, posted=posted, held=-attempt.hold_nano_usd)


def _list_keys(cursor: Cursor) -> list[KeyRecord]:
    return [rows.read_key(row) for row in cursor.execute(STATEMENTS["list_keys"]).fetchall()]
