"""The committer and a store that fails: what is refused, what is kept, what one call does to another."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.errors import LedgerUnavailable
from proxy.ledger import committer
from proxy.ledger.records import Admitted, KeyGone, Refused
from proxy.ledger.sqlite import SqliteLedger
from proxy.usage import CostSource
from tests.faults.disk import Disk, Sync
from tests.ledger.entries import NOON_S, ask, key, onward, over, posted, stand, start
from tests.ledger.faults import Faults, begun, cancel, stalled, until
from tests.ledger.houses import SqliteHouse

DISK_FULL = sqlite3.OperationalError("database or disk is full")


@pytest.mark.parametrize("word", ["BEGIN", "COMMIT", "connect"])
async def test_settlements_survive_a_store_that_fails(shaky: SqliteLedger, faults: Faults, word: str) -> None:
    """Admissions are refused at once and leave nothing; settlements are durable when it recovers, once, in order."""
    for name in ("a", "b"):
        await shaky.admit(ask(name, 10))
    faults.errors["COMMIT"] = DISK_FULL  # the first failure drops the connection
    with pytest.raises(LedgerUnavailable, match=r"ledger\.db cannot be used: database or disk is full"):
        await shaky.admit(ask("c", 10))
    faults.errors = {word: sqlite3.OperationalError("disk I/O error")}
    first = asyncio.create_task(shaky.settle(over("a", posted(1, 5))))
    await asyncio.sleep(0.02)
    again = asyncio.create_task(shaky.settle(over("a", posted(1, 6))))
    other = asyncio.create_task(shaky.settle(over("b", posted(1, 7))))
    for name in ("d", "e"):
        with pytest.raises(LedgerUnavailable, match="disk I/O error") as caught:
            await shaky.admit(ask(name, 10))
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert not first.done()
    assert await stand(shaky) == (0, 20)
    faults.errors.clear()
    assert [await first, await again, await other] == [True, False, True]
    assert await stand(shaky) == (12, 0)
    assert [await shaky.find_request(name) for name in ("c", "d", "e")] == [[], [], []]


async def test_a_failed_commit_costs_the_connection(shaky: SqliteLedger, faults: Faults) -> None:
    """After a failed fsync nothing that connection says can be believed."""
    assert len(faults.connections) == 1
    faults.errors["COMMIT"] = sqlite3.OperationalError("disk I/O error")
    with pytest.raises(LedgerUnavailable):
        await shaky.admit(ask("r", 10))
    faults.errors.clear()
    assert await shaky.admit(ask("r", 10)) == Admitted("r")
    assert len(faults.connections) == 2
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        faults.connections[0].execute("SELECT 1")
    assert await stand(shaky) == (0, 10)


async def test_a_store_that_fails_says_so_until_it_recovers(shaky: SqliteLedger, faults: Faults) -> None:
    """After a failed commit it is not writable; it tries by itself, and is again as soon as one is durable."""
    assert shaky.is_writable
    faults.errors["COMMIT"] = sqlite3.OperationalError("disk I/O error")
    with pytest.raises(LedgerUnavailable):
        await shaky.admit(ask("r", 10))
    assert not shaky.is_writable
    await until(lambda: len(faults.connections) > 3)
    assert not shaky.is_writable
    faults.errors.clear()
    await until(lambda: shaky.is_writable)
    assert await stand(shaky) == (0, 0)


async def test_a_try_writes_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a store that failed is tried with is a sync that counts, not a transaction without a change."""
    monkeypatch.setattr(committer, "BACKOFF_FIRST_S", 0.01)
    with Disk(tmp_path) as disk:
        ledger = await SqliteLedger.open(tmp_path / "data", clock=SystemClock())
        disk.fails_to_sync = lambda: True
        with pytest.raises(LedgerUnavailable):
            await ledger.declare_keys([key()])
        failed = disk.moment
        await until(lambda: disk.moment > failed + 1)
        assert not ledger.is_writable
        disk.fails_to_sync = lambda: False
        await until(lambda: ledger.is_writable)
        assert Sync("ledger.db-wal", is_good=True) in disk.notes[failed:]
        await ledger.close()


async def test_a_full_disk_refuses_and_recovers(shaky: SqliteLedger, faults: Faults) -> None:
    """Admissions are refused until there is space again; a settlement that found none is not lost."""
    await shaky.declare_keys([key(limit=None)])
    await shaky.admit(ask("r", revision=2))
    faults.fill()
    fillers = (shaky.admit(ask(f"filler-{number}-{'x' * 200}", revision=2)) for number in range(100))
    outcomes = await asyncio.gather(*fillers, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, LedgerUnavailable)]
    assert refused
    assert "full" in refused[0].message
    waiting = asyncio.create_task(shaky.settle(over("r", posted(1, 5)._replace(generation_id="x" * 100_000))))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    faults.free()
    assert await waiting
    assert isinstance(await shaky.admit(ask("s", revision=2)), Admitted)
    rows = await shaky.export(since_s=None, after_seq=0, rows_max=9999)
    assert len(rows) == len(outcomes) - len(refused) + 2
    assert faults.connections[-1].execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_one_call_that_fails_harms_no_other(shaky: SqliteLedger, faults: Faults) -> None:
    """Of one batch, the calls that can be written are, and each of the others hears its own reason."""
    await shaky.admit(ask("a", 10))
    await shaky.admit(ask("b", 10))
    stall, blocking = await stalled(faults, shaky)
    outcomes = asyncio.gather(
        shaky.admit(ask("c", 10)),
        shaky.settle(over("a", posted(1, 2**70))),
        shaky.advance(onward("b", posted(9), start(2, 10))),
        shaky.settle(over("b", posted(1, -1))),
        shaky.settle(over("b", posted(1, 5))),
        shaky.admit(ask("d", 999)),
        shaky.admit(ask("e", key_name="nobody")),
        shaky.create_key(key("odd", params={"x": object()})),
        return_exceptions=True,
    )
    await asyncio.sleep(0.01)
    abandoned: asyncio.Task[object] = asyncio.create_task(shaky.admit(ask("f", 10)))
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
    assert await stand(shaky) == (5, 20)
    assert await shaky.find_request("f") == []


async def test_a_batch_that_the_store_ended_is_tried_anew(shaky: SqliteLedger, faults: Faults) -> None:
    """Some failures end the whole transaction: its admissions are refused, its settlements wait."""
    await shaky.admit(ask("a", 10))
    stall, blocking = await stalled(faults, shaky)
    asking = asyncio.create_task(shaky.admit(ask("b", 10)))
    settling = asyncio.create_task(shaky.settle(over("a", posted(1, 5))))
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
    assert await stand(shaky) == (5, 0)


async def test_a_settlement_that_fails_alone_waits_alone(shaky: SqliteLedger, faults: Faults) -> None:
    """A failure of one statement that leaves the transaction whole: the others are written, this one is tried again."""
    await shaky.admit(ask("a", 10))
    faults.errors["UPDATE"] = sqlite3.OperationalError("disk I/O error")
    settling = asyncio.create_task(shaky.settle(over("a", posted(1, 5))))
    assert await shaky.create_key(key("other"))
    await asyncio.sleep(0.03)
    assert not settling.done()
    assert len(faults.connections) == 1
    faults.errors.clear()
    assert await settling
    assert await stand(shaky) == (5, 0)


async def test_settlements_that_keep_coming_do_not_put_off_the_first(tmp_path: Path, faults: Faults) -> None:
    """The spool is tried again when its time has come, not only when it is quiet."""
    shaky = await SqliteLedger.open(tmp_path / "data", clock=SystemClock())
    await shaky.declare_keys([key(limit=None)])
    for number in range(200):
        await shaky.admit(ask(f"r{number}", 1))
    faults.errors["COMMIT"] = DISK_FULL
    settling = [asyncio.create_task(shaky.settle(over("r0", posted(1, 1))))]
    await asyncio.sleep(0.05)
    faults.errors.clear()
    for number in range(1, 200):
        if settling[0].done():
            break
        settling.append(asyncio.create_task(shaky.settle(over(f"r{number}", posted(1, 1)))))
        await asyncio.sleep(0.001)
    assert settling[0].done()
    assert all(await asyncio.gather(*settling))
    await shaky.close()


async def test_a_settlement_the_store_never_took_is_told(
    shaky_house: SqliteHouse, shaky: SqliteLedger, faults: Faults
) -> None:
    """Closed before the store recovers: its caller hears it, and the next start posts the hold in full."""
    await shaky.admit(ask("r", 10))
    faults.errors["COMMIT"] = DISK_FULL
    settling = asyncio.create_task(shaky.settle(over("r", posted(1, 5))))
    await asyncio.sleep(0.05)
    await shaky.close()
    with pytest.raises(LedgerUnavailable, match="closed before it could be written"):
        await settling
    faults.errors.clear()
    following = await shaky_house.open()
    assert await following.resolve_dead_owners(NOON_S) == 1
    (row,) = await following.find_request("r")
    assert (row.cost_nano_usd, row.cost_source) == (10, CostSource.HELD)


async def test_large_batches_are_cut(shaky: SqliteLedger, faults: Faults) -> None:
    """More than one transaction's worth, in the queue and in the spool, is written all the same."""
    shaky._writer._committer.batch_max = 3  # noqa: SLF001  # hundreds of requests would show the same
    outcomes = await asyncio.gather(*(shaky.admit(ask(f"r{number}", 10)) for number in range(10)))
    assert all(isinstance(outcome, Admitted) for outcome in outcomes)
    faults.errors["COMMIT"] = DISK_FULL
    settling = [asyncio.create_task(shaky.settle(over(f"r{number}", posted(1, 1)))) for number in range(10)]
    await asyncio.sleep(0.05)
    faults.errors.clear()
    assert await asyncio.gather(*settling) == [True] * 10
    assert await stand(shaky) == (10, 0)
