"""A copy of the books as they stand at one moment, made beside whoever writes them (floor 2, SQLite).

SQLite's online backup copies pages out of one read transaction, so writers never wait and the copy never begins again.
It is written under another name, verified, made durable, and only then put in place: a file of the wished name is
whole.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from proxy.errors import LedgerUnavailable
from proxy.ledger.folder import find_owners, make_private_file, sync_folder
from proxy.ledger.schema import explain, find_file
from proxy.ledger.snapshot import open_snapshot
from proxy.ledger.verification import Verification, verify

PAGES_PER_STEP = 64
"""Pages copied at a time: 256 KiB, made durable at once. Servers' writes wait for each such piece, never for more."""
REST_S = 0.005
"""How long the disk is left to others after each: 50 MB a second at most."""
_SOURCE_FAULTS = frozenset(
    {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN}
)


def back_up(data_dir: Path, target: Path) -> Verification:
    """Copy a data folder's ledger into a new file, mode 0600, and tell what verifying the copy found.

    A copy with findings is kept as well: it may be the best there is. Raises FileExistsError when the file is there
    already, and LedgerUnavailable when the ledger cannot be read or the copy not be written; no file is left then.
    """
    if os.path.lexists(target):
        raise FileExistsError(target)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        make_private_file(draft)
        _copy(find_file(data_dir), draft)
        verification = verify(draft, owners=find_owners(data_dir))
        # A link, unlike a rename, never replaces what somebody else has put there meanwhile.
        os.link(draft, target)
        draft.unlink()
        sync_folder(target.parent)
    except FileExistsError:
        raise
    except (OSError, sqlite3.Error) as error:
        raise _explain(error) from error
    finally:
        draft.unlink(missing_ok=True)
    return verification


def _copy(source: Path, draft: Path) -> None:
    file = os.open(draft, os.O_RDWR | os.O_CLOEXEC)

    def settle(_status: int, _remaining: int, _total: int) -> None:
        os.fdatasync(file)
        time.sleep(REST_S)

    try:
        with open_snapshot(source) as (reader, _), closing(sqlite3.connect(draft, isolation_level=None)) as writer:
            # A draft that is not finished is thrown away, so it needs no journal; what is durable is asked for here.
            writer.execute("PRAGMA journal_mode = OFF")
            writer.execute("PRAGMA synchronous = OFF")
            reader.backup(writer, pages=PAGES_PER_STEP, progress=settle)
            # The ledger's own mode would need two files more to be read; a start brings it back.
            writer.execute("PRAGMA journal_mode = DELETE")
        os.fsync(file)
    finally:
        os.close(file)


def _explain(error: OSError | sqlite3.Error) -> LedgerUnavailable:
    """Tell trouble with the ledger from trouble with the copy."""
    if getattr(error, "sqlite_errorcode", None) in _SOURCE_FAULTS:
        return explain(error)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return LedgerUnavailable(
        f"the backup cannot be written: {reason}; see that its folder exists, can be written and has space left"
    )
