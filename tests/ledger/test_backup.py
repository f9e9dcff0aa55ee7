"""A copy of the books made while they are written: whole, verified, private, and a ledger again where it is put."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import stat
import sys
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.errors import LedgerUnavailable
from proxy.ledger import backup
from proxy.ledger.backup import back_up
from proxy.ledger.records import Admitted, AttemptState
from proxy.ledger.schema import find_file
from proxy.ledger.sqlite import SqliteLedger
from proxy.usage import CostSource
from tests.ledger.entries import NOON_S, ask, key, over, posted, stand
from tests.ledger.filling import fill
from tests.ledger.houses import SqliteHouse

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[SqliteHouse]:
    """Books with one request over and one open, which a living process has open too."""
    house = SqliteHouse(tmp_path)
    ledger = await house.open()
    await ledger.declare_keys([key(limit=10**12)])
    await ledger.admit(ask("over"))
    await ledger.settle(over("over", posted(1, 5)))
    await ledger.admit(ask("open", 20))
    yield house
    await house.close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where to."""
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "monday.db"


def put_in_place(copy: Path, data_dir: Path) -> Path:
    """Do what docs/operations.md says, up to the start."""
    data_dir.mkdir(mode=0o700)
    copy.rename(find_file(data_dir))
    return data_dir


async def restore(copy: Path, data_dir: Path) -> SqliteLedger:
    """Put a copy in place and start."""
    return await SqliteLedger.open(put_in_place(copy, data_dir), clock=ManualClock(NOON_S))


def test_a_copy_is_one_private_file(house: SqliteHouse, target: Path) -> None:
    """Mode 0600, needing no file beside it to be read, and no draft is left."""
    found = back_up(house.data_dir, target)
    assert (found.findings, found.attempts, found.orphans) == ((), 2, ())
    assert list(target.parent.iterdir()) == [target]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with closing(sqlite3.connect(f"{target.as_uri()}?immutable=1", uri=True)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() != ("wal",)
        assert connection.execute("SELECT count(*) FROM attempts").fetchone() == (2,)


async def test_a_copy_is_a_ledger_where_it_is_put(house: SqliteHouse, target: Path, tmp_path: Path) -> None:
    """Keys, rows and budgets go on; what was open in it is posted in full by whoever starts."""
    back_up(house.data_dir, target)
    ledger = await restore(target, tmp_path / "restored")
    try:
        assert await stand(ledger) == (5, 20)
        assert await ledger.resolve_dead_owners(NOON_S) == 1
        assert await stand(ledger) == (25, 0)
        rows = await ledger.export(since_s=None, after_seq=0, rows_max=9)
        assert [(row.request_id, row.cost_source) for row in rows] == [
            ("over", CostSource.COMPUTED),
            ("open", CostSource.HELD),
        ]
        assert isinstance(await ledger.admit(ask("new")), Admitted)
        with closing(sqlite3.connect(find_file(tmp_path / "restored"))) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    finally:
        await ledger.close()


async def test_copies_made_under_load_add_up(house: SqliteHouse, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process writes without a pause, in steps so small that much is written between them."""
    monkeypatch.setattr(backup, "PAGES_PER_STEP", 4)
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.ledger.process", str(house.data_dir), "work", "8"),
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        seen: list[int] = []
        give_up_s = time.monotonic() + PATIENCE_S
        copy = target
        while len(set(seen)) < 5:
            copy = target.with_name(f"{len(seen)}.db")
            found = await asyncio.to_thread(back_up, house.data_dir, copy)
            assert (found.findings, found.orphans) == ((), ())
            seen.append(found.attempts)
            assert time.monotonic() < give_up_s
        assert worker.returncode is None
    finally:
        worker.kill()
        await worker.wait()
    assert seen == sorted(seen)
    ledger = await restore(copy, target.parent / "data")
    try:
        await ledger.resolve_dead_owners(NOON_S)
        rows = await ledger.export(since_s=None, after_seq=0, rows_max=99_999)
        assert len(rows) == seen[-1]
        assert {row.state for row in rows} == {AttemptState.POSTED}
    finally:
        await ledger.close()


@pytest.mark.parametrize("is_link", [False, True])
def test_what_is_there_is_not_replaced(house: SqliteHouse, target: Path, is_link: bool) -> None:
    """An older backup, or a link to one that has gone."""
    if is_link:
        target.symlink_to("gone.db")
    else:
        target.write_text("sunday's")
    with pytest.raises(FileExistsError):
        back_up(house.data_dir, target)
    assert list(target.parent.iterdir()) == [target]
    assert is_link or target.read_text() == "sunday's"


def test_what_comes_meanwhile_is_not_replaced(
    house: SqliteHouse, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else was quicker: his stays, ours is thrown away."""
    copy = backup._copy  # noqa: SLF001  # nothing else happens in the middle

    def copy_slowly(source: Path, draft: Path) -> None:
        copy(source, draft)
        target.write_text("his")

    monkeypatch.setattr(backup, "_copy", copy_slowly)
    with pytest.raises(FileExistsError):
        back_up(house.data_dir, target)
    assert list(target.parent.iterdir()) == [target]
    assert target.read_text() == "his"


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Of the copy, not of the ledger, without its path."""
    fill(tmp_path / "data", 1)
    with pytest.raises(LedgerUnavailable, match="the backup cannot be written: No such file") as caught:
        back_up(tmp_path / "data", tmp_path / "nowhere" / "a.db")
    assert str(tmp_path) not in caught.value.message


def test_a_disk_without_room_leaves_nothing(tmp_path: Path, target: Path) -> None:
    """The draft is thrown away, the ledger untouched."""
    fill(tmp_path / "data", 500)
    before = find_file(tmp_path / "data").read_bytes()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    try:
        with pytest.raises(LedgerUnavailable, match=r"the backup cannot be written: .*; see that its folder"):
            back_up(tmp_path / "data", target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert list(target.parent.iterdir()) == []
    assert find_file(tmp_path / "data").read_bytes() == before


@pytest.mark.parametrize("content", [None, b"garbage " * 1000])
def test_what_is_no_ledger_is_not_copied(tmp_path: Path, target: Path, content: bytes | None) -> None:
    """A missing file is not made, garbage is named."""
    if content is not None:
        find_file(tmp_path).write_bytes(content)
    with pytest.raises(LedgerUnavailable, match=r"ledger\.db (is damaged|cannot be used)"):
        back_up(tmp_path, target)
    assert list(target.parent.iterdir()) == []
    assert find_file(tmp_path).exists() == (content is not None)


def test_a_copy_that_does_not_add_up_is_told_and_kept(tmp_path: Path, target: Path) -> None:
    """It may be the best there is."""
    fill(tmp_path, 10)
    with closing(sqlite3.connect(find_file(tmp_path))) as connection, connection:
        connection.execute("UPDATE balances SET posted_nano_usd = posted_nano_usd + 1")
    assert not back_up(tmp_path, target).is_good
    assert target.exists()
