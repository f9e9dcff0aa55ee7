"""The jobs: dead owners' holds are resolved and old answers taken away from time to time, whatever the store says."""

from __future__ import annotations

import asyncio

import pytest

from proxy import jobs
from proxy.clock import ManualClock
from proxy.errors import LedgerUnavailable
from proxy.jobs import SWEEP_S, prune, sweep
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


async def run_until(ledger: MemoryLedger, told: list[int], count: int) -> None:
    """Sweep until something was told so many times."""

    def note(attempts: int) -> None:
        told.append(attempts)
        if len(told) == count:
            enough.set()

    enough = asyncio.Event()
    task = asyncio.create_task(sweep(ledger, clock=ManualClock(AT_S), on_resolved=note))
    async with in_time():
        await enough.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_the_dead_held_is_booked_in_full() -> None:
    """At once at a start, and told once; the holds of the living stay."""
    ledger = MemoryLedger(clock=ManualClock(AT_S))
    dead = ledger.share()
    await hold(dead, 3)
    await hold(ledger, 1)
    dead.die()
    told: list[int] = []
    await run_until(ledger, told, 1)
    assert told == [3]
    rows = await ledger.export(since_s=None, after_seq=0, rows_max=10)
    assert [(row.state, row.cost_source) for row in rows] == [("posted", "held")] * 3 + [("pending", None)]


async def test_a_store_in_trouble_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is told while it fails or while there is nothing to tell."""
    monkeypatch.setattr(jobs, "SWEEP_S", 0.001)
    ledger = Ailing(clock=ManualClock(AT_S), failures=2)
    dead = ledger.share()
    await hold(dead, 1)
    dead.die()
    told: list[int] = []
    await run_until(ledger, told, 1)
    assert told == [1]
    assert ledger.asked == 3


def test_two_looks_are_near_enough_to_each_other() -> None:
    """A dead owner's holds are resolved within 10 s of its death, if another process lives."""
    assert SWEEP_S <= 10 / 2


async def test_old_answers_are_taken_away_from_time_to_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once and again, for ever."""
    monkeypatch.setattr(jobs, "PRUNE_S", 0.01)
    passes = asyncio.Queue[None]()

    class Counting(Replies):
        async def prune(self) -> Pruned:
            passes.put_nowait(None)
            return await super().prune()

    def silent(event: str, **fields: object) -> None:
        raise AssertionError((event, fields))

    task = asyncio.create_task(prune(Counting(clock=ManualClock(), warn=silent)))
    async with in_time():
        for _ in range(3):
            await passes.get()
    task.cancel()
    await asyncio.wait([task])
