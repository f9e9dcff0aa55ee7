"""The catalogue as of today (part of `catalogue`, floor 2): dated rows that have come into force, prices fetched since.

Nothing is read while requests run. Whoever loads a routing table says `renew` first; `stamp` tells him when that would
give something new. What a request was planned with it keeps: facts are values, and renewing makes new ones.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

from proxy.catalogue.refreshed import Refreshed, RefreshedError, read_refreshed
from proxy.catalogue.rows import ProviderRows
from proxy.clock import Clock
from proxy.routing.table import Catalogue

STALE_DAYS = 30
"""Fetched prices older than this are not used: somebody has stopped fetching, and a newer version may know better."""

Build = Callable[[date, Refreshed | None], dict[str, ProviderRows]]


class LiveCatalogue(Catalogue):
    """The shipped facts with what is newer laid over them."""

    def __init__(self, build: Build, *, shipped_as_of: str, refreshed: Path | None, clock: Clock) -> None:
        """Begin with what shipped, as of today; `refreshed` need not exist."""
        self._build = build
        self._shipped_as_of = shipped_as_of
        self._refreshed = refreshed
        self._clock = clock
        super().__init__(build(self._today(), None))

    def stamp(self) -> tuple[object, ...]:
        """Tell one state of the day and of the fetched prices from another; cheap, for a poll."""
        try:
            status = self._refreshed.stat() if self._refreshed is not None else None
        except OSError:
            status = None
        seen = None if status is None else (status.st_ino, status.st_size, status.st_mtime_ns)
        return (self._today(), seen)

    def renew(self, *, is_live: bool) -> tuple[str, ...]:
        """Take up what is new, fetched prices only when wanted (`is_live`); gives what the operator should know.

        Prices that cannot be used, or are older than those that shipped, change nothing.
        """
        fetched, notes = self._find_fetched() if is_live else (None, ())
        self._facts = self._build(self._today(), fetched)
        return notes

    def _find_fetched(self) -> tuple[Refreshed | None, tuple[str, ...]]:
        if self._refreshed is None:
            return None, ()
        try:
            found = read_refreshed(self._refreshed)
        except RefreshedError as error:
            return None, (f"prices: {error}; the shipped prices are used until they are fetched again",)
        if found is None:
            return None, ()
        age_days = (self._today() - found.fetched_on).days
        if age_days > STALE_DAYS:
            return None, (f"prices: those fetched are {age_days} days old; the shipped prices are used",)
        return (found, ()) if found.fetched_on.isoformat() >= self._shipped_as_of else (None, ())

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock.now_s(), UTC).date()
