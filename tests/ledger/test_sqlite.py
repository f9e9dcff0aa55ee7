"""What only the SQLite ledger must keep: starts that fail let go, reads that fail say so, many may be dead at once."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.errors import LedgerUnavailable
from proxy.ledger import books
from proxy.ledger.locks import FileLock
from proxy.ledger.records import UsageQuery
from proxy.ledger.sqlite import SqliteLedger
from tests.ledger.entries import NOON_S, ask, key, stand
from tests.ledger.houses import SqliteHouse

ROOT = Path(__file__).parents[2]

LEAVE_OPEN = """
import asyncio, sys
from pathlib import Path
from proxy.clock import SystemClock
from proxy.ledger.sqlite import SqliteLedger

async def main():
    global ledger
    ledger = await SqliteLedger.open(Path(sys.argv[1]), clock=SystemClock())
    await ledger.list_keys()
    raise SystemExit(2)

asyncio.run(main())
"""


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[SqliteHouse]:
    """A data folder."""
    house = SqliteHouse(tmp_path)
    yield house
    await house.close()


async def test_a_start_that_fails_lets_go_of_everything(house: SqliteHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers that cannot be opened leave no owner, no lock and no thread behind."""

    def connect(path: Path, *, is_reader: bool) -> sqlite3.Connection:
        raise sqlite3.OperationalError("unable to open database file")

    with monkeypatch.context() as patched:
        patched.setattr("proxy.ledger.reports.connect", connect)
        with pytest.raises(LedgerUnavailable, match=r"ledger\.db cannot be used"):
            await house.open()
    assert list((house.data_dir / "owners").iterdir()) == []
    lock = FileLock(house.data_dir / "writer.lock")
    assert lock.try_acquire()
    lock.close()
    await house.open()


def test_a_process_that_fails_before_closing_ends_all_the_same(tmp_path: Path) -> None:
    """No thread of the ledger keeps a process alive that has given up."""
    command = [sys.executable, "-c", LEAVE_OPEN, str(tmp_path / "data")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=20, check=False)
    assert ended.returncode == 2


async def test_reads_that_fail_say_so(house: SqliteHouse) -> None:
    """A table that is gone is trouble of the store, not an empty answer."""
    ledger = await house.open()
    connection = sqlite3.connect(house.data_dir / "ledger.db")
    connection.execute("DROP TABLE attempts")
    connection.close()
    with pytest.raises(LedgerUnavailable, match=r"ledger\.db cannot be used: no such table") as caught:
        await ledger.sum_usage(UsageQuery())
    assert isinstance(caught.value.__cause__, sqlite3.Error)


async def test_owners_that_cannot_be_asked_say_so(house: SqliteHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is taken for dead because his lock could not be read."""
    ledger = await house.open()
    await ledger.declare_keys([key()])
    await ledger.admit(ask("r", 10))
    await house.kill(ledger)
    other = await house.open()

    def try_acquire(lock: FileLock) -> bool:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(FileLock, "try_acquire", try_acquire)
        with pytest.raises(LedgerUnavailable, match="Operation not permitted"):
            await other.resolve_dead_owners(NOON_S)
    assert await stand(other) == (0, 10)
    assert await other.resolve_dead_owners(NOON_S) == 1


async def test_many_holds_of_the_dead_are_resolved_in_pieces(
    house: SqliteHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests of the living come in between, and nothing is left over."""
    monkeypatch.setattr("proxy.ledger.sqlite.RESOLVED_PER_CALL_MAX", 3)
    monkeypatch.setattr(books, "RESOLVED_PER_CALL_MAX", 3)
    dead, living = await house.open(), await house.open()
    await living.declare_keys([key(limit=1000)])
    await asyncio.gather(*(dead.admit(ask(f"r{number}", 10)) for number in range(10)))
    await house.kill(dead)
    assert await living.resolve_dead_owners(NOON_S) == 10
    assert await stand(living) == (100, 0)


async def test_the_dead_with_nothing_pending_are_buried(house: SqliteHouse) -> None:
    """A process that was killed while idle leaves no file for ever."""
    living, dead = await house.open(), await house.open()
    await house.kill(dead)
    assert len(list((house.data_dir / "owners").iterdir())) == 2
    assert await living.resolve_dead_owners(NOON_S) == 0
    assert len(list((house.data_dir / "owners").iterdir())) == 1


async def test_reads_see_every_finished_write(tmp_path: Path) -> None:
    """Whatever was awaited is in the next answer."""
    ledger = await SqliteLedger.open(tmp_path / "data", clock=ManualClock())
    await ledger.declare_keys([key(limit=None)])
    for number in range(50):
        await ledger.admit(ask(f"r{number}"))
        (found,) = await ledger.sum_usage(UsageQuery())
        assert found.requests == number + 1
    await ledger.close()
