"""Late truths inside the writer's transaction (floor 2, SQLite): `resolution.sql`.

What is booked, the balances, the journal's entry and the question that led there change together or not at all.
"""

from __future__ import annotations

from importlib import resources
from sqlite3 import Cursor

from proxy.ledger import rows
from proxy.ledger.accounts import Accounts
from proxy.ledger.admission import ERROR_OWNER_DIED, PendingAttempt
from proxy.ledger.correcting import Booked, Dead, is_given_up, judge_dead, judge_exhausted, judge_truth
from proxy.ledger.records import AttemptEnd, AttemptState
from proxy.ledger.resolution import Correction, DueLookup, Reason, Resolved, Truth
from proxy.ledger.sql import STATEMENTS, parse_blocks
from proxy.policy.lookups import HELD_TRIES, LOOKUP_AFTER_S, TRIES_MAX, find_delay_s
from proxy.usage import CostSource

LEASE_S = 60.0
"""Time for the last try, should the process that makes it die."""
LATE_STATEMENTS = parse_blocks(resources.files("proxy.ledger").joinpath("resolution.sql").read_text("utf-8"))

_ADD_LOOKUP = STATEMENTS["add_lookup"]


class LateBooks:
    """Writes what is learnt of an attempt when nobody waits for its end any more."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def leave_open(self, cursor: Cursor, attempt: PendingAttempt, dead: Dead) -> bool:
        """Resolve a dead owner's attempt by what is known, now or once its provider was asked; False: by nothing."""
        can_look_up, estimate, progress = judge_dead(attempt, dead.progress)
        if progress is None or not (can_look_up or estimate is not None):
            return False
        seq, tokens = attempt.seq, (progress.input_tokens, progress.output_tokens)
        if can_look_up:
            facts = (ERROR_OWNER_DIED, progress.generation_id, seq)
            cursor.execute(LATE_STATEMENTS["leave_unresolved"], facts)
            cursor.execute(_ADD_LOOKUP, (seq, dead.now_s + LOOKUP_AFTER_S[0], estimate, *tokens))
            self._accounts.note_unresolved(attempt)
            return True
        booked = (dead.now_s, ERROR_OWNER_DIED, estimate, CostSource.ESTIMATED.value, progress.generation_id, *tokens)
        cursor.execute(LATE_STATEMENTS["post_known"], (*booked, seq, AttemptState.PENDING.value))
        reserved = 0 if attempt.reserve is None else attempt.reserve.tokens
        self._accounts.release(attempt, posted=estimate or 0, tokens=sum(tokens) or reserved)
        return True

    def settle(self, cursor: Cursor, request_id: str, end: AttemptEnd, at_s: float) -> bool:
        """Book the end of an attempt that had been given up; False when it had not, or its end is known."""
        found = cursor.execute(LATE_STATEMENTS["find_attempt"], (request_id, end.number)).fetchone()
        if found is None or not is_given_up(AttemptState(found[1]), found[2]):
            return False
        cost = end.cost_nano_usd if end.state is AttemptState.POSTED else 0
        if self.correct(cursor, Truth(found[0], cost, end.cost_source, end.usage, Reason.LATE, at_s)) is None:
            return False
        # No longer one that was given up: it ended as its process says.
        cursor.execute(LATE_STATEMENTS["put_error"], (end.error, found[0]))
        return True

    def correct(self, cursor: Cursor, truth: Truth) -> Resolved | None:
        """Change a row to the truth, say so in the journal, and move what is kept of its scopes."""
        seq = truth.attempt_seq
        booked = _read_booked(cursor, seq)
        if booked is None or cursor.execute(LATE_STATEMENTS["is_corrected"], (seq, truth.reason.value)).fetchone():
            return None
        change = judge_truth(booked, truth)
        if booked.state is not AttemptState.PENDING:
            cursor.execute(LATE_STATEMENTS["drop_lookup"], (seq,))
        if change is None:
            return None
        cursor.execute(LATE_STATEMENTS["put_truth"], (change.state.value, int(change.is_overrun), *_write(truth)))
        if change.correction is not None:
            _write_correction(cursor, seq, truth.at_s, change.correction)
        attempt = booked.attempt
        posted, held = change.posted_nano_usd, change.held_nano_usd
        self._accounts.move(attempt.subject, attempt.at_s, posted=posted, held=held)
        self._accounts.correct(attempt, change.tokens)
        return Resolved(change.correction)

    def miss(self, cursor: Cursor, missed: tuple[DueLookup, float]) -> bool:
        """Note that a try told nothing; tells whether an unresolved attempt was booked for it."""
        lookup, at_s = missed
        is_booked = lookup.tries >= HELD_TRIES and self._book_known(cursor, lookup.attempt_seq, at_s)
        if lookup.tries >= TRIES_MAX:
            cursor.execute(LATE_STATEMENTS["drop_lookup"], (lookup.attempt_seq,))
        return is_booked

    def _book_known(self, cursor: Cursor, seq: int, at_s: float) -> bool:
        """Book an unresolved attempt by its checkpoint, else in full; False when it is resolved already."""
        booked = _read_booked(cursor, seq)
        known = cursor.execute(LATE_STATEMENTS["find_lookup"], (seq,)).fetchone()
        if booked is None or known is None or booked.state is not AttemptState.UNRESOLVED:
            return False
        estimate, *tokens = known
        cost, source = judge_exhausted(booked.attempt, estimate)
        end = (at_s, ERROR_OWNER_DIED, cost, source.value, None, *tokens)
        cursor.execute(LATE_STATEMENTS["post_known"], (*end, seq, AttemptState.UNRESOLVED.value))
        attempt = booked.attempt
        self._accounts.move(attempt.subject, attempt.at_s, posted=cost or 0, held=-attempt.hold_nano_usd)
        if sum(tokens) and attempt.reserve is not None:
            self._accounts.correct(attempt, sum(tokens) - attempt.reserve.tokens)
        return True


def claim(cursor: Cursor, due: tuple[float, int]) -> list[DueLookup]:
    """Take look-ups that are due at a moment, so many at most, and set each one's next time."""
    now_s, _count_max = due
    claimed = []
    for row in cursor.execute(LATE_STATEMENTS["list_due_lookups"], due).fetchall():
        lookup = DueLookup._make(row)
        tries = min(lookup.tries + 1, TRIES_MAX)
        due_s = now_s + (find_delay_s(tries) or LEASE_S)
        cursor.execute(LATE_STATEMENTS["claim_lookup"], (due_s, tries, lookup.attempt_seq))
        claimed.append(lookup._replace(tries=tries, is_unresolved=bool(lookup.is_unresolved)))
    return claimed


def _write(truth: Truth) -> rows.Row:
    """Give the parameters of `put_truth` from the time on."""
    source = truth.cost_source
    cost = 0 if source is None else truth.cost_nano_usd
    return (truth.at_s, cost, source and source.value, *rows.write_usage(truth.usage), truth.attempt_seq)


def _write_correction(cursor: Cursor, seq: int, at_s: float, correction: Correction) -> None:
    was_nano_usd, was_source, delta_nano_usd, source, reason = correction
    sources = (was_source and was_source.value, delta_nano_usd, source and source.value)
    cursor.execute(LATE_STATEMENTS["add_correction"], (seq, at_s, was_nano_usd, *sources, reason.value))


def _read_booked(cursor: Cursor, seq: int) -> Booked | None:
    found = cursor.execute(LATE_STATEMENTS["find_booked"], (seq,)).fetchone()
    if found is None:
        return None
    state, cost_nano_usd, source, tokens, *attempt = found
    known = None if source is None else CostSource(source)
    return Booked(rows.read_pending(attempt), AttemptState(state), cost_nano_usd, known, tokens)
