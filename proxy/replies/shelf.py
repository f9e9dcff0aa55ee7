"""The statements on `cache.db` (part of the replies, floor 3): each runs inside a batch of the writer's transaction.

An answer under way is a row with an owner and no content. Whoever finds such a row asks whether its owner lives: that
is what keeps the claim of a killed process from holding anybody up.
"""

from __future__ import annotations

import sqlite3
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import orjson

from proxy.ledger.committer import Call
from proxy.ledger.locks import FileLock
from proxy.ledger.sql import parse_blocks
from proxy.replies.records import (
    BYTES_MAX,
    ENTRIES_MAX,
    ROW_BYTES,
    RUNNING_S_MAX,
    Claim,
    Entry,
    Kind,
    Pruned,
    Ticket,
)

DROPPED_PER_CALL_MAX = 500
"""Rows one pruning takes away of either sort, so that nobody waits for it long."""

STATEMENTS = parse_blocks(resources.files("proxy.replies").joinpath("queries.sql").read_text("utf-8"))


class Asking(NamedTuple):
    """Who wants an answer, and when."""

    ticket: Ticket
    at_s: float


class Keeping(NamedTuple):
    """An answer to be kept."""

    ticket: Ticket
    entry: Entry


class Shelf:
    """One process's hands on the file; `owner` signs its claims."""

    def __init__(self, owner: str, owners: Path, *, entries_max: int = ENTRIES_MAX, bytes_max: int = BYTES_MAX) -> None:
        """Keep so many answers and so many bytes; `owners` is the folder of the living processes' locks."""
        self._owner = owner
        self._owners = owners
        self._entries_max = entries_max
        self._bytes_max = bytes_max

    def claim(self, cursor: sqlite3.Cursor, asking: Asking) -> Entry | Claim:
        """Find the answer, or who makes it; nobody: the caller does from now on."""
        ticket, at_s = asking
        found = self._find(cursor, asking)
        if found is not None:
            return found
        row = (ticket.slot, ticket.kind, ticket.fingerprint, self._owner, at_s, at_s + RUNNING_S_MAX, ROW_BYTES)
        cursor.execute(STATEMENTS["claim"], row)
        return Claim.FIRST

    def look(self, cursor: sqlite3.Cursor, asking: Asking) -> Entry | Claim | None:
        """Find the answer, or who makes it; None: nobody."""
        return self._find(cursor, asking)

    def keep(self, cursor: sqlite3.Cursor, keeping: Keeping) -> None:
        """Put an answer in place of its claim."""
        ticket, entry = keeping
        facts = orjson.dumps([entry.is_stream, entry.model, entry.cost_nano_usd])
        cursor.execute(
            STATEMENTS["keep"],
            (
                ticket.slot,
                ticket.kind,
                ticket.fingerprint,
                entry.at_s,
                entry.expires_at_s,
                ROW_BYTES + len(entry.content),
                facts.decode(),
                entry.content,
            ),
        )

    def release(self, cursor: sqlite3.Cursor, ticket: Ticket) -> None:
        """Give a claim back."""
        cursor.execute(STATEMENTS["release"], (ticket.slot, self._owner))

    def undo_claim(self, cursor: sqlite3.Cursor, call: Call[Asking, Entry | Claim]) -> None:
        """Give back what was claimed for a caller that did not wait."""
        if call.outcome is Claim.FIRST:
            self.release(cursor, call.argument.ticket)

    def prune(self, cursor: sqlite3.Cursor, at_s: float) -> Pruned:
        """Take away what is out of date, and then the oldest while there is too much."""
        expired = cursor.execute(STATEMENTS["drop_expired"], (at_s, DROPPED_PER_CALL_MAX)).rowcount
        entries, size_bytes = cursor.execute(STATEMENTS["measure"]).fetchone()
        gone = {Kind.CACHE: 0, Kind.IDEMPOTENCY: 0}
        for rowid, kind, row_bytes in cursor.execute(STATEMENTS["list_oldest"], (DROPPED_PER_CALL_MAX,)).fetchall():
            if entries <= self._entries_max and size_bytes <= self._bytes_max:
                break
            cursor.execute(STATEMENTS["drop"], (rowid,))
            entries, size_bytes = entries - 1, size_bytes - row_bytes
            gone[Kind(kind)] += 1
        return Pruned(expired, gone[Kind.CACHE], gone[Kind.IDEMPOTENCY])

    def _find(self, cursor: sqlite3.Cursor, asking: Asking) -> Entry | Claim | None:
        ticket, at_s = asking
        row = cursor.execute(STATEMENTS["find"], (ticket.slot,)).fetchone()
        if row is None:
            return None
        fingerprint, owner, expires_at_s, facts, content, kept_at_s = row
        if at_s >= expires_at_s or (owner is not None and owner != self._owner and is_dead(self._owners, owner)):
            return None
        if fingerprint != ticket.fingerprint:
            return Claim.REUSED
        return Claim.ELSEWHERE if owner is not None else _read(facts, content, (kept_at_s, expires_at_s))


def is_dead(owners: Path, owner: str) -> bool:
    """Tell whether a process is dead: nobody has the lock on its file, or it is gone (as `ledger.owners` says)."""
    try:
        lock = FileLock(owners / f"{owner}.lock", is_created=False)
    except FileNotFoundError:
        return True
    try:
        return lock.try_acquire()
    finally:
        lock.close()


def _read(facts: str, content: bytes, times_s: tuple[float, float]) -> Entry:
    is_stream, model, cost_nano_usd = orjson.loads(facts)
    return Entry(is_stream, content, model, cost_nano_usd, *times_s)
