"""One moment of the books, read beside whoever writes them (floor 2, SQLite).

The file is opened read-only and read in one transaction: nothing is migrated, repaired or made, a writer waits for
nothing, and its write-ahead log cannot start over until the reading ends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from proxy.ledger.schema import BUSY_S_MAX, CACHE_KIB, find_version
from proxy.ledger.sql import load_migrations


@contextmanager
def open_snapshot(path: Path) -> Iterator[tuple[sqlite3.Connection, int]]:
    """Begin to read, and tell the schema's version, 0 for an empty file.

    Raises sqlite3.Error, and LedgerUnavailable for a schema that is newer than this version or somebody else's.
    """
    address = f"{path.resolve().as_uri()}?mode=ro"
    connection = sqlite3.connect(address, uri=True, timeout=BUSY_S_MAX, isolation_level=None)
    with closing(connection):
        connection.execute(f"PRAGMA cache_size = {-CACHE_KIB}")
        connection.execute("BEGIN")
        # The first read decides which moment it is.
        yield connection, find_version(connection, newest=load_migrations()[-1].version)
