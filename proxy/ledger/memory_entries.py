"""One attempt as the ledger's twin in memory keeps it (floor 2)."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.ledger.admission import PendingAttempt, Reserve
from proxy.ledger.records import Admission, AttemptRow
from proxy.ledger.rolling import subject_of_row
from proxy.policy.scopes import Subject, scopes_of


@dataclass(slots=True)
class Entry:
    """One attempt and what its row does not show."""

    row: AttemptRow
    admission: Admission
    owner: int
    is_priced: bool
    reserve: Reserve | None
    is_rolled: bool = False
    """Its detail has gone: it counts in sums, on a day, and is told nowhere else."""

    @property
    def subject(self) -> Subject:
        """Whom it counts for."""
        return subject_of_row(self.row)._replace(parent=self.admission.parent)

    @property
    def pending(self) -> PendingAttempt:
        """Its hold, as the shared rules take it."""
        row = self.row
        return PendingAttempt(
            row.seq,
            row.request_id,
            row.attempt,
            row.at_s,
            row.hold_nano_usd,
            self.is_priced,
            self.reserve,
            self.subject,
        )

    def counts_in(self, scope: str) -> bool:
        """Tell whether it counts in a scope."""
        return scope in scopes_of(self.subject)
