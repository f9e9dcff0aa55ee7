"""The ledger in one SQLite file (floor 2): `ledger.db` in the data folder, safe for several processes at once.

Writes go through the process's one writer thread (`writer`, `committer`, `books`), reads through connections of their
own (`reports`). Nothing authoritative is cached. Between processes, batches pass a turnstile (`locks`); who holds what
is signed with a name whose bearer's death the others can tell (`owners`).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from typing import Self

from proxy.clock import Clock
from proxy.ledger.books import RESOLVED_PER_CALL_MAX, Books
from proxy.ledger.checkup import check_pages
from proxy.ledger.committer import Call
from proxy.ledger.correcting import Dead
from proxy.ledger.errands import add_key, declaring, end_key, limit
from proxy.ledger.folder import find_owners, make_data_folder
from proxy.ledger.locks import Turnstile
from proxy.ledger.owners import DeadOwner, Owner, seize_dead
from proxy.ledger.progress import read_progress
from proxy.ledger.records import (
    EVERYTHING,
    Admission,
    Admitted,
    Advance,
    AttemptFilter,
    AttemptRow,
    BudgetState,
    KeyRecord,
    Outcome,
    ProviderStats,
    Settlement,
    UsageQuery,
    UsageSum,
)
from proxy.ledger.reports import Reports
from proxy.ledger.rolling import floor_day_s
from proxy.ledger.schema import connect, explain, find_file, prepare
from proxy.ledger.shelves import SqliteRegistry
from proxy.ledger.sqlite_bills import SqliteBills
from proxy.ledger.sqlite_incidents import SqliteIncidents, SqliteSignals
from proxy.ledger.sqlite_resolution import SqliteResolution
from proxy.ledger.writer import Observer, Writer
from proxy.policy.limits import Limits

ROLLING_PAUSE_S = 0.01
"""Between two pieces of detail that go: a million attempts take a quarter of an hour, and nobody notices."""
_WINDOWS_PER_CALL = 500


class SqliteLedger:
    """The `Ledger` of records.py on SQLite."""

    def __init__(
        self, data_dir: Path, *, turnstile: Turnstile, owner: Owner, clock: Clock, make_writer: Callable[..., Writer]
    ) -> None:
        """Take over what `open` has made ready."""
        path = find_file(data_dir)
        self._owners = find_owners(data_dir)
        self._owner = owner
        self._turnstile = turnstile
        self._books = Books(owner.id)
        self._clock = clock
        self._reports = Reports(path)
        self._writer = make_writer(partial(connect, path), turnstile, common=self._books.sheet)
        self._registry = SqliteRegistry(path, self._writer)
        self.incidents = SqliteIncidents(self._writer, self._reports)
        self.signals = SqliteSignals(self._writer, self._reports)
        self.bills = SqliteBills(self._writer, self._reports)
        self.resolution = SqliteResolution(self._writer, self._reports, self._books.late, progress=owner.progress)

    @classmethod
    async def open(
        cls, data_dir: Path, *, clock: Clock, observer: Observer | None = None, is_crowded: bool = False
    ) -> Self:
        """Open the ledger of a data folder, made when it is missing and migrated when it is old.

        `is_crowded` says that other workers write as much as this process: it then keeps them waiting less, for some
        more CPU. Without it any number of processes may write all the same.

        Raises LedgerUnavailable, naming the file and the remedy, when it is damaged, not ours, newer than this
        version, or cannot be written; nothing is changed then.
        """
        turnstile, owner = await asyncio.to_thread(_make_ready, data_dir, clock.now_s())
        async with AsyncExitStack() as stack:
            make_writer = partial(Writer, clock=clock, observer=observer, is_crowded=is_crowded)
            ledger = cls(data_dir, turnstile=turnstile, owner=owner, clock=clock, make_writer=make_writer)
            stack.push_async_callback(ledger.close)
            await ledger._reports.open()
            stack.pop_all()
        return ledger

    @property
    def is_writable(self) -> bool:
        """Tell whether the store took what it was last given."""
        return not self._writer.is_failing

    @property
    def registry(self) -> SqliteRegistry:
        """Give what administers keys, tenants and credits."""
        return self._registry

    async def admit(self, admission: Admission) -> Outcome:
        """Check the key and its budgets and write the holds, all or nothing; cancelled, the holds are voided."""
        return await self._writer.call(self._books.admit, admission, is_shared=True, undo=self._undo_admit)

    async def advance(self, step: Advance) -> Outcome:
        """End one attempt and hold the next, all or nothing; cancelled, the next one is voided."""
        return await self._writer.call(self._books.advance, step, is_shared=True, undo=self._undo_advance)

    async def settle(self, settlement: Settlement) -> bool:
        """End the request's attempts; what is asked for is kept until it is durable, through any trouble of the store.

        Raises LedgerUnavailable when that has not happened in `writer.WAIT_S_MAX`, so that a client gets its end all
        the same. Neither that nor a cancelled caller loses anything: only closing the ledger before the store recovers
        does (the next start then posts the holds in full), or `writer.KEPT_MAX` settlements that wait already.
        """
        return await self._writer.keep(self._books.settle, settlement, is_shared=True)

    async def find_key(self, digest: str) -> KeyRecord | None:
        """Find a key by its digest, disabled and expired ones too."""
        return await self._reports.find_key(digest, self._clock.now_s())

    async def create_key(self, key: KeyRecord) -> bool:
        """Add a minted key; False when the name is taken."""
        return await add_key(self.registry, key)

    async def revoke_key(self, name: str) -> bool:
        """Disable a key from the next admission on; False when there is none."""
        return await end_key(self.registry, name, self._clock.now_s())

    async def declare_keys(self, keys: Sequence[KeyRecord]) -> None:
        """Make the declared keys exactly these: upsert by name, disable declared ones that are missing."""
        await self._writer.call(self._books.declare_keys, (keys, declaring(self._clock.now_s())))

    async def declare_limits(self, limits: Mapping[str, Limits]) -> None:
        """Make the declared limits of all places but keys exactly these; a change makes every key's plans stale."""
        await self._writer.call(self._books.declare_limits, (limits, declaring(self._clock.now_s())))

    async def set_limits(self, place: str, limits: Limits) -> None:
        """Change the limits of one place from the next admission on."""
        await limit(self.registry, place, limits, self._clock.now_s())

    async def find_limits(self, place: str) -> Limits:
        """Tell what holds for a place, `NO_LIMITS` when nothing does."""
        return await self._reports.find_limits(place)

    async def prune_rates(self, now_s: float) -> int:
        """Forget the pieces of rates' windows that have passed; gives how many."""
        return await self._writer.call(self._books.prune_rates, now_s)

    async def roll_up(self, before_s: float) -> int:
        """Sum by day what is older and forget its detail, in transactions so short that nobody waits for them."""
        before_day_s = floor_day_s(before_s)
        # Sums of windows first: what is kept must never be more than what is left of its attempts.
        stale = await self._reports.list_stale_windows(before_day_s)
        for place in range(0, len(stale), _WINDOWS_PER_CALL):
            await self._writer.call(self._books.drop_windows, stale[place : place + _WINDOWS_PER_CALL])
        rolled = 0
        while count := await self._writer.call(self._books.roll_up, before_day_s):
            rolled += count
            await asyncio.sleep(ROLLING_PAUSE_S)
        return rolled

    async def list_keys(self) -> Sequence[KeyRecord]:
        """List all keys by name."""
        return await self._reports.list_keys()

    async def budgets(self, key_name: str, now_s: float) -> Sequence[BudgetState]:
        """Tell how each budget of a key and of its tenant stands."""
        return await self._reports.budgets(key_name, now_s)

    async def list_budgets(self, now_s: float) -> Sequence[BudgetState]:
        """Tell how every budget stands; those of users and tags as far as their windows are kept."""
        return await self._reports.list_budgets(now_s)

    async def sum_usage(self, query: UsageQuery) -> Sequence[UsageSum]:
        """Sum attempts by the query's dimensions; ValueError names an unknown one."""
        return await self._reports.sum_usage(query)

    def walk_usage(self, query: UsageQuery) -> AsyncIterator[Sequence[UsageSum]]:
        """Give the same in pages, as many as there are."""
        return self._reports.walk_usage(query)

    async def provider_stats(self, *, since_s: float, key_name: str | None) -> Sequence[ProviderStats]:
        """Sum attempts by provider since a time."""
        return await self._reports.provider_stats(since_s, key_name)

    async def export(
        self, *, since_s: float | None, after_seq: int, rows_max: int, only: AttemptFilter = EVERYTHING
    ) -> Sequence[AttemptRow]:
        """Give a page of attempts in the order of their seq, from after the one given; 0 begins."""
        return await self._reports.export(since_s, after_seq, rows_max, only)

    async def find_request(self, request_id: str) -> Sequence[AttemptRow]:
        """Give one request's attempts in order, empty when unknown."""
        return await self._reports.find_request(request_id)

    async def find_generation(self, generation_id: str, *, key_name: str) -> Sequence[AttemptRow]:
        """Give the attempts of a key's newest request in which an upstream gave a reply this id, empty when unknown."""
        return await self._reports.find_generation(generation_id, key_name)

    async def resolve_dead_owners(self, now_s: float) -> int:
        """Leave nothing of dead processes pending; two indexed look-ups when there is nothing to do."""
        pending = await self._reports.list_pending_owners()
        try:
            with seize_dead(self._owners, pending) as dead:
                return sum([await self._resolve(owner, now_s) for owner in dead])
        except OSError as error:
            raise explain(error) from error

    async def close(self) -> None:
        """Finish what is queued, then let go of the store; calling it twice is harmless.

        Raises LedgerUnavailable when the writer is stuck in the store: it may still write, so it stays an owner until
        a later call of this, or the end of the process.
        """
        await self._reports.close()
        await self._writer.close()
        self._owner.retire()
        self._turnstile.close()

    async def _resolve(self, dead: DeadOwner, now_s: float) -> int:
        resolved = 0
        left = Dead(dead.id, now_s, await asyncio.to_thread(read_progress, dead.progress))
        while True:
            count = await self._writer.call(self._books.resolve, left)
            resolved += count
            if count < RESOLVED_PER_CALL_MAX:
                dead.bury()
                return resolved

    def _undo_admit(self, cursor: sqlite3.Cursor, call: Call[Admission, Outcome]) -> None:
        if isinstance(call.outcome, Admitted):
            begun = call.argument
            self._books.void(cursor, (call.outcome.request_id, begun.attempts, begun.at_s))

    def _undo_advance(self, cursor: sqlite3.Cursor, call: Call[Advance, Outcome]) -> None:
        if isinstance(call.outcome, Admitted):
            step = call.argument
            self._books.void(cursor, (call.outcome.request_id, (step.begins,), step.at_s))


def _make_ready(data_dir: Path, now_s: float) -> tuple[Turnstile, Owner]:
    """Make folder, file and schema behind the turnstile, so that processes that start together do it once."""
    make_data_folder(data_dir)
    # Before the turnstile: a living process's writes must not wait for it.
    check_pages(find_file(data_dir))
    with ExitStack() as stack:
        try:
            turnstile = Turnstile(data_dir)
            stack.callback(turnstile.close)
            with turnstile:
                prepare(find_file(data_dir), now_s)
            owner = Owner(find_owners(data_dir))
        except OSError as error:
            raise explain(error) from error
        stack.pop_all()
    return turnstile, owner
