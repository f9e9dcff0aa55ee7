"""The reading half of the ledger (floor 2, SQLite): every read sees every finished write, and none of them writes.

Two connections with a thread each: look-ups that a request waits for never stand behind a report over a year.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import aiosqlite

from proxy.errors import LedgerUnavailable
from proxy.ledger import rows
from proxy.ledger.admission import name_scope
from proxy.ledger.books import FOREVER_S
from proxy.ledger.records import (
    GENERATIONS_SEARCHED_MAX,
    AttemptRow,
    BudgetState,
    KeyRecord,
    ProviderStats,
    UsageQuery,
    UsageSum,
)
from proxy.ledger.schema import connect, explain
from proxy.ledger.sql import STATEMENTS
from proxy.policy.limits import Window, find_window

_ITERATION_ROWS = 64

Parameters = Sequence[str | int | float | None]


class Reports:
    """Questions to the books."""

    def __init__(self, path: Path) -> None:
        self._look_ups, self._sums = _make_reader(path), _make_reader(path)
        self._is_open = False

    async def open(self) -> None:
        """Start both threads; LedgerUnavailable when the file cannot be opened."""
        try:
            _ = await self._look_ups, await self._sums
        except sqlite3.Error as error:
            await self.close()
            raise explain(error) from error
        self._is_open = True

    async def close(self) -> None:
        """End both threads."""
        self._is_open = False
        await self._look_ups.close()
        await self._sums.close()

    async def find_key(self, digest: str) -> KeyRecord | None:
        """Find a key by its digest, the enabled one of several."""
        found = await self._ask(self._look_ups, "find_key_by_digest", (digest,))
        return rows.read_key(found[0]) if found else None

    async def list_keys(self) -> list[KeyRecord]:
        """List all keys by name."""
        return [rows.read_key(row) for row in await self._ask(self._look_ups, "list_keys", ())]

    async def budgets(self, key_name: str, now_s: float) -> list[BudgetState]:
        """Tell how a key's budget stands, empty without one."""
        found = await self._ask(self._look_ups, "find_key_by_name", (key_name,))
        budget = rows.read_key(found[0]).budget if found else None
        if budget is None:
            return []
        window = find_window(budget.period, now_s)
        posted, held = await self._find_balance(key_name, window)
        limit = budget.limit_nano_usd
        return [BudgetState(name_scope(key_name), budget.period.value, limit, posted, held, window.ends_s)]

    async def find_request(self, request_id: str) -> list[AttemptRow]:
        """Give one request's attempts in order."""
        return [rows.read_attempt(row) for row in await self._ask(self._look_ups, "find_request", (request_id,))]

    async def find_generation(self, generation_id: str, key_name: str) -> list[AttemptRow]:
        """Give the attempts of the newest request with this upstream id; too long a search for a look-up."""
        place = (key_name, generation_id, key_name, GENERATIONS_SEARCHED_MAX - 1)
        found = await self._ask(self._sums, "find_generation", place)
        return await self.find_request(found[0][0]) if found else []

    async def list_pending_owners(self) -> list[str]:
        """List the owners of open holds."""
        return [owner for (owner,) in await self._ask(self._look_ups, "list_pending_owners", ())]

    async def sum_usage(self, query: UsageQuery) -> list[UsageSum]:
        """Sum attempts by the query's dimensions; ValueError names one that there is not."""
        unknown = [word for word in query.by if f"dimension_{word}" not in STATEMENTS]
        if unknown:
            raise ValueError(f"usage cannot be summed by {', '.join(unknown)}")
        wanted = {"from": query.from_s, "to": query.to_s, "key": query.key_name}
        given = {word: value for word, value in wanted.items() if value is not None}
        statement = _write_sum(query.by, given)
        return [rows.read_sum(row, len(query.by)) for row in await self._run(self._sums, statement, [*given.values()])]

    async def provider_stats(self, since_s: float, key_name: str | None) -> list[ProviderStats]:
        """Sum attempts by provider since a time."""
        found = await self._ask(self._sums, "sum_providers", (since_s, key_name, key_name))
        return [ProviderStats(*row) for row in found]

    async def export(self, since_s: float | None, after_seq: int, rows_max: int) -> list[AttemptRow]:
        """Give a page of attempts in the order of their seq."""
        found = await self._ask(self._sums, "export_attempts", (after_seq, since_s, since_s, rows_max))
        return [rows.read_attempt(row) for row in found]

    async def read(self, statement: str, parameters: Parameters) -> list[Any]:
        """Run a statement of a part of the ledger that has a file of its own."""
        return await self._run(self._sums, statement, parameters)

    async def _find_balance(self, key_name: str, window: Window) -> tuple[int, int]:
        ends_s = window.ends_s or FOREVER_S
        kept = await self._ask(self._look_ups, "find_balance", (name_scope(key_name), ends_s, window.starts_s))
        if not kept:
            kept = await self._ask(self._look_ups, "sum_window", (key_name, window.starts_s, ends_s))
        posted, held = kept[0]
        return posted, held

    async def _ask(self, connection: aiosqlite.Connection, name: str, parameters: Parameters) -> list[Any]:
        return await self._run(connection, STATEMENTS[name], parameters)

    async def _run(self, connection: aiosqlite.Connection, statement: str, parameters: Parameters) -> list[Any]:
        if not self._is_open:
            raise LedgerUnavailable("the ledger is closed; this process is about to end")
        try:
            return list(await connection.execute_fetchall(statement, parameters))
        except sqlite3.Error as error:
            raise explain(error) from error


def _write_sum(by: Sequence[str], given: Iterable[str]) -> str:
    """Put a query's parts into `sum_usage`; every word of it stands in `queries.sql`."""
    dimensions = "".join(f"{STATEMENTS[f'dimension_{word}']}, " for word in by)
    conditions = " AND ".join(STATEMENTS[f"condition_{word}"] for word in given)
    places = ", ".join(str(place) for place in range(1, len(by) + 1))
    return STATEMENTS["sum_usage"].format(
        dimensions=dimensions,
        conditions=f"WHERE {conditions}" if conditions else "",
        groups=f"GROUP BY {places} ORDER BY {places}" if places else "",
    )


def _make_reader(path: Path) -> aiosqlite.Connection:
    reader = aiosqlite.Connection(partial(connect, path, is_reader=True), _ITERATION_ROWS)
    # Left as it is, a process that fails before it can close its ledger would wait for this thread for ever.
    reader._thread.daemon = True  # noqa: SLF001  # the library offers no other way
    return reader
