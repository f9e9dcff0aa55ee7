"""What the gateway asks (part of the replies, floor 3): is there an answer, does one come, or is the caller the first.

Equal requests of one process meet in memory: one of them asks the file, and what it learns all of them do. Those of
several processes meet in `cache.db`: the first one's claim stands there, the others look again from time to time.

* `join` gives an `Entry` (it is there), a `Flight` (the caller is the first, and must `keep` or `release` it), or None
  (waited in vain). A flight that ends without an answer sets those who wait for it free.
* A follower of the cache whose flight has failed goes its own way, so that a failing upstream is never asked by one
  after another. Those with an `Idempotency-Key` may not: one of them becomes the first.
* No answer is worth an outage: whatever is wrong with the file is `RepliesUnavailable`, and the caller decides.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from proxy.clock import Clock
from proxy.errors import IdempotencyKeyReused, LedgerUnavailable, RepliesUnavailable
from proxy.ledger.folder import find_owners, make_data_folder
from proxy.ledger.locks import Turnstile
from proxy.ledger.owners import Owner, seize_dead
from proxy.ledger.writer import Writer
from proxy.replies.records import Claim, Entry, Kind, Pruned, Ticket
from proxy.replies.shelf import DROPPED_PER_CALL_MAX, Asking, Keeping, Shelf
from proxy.replies.shelving import FILE_NAME, connect, is_damage, mark_damaged, prepare

WAIT_S_MAX = {Kind.CACHE: 60.0, Kind.IDEMPOTENCY: 600.0}
"""How long an equal request is waited for; then the cache is passed by, and an `Idempotency-Key` is answered 409."""
FOLLOWERS_MAX = 4_096
"""Requests of this process that may wait at once; one more does not wait at all."""
OUTLIVING_MAX = 256
"""Requests that may go on without their client at once."""
POLL_S = 0.1
"""Time between two looks for an answer that another process makes."""
PRUNE_BYTES = 32 << 20
"""So much kept since the last pruning makes the next one due."""
ROUNDS_MAX = 100
"""Of one pruning."""
FOLDER = "replies"
"""Beside the ledger's owners: those of this file."""
TURNSTILE = "turnstile"

ArgumentT = TypeVar("ArgumentT")
ResultT = TypeVar("ResultT")


class Warn(Protocol):
    """Tells the operator something (`Telemetry.warn`)."""

    def __call__(self, event: str, **fields: object) -> None:
        """Tell it."""
        ...


class Flight:
    """An answer under way in this process, or watched from it."""

    def __init__(self, ticket: Ticket) -> None:
        """Begin; nobody waits yet."""
        self.ticket = ticket
        self.followers = 0
        """Requests of this process that wait for it."""
        self.landed: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
        """Its answer, None when there is none."""


class Replies:
    """Kept answers and those under way."""

    def __init__(self, *, clock: Clock, warn: Warn) -> None:
        """Begin closed: `open` gives one that keeps anything."""
        self._clock = clock
        self._warn = warn
        self._shelf: Shelf | None = None
        self._writer: Writer | None = None
        self._owner: Owner | None = None
        self._turnstile: Turnstile | None = None
        self._folder: Path | None = None
        self._flights: dict[Ticket, Flight] = {}
        self._following = 0
        self._outliving = 0
        self._unreleased: list[Ticket] = []
        self._kept_bytes = 0
        self._path: Path | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_troubled = False

    @classmethod
    async def open(cls, data_dir: Path, *, clock: Clock, warn: Warn) -> Self:
        """Open `cache.db` of a data folder. It never stops a start: what cannot be used is warned about and left."""
        replies = cls(clock=clock, warn=warn)
        try:
            await replies._open(data_dir)
        except (LedgerUnavailable, OSError, sqlite3.Error) as error:
            remedy = "answers are neither cached nor kept for an Idempotency-Key until the next start"
            warn("replies_closed", file=FILE_NAME, reason=_reason(error), remedy=remedy)
        return replies

    async def join(self, ticket: Ticket) -> Entry | Flight | None:
        """Find the answer, or become the first; None when it was waited for in vain.

        Raises `RepliesUnavailable`, and `IdempotencyKeyReused` for a slot that belongs to another request.
        """
        deadline_s = self._clock.monotonic_s() + WAIT_S_MAX[ticket.kind]
        while (left_s := deadline_s - self._clock.monotonic_s()) > 0:
            flight = self._flights.get(ticket)
            if flight is None:
                found = await self._begin(ticket)
                if found is not None:
                    return found
                continue
            if self._following >= FOLLOWERS_MAX:
                return None
            entry = await self._follow(flight, left_s)
            if entry is not None or ticket.kind is Kind.CACHE:
                return entry
        return None

    async def keep(self, flight: Flight, entry: Entry) -> None:
        """Put the answer where everybody finds it; durable when this returns, or the trouble has been told."""
        is_kept = False
        try:
            is_kept = await self._write(Keeping(flight.ticket, entry))
        finally:
            if not is_kept:
                self._unreleased.append(flight.ticket)
            self._land(flight, entry)
        if not is_kept and flight.ticket.kind is Kind.IDEMPOTENCY:
            self._warn_lost(1, "the file could not be written")
        self._kept_bytes += len(entry.content)
        if self._kept_bytes >= PRUNE_BYTES:
            self._start(self._prune_now())

    async def release(self, flight: Flight) -> None:
        """Say that no answer came of it."""
        # Those who wait here may go on at once: whatever they ask the file comes behind this.
        self._land(flight, None)
        await self._release(flight.ticket)

    def may_outlive(self) -> bool:
        """Tell whether one more request may go on without its client; if so it counts until `ended_alone`."""
        if self._outliving >= OUTLIVING_MAX:
            return False
        self._outliving += 1
        return True

    def ended_alone(self) -> None:
        """Count down a request that went on without its client."""
        self._outliving -= 1

    async def prune(self) -> Pruned:
        """Take away what is out of date and what is too much; nothing while the file cannot be used."""
        if self._writer is None:
            return Pruned()
        waiting, self._unreleased, self._kept_bytes = self._unreleased, [], 0
        for ticket in waiting:
            await self._release(ticket)
        try:
            pruned = await self._drop()
        except LedgerUnavailable as error:
            self._note_trouble(error, "old answers were not taken away")
            return Pruned()
        self._is_troubled = False
        if pruned.lost:
            self._warn_lost(pruned.lost, "there were too many")
        return pruned

    async def close(self) -> None:
        """Finish what is queued and let go of the file; calling it twice is harmless."""
        for task in self._tasks:
            task.cancel()
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(LedgerUnavailable):
                await writer.close()
        if self._owner is not None:
            self._owner.retire()
        if self._turnstile is not None:
            self._turnstile.close()

    # --- the file -------------------------------------------------------------------------------------------------

    async def _open(self, data_dir: Path) -> None:
        problem = await asyncio.to_thread(self._make_ready, data_dir)
        if problem is not None:
            remedy = "a new one was begun; what was known of each Idempotency-Key is lost, the old file stands beside"
            self._warn("replies_moved_aside", file=FILE_NAME, reason=problem, remedy=remedy)
        assert self._owner is not None, "made ready"
        assert self._turnstile is not None, "made ready"
        assert self._folder is not None, "made ready"
        self._path = data_dir / FILE_NAME
        self._shelf = Shelf(self._owner.id, self._folder)
        self._writer = Writer(partial(connect, self._path), self._turnstile, self._clock)

    def _make_ready(self, data_dir: Path) -> str | None:
        """Make folder, locks and file; processes that start together do it one by one."""
        make_data_folder(data_dir)
        self._folder = find_owners(data_dir) / FOLDER
        turnstile = self._folder / TURNSTILE
        turnstile.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._turnstile = Turnstile(turnstile)
        with self._turnstile:
            problem = prepare(data_dir / FILE_NAME, self._clock.now_s())
            self._owner = Owner(self._folder)
        with seize_dead(self._folder, ()) as dead:
            for owner in dead:
                owner.bury()
        return problem

    async def _begin(self, ticket: Ticket) -> Entry | Flight | None:
        """Ask the file, for all equal requests of this process; None: look at the flight again."""
        shelf, writer = self._shelf, self._writer
        if shelf is None or writer is None:
            raise _closed()
        flight = self._flights[ticket] = Flight(ticket)
        try:
            asking = Asking(ticket, self._clock.now_s())
            found = await writer.call(shelf.claim, asking, undo=shelf.undo_claim)
        except LedgerUnavailable as error:
            self._land(flight, None)
            self._note_trouble(error, "an answer was not looked for")
            raise _closed() from error
        except BaseException:
            self._land(flight, None)
            raise
        if found is Claim.FIRST:
            return flight
        if found is Claim.ELSEWHERE:
            self._start(self._watch(flight))
            return None
        self._land(flight, found if isinstance(found, Entry) else None)
        if isinstance(found, Entry):
            return found
        msg = "This Idempotency-Key was sent with another request before; take a new key for a new request."
        raise IdempotencyKeyReused(msg)

    async def _watch(self, flight: Flight) -> None:
        """Look from time to time whether another process has made the answer, as long as somebody waits for it."""
        found: Entry | Claim | None = Claim.ELSEWHERE
        try:
            while found is Claim.ELSEWHERE and flight.followers and self._writer is not None:
                await asyncio.sleep(POLL_S)
                found = await self._look(flight.ticket)
        finally:
            self._land(flight, found if isinstance(found, Entry) else None)

    async def _write(self, keeping: Keeping) -> bool:
        shelf, writer = self._shelf, self._writer
        if shelf is None or writer is None:
            return False
        try:
            await writer.call(shelf.keep, keeping)
        except LedgerUnavailable as error:
            self._note_trouble(error, "answers are not kept")
            return False
        return True

    async def _look(self, ticket: Ticket) -> Entry | Claim | None:
        shelf, writer = self._shelf, self._writer
        if shelf is None or writer is None:
            return None
        try:
            return await writer.call(shelf.look, Asking(ticket, self._clock.now_s()))
        except LedgerUnavailable as error:
            self._note_trouble(error, "an answer was not looked for")
            return None

    async def _prune_now(self) -> None:
        await self.prune()

    async def _drop(self) -> Pruned:
        """Prune in rounds, so that nobody waits long behind one of them."""
        expired = evicted = lost = 0
        for _ in range(ROUNDS_MAX):
            shelf, writer = self._shelf, self._writer
            if shelf is None or writer is None:
                break
            round_ = await writer.call(shelf.prune, self._clock.now_s())
            expired, evicted, lost = expired + round_.expired, evicted + round_.evicted, lost + round_.lost
            if max(round_.expired, round_.evicted + round_.lost) < DROPPED_PER_CALL_MAX:
                break
        return Pruned(expired, evicted, lost)

    async def _release(self, ticket: Ticket) -> None:
        shelf, writer = self._shelf, self._writer
        if shelf is None or writer is None:
            return
        try:
            await writer.call(shelf.release, ticket)
        except LedgerUnavailable as error:
            self._unreleased.append(ticket)
            self._note_trouble(error, "a claim was not given back")

    # --- those who wait -------------------------------------------------------------------------------------------

    async def _follow(self, flight: Flight, left_s: float) -> Entry | None:
        flight.followers += 1
        self._following += 1
        try:
            async with asyncio.timeout(left_s):
                return await asyncio.shield(flight.landed)
        except TimeoutError:
            return None
        finally:
            flight.followers -= 1
            self._following -= 1

    def _land(self, flight: Flight, entry: Entry | None) -> None:
        if self._flights.get(flight.ticket) is flight:
            del self._flights[flight.ticket]
        if not flight.landed.done():
            flight.landed.set_result(entry)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _warn_lost(self, records: int, why: str) -> None:
        consequence = "requests that are sent again with these keys would be run and billed again"
        self._warn("idempotency_records_lost", records=records, reason=why, consequence=consequence)

    def _note_trouble(self, error: Exception, what: str) -> None:
        """Warn once; the next pruning that succeeds makes it news again."""
        if self._path is not None and is_damage(error.__cause__):
            mark_damaged(self._path)
        if not self._is_troubled:
            self._is_troubled = True
            self._warn("replies_unavailable", file=FILE_NAME, reason=_reason(error), consequence=what)


def _closed() -> RepliesUnavailable:
    msg = "Answers cannot be kept at the moment, so an Idempotency-Key cannot be honoured; try again, or without one."
    return RepliesUnavailable(msg)


def _reason(error: Exception) -> str:
    """Give the store's own words: the writer's are about the ledger."""
    cause = error.__cause__ or error
    return (cause.strerror or type(cause).__name__) if isinstance(cause, OSError) else str(cause)
