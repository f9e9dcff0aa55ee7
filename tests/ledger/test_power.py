"""Short forms of `make torture ARGS=power`, and that the disk it rests on finds a ledger that promises too much."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from proxy.ledger import schema
from tests.faults.disk import Disk, Sync, Write
from tests.torture import power


async def test_a_power_cut_loses_nothing_that_was_said(tmp_path: Path) -> None:
    """At any moment, with torn writes, on a disk whose syncs fail too, and after a restart upon such a failure."""
    found = await power.run(tmp_path, Random(), cuts=30, failing_cuts=10)
    assert all(finding.is_kept for finding in found), found


async def test_a_ledger_that_syncs_less_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `synchronous=NORMAL` what was said is not yet durable, and power cuts lose some of it."""
    connect = schema.connect

    def connect_loosely(path: Path, *, is_reader: bool = False) -> sqlite3.Connection:
        connection = connect(path, is_reader=is_reader)
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    monkeypatch.setattr("proxy.ledger.sqlite.connect", connect_loosely)
    good, *_ = await power.run(tmp_path, Random(), cuts=20, failing_cuts=0)
    assert not good.is_kept


def test_what_a_failed_sync_was_asked_for_is_lost_for_good(tmp_path: Path) -> None:
    """Whatever a later sync says of it; only what is written again is durable then."""
    path = tmp_path / "a.db"
    path.touch()
    with Disk(tmp_path) as disk, closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE a (b TEXT)")
        disk.fails_to_sync = lambda: True
        connection.execute("PRAGMA synchronous = FULL")
        with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
            connection.execute("INSERT INTO a VALUES (?)", ("lost" * 2_000,))
        disk.fails_to_sync = lambda: False
        failed = disk.moment
        assert disk.notes[-1] == Sync("a.db-wal", is_good=False)
        disk.notes.append(Sync("a.db-wal", is_good=True))
        images = [disk.image(at=failed + 1, chance=Random(seed))["a.db-wal"] for seed in range(8)]
        assert len(set(images)) > 1
        assert any(isinstance(note, Write) and note.content in disk.cache(at=failed)["a.db-wal"] for note in disk.notes)
