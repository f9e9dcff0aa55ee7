"""Jobs: done at their times by one process per ledger, each by itself; and the sweep, which is one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from proxy import jobs
from proxy.clock import ManualClock
from proxy.errors import LedgerUnavailable
from proxy.jobs import CANDIDACY_S, SWEEP_S, Job, keep, pruning_rates, pruning_replies, sweeping
from proxy.ledger.locks import FileLock
from proxy.ledger.memory import MemoryLedger
from proxy.ledger.records import Admission, Admitted, AttemptStart, KeyRecord
from proxy.replies import Replies
from proxy.replies.records import Pruned
from tests.gateway.stage import in_time

AT_S = 1_795_000_000.0


class Ailing(MemoryLedger):
    """A ledger that cannot be used the first times it is asked."""

    def __init__(self, *, clock: ManualClock, failures: int) -> None:
        super().__init__(clock=clock)
        self.asked = 0
        self._failures = failures

    async def resolve_dead_owners(self, now_s: float) -> int:
        self.asked += 1
        if self.asked <= self._failures:
            raise LedgerUnavailable("the disk is full")
        return await super().resolve_dead_owners(now_s)


async def hold(ledger: MemoryLedger, count: int) -> None:
    """Begin requests that nobody ends."""
    await ledger.create_key(KeyRecord("app", digest="app"))
    for _ in range(count):
        admission = Admission(
            "req",
            "app",
            1,
            tenant=None,
            route="chat",
            app=None,
            is_stream=True,
            at_s=AT_S,
            attempts=(AttemptStart(1, "one", "m", 500),),
        )
        assert isinstance(await ledger.admit(admission), Admitted)


async def run_until(ledger: MemoryLedger, folder: Path, told: list[int], count: int) -> None:
    """Sweep until something was told so many times."""

    def note(attempts: int) -> None:
        told.append(attempts)
        if len(told) == count:
            enough.set()

    enough = asyncio.Event()
    job = sweeping(ledger, clock=ManualClock(AT_S), on_resolved=note)
    async with kept([replace(job, every_s=0.001)], folder), in_time():
        await enough.wait()


@asynccontextmanager
async def kept(
    jobs: Sequence[Job], folder: Path, failures: list[str] | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """Stand for keeper of a folder's jobs for the block, as one process does."""

    def note(name: str, error: Exception) -> None:
        (failures if failures is not None else []).append(f"{name}: {error}")

    task = asyncio.create_task(keep(jobs, lock=folder / "jobs.lock", on_failure=note))
    try:
        yield task
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


class Counted:
    """A job that counts its runs and notices when two of them run at once."""

    def __init__(self, name: str, *, lasts_s: float = 0.002) -> None:
        self.runs = 0
        self.at_once = 0
        self.at_once_most = 0
        self._lasts_s = lasts_s
        self.job = Job(name, 0.001, self._run)

    async def _run(self) -> None:
        self.runs += 1
        self.at_once += 1
        self.at_once_most = max(self.at_once_most, self.at_once)
        try:
            await asyncio.sleep(self._lasts_s)
        finally:
            self.at_once -= 1

    async def until(self, runs: int) -> None:
        """Wait until it has been run so often."""
        async with in_time():
            while self.runs < runs:  # noqa: ASYNC110
                await asyncio.sleep(0.001)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for the lock more often than a second apart."""
    monkeypatch.setattr(jobs, "CANDIDACY_S", 0.005)


async def test_what_the_dead_held_is_booked_in_full(tmp_path: Path) -> None:
    """At once at a start, and told once; the holds of the living stay."""
    ledger = MemoryLedger(clock=ManualClock(AT_S))
    dead = ledger.share()
    await hold(dead, 3)
    await hold(ledger, 1)
    dead.die()
    told: list[int] = []
    await run_until(ledger, tmp_path, told, 1)
    assert told == [3]
    rows = await ledger.export(since_s=None, after_seq=0, rows_max=10)
    assert [(row.state, row.cost_source) for row in rows] == [("posted", "held")] * 3 + [("pending", None)]


async def test_a_store_in_trouble_is_asked_again(tmp_path: Path) -> None:
    """Nothing is told while it fails or while there is nothing to tell."""
    ledger = Ailing(clock=ManualClock(AT_S), failures=2)
    dead = ledger.share()
    await hold(dead, 1)
    dead.die()
    told: list[int] = []
    await run_until(ledger, tmp_path, told, 1)
    assert told == [1]
    assert ledger.asked == 3


def test_two_looks_are_near_enough_to_each_other() -> None:
    """A dead owner's holds are resolved within 10 s of its death, if another process lives."""
    assert CANDIDACY_S + SWEEP_S <= 10


async def test_jobs_are_done_again_and_again_and_never_twice_at_once(tmp_path: Path, hasty: None) -> None:
    """Also where several processes would do them: one does, the others wait."""
    job = Counted("count")
    async with kept([job.job], tmp_path), kept([job.job], tmp_path), kept([job.job], tmp_path):
        await job.until(20)
    assert job.at_once_most == 1
    assert job.at_once == 0


async def test_the_rates_windows_that_have_passed_are_forgotten(tmp_path: Path) -> None:
    """At once at a start, for the time it is then."""
    asked: list[float] = []

    class Rated(MemoryLedger):
        async def prune_rates(self, now_s: float) -> int:
            asked.append(now_s)
            return await super().prune_rates(now_s)

    clock = ManualClock(AT_S)
    async with kept([pruning_rates(Rated(clock=clock), clock=clock)], tmp_path), in_time():
        while not asked:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert asked == [AT_S]


async def test_old_answers_are_taken_away_from_time_to_time(tmp_path: Path) -> None:
    """At once at a start."""
    asked: list[None] = []

    class Counting(Replies):
        async def prune(self) -> Pruned:
            asked.append(None)
            return await super().prune()

    def silent(event: str, **fields: object) -> None:
        raise AssertionError((event, fields))

    replies = Counting(clock=ManualClock(AT_S), warn=silent)
    async with kept([pruning_replies(replies)], tmp_path), in_time():
        while not asked:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_when_the_keeper_ends_another_takes_over(tmp_path: Path, hasty: None) -> None:
    """A run that was under way is cancelled first, and the lock let go of after that."""
    first, second = Counted("first", lasts_s=60), Counted("second")
    async with kept([second.job], tmp_path):
        await second.until(1)
        async with kept([first.job], tmp_path):
            await second.until(5)
            assert first.runs == 0
    async with kept([first.job], tmp_path) as keeper:
        await first.until(1)
        async with kept([second.job], tmp_path):
            await asyncio.sleep(0.05)
            before = second.runs
            keeper.cancel()
            await second.until(before + 1)
        assert (before, first.at_once) == (5, 0)


async def test_a_job_that_fails_is_told_and_goes_on_as_do_the_others(tmp_path: Path) -> None:
    """Each failure by the job's name."""

    async def fail() -> None:
        raise LookupError("nothing there")

    failures: list[str] = []
    job = Counted("count")
    async with kept([Job("broken", 0.001, fail), job.job], tmp_path, failures):
        await job.until(5)
    assert len(failures) > 1
    assert set(failures) == {"broken: nothing there"}


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_a_keeper_whose_lock_was_taken_away_steps_down(tmp_path: Path, hasty: None, is_replaced: bool) -> None:
    """Who looks at the path next would find a lock nobody holds: there may be one keeper only."""
    job = Counted("count", lasts_s=60)
    lock = tmp_path / "jobs.lock"
    async with kept([job.job], tmp_path):
        await job.until(1)
        lock.unlink()
        if is_replaced:
            other = FileLock(lock)
            other.acquire()
            await asyncio.sleep(0.05)
            assert (job.runs, job.at_once) == (1, 0)
            other.close()
        await job.until(2)
        assert job.at_once_most == 1


async def test_without_a_data_folder_nothing_is_done_until_it_is_there(tmp_path: Path, hasty: None) -> None:
    """A volume may come back."""
    job = Counted("count")
    folder = tmp_path / "away"
    async with kept([job.job], folder):
        await asyncio.sleep(0.03)
        assert job.runs == 0
        folder.mkdir()
        await job.until(1)
