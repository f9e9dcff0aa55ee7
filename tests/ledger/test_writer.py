"""The writer in trouble: callers who leave, stores that fail or do not answer, limits of every queue."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.errors import LedgerUnavailable
from proxy.ledger import committer, writer
from proxy.ledger.records import Admitted, AttemptState, KeyGone, Refused
from proxy.ledger.sqlite import SqliteLedger
from proxy.usage import CostSource
from tests.ledger.entries import NOON_S, ask, key, onward, over, posted, stand, start, voided
from tests.ledger.faults import Faults, Stall
from tests.ledger.houses import SqliteHouse

DISK_FULL = sqlite3.OperationalError("database or disk is full")


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """What the writer's store will do wrong, nothing yet; trouble is retried fast."""
    faults = Faults()
    monkeypatch.setattr("proxy.ledger.sqlite.connect", faults.connect)
    monkeypatch.setattr(committer, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(committer, "BACKOFF_S_MAX", 0.02)
    return faults


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[SqliteHouse]:
    """A data folder."""
    house = SqliteHouse(tmp_path)
    yield house
    await house.close()


@pytest.fixture
async def ledger(house: SqliteHouse, faults: Faults) -> SqliteLedger:
    """Books with one key that may spend 100."""
    ledger = await house.open()
    await ledger.declare_keys([key(limit=100)])
    return ledger


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens in the writer's thread."""
    give_up_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up_s
        await asyncio.sleep(0.002)


async def stalled(faults: Faults, ledger: SqliteLedger, word: str = "COMMIT") -> tuple[Stall, asyncio.Task[object]]:
    """Stop the writer in the middle of somebody else's call, so that what comes next is one batch."""
    stall = faults.stall(word)
    blocking: asyncio.Task[object] = asyncio.create_task(ledger.revoke_key("nobody"))
    await until(stall.is_reached)
    return stall, blocking


async def begun(task: asyncio.Task[object]) -> None:
    """Let a task put its call into the queue."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()


async def cancel(task: asyncio.Task[object]) -> None:
    """Cancel a caller and see it leave at once."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# ---------------------------------------------------------------- callers who leave


async def test_who_leaves_before_the_batch_begins_is_skipped(ledger: SqliteLedger, faults: Faults) -> None:
    """Nothing is written for a caller who is gone."""
    stall, blocking = await stalled(faults, ledger)
    asking: asyncio.Task[object] = asyncio.create_task(ledger.admit(ask("r")))
    await begun(asking)
    await cancel(asking)
    stall.release()
    await blocking
    assert await ledger.admit(ask("s")) == Admitted("s")
    assert await ledger.find_request("r") == []


async def test_who_leaves_while_it_is_written_holds_nothing(ledger: SqliteLedger, faults: Faults) -> None:
    """What became durable after its caller had left is voided: nothing went upstream."""
    stall = faults.stall("COMMIT")
    asking: asyncio.Task[object] = asyncio.create_task(ledger.admit(ask("r", attempts=[start(1, 10), start(2, 20)])))
    await until(stall.is_reached)
    await cancel(asking)
    stall.release()
    assert await ledger.admit(ask("s", 100)) == Admitted("s")
    rows = await ledger.find_request("r")
    assert [(row.state, row.cost_nano_usd, row.error) for row in rows] == [(AttemptState.VOIDED, 0, "client_left")] * 2
    assert await stand(ledger) == (0, 100)


async def test_who_was_refused_and_left_is_left_alone(ledger: SqliteLedger, faults: Faults) -> None:
    """A refusal nobody hears has nothing to undo, not even the request it shares its id with."""
    await ledger.admit(ask("r", 60))
    stall = faults.stall("COMMIT")
    asking: asyncio.Task[object] = asyncio.create_task(ledger.admit(ask("r", 60)))
    stepping: asyncio.Task[object] = asyncio.create_task(ledger.advance(onward("r", voided(1), start(2, 101))))
    await until(stall.is_reached)
    await cancel(asking)
    await cancel(stepping)
    stall.release()
    assert await ledger.settle(over("r", posted(1, 5)))
    assert await stand(ledger) == (5, 0)


async def test_who_leaves_during_a_fallback_begins_no_attempt(ledger: SqliteLedger, faults: Faults) -> None:
    """The first attempt has ended as reported, the second is void before its caller can say anything more."""
    await ledger.admit(ask("r", 60))
    stall = faults.stall("COMMIT")
    stepping: asyncio.Task[object] = asyncio.create_task(ledger.advance(onward("r", posted(1, 7), start(2, 50))))
    await until(stall.is_reached)
    await cancel(stepping)
    settling = asyncio.create_task(ledger.settle(over("r", posted(1, 9))))
    await asyncio.sleep(0)
    stall.release()
    assert not await settling
    first, second = await ledger.find_request("r")
    assert (first.state, first.cost_nano_usd) == (AttemptState.POSTED, 7)
    assert (second.state, second.error) == (AttemptState.VOIDED, "client_left")
    assert await stand(ledger) == (7, 0)


async def test_who_leaves_before_a_fallback_is_written_settles_what_there_was(
    ledger: SqliteLedger, faults: Faults
) -> None:
    """An abandoned step is not taken, so the attempt before it is still there to be settled."""
    await ledger.admit(ask("r", 60))
    stall, blocking = await stalled(faults, ledger)
    stepping: asyncio.Task[object] = asyncio.create_task(ledger.advance(onward("r", posted(1, 7), start(2, 50))))
    await begun(stepping)
    await cancel(stepping)
    settling = asyncio.create_task(ledger.settle(over("r", posted(1, 9))))
    await asyncio.sleep(0)
    stall.release()
    await blocking
    assert await settling
    assert await stand(ledger) == (9, 0)


async def test_a_settlement_is_done_whoever_waits(ledger: SqliteLedger, faults: Faults) -> None:
    """Cancelling the caller of a settlement cancels nothing."""
    await ledger.admit(ask("r", 60))
    stall, blocking = await stalled(faults, ledger)
    settling: asyncio.Task[object] = asyncio.create_task(ledger.settle(over("r", posted(1, 9))))
    await begun(settling)
    await cancel(settling)
    stall.release()
    await blocking
    assert not await ledger.settle(over("r", posted(1, 1)))
    assert await stand(ledger) == (9, 0)


# ---------------------------------------------------------------- stores that do not answer


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let callers wait for a tenth of a second."""
    monkeypatch.setattr(writer, "WAIT_S_MAX", 0.1)
    monkeypatch.setattr(writer, "WATCH_S", 0.01)


async def test_an_admission_waits_so_long_and_no_longer(impatient: None, ledger: SqliteLedger, faults: Faults) -> None:
    """A store that hangs refuses admissions after a while, and what it writes later is void; settlements are kept."""
    await ledger.admit(ask("old", 10))
    stall = faults.stall("COMMIT")
    early = asyncio.create_task(ledger.admit(ask("early", 10)))
    await until(stall.is_reached)
    settling = asyncio.create_task(ledger.settle(over("old", posted(1, 5))))
    with pytest.raises(LedgerUnavailable, match="does not answer") as caught:
        await early
    assert caught.value.retry_after_s is not None
    with pytest.raises(LedgerUnavailable, match="does not answer"):
        await ledger.admit(ask("late", 10))
    with pytest.raises(LedgerUnavailable, match="is kept until it does"):
        await settling
    stall.release()
    assert not await ledger.settle(over("old", posted(1, 9)))
    assert [row.state for row in await ledger.find_request("early")] == [AttemptState.VOIDED]
    assert await ledger.find_request("late") == []
    assert await stand(ledger) == (5, 0)


async def test_abandoned_calls_count_until_they_are_gone(
    impatient: None, ledger: SqliteLedger, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that hangs for long cannot make the queue grow without end."""
    monkeypatch.setattr(writer, "CALLS_MAX", 3)
    stall, blocking = await stalled(faults, ledger)
    for name in ("a", "b"):
        with pytest.raises(LedgerUnavailable, match="does not answer"):
            await ledger.admit(ask(name, 10))
    with pytest.raises(LedgerUnavailable, match="too many requests wait"):
        await ledger.admit(ask("c", 10))
    stall.release()
    with pytest.raises(LedgerUnavailable, match="does not answer"):
        await blocking
    assert not await ledger.settle(over("a", posted(1, 5)))
    assert await ledger.admit(ask("d", 10)) == Admitted("d")
    assert await stand(ledger) == (0, 10)


async def test_only_the_late_are_let_go(impatient: None, ledger: SqliteLedger, faults: Faults) -> None:
    """Who came later waits his own time."""
    stall = faults.stall("COMMIT")
    early = asyncio.create_task(ledger.admit(ask("early", 10)))
    await until(stall.is_reached)
    await asyncio.sleep(0.06)
    late = asyncio.create_task(ledger.admit(ask("late", 10)))
    with pytest.raises(LedgerUnavailable):
        await early
    stall.release()
    assert await late == Admitted("late")
    await asyncio.sleep(0.03)  # the watch finds nobody left and rests
    assert await ledger.admit(ask("next", 10)) == Admitted("next")


async def test_a_writer_that_is_stuck_does_not_hold_up_closing(
    house: SqliteHouse, ledger: SqliteLedger, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing says so after its time; once the store goes on, so does the closing."""
    monkeypatch.setattr(writer, "CLOSE_S_MAX", 0.05)
    stall, blocking = await stalled(faults, ledger)
    with pytest.raises(LedgerUnavailable, match="stuck"):
        await ledger.close()
    stall.release()
    await blocking
    await ledger.close()
    assert list((house.data_dir / "owners").iterdir()) == []


# ---------------------------------------------------------------- stores that fail


@pytest.mark.parametrize("word", ["BEGIN", "COMMIT", "connect"])
async def test_settlements_survive_a_store_that_fails(ledger: SqliteLedger, faults: Faults, word: str) -> None:
    """Admissions are refused at once and leave nothing; settlements are durable when it recovers, once, in order."""
    for name in ("a", "b"):
        await ledger.admit(ask(name, 10))
    faults.errors["COMMIT"] = DISK_FULL  # the first failure drops the connection
    with pytest.raises(LedgerUnavailable, match=r"ledger\.db cannot be used: database or disk is full"):
        await ledger.admit(ask("c", 10))
    faults.errors = {word: sqlite3.OperationalError("disk I/O error")}
    first = asyncio.create_task(ledger.settle(over("a", posted(1, 5))))
    await asyncio.sleep(0.02)
    again = asyncio.create_task(ledger.settle(over("a", posted(1, 6))))
    other = asyncio.create_task(ledger.settle(over("b", posted(1, 7))))
    for name in ("d", "e"):
        with pytest.raises(LedgerUnavailable, match="disk I/O error") as caught:
            await ledger.admit(ask(name, 10))
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert not first.done()
    assert await stand(ledger) == (0, 20)
    faults.errors.clear()
    assert [await first, await again, await other] == [True, False, True]
    assert await stand(ledger) == (12, 0)
    assert [await ledger.find_request(name) for name in ("c", "d", "e")] == [[], [], []]


async def test_a_failed_commit_costs_the_connection(ledger: SqliteLedger, faults: Faults) -> None:
    """After a failed fsync nothing that connection says can be believed."""
    assert len(faults.connections) == 1
    faults.errors["COMMIT"] = sqlite3.OperationalError("disk I/O error")
    with pytest.raises(LedgerUnavailable):
        await ledger.admit(ask("r", 10))
    faults.errors.clear()
    assert await ledger.admit(ask("r", 10)) == Admitted("r")
    assert len(faults.connections) == 2
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        faults.connections[0].execute("SELECT 1")
    assert await stand(ledger) == (0, 10)


async def test_a_full_disk_refuses_and_recovers(ledger: SqliteLedger, faults: Faults) -> None:
    """Admissions are refused until there is space again; a settlement that found none is not lost."""
    await ledger.declare_keys([key(limit=None)])
    await ledger.admit(ask("r", revision=2))
    faults.fill()
    fillers = (ledger.admit(ask(f"filler-{number}-{'x' * 200}", revision=2)) for number in range(100))
    outcomes = await asyncio.gather(*fillers, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, LedgerUnavailable)]
    assert refused
    assert "full" in refused[0].message
    waiting = asyncio.create_task(ledger.settle(over("r", replace(posted(1, 5), generation_id="x" * 5000))))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    faults.free()
    assert await waiting
    assert isinstance(await ledger.admit(ask("s", revision=2)), Admitted)
    rows = await ledger.export(since_s=None, after_seq=0, rows_max=9999)
    assert len(rows) == len(outcomes) - len(refused) + 2
    assert faults.connections[-1].execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_one_call_that_fails_harms_no_other(ledger: SqliteLedger, faults: Faults) -> None:
    """Of one batch, the calls that can be written are, and each of the others hears its own reason."""
    await ledger.admit(ask("a", 10))
    await ledger.admit(ask("b", 10))
    stall, blocking = await stalled(faults, ledger)
    outcomes = asyncio.gather(
        ledger.admit(ask("c", 10)),
        ledger.settle(over("a", posted(1, 2**70))),
        ledger.advance(onward("b", posted(9), start(2, 10))),
        ledger.settle(over("b", posted(1, -1))),
        ledger.settle(over("b", posted(1, 5))),
        ledger.admit(ask("d", 999)),
        ledger.admit(ask("e", key_name="nobody")),
        ledger.create_key(key("odd", params={"x": object()})),
        return_exceptions=True,
    )
    await asyncio.sleep(0.01)
    abandoned: asyncio.Task[object] = asyncio.create_task(ledger.admit(ask("f", 10)))
    await begun(abandoned)
    await cancel(abandoned)
    stall.release()
    await blocking
    c, too_much, not_pending, negative, b, d, e, odd = await outcomes
    assert c == Admitted("c")
    assert isinstance(too_much, ValueError)
    assert isinstance(too_much.__cause__, OverflowError)
    assert isinstance(not_pending, ValueError)
    assert isinstance(negative, ValueError)
    assert isinstance(negative.__cause__, sqlite3.IntegrityError)
    assert b is True
    assert isinstance(d, Refused)
    assert e == KeyGone(is_stale=False)
    assert isinstance(odd, TypeError)
    assert await stand(ledger) == (5, 20)
    assert await ledger.find_request("f") == []


async def test_a_batch_that_the_store_ended_is_tried_anew(ledger: SqliteLedger, faults: Faults) -> None:
    """Some failures end the whole transaction: its admissions are refused, its settlements wait."""
    await ledger.admit(ask("a", 10))
    stall, blocking = await stalled(faults, ledger)
    asking = asyncio.create_task(ledger.admit(ask("b", 10)))
    settling = asyncio.create_task(ledger.settle(over("a", posted(1, 5))))
    await asyncio.sleep(0.01)
    faults.errors["UPDATE"] = DISK_FULL
    faults.effects["UPDATE"] = lambda cursor: cursor.connection.rollback()
    faults.effects["SAVEPOINT"] = lambda _: faults.effects.update(UPDATE=lambda cursor: cursor.connection.rollback())
    stall.release()
    await blocking
    with pytest.raises(LedgerUnavailable, match="full"):
        await asking
    faults.errors.clear()
    faults.effects.clear()
    assert await settling
    assert await stand(ledger) == (5, 0)


async def test_a_settlement_that_fails_alone_waits_alone(ledger: SqliteLedger, faults: Faults) -> None:
    """A failure of one statement that leaves the transaction whole: the others are written, this one is tried again."""
    await ledger.admit(ask("a", 10))
    faults.errors["UPDATE"] = sqlite3.OperationalError("disk I/O error")
    settling = asyncio.create_task(ledger.settle(over("a", posted(1, 5))))
    assert await ledger.create_key(key("other"))
    await asyncio.sleep(0.03)
    assert not settling.done()
    assert len(faults.connections) == 1
    faults.errors.clear()
    assert await settling
    assert await stand(ledger) == (5, 0)


async def test_settlements_that_keep_coming_do_not_put_off_the_first(tmp_path: Path, faults: Faults) -> None:
    """The spool is tried again when its time has come, not only when it is quiet."""
    ledger = await SqliteLedger.open(tmp_path / "data", clock=SystemClock())
    await ledger.declare_keys([key(limit=None)])
    for number in range(200):
        await ledger.admit(ask(f"r{number}", 1))
    faults.errors["COMMIT"] = DISK_FULL
    settling = [asyncio.create_task(ledger.settle(over("r0", posted(1, 1))))]
    await asyncio.sleep(0.05)
    faults.errors.clear()
    for number in range(1, 200):
        if settling[0].done():
            break
        settling.append(asyncio.create_task(ledger.settle(over(f"r{number}", posted(1, 1)))))
        await asyncio.sleep(0.001)
    assert settling[0].done()
    assert all(await asyncio.gather(*settling))
    await ledger.close()


async def test_a_settlement_the_store_never_took_is_told(
    house: SqliteHouse, ledger: SqliteLedger, faults: Faults
) -> None:
    """Closed before the store recovers: its caller hears it, and the next start posts the hold in full."""
    await ledger.admit(ask("r", 10))
    faults.errors["COMMIT"] = DISK_FULL
    settling = asyncio.create_task(ledger.settle(over("r", posted(1, 5))))
    await asyncio.sleep(0.05)
    await ledger.close()
    with pytest.raises(LedgerUnavailable, match="closed before it could be written"):
        await settling
    faults.errors.clear()
    following = await house.open()
    assert await following.resolve_dead_owners(NOON_S) == 1
    (row,) = await following.find_request("r")
    assert (row.cost_nano_usd, row.cost_source) == (10, CostSource.HELD)


async def test_what_is_queued_is_written_before_closing(
    ledger: SqliteLedger, house: SqliteHouse, faults: Faults
) -> None:
    """Closing waits for those who came first, and nobody comes after."""
    stall, blocking = await stalled(faults, ledger)
    asking = asyncio.create_task(ledger.admit(ask("r", 10)))
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(ledger.close())
    await asyncio.sleep(0.02)
    for late in (ledger.admit(ask("s", 10)), ledger.settle(over("r", posted(1, 5)))):
        with pytest.raises(LedgerUnavailable, match="closed"):
            await late
    stall.release()
    await blocking
    assert await asking == Admitted("r")
    await closing
    following = await house.open()
    assert [row.state for row in await following.find_request("r")] == [AttemptState.PENDING]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_writer_that_ends_leaves_nobody_waiting(ledger: SqliteLedger, faults: Faults) -> None:
    """Even when a bug of ours ends the thread, every caller is told."""
    await ledger.admit(ask("r", 10))
    faults.errors["COMMIT"] = SystemExit()
    asking = asyncio.create_task(ledger.admit(ask("s", 10)))
    settling = asyncio.create_task(ledger.settle(over("r", posted(1, 5))))
    for waiting in (asking, settling):
        with pytest.raises(LedgerUnavailable, match="closed"):
            await waiting
    await ledger.close()


# ---------------------------------------------------------------- limits


async def test_the_queue_has_an_end(ledger: SqliteLedger, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call too many is refused at once, one settlement too many as well; each has a queue of its own."""
    monkeypatch.setattr(writer, "CALLS_MAX", 3)
    monkeypatch.setattr(writer, "KEPT_MAX", 1)
    await ledger.admit(ask("r", 10))
    stall, blocking = await stalled(faults, ledger)
    waiting = [asyncio.create_task(ledger.admit(ask(f"r{number}", 10))) for number in range(2)]
    settling = asyncio.create_task(ledger.settle(over("r", posted(1, 5))))
    await asyncio.sleep(0.01)
    for late in (ledger.admit(ask("s", 10)), ledger.settle(over("r", posted(1, 5)))):
        with pytest.raises(LedgerUnavailable, match="too many requests wait") as caught:
            await late
        assert caught.value.retry_after_s is not None
    stall.release()
    await blocking
    assert all([isinstance(await task, Admitted) for task in waiting])
    assert await settling
    assert await ledger.admit(ask("s", 10)) == Admitted("s")


async def test_large_batches_are_cut(ledger: SqliteLedger, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one transaction's worth, in the queue and in the spool, is written all the same."""
    monkeypatch.setattr(writer, "BATCH_MAX", 3)
    monkeypatch.setattr(committer, "BATCH_MAX", 3)
    outcomes = await asyncio.gather(*(ledger.admit(ask(f"r{number}", 10)) for number in range(10)))
    assert all(isinstance(outcome, Admitted) for outcome in outcomes)
    faults.errors["COMMIT"] = DISK_FULL
    settling = [asyncio.create_task(ledger.settle(over(f"r{number}", posted(1, 1)))) for number in range(10)]
    await asyncio.sleep(0.05)
    faults.errors.clear()
    assert await asyncio.gather(*settling) == [True] * 10
    assert await stand(ledger) == (10, 0)
