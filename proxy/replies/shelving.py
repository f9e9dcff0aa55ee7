"""Opening `cache.db` (part of the replies, floor 3). It is only a cache: what cannot be read is moved aside.

The ledger would refuse to start with a damaged file; here a new one is begun, and what is lost by it is said: answers
of the cache, which is nothing, and what is known of `Idempotency-Key`s, which is a promise.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from proxy.ledger.folder import make_private_file
from proxy.replies.shelf import STATEMENTS

FILE_NAME = "cache.db"
BUSY_S_MAX = 2
CACHE_KIB = 4_096
WAL_BYTES_MAX = 16 << 20
_APPLICATION_ID = 0x54504B43
"""Stands in the file's header and says whose it is ("TPKC")."""
_SCHEMA = 1
_BESIDE = ("-wal", "-shm")
_MARK = "-damaged"


def connect(path: Path) -> sqlite3.Connection:
    """Open the file for one thread; raises sqlite3.Error."""
    connection = sqlite3.connect(path, timeout=BUSY_S_MAX, isolation_level=None, check_same_thread=False)
    try:
        # A kept answer outlives a power cut: the retry of a request that was paid for must find it.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
        connection.execute(f"PRAGMA cache_size = {-CACHE_KIB}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def prepare(path: Path, at_s: float) -> str | None:
    """Make the file ready; gives why another one was moved aside, None when none was. Raises sqlite3.Error or OSError.

    Two processes must not do this at once: the caller lets them in one by one.
    """
    make_private_file(path)
    mark = path.with_name(path.name + _MARK)
    try:
        problem = "it was found damaged in use" if mark.exists() else _make_ready(path)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        problem = str(error)
    if problem is None:
        return None
    _move_aside(path, at_s)
    mark.unlink(missing_ok=True)
    make_private_file(path)
    if _make_ready(path) is not None:
        raise OSError("a new cache.db cannot be read back")
    return problem


def is_damage(error: BaseException | None) -> bool:
    """Tell whether an error of SQLite's says that the file is not what it was."""
    code = getattr(error, "sqlite_errorcode", None)
    return code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


def mark_damaged(path: Path) -> None:
    """Have the next start move the file aside; other processes still use it now."""
    with suppress(OSError):
        path.with_name(path.name + _MARK).touch(mode=0o600)


def _make_ready(path: Path) -> str | None:
    """Make the schema in an empty file; gives why a file that is not empty cannot be used."""
    connection = connect(path)
    try:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables and application_id != _APPLICATION_ID:
            return "it is a database of something else"
        if tables and version != _SCHEMA:
            return f"it has schema {version}, this Turnpike knows {_SCHEMA}"
        if tables:
            # Reads through one index: what is damaged elsewhere is met, and marked, in use.
            connection.execute(STATEMENTS["measure"]).fetchone()
            return None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        for name in ("create_replies", "create_expiry", "create_age"):
            connection.execute(STATEMENTS[name])
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {_SCHEMA}")
        connection.execute("COMMIT")
    finally:
        connection.close()
    return None


def _move_aside(path: Path, at_s: float) -> None:
    """Keep what may interest a person under another name; its journal goes, as it would be taken for the new file's."""
    path.replace(path.with_name(f"{path.name}.damaged-{int(at_s)}"))
    for suffix in _BESIDE:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
