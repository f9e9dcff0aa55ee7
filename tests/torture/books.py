"""The ledger read from outside: SQLite alone, read-only, while the server runs or after it was killed.

It knows the columns of the file and nothing of the code that writes them, so a wrong sum there is not repeated here.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Self

from tests.torture.waiting import wait_until

POLL_S: Final = 0.01
"""A hundred looks a second."""
BUSY_S: Final = 5.0
NANO_PER_USD: Final = 1_000_000_000

_ROWS: Final = """SELECT request_id, number, is_last, state, owner, key_name, provider, model,
  hold_nano_usd, cost_nano_usd, cost_source, error, ended_at_s FROM attempts ORDER BY seq"""
_BALANCES: Final = "SELECT scope, starts_s, ends_s, posted_nano_usd, held_nano_usd FROM balances"
_SUMS: Final = """SELECT
  coalesce(sum(CASE WHEN state = 'posted' THEN cost_nano_usd END), 0),
  coalesce(sum(CASE WHEN state IN ('pending', 'unresolved') THEN hold_nano_usd END), 0)
FROM attempts WHERE key_name = ? AND at_s >= ? AND at_s < ?"""


class Row(NamedTuple):
    """One attempt."""

    request_id: str
    number: int
    is_last: int
    state: str
    owner: str
    key_name: str
    provider: str
    model: str
    hold_nano_usd: int
    cost_nano_usd: int | None
    cost_source: str | None
    error: str | None
    ended_at_s: float | None

    @property
    def is_posted_in_full(self) -> bool:
        """Whether all that was held was booked."""
        return (self.state, self.cost_source, self.cost_nano_usd) == ("posted", "held", self.hold_nano_usd)

    @property
    def is_posted_as_known(self) -> bool:
        """Whether what its process left word of was booked, and all that was held without a word."""
        cost = self.cost_nano_usd or 0
        is_counted = (self.state, self.cost_source) == ("posted", "estimated") and 0 < cost <= self.hold_nano_usd
        return self.is_posted_in_full or is_counted


class Balance(NamedTuple):
    """What a key's running balance says, and what its attempts add up to, at one moment."""

    key_name: str
    posted_nano_usd: int
    held_nano_usd: int
    posted_sum_nano_usd: int
    held_sum_nano_usd: int

    @property
    def total_nano_usd(self) -> int:
        """What counts against the limit."""
        return self.posted_nano_usd + self.held_nano_usd

    @property
    def is_true(self) -> bool:
        """Whether the balance is what the attempts add up to."""
        kept = (self.posted_nano_usd, self.held_nano_usd)
        return kept == (self.posted_sum_nano_usd, self.held_sum_nano_usd)


class Books:
    """The ledger of one data folder."""

    def __init__(self, data: Path) -> None:
        self._path = data / "ledger.db"

    def rows(self) -> list[Row]:
        """List every attempt."""
        with self._snapshot() as connection:
            return [Row._make(row) for row in connection.execute(_ROWS)]

    def moments(self, key_name: str) -> list[float]:
        """Give when each attempt of a key was let in, in order, seconds since the epoch."""
        with self._snapshot() as connection:
            found = connection.execute("SELECT at_s FROM attempts WHERE key_name = ? ORDER BY at_s", (key_name,))
            return [float(at_s) for (at_s,) in found]

    def by_request(self) -> dict[str, list[Row]]:
        """Give each request's attempts in order."""
        found: defaultdict[str, list[Row]] = defaultdict(list)
        for row in self.rows():
            found[row.request_id].append(row)
        return dict(found)

    def count_pending(self) -> int:
        """Count the attempts under way."""
        with self._snapshot() as connection:
            (count,) = connection.execute("SELECT count(*) FROM attempts WHERE state = 'pending'").fetchone()
            return int(count)

    def balances(self) -> list[Balance]:
        """Give each key's balance beside the sum of its attempts, all of one moment."""
        with self._snapshot() as connection:
            kept = connection.execute(_BALANCES).fetchall()
            return [
                Balance(key, posted, held, *connection.execute(_SUMS, (key, starts_s, ends_s)).fetchone())
                for scope, starts_s, ends_s, posted, held in kept
                if (key := scope.removeprefix("key:"))
            ]

    def find_faults(self) -> list[str]:
        """Say what is wrong with the books as a whole once nothing is under way."""
        faults = [f"balance of {balance}" for balance in self.balances() if not balance.is_true]
        faults += [f"still held: {balance}" for balance in self.balances() if balance.held_nano_usd]
        for request_id, rows in self.by_request().items():
            if [row.number for row in rows] != list(range(1, len(rows) + 1)):
                faults.append(f"attempts of {request_id} are numbered {[row.number for row in rows]}")
            if [row.is_last for row in rows] != [0] * (len(rows) - 1) + [1]:
                faults.append(f"the last attempt of {request_id} is not the last")
            faults += [f"ended oddly: {row}" for row in rows if not _is_ended_well(row)]
        with self._snapshot() as connection:
            (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
        return faults if verdict == "ok" else [*faults, f"integrity_check: {verdict}"]

    async def until_settled(self, *, limit_s: float) -> float | None:
        """Wait until nothing is pending and give the seconds it took; None when it took longer than the limit."""
        return await wait_until(lambda: not self.count_pending(), limit_s=limit_s)

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """Read within one transaction, so that figures belong together."""
        address = f"{self._path.resolve().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=BUSY_S, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            yield connection


@dataclass(slots=True)
class Watch:
    """Looks at one key's balance `POLL_S` apart, from a thread of its own: a busy event loop must not blind it."""

    books: Books
    key_name: str
    limit_nano_usd: int
    looks: int = 0
    most_nano_usd: int = 0
    breaches: list[str] = field(default_factory=list)
    _is_over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._thread is not None
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(POLL_S):
            self.look()

    def look(self) -> None:
        """Look once."""
        self.looks += 1
        for balance in self.books.balances():
            if balance.key_name == self.key_name:
                self.most_nano_usd = max(self.most_nano_usd, balance.total_nano_usd)
                if balance.total_nano_usd > self.limit_nano_usd or not balance.is_true:
                    self.breaches.append(f"look {self.looks}, limit {self.limit_nano_usd}: {balance}")


def _is_ended_well(row: Row) -> bool:
    """Tell whether an attempt is over, and in one way only."""
    if row.ended_at_s is None:
        return False
    if row.state == "voided":
        return row.cost_nano_usd == 0
    return row.state == "posted" and row.cost_source is not None and row.cost_nano_usd is not None
