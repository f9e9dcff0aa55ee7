"""Where a contract test's ledgers live: several owners of the same books, any of which may be killed."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from proxy.clock import ManualClock
from proxy.ledger.memory import MemoryLedger
from proxy.ledger.protocol import Ledger
from proxy.ledger.sqlite import SqliteLedger
from tests.ledger.entries import NOON_S


class House(Protocol):
    """The books of one data folder, whatever that is."""

    async def open(self) -> Ledger:
        """Open the books as one more process."""
        ...

    async def kill(self, ledger: Ledger) -> None:
        """End a process as kill -9 would."""
        ...

    async def close(self) -> None:
        """Close everything that is open."""
        ...


class MemoryHouse:
    """Books in plain dicts."""

    def __init__(self) -> None:
        self._first = MemoryLedger(clock=ManualClock(NOON_S))

    async def open(self) -> Ledger:
        """Join the first owner."""
        return self._first.share()

    async def kill(self, ledger: Ledger) -> None:
        """Let an owner die."""
        assert isinstance(ledger, MemoryLedger)
        ledger.die()

    async def close(self) -> None:
        """Nothing is kept anywhere."""


class SqliteHouse:
    """Books in a folder; every ledger here has its own threads, locks and name, as if it were another process."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self._opened: list[SqliteLedger] = []

    async def open(self) -> SqliteLedger:
        """Open the folder once more."""
        ledger = await SqliteLedger.open(self.data_dir, clock=ManualClock(NOON_S))
        self._opened.append(ledger)
        return ledger

    async def kill(self, ledger: Ledger) -> None:
        """Drop the proof of life first, so that closing the rest leaves what a killed process leaves."""
        assert isinstance(ledger, SqliteLedger)
        ledger._owner.abandon()  # noqa: SLF001  # no process kills itself in public
        await ledger.close()

    async def close(self) -> None:
        """Close every ledger; those that are closed do not mind."""
        for ledger in self._opened:
            await ledger.close()
