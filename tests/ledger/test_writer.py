"""Callers and the writer: who leaves, who waits too long, who comes too late, and the ends of the queues."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.errors import LedgerUnavailable
from proxy.ledger import writer
from proxy.ledger.committer import CROWDED_BATCH_MAX
from proxy.ledger.records import Admitted, AttemptState, KeyRecord
from proxy.ledger.sqlite import SqliteLedger
from tests.ledger.entries import ask, onward, over, posted, stand, start, voided
from tests.ledger.faults import Faults, begun, cancel, stalled, until
from tests.ledger.houses import SqliteHouse

# ---------------------------------------------------------------- callers who leave


async def test_who_leaves_before_the_batch_begins_is_skipped(shaky: SqliteLedger, faults: Faults) -> None:
    """Nothing is written for a caller who is gone."""
    stall, blocking = await stalled(faults, shaky)
    asking: asyncio.Task[object] = asyncio.create_task(shaky.admit(ask("r")))
    await begun(asking)
    await cancel(asking)
    stall.release()
    await blocking
    assert await shaky.admit(ask("s")) == Admitted("s")
    assert await shaky.find_request("r") == []


async def test_who_leaves_while_it_is_written_holds_nothing(shaky: SqliteLedger, faults: Faults) -> None:
    """What became durable after its caller had left is voided: nothing went upstream."""
    stall = faults.stall("COMMIT")
    asking: asyncio.Task[object] = asyncio.create_task(shaky.admit(ask("r", attempts=[start(1, 10), start(2, 20)])))
    await until(stall.is_reached)
    await cancel(asking)
    stall.release()
    assert await shaky.admit(ask("s", 100)) == Admitted("s")
    rows = await shaky.find_request("r")
    assert [(row.state, row.cost_nano_usd, row.error) for row in rows] == [(AttemptState.VOIDED, 0, "client_left")] * 2
    assert await stand(shaky) == (0, 100)


async def test_who_was_refused_and_left_is_left_alone(shaky: SqliteLedger, faults: Faults) -> None:
    """A refusal nobody hears has nothing to undo, not even the request it shares its id with."""
    await shaky.admit(ask("r", 60))
    stall = faults.stall("COMMIT")
    asking: asyncio.Task[object] = asyncio.create_task(shaky.admit(ask("r", 60)))
    stepping: asyncio.Task[object] = asyncio.create_task(shaky.advance(onward("r", voided(1), start(2, 101))))
    await until(stall.is_reached)
    await cancel(asking)
    await cancel(stepping)
    stall.release()
    assert await shaky.settle(over("r", posted(1, 5)))
    assert await stand(shaky) == (5, 0)


async def test_who_leaves_during_a_fallback_begins_no_attempt(shaky: SqliteLedger, faults: Faults) -> None:
    """The first attempt has ended as reported, the second is void before its caller can say anything more."""
    await shaky.admit(ask("r", 60))
    stall = faults.stall("COMMIT")
    stepping: asyncio.Task[object] = asyncio.create_task(shaky.advance(onward("r", posted(1, 7), start(2, 50))))
    await until(stall.is_reached)
    await cancel(stepping)
    settling = asyncio.create_task(shaky.settle(over("r", posted(1, 9))))
    await asyncio.sleep(0)
    stall.release()
    assert not await settling
    first, second = await shaky.find_request("r")
    assert (first.state, first.cost_nano_usd) == (AttemptState.POSTED, 7)
    assert (second.state, second.error) == (AttemptState.VOIDED, "client_left")
    assert await stand(shaky) == (7, 0)


async def test_who_leaves_before_a_fallback_is_written_settles_what_there_was(
    shaky: SqliteLedger, faults: Faults
) -> None:
    """An abandoned step is not taken, so the attempt before it is still there to be settled."""
    await shaky.admit(ask("r", 60))
    stall, blocking = await stalled(faults, shaky)
    stepping: asyncio.Task[object] = asyncio.create_task(shaky.advance(onward("r", posted(1, 7), start(2, 50))))
    await begun(stepping)
    await cancel(stepping)
    settling = asyncio.create_task(shaky.settle(over("r", posted(1, 9))))
    await asyncio.sleep(0)
    stall.release()
    await blocking
    assert await settling
    assert await stand(shaky) == (9, 0)


async def test_a_settlement_is_done_whoever_waits(shaky: SqliteLedger, faults: Faults) -> None:
    """Cancelling the caller of a settlement cancels nothing."""
    await shaky.admit(ask("r", 60))
    stall, blocking = await stalled(faults, shaky)
    settling: asyncio.Task[object] = asyncio.create_task(shaky.settle(over("r", posted(1, 9))))
    await begun(settling)
    await cancel(settling)
    stall.release()
    await blocking
    assert not await shaky.settle(over("r", posted(1, 1)))
    assert await stand(shaky) == (9, 0)


# ---------------------------------------------------------------- stores that do not answer


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let callers wait for a tenth of a second."""
    monkeypatch.setattr(writer, "WAIT_S_MAX", 0.1)
    monkeypatch.setattr(writer, "WATCH_S", 0.01)


async def test_an_admission_waits_so_long_and_no_longer(impatient: None, shaky: SqliteLedger, faults: Faults) -> None:
    """A store that hangs refuses admissions after a while, and what it writes later is void; settlements are kept."""
    await shaky.admit(ask("old", 10))
    stall = faults.stall("COMMIT")
    early = asyncio.create_task(shaky.admit(ask("early", 10)))
    await until(stall.is_reached)
    settling = asyncio.create_task(shaky.settle(over("old", posted(1, 5))))
    with pytest.raises(LedgerUnavailable, match="does not answer") as caught:
        await early
    assert caught.value.retry_after_s is not None
    with pytest.raises(LedgerUnavailable, match="does not answer"):
        await shaky.admit(ask("late", 10))
    with pytest.raises(LedgerUnavailable, match="is kept until it does"):
        await settling
    assert not shaky.is_writable
    stall.release()
    assert not await shaky.settle(over("old", posted(1, 9)))
    assert shaky.is_writable
    assert [row.state for row in await shaky.find_request("early")] == [AttemptState.VOIDED]
    assert await shaky.find_request("late") == []
    assert await stand(shaky) == (5, 0)


async def test_abandoned_calls_count_until_they_are_gone(
    impatient: None, shaky: SqliteLedger, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that hangs for long cannot make the queue grow without end."""
    monkeypatch.setattr(writer, "CALLS_MAX", 3)
    stall, blocking = await stalled(faults, shaky)
    for name in ("a", "b"):
        with pytest.raises(LedgerUnavailable, match="does not answer"):
            await shaky.admit(ask(name, 10))
    with pytest.raises(LedgerUnavailable, match="too many requests wait"):
        await shaky.admit(ask("c", 10))
    stall.release()
    with pytest.raises(LedgerUnavailable, match="does not answer"):
        await blocking
    assert not await shaky.settle(over("a", posted(1, 5)))
    assert await shaky.admit(ask("d", 10)) == Admitted("d")
    assert await stand(shaky) == (0, 10)


async def test_only_the_late_are_let_go(impatient: None, shaky: SqliteLedger, faults: Faults) -> None:
    """Who came later waits his own time."""
    stall = faults.stall("COMMIT")
    early = asyncio.create_task(shaky.admit(ask("early", 10)))
    await until(stall.is_reached)
    await asyncio.sleep(0.06)
    late = asyncio.create_task(shaky.admit(ask("late", 10)))
    with pytest.raises(LedgerUnavailable):
        await early
    stall.release()
    assert await late == Admitted("late")
    await asyncio.sleep(0.03)  # the watch finds nobody left and rests
    assert await shaky.admit(ask("next", 10)) == Admitted("next")


async def test_a_writer_that_is_stuck_does_not_hold_up_closing(
    shaky_house: SqliteHouse, shaky: SqliteLedger, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing says so after its time; once the store goes on, so does the closing."""
    monkeypatch.setattr(writer, "CLOSE_S_MAX", 0.05)
    stall, blocking = await stalled(faults, shaky)
    with pytest.raises(LedgerUnavailable, match="stuck"):
        await shaky.close()
    stall.release()
    await blocking
    await shaky.close()
    assert list((shaky_house.data_dir / "owners").iterdir()) == []


async def test_what_is_queued_is_written_before_closing(
    shaky: SqliteLedger, shaky_house: SqliteHouse, faults: Faults
) -> None:
    """Closing waits for those who came first, and nobody comes after."""
    stall, blocking = await stalled(faults, shaky)
    asking = asyncio.create_task(shaky.admit(ask("r", 10)))
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(shaky.close())
    await asyncio.sleep(0.02)
    for late in (shaky.admit(ask("s", 10)), shaky.settle(over("r", posted(1, 5)))):
        with pytest.raises(LedgerUnavailable, match="closed"):
            await late
    stall.release()
    await blocking
    assert await asking == Admitted("r")
    await closing
    following = await shaky_house.open()
    assert [row.state for row in await following.find_request("r")] == [AttemptState.PENDING]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_writer_that_ends_leaves_nobody_waiting(shaky: SqliteLedger, faults: Faults) -> None:
    """Even when a bug of ours ends the thread, every caller is told."""
    await shaky.admit(ask("r", 10))
    faults.errors["COMMIT"] = SystemExit()
    asking = asyncio.create_task(shaky.admit(ask("s", 10)))
    settling = asyncio.create_task(shaky.settle(over("r", posted(1, 5))))
    for waiting in (asking, settling):
        with pytest.raises(LedgerUnavailable, match="closed"):
            await waiting
    await shaky.close()


# ---------------------------------------------------------------- limits


async def test_the_queue_has_an_end(shaky: SqliteLedger, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call too many is refused at once, one settlement too many as well; each has a queue of its own."""
    monkeypatch.setattr(writer, "CALLS_MAX", 3)
    monkeypatch.setattr(writer, "KEPT_MAX", 1)
    await shaky.admit(ask("r", 10))
    stall, blocking = await stalled(faults, shaky)
    waiting = [asyncio.create_task(shaky.admit(ask(f"r{number}", 10))) for number in range(2)]
    settling = asyncio.create_task(shaky.settle(over("r", posted(1, 5))))
    await asyncio.sleep(0.01)
    for late in (shaky.admit(ask("s", 10)), shaky.settle(over("r", posted(1, 5)))):
        with pytest.raises(LedgerUnavailable, match="too many requests wait") as caught:
            await late
        assert caught.value.retry_after_s is not None
    stall.release()
    await blocking
    assert all([isinstance(await task, Admitted) for task in waiting])
    assert await settling
    assert await shaky.admit(ask("s", 10)) == Admitted("s")


# ---------------------------------------------------------------- who is told


class Notes:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.queues: list[tuple[int, int]] = []
        self.turns: list[float] = []
        self.waits: list[float] = []

    def queue_changed(self, waiting: int, kept: int) -> None:
        self.queues.append((waiting, kept))

    def turn_came(self, waited_s: float) -> None:
        self.turns.append(waited_s)

    def became_durable(self, waited_s: float) -> None:
        self.waits.append(waited_s)


async def test_an_observer_hears_of_every_batch(tmp_path: Path) -> None:
    """How many wait, how long the turn took to come, and how long it all took."""
    notes, clock = Notes(), SystemClock()
    ledger = await SqliteLedger.open(tmp_path / "data", clock=clock, observer=notes)
    begun_s = clock.monotonic_s()
    await ledger.create_key(KeyRecord("app", digest="d"))
    await asyncio.gather(*(ledger.revoke_key("app") for _ in range(5)))
    await ledger.close()
    lasted_s = clock.monotonic_s() - begun_s
    assert (1, 0) in notes.queues
    assert (5, 0) in notes.queues
    assert notes.queues[-1] == (0, 0)
    assert len(notes.turns) == len(notes.waits) >= 2
    assert all(0 <= waited_s <= lasted_s for waited_s in (*notes.turns, *notes.waits))
    assert all(turn_s <= wait_s for turn_s, wait_s in zip(notes.turns, notes.waits, strict=True))


async def test_among_workers_turns_are_short_and_python_s_lock_is_given_back(tmp_path: Path) -> None:
    """A queue is written in small transactions; outside of them the interpreter switches threads as ever."""
    notes, before = Notes(), sys.getswitchinterval()
    ledger = await SqliteLedger.open(tmp_path / "data", clock=SystemClock(), observer=notes, is_crowded=True)
    await ledger.create_key(KeyRecord("app", digest="d"))
    turns = len(notes.turns)
    answers = await asyncio.gather(*(ledger.revoke_key("app") for _ in range(3 * CROWDED_BATCH_MAX)))
    await ledger.close()
    assert all(answers)
    assert len(notes.turns) - turns >= 3
    assert sys.getswitchinterval() == before
