"""Work that no request waits for (floor 4), done at set intervals by one process per ledger: the keeper.

Any number of processes may serve from one data folder, workers of one server or servers of their own. Whoever holds the
lock on `jobs.lock` there is the keeper. The kernel lets go of a dead process's lock, so when the keeper dies another
takes its place within `CANDIDACY_S`, and no job ever runs in two of them at once.

Only what concerns the ledger or the outside belongs here. What each process needs for itself (its routing table, its
tokenizers) each process looks after.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.clock import Clock
from proxy.errors import LedgerUnavailable
from proxy.ledger.locks import FileLock
from proxy.ledger.protocol import Ledger
from proxy.replies import Replies

CANDIDACY_S = 1.0
"""Time between two tries to become the keeper, and between the keeper's looks whether it still is."""
SWEEP_S = 5.0
"""Time between two looks for dead owners: their holds are resolved within 10 s."""
PRUNE_REPLIES_S = 60.0
"""Time between two looks for kept answers that are out of date or too many."""
PRUNE_RATES_S = 60.0
"""Time between two rounds of forgetting what rates do not look at any more."""

OnFailure = Callable[[str, Exception], None]


@dataclass(frozen=True, slots=True)
class Job:
    """Something to be done again and again."""

    name: str
    """A word for the log."""
    every_s: float
    """Time from the end of one run to the beginning of the next; the first begins as soon as there is a keeper.

    What is rarer than a process's death should therefore ask the ledger or a file when it was last done.
    """
    run: Callable[[], Awaitable[None]]
    """Does it once. It may be cancelled at any await, and must be fit to be begun anew by another process."""


async def keep(jobs: Sequence[Job], *, lock: Path, on_failure: OnFailure) -> None:
    """Do the jobs whenever this process is the keeper, for ever; cancel it to stop and to let another take over.

    A run that fails is told to `on_failure`, with the job's name, and the job goes on at its next time; it ends neither
    the others nor this. A ledger that is away is no news of a job's, because every request says so: it is not told.
    """
    while True:
        with _try_hold(lock) as held:
            if held is not None:
                await _work(jobs, held, on_failure)
        await asyncio.sleep(CANDIDACY_S)


def sweeping(ledger: Ledger, *, clock: Clock, on_resolved: Callable[[int], None]) -> Job:
    """Make the job that resolves dead owners' holds; `on_resolved` is told how many attempts a run posted, if any."""

    async def sweep() -> None:
        if resolved := await ledger.resolve_dead_owners(clock.now_s()):
            on_resolved(resolved)

    return Job("sweep", SWEEP_S, sweep)


def pruning_rates(ledger: Ledger, *, clock: Clock) -> Job:
    """Make the job that forgets the pieces of rates' windows that have passed."""

    async def prune() -> None:
        await ledger.prune_rates(clock.now_s())

    return Job("prune_rates", PRUNE_RATES_S, prune)


def pruning_replies(replies: Replies) -> Job:
    """Make the job that takes away kept answers that are out of date or too many."""

    async def prune() -> None:
        await replies.prune()

    return Job("prune_replies", PRUNE_REPLIES_S, prune)


@contextlib.contextmanager
def _try_hold(path: Path) -> Iterator[FileLock | None]:
    """Hold the lock for the block if nobody else does; None when somebody does, or when there is no data folder."""
    try:
        lock = FileLock(path)
    except OSError:
        yield None
        return
    try:
        yield lock if lock.try_acquire() else None
    finally:
        lock.close()


async def _work(jobs: Sequence[Job], held: FileLock, on_failure: OnFailure) -> None:
    """Be the keeper until the lock's file is not the one others would look at any more."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_repeat(job, on_failure), name=job.name) for job in jobs]
        # Somebody who removes or replaces the file lets a second keeper in: then this one steps down.
        while held.is_in_place():  # noqa: ASYNC110  # the file system tells nobody
            await asyncio.sleep(CANDIDACY_S)
        for task in tasks:
            task.cancel()


async def _repeat(job: Job, on_failure: OnFailure) -> None:
    while True:
        # Gathered, because whatever one job dies of comes back as a value: the server and the others outlive it.
        (outcome,) = await asyncio.gather(job.run(), return_exceptions=True)
        if isinstance(outcome, Exception) and not isinstance(outcome, LedgerUnavailable):
            on_failure(job.name, outcome)
        await asyncio.sleep(job.every_s)
