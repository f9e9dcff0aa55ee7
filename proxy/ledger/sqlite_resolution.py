"""Late truths on SQLite (floor 2): `resolution.sql`, run inside the writer's transactions.

What is booked, the balances, the journal's entry and the question that led there change together or not at all.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from sqlite3 import Cursor

from proxy.ledger import rows
from proxy.ledger.admission import ERROR_OWNER_DIED, PendingAttempt, find_posted_nano_usd
from proxy.ledger.correcting import Booked, Dead, is_given_up, judge_dead, judge_exhausted, judge_truth
from proxy.ledger.progress import remove_progress, write_progress
from proxy.ledger.records import AttemptEnd, AttemptState
from proxy.ledger.reports import Reports
from proxy.ledger.resolution import Correction, DueLookup, Progress, Reason, Resolved, Truth
from proxy.ledger.schema import explain
from proxy.ledger.sql import parse_blocks
from proxy.ledger.standing import correct_tokens, move_balances, release
from proxy.ledger.writer import Writer
from proxy.policy.lookups import HELD_TRIES, LOOKUP_AFTER_S, TRIES_MAX, find_delay_s
from proxy.usage import CostSource

_STATEMENTS = parse_blocks(resources.files("proxy.ledger").joinpath("resolution.sql").read_text("utf-8"))
_ADD_LOOKUP = _STATEMENTS["add_lookup"]
_LEASE_S = 60.0
"""Time for the last try, should the process that makes it die."""


class SqliteResolution:
    """The `Resolution` of resolution.py."""

    def __init__(self, writer: Writer, reports: Reports, *, progress: Path) -> None:
        self._writer = writer
        self._reports = reports
        self._progress = progress
        self._is_noted = False

    async def note_progress(self, progress: Sequence[Progress]) -> None:
        """Keep what this process's open attempts have come to; a process that idles writes nothing."""
        if not progress and not self._is_noted:
            return
        self._is_noted = bool(progress)
        try:
            if progress:
                await asyncio.to_thread(write_progress, self._progress, progress)
            else:
                await asyncio.to_thread(remove_progress, self._progress)
        except OSError as error:
            raise explain(error) from error

    async def claim_lookups(self, now_s: float, *, count_max: int) -> Sequence[DueLookup]:
        """Take the look-ups that are due; the writer is not asked when there are none."""
        if not await self._reports.read(_STATEMENTS["is_lookup_due"], (now_s,)):
            return []
        return await self._writer.call(_claim, (now_s, count_max))

    async def correct(self, truth: Truth) -> Resolved | None:
        """Book a truth and end its look-up; None when it changes nothing."""
        return await self._writer.call(correct, truth)

    async def miss_lookup(self, lookup: DueLookup, at_s: float) -> bool:
        """Note that a try told nothing; tells whether an unresolved attempt was booked for it."""
        return await self._writer.call(_miss, (lookup, at_s))


def leave_open(cursor: Cursor, attempt: PendingAttempt, dead: Dead) -> bool:
    """Resolve a dead owner's attempt by what is known of it, now or once its provider was asked; False: by nothing."""
    can_look_up, estimate, progress = judge_dead(attempt, dead.progress)
    if progress is None or not (can_look_up or estimate is not None):
        return False
    seq, tokens = attempt.seq, (progress.input_tokens, progress.output_tokens)
    if can_look_up:
        cursor.execute(_STATEMENTS["leave_unresolved"], (ERROR_OWNER_DIED, progress.generation_id, seq))
        if cursor.rowcount:
            cursor.execute(_ADD_LOOKUP, (seq, dead.now_s + LOOKUP_AFTER_S[0], estimate, *tokens))
        return True
    booked = (dead.now_s, ERROR_OWNER_DIED, estimate, CostSource.ESTIMATED.value, progress.generation_id, *tokens)
    cursor.execute(_STATEMENTS["post_estimate"], (*booked, seq, AttemptState.PENDING.value))
    release(cursor, attempt, posted=estimate or 0, tokens=sum(tokens) or attempt.reserved_tokens or 0)
    return True


def ask_later(cursor: Cursor, seq: int, at_s: float) -> None:
    """Have the provider asked what an attempt cost that was booked without its word."""
    cursor.execute(_ADD_LOOKUP, (seq, at_s + LOOKUP_AFTER_S[0], None, 0, 0))


def settle_late(cursor: Cursor, request_id: str, end: AttemptEnd, at_s: float) -> bool:
    """Book the end of an attempt that had been given up; False when it had not, or its end is known."""
    found = cursor.execute(_STATEMENTS["find_attempt"], (request_id, end.number)).fetchone()
    if found is None or not is_given_up(AttemptState(found[1]), found[2]):
        return False
    cost = find_posted_nano_usd(end) if end.cost_nano_usd is not None else None
    truth = Truth(found[0], cost, end.cost_source, end.usage, Reason.LATE, at_s)
    if correct(cursor, truth) is None:
        return False
    # No longer one that was given up: it ended as its process says.
    cursor.execute(_STATEMENTS["put_error"], (end.error, truth.attempt_seq))
    return True


def correct(cursor: Cursor, truth: Truth) -> Resolved | None:
    """Change a row to the truth, say so in the journal, and move what is kept of its scopes."""
    seq = truth.attempt_seq
    booked = _read_booked(cursor, seq)
    if booked is None or cursor.execute(_STATEMENTS["is_corrected"], (seq, truth.reason.value)).fetchone():
        return None
    change = judge_truth(booked, truth)
    if booked.state is not AttemptState.PENDING:
        cursor.execute(_STATEMENTS["drop_lookup"], (seq,))
    if change is None:
        return None
    usage, source = truth.usage, truth.cost_source and truth.cost_source.value
    counts = (*usage[:8], usage.cost_nano_usd, int(usage.is_byok))
    anomalies = json.dumps(usage.anomalies) if usage.anomalies else None
    cost = truth.cost_nano_usd if truth.cost_source is not None else 0
    head = (change.state.value, truth.at_s, cost, source, int(change.is_overrun))
    cursor.execute(_STATEMENTS["put_truth"], (*head, *counts, anomalies, seq))
    if change.correction is not None:
        _write_correction(cursor, seq, truth.at_s, change.correction)
    subject, at_s = booked.attempt.subject, booked.attempt.at_s
    move_balances(cursor, subject, at_s, posted=change.posted_nano_usd, held=change.held_nano_usd)
    if change.tokens:
        correct_tokens(cursor, booked.attempt, change.tokens)
    return Resolved(change.correction)


def _write_correction(cursor: Cursor, seq: int, at_s: float, correction: Correction) -> None:
    was_nano_usd, was_source, delta_nano_usd, source, reason = correction
    sources = (was_source and was_source.value, delta_nano_usd, source and source.value)
    cursor.execute(_STATEMENTS["add_correction"], (seq, at_s, was_nano_usd, *sources, reason.value))


def _read_booked(cursor: Cursor, seq: int) -> Booked | None:
    found = cursor.execute(_STATEMENTS["find_booked"], (seq,)).fetchone()
    if found is None:
        return None
    state, cost_nano_usd, source, tokens, *attempt = found
    known = None if source is None else CostSource(source)
    return Booked(rows.read_pending(attempt), AttemptState(state), cost_nano_usd, known, tokens)


def _claim(cursor: Cursor, due: tuple[float, int]) -> list[DueLookup]:
    now_s, _count_max = due
    claimed = []
    for row in cursor.execute(_STATEMENTS["list_due_lookups"], due).fetchall():
        lookup = DueLookup._make(row)
        tries = min(lookup.tries + 1, TRIES_MAX)
        due_s = now_s + (find_delay_s(tries) or _LEASE_S)
        cursor.execute(_STATEMENTS["claim_lookup"], (due_s, tries, lookup.attempt_seq))
        claimed.append(lookup._replace(tries=tries, is_unresolved=bool(lookup.is_unresolved)))
    return claimed


def _miss(cursor: Cursor, missed: tuple[DueLookup, float]) -> bool:
    lookup, at_s = missed
    is_booked = lookup.tries >= HELD_TRIES and _book_known(cursor, lookup.attempt_seq, at_s)
    if lookup.tries >= TRIES_MAX:
        cursor.execute(_STATEMENTS["drop_lookup"], (lookup.attempt_seq,))
    return is_booked


def _book_known(cursor: Cursor, seq: int, at_s: float) -> bool:
    """Book an unresolved attempt by its checkpoint, else in full; False when it is resolved already."""
    booked = _read_booked(cursor, seq)
    known = cursor.execute(_STATEMENTS["find_lookup"], (seq,)).fetchone()
    if booked is None or known is None or booked.state is not AttemptState.UNRESOLVED:
        return False
    estimate, *tokens = known
    cost, source = judge_exhausted(booked.attempt, estimate)
    end = (at_s, ERROR_OWNER_DIED, cost, source.value, None, *tokens)
    cursor.execute(_STATEMENTS["post_estimate"], (*end, seq, AttemptState.UNRESOLVED.value))
    release(cursor, booked.attempt, posted=cost or 0, tokens=sum(tokens) or booked.attempt.reserved_tokens or 0)
    return True
