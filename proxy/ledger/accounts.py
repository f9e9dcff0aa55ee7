"""What attempts do to balances and rates as they begin and end (floor 2, SQLite), inside the writer's transaction."""

from __future__ import annotations

from sqlite3 import Cursor

from proxy.ledger import rows
from proxy.ledger.admission import PendingAttempt, count_tokens, find_posted_nano_usd
from proxy.ledger.records import AttemptEnd
from proxy.ledger.sql import STATEMENTS
from proxy.ledger.standing import Kept, correct_rates, fill_places
from proxy.policy.scopes import Subject, accounts_of, tag_scopes

_END_ATTEMPT = STATEMENTS["end_attempt"]
_POST_IN_FULL = STATEMENTS["post_in_full"]


class Accounts:
    """Keeps every window of every scope what its attempts come to."""

    def __init__(self) -> None:
        """Begin knowing nothing of what is kept."""
        self._kept = Kept()

    def hold(self, cursor: Cursor, subject: Subject, at_s: float, held: int) -> None:
        """Count a new attempt, the one whose row was written last."""
        if subject.tags:
            seq = cursor.lastrowid
            for scope in tag_scopes(subject):
                cursor.execute(STATEMENTS["tag_attempt"], (scope, at_s, seq))
        self.move(cursor, subject, at_s, posted=0, held=held)

    def end(self, cursor: Cursor, attempt: PendingAttempt, end: AttemptEnd, at_s: float) -> None:
        """Write how an attempt ended."""
        cursor.execute(_END_ATTEMPT, rows.write_end(end, at_s, attempt.seq))
        tokens = 0 if attempt.reserve is None else count_tokens(end, attempt.reserve.tokens)
        self.release(cursor, attempt, posted=find_posted_nano_usd(end), tokens=tokens)

    def post_in_full(self, cursor: Cursor, attempt: PendingAttempt, *, at_s: float, error: str) -> None:
        """Book the whole hold, as nobody can tell what it cost."""
        cursor.execute(_POST_IN_FULL, (at_s, error, attempt.seq))
        posted = attempt.hold_nano_usd if attempt.is_priced else 0
        self.release(cursor, attempt, posted=posted, tokens=0 if attempt.reserve is None else attempt.reserve.tokens)

    def release(self, cursor: Cursor, attempt: PendingAttempt, *, posted: int, tokens: int) -> None:
        """Give back what an attempt held, and book what it came to."""
        self.move(cursor, attempt.subject, attempt.at_s, posted=posted, held=-attempt.hold_nano_usd)
        if attempt.reserve is not None:
            correct_rates(cursor, attempt.reserve, tokens)

    def move(self, cursor: Cursor, subject: Subject, at_s: float, *, posted: int, held: int) -> None:
        """Move what changed at an attempt's moment in every window that is kept of its scopes."""
        scopes = self._kept.select(cursor, accounts_of(subject))
        if scopes:
            cursor.execute(fill_places("move_balances", len(scopes)), (posted, held, at_s, at_s, *scopes))
