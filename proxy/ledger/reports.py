"""The reading half of the ledger (floor 2, SQLite): every read sees every finished write, and none of them writes.

Two connections with a thread each: look-ups that a request waits for never stand behind a report over a year.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import aiosqlite

from proxy.errors import LedgerUnavailable
from proxy.ledger import rows
from proxy.ledger.budgeting import KeptBalance, OpenBudget, list_open, match_personal
from proxy.ledger.lineage import as_presented, join
from proxy.ledger.records import (
    GENERATIONS_SEARCHED_MAX,
    AttemptFilter,
    AttemptRow,
    BudgetState,
    KeyRecord,
    ProviderStats,
    UsageQuery,
    UsageSum,
)
from proxy.ledger.rules import read_limits
from proxy.ledger.schema import connect, explain
from proxy.ledger.shelves import REGISTRY, read_tenant
from proxy.ledger.sql import STATEMENTS
from proxy.ledger.standing import FOREVER_S, fill_window
from proxy.ledger.summing import write_sum
from proxy.ledger.tenancy import TenantRecord
from proxy.policy.calendar import Window
from proxy.policy.limits import NO_LIMITS, Balance, Limits

PAGE_ROWS = 1_000
"""Groups of usage read at a time."""
WALKS_MAX = 4
"""Long reports read at once; the next ones wait."""
_ITERATION_ROWS = 64

Parameters = Sequence[str | int | float | None]


class Reports:
    """Questions to the books."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._look_ups, self._sums = _make_reader(path), _make_reader(path)
        self._walks = asyncio.Semaphore(WALKS_MAX)
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

    async def find_key(self, digest: str, now_s: float) -> KeyRecord | None:
        """Find a key by its digest, the enabled one of several, with its maker and its tenant."""
        found = await self._ask(self._look_ups, "find_key_by_digest", (digest, digest, now_s))
        if not found:
            return None
        key = rows.read_key(found[0])
        maker = None if key.parent is None else await self._find_by_name(key.parent)
        return as_presented(join(key, maker=maker, house=await self._find_tenant(key.tenant)), digest)

    async def list_keys(self) -> list[KeyRecord]:
        """List all keys by name."""
        return [rows.read_key(row) for row in await self._ask(self._look_ups, "list_keys", ())]

    async def find_limits(self, place: str) -> Limits:
        """Tell what holds for a place."""
        found = await self._ask(self._look_ups, "list_limits", ())
        rules = {place: rules for place, rules, _is_declared, _prepaid in found}
        return read_limits(rules[place]) if place in rules else NO_LIMITS

    async def budgets(self, key_name: str, now_s: float) -> list[BudgetState]:
        """Tell how the budgets of a key and of its tenant stand."""
        key = await self._find_by_name(key_name)
        if key is None:
            return []
        limits = await self._list_limits()
        places = (f"key:{key_name}", f"key:{key.parent}", f"tenant:{key.tenant}")
        mine = {place: limits[place] for place in places if place in limits}
        return [await self._stand(budget) for budget in list_open(mine, now_s)]

    async def list_budgets(self, now_s: float) -> list[BudgetState]:
        """Tell how every budget stands; those of users and tags as far as their windows are kept."""
        places = await self._list_limits()
        states = [await self._stand(budget) for budget in list_open(places, now_s)]
        owners = {key.name: key.tenant or key.parent for key in await self.list_keys()}
        kept = [
            KeptBalance(scope, Window(starts_s, None if ends_s == FOREVER_S else ends_s), Balance(posted, held))
            for scope, starts_s, ends_s, posted, held in await self._ask(
                self._sums, "list_kept_balances", (now_s, now_s)
            )
        ]
        return [*states, *match_personal(places, kept, owners=owners, now_s=now_s)]

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

    async def list_stale_windows(self, before_s: int) -> list[tuple[str, int, int]]:
        """List windows that have passed, by their place in the books."""
        return await self._ask(self._sums, "list_stale_windows", (before_s, FOREVER_S))

    async def sum_usage(self, query: UsageQuery) -> list[UsageSum]:
        """Sum attempts by the query's dimensions; ValueError names one that there is not."""
        statement, parameters = write_sum(query)
        return [rows.read_sum(row, len(query.by)) for row in await self._run(self._sums, statement, parameters)]

    async def walk_usage(self, query: UsageQuery) -> AsyncIterator[Sequence[UsageSum]]:
        """Give the same in pages, each walk on a connection of its own; who breaks it off must close it."""
        statement, parameters = write_sum(query)
        async with self._walks:
            self._check_open()
            reader = _make_reader(self._path)
            try:
                async with reader, reader.execute(statement, parameters) as cursor:
                    while page := list(await cursor.fetchmany(PAGE_ROWS)):
                        yield [rows.read_sum(row, len(query.by)) for row in page]
            except sqlite3.Error as error:
                raise explain(error) from error

    async def provider_stats(self, since_s: float, key_name: str | None) -> list[ProviderStats]:
        """Sum attempts by provider since a time."""
        found = await self._ask(self._sums, "sum_providers", (since_s, key_name, key_name))
        return [ProviderStats(*row) for row in found]

    async def export(
        self, since_s: float | None, after_seq: int, rows_max: int, only: AttemptFilter
    ) -> list[AttemptRow]:
        """Give a page of attempts in the order of their seq."""
        twice = (value for value in (since_s, only.until_s, only.key_name, only.tenant) for _ in range(2))
        found = await self._ask(self._sums, "export_attempts", (after_seq, *twice, rows_max))
        return [rows.read_attempt(row) for row in found]

    async def read(self, statement: str, parameters: Parameters) -> list[Any]:
        """Run a statement of a part of the ledger that has a file of its own."""
        return await self._run(self._sums, statement, parameters)

    async def _list_limits(self) -> dict[str, Limits]:
        found = await self._ask(self._look_ups, "list_limits", ())
        return {place: read_limits(rules, prepaid) for place, rules, _is_declared, prepaid in found}

    async def _find_by_name(self, name: str) -> KeyRecord | None:
        found = await self._ask(self._look_ups, "find_key_by_name", (name,))
        return rows.read_key(found[0]) if found else None

    async def _find_tenant(self, name: str | None) -> TenantRecord | None:
        if name is None:
            return None
        found = await self._run(self._look_ups, REGISTRY["find_tenant"], (name,))
        if not found:
            return None
        return read_tenant(found[0], await self._run(self._look_ups, REGISTRY["list_credentials"], (name, name)))

    async def _stand(self, budget: OpenBudget) -> BudgetState:
        """Read a budget's balance, or sum it when nobody has kept it yet."""
        window = budget.window
        ends_s = window.ends_s or FOREVER_S
        kept = await self._ask(self._look_ups, "find_balance", (budget.scope, ends_s, window.starts_s))
        if not kept:
            kept = await self._run(self._look_ups, *fill_window("sum_window", budget.scope, window))
        return budget.state(Balance(*kept[0]))

    async def _ask(self, connection: aiosqlite.Connection, name: str, parameters: Parameters) -> list[Any]:
        return await self._run(connection, STATEMENTS[name], parameters)

    async def _run(self, connection: aiosqlite.Connection, statement: str, parameters: Parameters) -> list[Any]:
        self._check_open()
        try:
            return list(await connection.execute_fetchall(statement, parameters))
        except sqlite3.Error as error:
            raise explain(error) from error

    def _check_open(self) -> None:
        if not self._is_open:
            raise LedgerUnavailable("the ledger is closed; this process is about to end")


def _make_reader(path: Path) -> aiosqlite.Connection:
    reader = aiosqlite.Connection(partial(connect, path, is_reader=True), _ITERATION_ROWS)
    # Left as it is, a process that fails before it can close its ledger would wait for this thread for ever.
    reader._thread.daemon = True  # noqa: SLF001  # the library offers no other way
    return reader
