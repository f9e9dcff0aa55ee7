"""Opening `ledger.db` and bringing it to the schema this version knows (floor 2).

Nothing is overwritten: a file that is not ours, is newer than we are, or cannot be written is refused by name.
Migrations go forward only, all that are missing in one transaction: a file has the old schema or the new one, never a
mixture.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from proxy.errors import LedgerUnavailable
from proxy.ledger.folder import make_private_file, unusable
from proxy.ledger.sql import Migration, load_migrations

FILE_NAME = "ledger.db"
BUSY_S_MAX = 2
"""How long a transaction waits for somebody who does not use the turnstile: a backup, a curious person."""
RETRY_AFTER_S = 1.0
"""What a client is told to wait while the store cannot be used."""
CACHE_KIB = 8_192
"""Pages one connection keeps in memory."""
WAL_PAGES_MAX = 4_096
"""How many pages the write-ahead log gathers before a commit copies them into the file: a page changed often, once."""
WAL_BYTES_MAX = 64 * 1024 * 1024
"""To what the write-ahead log is cut back once a checkpoint has emptied it."""
DAMAGE = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})
"""What SQLite says of a file that is not whole."""
_APPLICATION_ID = 0x54504B31
"""Stands in the file's header and says whose it is ("TPK1")."""


def find_file(data_dir: Path) -> Path:
    """Tell where the ledger of a data folder is."""
    return data_dir / FILE_NAME


def connect(path: Path, *, is_reader: bool = False) -> sqlite3.Connection:
    """Open the file for one thread; every statement outside a transaction of ours is its own. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, timeout=BUSY_S_MAX, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES_MAX}")
        connection.execute(f"PRAGMA cache_size = {-CACHE_KIB}")
        connection.execute(f"PRAGMA query_only = {int(is_reader)}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def prepare(path: Path, now_s: float) -> None:
    """Make the file when it is missing and migrate it; LedgerUnavailable names it and the remedy."""
    try:
        make_private_file(path)
        connection = connect(path)
    except (OSError, sqlite3.Error) as error:
        raise explain(error) from error
    try:
        _migrate(connection, load_migrations(), now_s)
    except sqlite3.Error as error:
        raise explain(error) from error
    finally:
        connection.close()


def explain(error: Exception) -> LedgerUnavailable:
    """Turn what SQLite or the system says into what a person can act on."""
    code = getattr(error, "sqlite_errorcode", None)
    if code in DAMAGE:
        return damaged(str(error))
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return LedgerUnavailable(
            f"{FILE_NAME} is locked by another program for more than {BUSY_S_MAX} s; try again, and end that program",
            retry_after_s=RETRY_AFTER_S,
        )
    unavailable = unusable(FILE_NAME, error)
    unavailable.retry_after_s = RETRY_AFTER_S
    return unavailable


def damaged(reason: str) -> LedgerUnavailable:
    """Say that the file is not whole, and what to do."""
    return LedgerUnavailable(
        f"{FILE_NAME} is damaged or not a ledger ({reason}); nothing was changed: "
        "move it away, or put a backup in its place"
    )


def _migrate(connection: sqlite3.Connection, migrations: Sequence[Migration], now_s: float) -> None:
    found = find_version(connection, newest=migrations[-1].version)
    # The journal mode cannot change inside a transaction, and stays with the file: this writes only the first time.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        for version, statements in migrations:
            if version <= found:
                continue
            for statement in statements:
                connection.execute(statement)
            connection.execute("INSERT INTO schema_versions VALUES (?, ?)", (version, now_s))
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def find_version(connection: sqlite3.Connection, *, newest: int) -> int:
    """Find the schema's version, 0 for a file without any; LedgerUnavailable when it is newer or somebody else's."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if not tables and not application_id:
        return 0
    if application_id != _APPLICATION_ID:
        raise LedgerUnavailable(
            f"{FILE_NAME} is a database of something else; nothing was changed: "
            "move it away, or give another data folder"
        )
    (found,) = connection.execute("SELECT max(version) FROM schema_versions").fetchone()
    if found > newest:
        raise LedgerUnavailable(
            f"{FILE_NAME} has schema {found}, this Turnpike knows {newest}: it was written by a newer version; "
            "upgrade, or restore the backup made before that upgrade"
        )
    return int(found)
