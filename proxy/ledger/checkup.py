"""A look at the file's pages before a start writes to it (floor 2, SQLite).

SQLite notices a damaged page only when it comes to it, which may be in the middle of a request. A start therefore reads
pages for as long as it can afford: all of a ledger of some hundred thousand rows, the first part of a larger one.
`ledger verify` reads all of any.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from proxy.ledger.schema import DAMAGE, damaged
from proxy.ledger.snapshot import open_snapshot

CHECK_S_MAX = 0.5
"""How long a start may read; whoever starts a large ledger waits for it."""
STEPS_PER_LOOK = 10_000
"""Of SQLite's machine, between two looks at the time: well under a millisecond."""


def check_pages(path: Path) -> None:
    """Read pages for at most `CHECK_S_MAX`; LedgerUnavailable when one is damaged, or the file is not ours.

    What else is wrong with the file is left to whoever opens it to write.
    """
    give_up_s = time.monotonic() + CHECK_S_MAX
    try:
        with open_snapshot(path) as (connection, _):
            connection.set_progress_handler(lambda: time.monotonic() > give_up_s, STEPS_PER_LOOK)
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) in DAMAGE:
            raise damaged(str(error)) from error
        return
    if verdict != "ok":
        raise damaged(str(verdict).replace("\n", " ").removeprefix("*** in database main *** "))
