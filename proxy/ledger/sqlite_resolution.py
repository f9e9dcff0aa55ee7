"""What is learnt late, on SQLite (floor 2): the file that outlives the process, and calls of the ledger's threads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from proxy.ledger.late import LATE_STATEMENTS, LateBooks, claim
from proxy.ledger.progress import remove_progress, write_progress
from proxy.ledger.reports import Reports
from proxy.ledger.resolution import DueLookup, Progress, Resolved, Truth
from proxy.ledger.schema import explain
from proxy.ledger.writer import Writer


class SqliteResolution:
    """The `Resolution` of resolution.py."""

    def __init__(self, writer: Writer, reports: Reports, late: LateBooks, *, progress: Path) -> None:
        self._writer = writer
        self._reports = reports
        self._late = late
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
        if not await self._reports.read(LATE_STATEMENTS["is_lookup_due"], (now_s,)):
            return []
        return await self._writer.call(claim, (now_s, count_max))

    async def correct(self, truth: Truth) -> Resolved | None:
        """Book a truth and end its look-up; None when it changes nothing."""
        return await self._writer.call(self._late.correct, truth)

    async def miss_lookup(self, lookup: DueLookup, at_s: float) -> bool:
        """Note that a try told nothing; tells whether an unresolved attempt was booked for it."""
        return await self._writer.call(self._late.miss, (lookup, at_s))
