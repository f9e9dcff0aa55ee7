"""Opening cache.db: made when missing, kept when ours, moved aside when it is anything else."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from proxy.replies.shelving import FILE_NAME, connect, prepare

NOW_S = 1_800_000_000.5
INSERT = """INSERT INTO replies (slot, kind, fingerprint, at_s, expires_at_s, size_bytes)
VALUES (?, 'cache', ?, 1, 2, 3)"""


def write_noise(path: Path) -> None:
    """Write what is no database."""
    path.write_bytes(b"noise " * 1_000)


def write_other(path: Path) -> None:
    """Write somebody else's database."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x)")


def write_newer(path: Path) -> None:
    """Write what a later version may."""
    prepare(path, NOW_S)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def write_torn(path: Path) -> None:
    """Write ours, with a page overwritten."""
    prepare(path, NOW_S)
    with closing(connect(path)) as connection:
        connection.executemany(
            INSERT,
            [(bytes([number]), b"f" * 4_000) for number in range(100)],
        )
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = path.read_bytes()
    path.write_bytes(data[:4_096] + b"\xff" * (len(data) - 4_096))


def test_a_file_is_made_and_kept(tmp_path: Path) -> None:
    """Private, and found again as it was."""
    path = tmp_path / FILE_NAME
    assert prepare(path, NOW_S) is None
    assert path.stat().st_mode & 0o777 == 0o600
    with closing(connect(path)) as connection:
        connection.execute(INSERT, (b"s", b"f"))
    assert prepare(path, NOW_S) is None
    with closing(connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM replies").fetchone() == (1,)


@pytest.mark.parametrize("write", [write_noise, write_other, write_newer, write_torn])
def test_what_cannot_be_used_is_moved_aside(tmp_path: Path, write: Callable[[Path], None]) -> None:
    """Whole, under another name; the new file is empty and ours."""
    path = tmp_path / FILE_NAME
    write(path)
    before = path.read_bytes()
    assert prepare(path, NOW_S)
    (aside,) = tmp_path.glob(f"{FILE_NAME}.damaged-*")
    assert aside.name == "cache.db.damaged-1800000000"
    assert aside.read_bytes()[100:] == before[100:]
    with closing(connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM replies").fetchone() == (0,)
    assert prepare(path, NOW_S) is None


def test_a_file_that_is_locked_is_not_damaged(tmp_path: Path) -> None:
    """Moving it aside would lose what another program only looks at."""
    path = tmp_path / FILE_NAME
    path.touch()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            prepare(path, NOW_S)
    assert [one.name for one in tmp_path.iterdir()] == [FILE_NAME]
