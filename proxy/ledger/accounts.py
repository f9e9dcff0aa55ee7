"""What attempts do to the books as they begin and end (floor 2, SQLite), inside the writer's transaction."""

from __future__ import annotations

from sqlite3 import Cursor

from proxy.ledger import rows
from proxy.ledger.admission import PendingAttempt, count_tokens, find_posted_nano_usd
from proxy.ledger.records import AttemptEnd
from proxy.ledger.sheet import Sheet
from proxy.ledger.sql import STATEMENTS
from proxy.policy.lookups import LOOKUP_AFTER_S
from proxy.policy.scopes import Subject, tag_scopes

_END_ATTEMPT = STATEMENTS["end_attempt"]
_POST_IN_FULL = STATEMENTS["post_in_full"]
_ADD_LOOKUP = STATEMENTS["add_lookup"]


class Accounts:
    """Keeps every window of every scope what its attempts come to."""

    def __init__(self, sheet: Sheet) -> None:
        """Count on the sheet of the batch."""
        self._sheet = sheet

    def hold(self, cursor: Cursor, subject: Subject, at_s: float, held: int) -> None:
        """Count a new attempt, the one whose row was written last."""
        if subject.tags:
            seq = cursor.lastrowid
            for scope in tag_scopes(subject):
                cursor.execute(STATEMENTS["tag_attempt"], (scope, at_s, seq))
        self._sheet.note_open(subject, 1)
        self._sheet.move(subject, at_s, posted=0, held=held)

    def end(self, cursor: Cursor, attempt: PendingAttempt, end: AttemptEnd, at_s: float) -> bool:
        """Write how an attempt ended; False when it had ended before, and nothing is written."""
        if cursor.execute(_END_ATTEMPT, rows.write_end(end, at_s, attempt.seq)).rowcount == 0:
            return False
        tokens = 0 if attempt.reserve is None else count_tokens(end, attempt.reserve.tokens)
        self.release(attempt, posted=find_posted_nano_usd(end), tokens=tokens)
        if end.is_lookup_due and end.generation_id is not None:
            cursor.execute(_ADD_LOOKUP, (attempt.seq, at_s + LOOKUP_AFTER_S[0], None, 0, 0))
        return True

    def post_in_full(self, cursor: Cursor, attempt: PendingAttempt, *, at_s: float, error: str) -> bool:
        """Book the whole hold, as nobody can tell what it cost; False when it had ended before."""
        if cursor.execute(_POST_IN_FULL, (at_s, error, attempt.seq)).rowcount == 0:
            return False
        posted = attempt.hold_nano_usd if attempt.is_priced else 0
        self.release(attempt, posted=posted, tokens=0 if attempt.reserve is None else attempt.reserve.tokens)
        return True

    def release(self, attempt: PendingAttempt, *, posted: int, tokens: int) -> None:
        """Give back what an attempt held, and book what it came to."""
        self._sheet.note_open(attempt.subject, -1)
        self.move(attempt.subject, attempt.at_s, posted=posted, held=-attempt.hold_nano_usd)
        if attempt.reserve is not None:
            self._sheet.correct(attempt.reserve, tokens)

    def note_unresolved(self, attempt: PendingAttempt) -> None:
        """Count an attempt as under way no more, although its hold stays."""
        self._sheet.note_open(attempt.subject, -1)

    def correct(self, attempt: PendingAttempt, difference: int) -> None:
        """Tell the rates of tokens by how many the count of an attempt that is over was wrong."""
        if attempt.reserve is not None:
            self._sheet.correct(attempt.reserve, attempt.reserve.tokens + difference)

    def move(self, subject: Subject, at_s: float, *, posted: int, held: int) -> None:
        """Move what changed at an attempt's moment in every window that is kept of its scopes."""
        self._sheet.move(subject, at_s, posted=posted, held=held)
