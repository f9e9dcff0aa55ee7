"""The first, those who wait for it, and those who find its answer: in one process and in several, and over time."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.errors import IdempotencyKeyReused, RepliesUnavailable
from proxy.replies import Entry, Flight, Kind, Replies, replies, shelf
from proxy.replies.records import RUNNING_S_MAX
from proxy.replies.shelving import FILE_NAME
from tests.replies.made import Warnings, a_ticket, an_entry, opened

KINDS = pytest.mark.parametrize("kind", list(Kind))


async def fly(kept: Replies, name: str = "a", *, kind: Kind = Kind.IDEMPOTENCY, body: str = "body") -> Flight:
    """Be the first."""
    found = await kept.join(a_ticket(name, kind=kind, body=body))
    assert isinstance(found, Flight)
    return found


async def find(kept: Replies, name: str = "a", *, kind: Kind = Kind.IDEMPOTENCY) -> Entry | None:
    """Find the answer, None when there is none; what was claimed by asking is given back."""
    found = await kept.join(a_ticket(name, kind=kind))
    if isinstance(found, Flight):
        await kept.release(found)
        return None
    return found


async def waiting(flight: Flight, count: int) -> None:
    """Wait until so many wait for it."""
    async with asyncio.timeout(5):
        while flight.followers != count:  # noqa: ASYNC110  # a flight tells nobody
            await asyncio.sleep(0)


@KINDS
async def test_what_is_kept_is_found(tmp_path: Path, kind: Kind) -> None:
    """By whoever asks later, also after a restart; nobody else's is touched."""
    clock = ManualClock()
    entry = an_entry(clock.now_s())
    async with opened(tmp_path, clock=clock) as kept:
        await kept.keep(await fly(kept, kind=kind), entry)
        assert await find(kept, kind=kind) == entry
    async with opened(tmp_path, clock=clock) as kept:
        assert await find(kept, kind=kind) == entry
        assert await find(kept, "b", kind=kind) is None


async def test_it_is_found_until_its_time_is_over(tmp_path: Path) -> None:
    """By the clock on the wall."""
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as kept:
        await kept.keep(await fly(kept), an_entry(clock.now_s(), ttl_s=60))
        clock.advance(59.9)
        assert await find(kept) is not None
        clock.advance(0.1)
        assert await find(kept) is None


@KINDS
async def test_those_who_come_meanwhile_get_its_answer(tmp_path: Path, kind: Kind) -> None:
    """All of them, and none of them is first."""
    clock = ManualClock()
    entry = an_entry(clock.now_s())
    async with opened(tmp_path, clock=clock) as kept:
        flight = await fly(kept, kind=kind)
        following = [asyncio.create_task(kept.join(a_ticket(kind=kind))) for _ in range(20)]
        await waiting(flight, 20)
        await kept.keep(flight, entry)
        assert await asyncio.gather(*following) == [entry] * 20
        assert flight.followers == 0


async def test_of_those_who_wait_for_a_key_one_becomes_the_first(tmp_path: Path) -> None:
    """When the first comes to nothing, one after another."""
    async with opened(tmp_path) as kept:
        flight = await fly(kept)
        following = [asyncio.create_task(kept.join(a_ticket())) for _ in range(3)]
        await waiting(flight, 3)
        for left in (2, 1, 0):
            await kept.release(flight)
            done, _ = await asyncio.wait(following, return_when=asyncio.FIRST_COMPLETED)
            (task,) = done
            following.remove(task)
            found = task.result()
            assert isinstance(found, Flight)
            flight = found
            await waiting(flight, left)


async def test_those_who_wait_for_the_cache_go_their_own_way(tmp_path: Path) -> None:
    """When the first comes to nothing, all at once."""
    async with opened(tmp_path) as kept:
        flight = await fly(kept, kind=Kind.CACHE)
        following = [asyncio.create_task(kept.join(a_ticket(kind=Kind.CACHE))) for _ in range(3)]
        await waiting(flight, 3)
        await kept.release(flight)
        assert await asyncio.gather(*following) == [None] * 3


async def test_nobody_waits_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor more than so many at once."""
    monkeypatch.setitem(replies.WAIT_S_MAX, Kind.CACHE, 0.05)
    async with opened(tmp_path) as kept:
        await fly(kept, kind=Kind.CACHE)
        assert await kept.join(a_ticket(kind=Kind.CACHE)) is None
        monkeypatch.setattr(replies, "FOLLOWERS_MAX", 0)
        await fly(kept)
        assert await kept.join(a_ticket()) is None
        monkeypatch.setitem(replies.WAIT_S_MAX, Kind.IDEMPOTENCY, 0)
        assert await kept.join(a_ticket("b")) is None


async def test_another_request_with_a_key_is_refused(tmp_path: Path) -> None:
    """While the first runs and when it is over; once that came to nothing, the key is free."""
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as kept:
        flight = await fly(kept)
        with pytest.raises(IdempotencyKeyReused):
            await fly(kept, body="other")
        await kept.release(flight)
        await kept.keep(await fly(kept, body="other"), an_entry(clock.now_s()))
        with pytest.raises(IdempotencyKeyReused):
            await fly(kept)


async def test_a_client_that_leaves_while_it_asks_holds_nobody_up(tmp_path: Path) -> None:
    """Its claim is taken back, whether it was written or not."""
    async with opened(tmp_path) as kept:
        for _ in range(20):
            asking = asyncio.create_task(kept.join(a_ticket()))
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
            assert await find(kept) is None


async def test_a_follower_that_leaves_is_nobodys_concern(tmp_path: Path) -> None:
    """The others get the answer."""
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as kept:
        flight = await fly(kept)
        leaving, staying = (asyncio.create_task(kept.join(a_ticket())) for _ in range(2))
        await waiting(flight, 2)
        leaving.cancel()
        await waiting(flight, 1)
        await kept.keep(flight, an_entry(clock.now_s()))
        assert isinstance(await staying, Entry)


# ---------------------------------------------------------------- several processes


@KINDS
async def test_the_answer_of_another_process_is_waited_for(tmp_path: Path, kind: Kind) -> None:
    """One of those who wait looks, for all of them."""
    clock = ManualClock()
    entry = an_entry(clock.now_s())
    async with opened(tmp_path, clock=clock) as here, opened(tmp_path, clock=clock) as there:
        flight = await fly(there, kind=kind)
        following = [asyncio.create_task(here.join(a_ticket(kind=kind))) for _ in range(5)]
        await asyncio.sleep(0.15)
        await there.keep(flight, entry)
        assert await asyncio.gather(*following) == [entry] * 5


async def test_when_another_process_gives_up_one_here_is_the_first(tmp_path: Path) -> None:
    """And the others wait for that one."""
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as here, opened(tmp_path, clock=clock) as there:
        flight = await fly(there)
        following = [asyncio.create_task(here.join(a_ticket())) for _ in range(5)]
        await asyncio.sleep(0.05)
        await there.release(flight)
        done, _ = await asyncio.wait(following, return_when=asyncio.FIRST_COMPLETED)
        (task,) = done
        found = task.result()
        assert isinstance(found, Flight)
        await here.keep(found, an_entry(clock.now_s()))
        following.remove(task)
        assert all(isinstance(found, Entry) for found in await asyncio.gather(*following))


async def test_the_claim_of_a_dead_process_counts_for_nothing(tmp_path: Path) -> None:
    """Whoever comes next is the first, at once; the dead one's lock file is taken away by the next start."""
    dead = await Replies.open(tmp_path, clock=ManualClock(), warn=Warnings())
    await fly(dead)
    owner = dead._owner  # noqa: SLF001  # to die as a killed process does
    assert owner is not None
    async with opened(tmp_path) as kept:
        asking = asyncio.create_task(kept.join(a_ticket()))
        await asyncio.sleep(0.15)
        assert not asking.done()
        owner.abandon()
        found = await asyncio.wait_for(asking, 1)
        assert isinstance(found, Flight)
    async with opened(tmp_path):
        assert not (tmp_path / "owners" / replies.FOLDER / f"{owner.id}.lock").exists()
    await dead.close()


async def test_a_claim_holds_nobody_up_for_ever(tmp_path: Path) -> None:
    """Not even when its owner lives and has forgotten it."""
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as here, opened(tmp_path, clock=clock) as there:
        await fly(there)
        clock.advance(RUNNING_S_MAX)
        assert isinstance(await here.join(a_ticket()), Flight)


# ---------------------------------------------------------------- limits


async def test_what_is_out_of_date_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In rounds, so that nobody waits behind one of them for long."""
    monkeypatch.setattr(shelf, "DROPPED_PER_CALL_MAX", 3)
    monkeypatch.setattr(replies, "DROPPED_PER_CALL_MAX", 3)
    clock, warnings = ManualClock(), Warnings()
    async with opened(tmp_path, clock=clock, warnings=warnings) as kept:
        for number in range(10):
            await kept.keep(await fly(kept, str(number)), an_entry(clock.now_s(), ttl_s=60 + number))
        clock.advance(66)
        pruned = await kept.prune()
        assert (pruned.expired, pruned.evicted, pruned.lost) == (7, 0, 0)
        assert [await find(kept, str(number)) is not None for number in range(10)] == [False] * 7 + [True] * 3
        assert not warnings.events


@pytest.mark.parametrize(("limit", "value"), [("entries_max", 4), ("bytes_max", 4 * 1_300)])
async def test_when_there_is_too_much_the_oldest_go(tmp_path: Path, limit: str, value: int) -> None:
    """Those of the cache first, and unnoticed; those of an `Idempotency-Key` only then, and with a warning."""
    clock, warnings = ManualClock(), Warnings()
    async with opened(tmp_path, clock=clock, warnings=warnings) as kept:
        assert kept._owner is not None  # noqa: SLF001  # the limits are the shelf's
        assert kept._folder is not None  # noqa: SLF001
        kept._shelf = shelf.Shelf(kept._owner.id, kept._folder, **{limit: value})  # noqa: SLF001
        for kind in (Kind.IDEMPOTENCY, Kind.CACHE):
            for number in range(3):
                clock.advance(1)
                entry = an_entry(clock.now_s(), content=b"x" * 1_000, ttl_s=1e6)
                await kept.keep(await fly(kept, str(number), kind=kind), entry)
        assert (await kept.prune())[1:] == (2, 0)
        assert [await find(kept, str(n), kind=Kind.CACHE) is None for n in range(3)] == [True, True, False]
        assert not warnings.events
        for number in range(3, 6):
            clock.advance(1)
            entry = an_entry(clock.now_s(), content=b"x" * 1_000, ttl_s=1e6)
            await kept.keep(await fly(kept, str(number)), entry)
        assert (await kept.prune())[1:] == (1, 2)
        assert [await find(kept, str(number)) is None for number in range(6)] == [True, True] + [False] * 4
        assert warnings.events == ["idempotency_records_lost"]
        assert warnings.fields[0]["records"] == 2


async def test_a_flood_is_pruned_before_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So much kept at once does not wait for the next round."""
    monkeypatch.setattr(replies, "PRUNE_BYTES", 1_000)
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as kept:
        await kept.keep(await fly(kept, "old"), an_entry(clock.now_s(), ttl_s=1))
        clock.advance(2)
        await kept.keep(await fly(kept, "new"), an_entry(clock.now_s(), content=b"x" * 1_000))
        await asyncio.gather(*kept._tasks)  # noqa: SLF001  # it runs beside
        connection = sqlite3.connect(tmp_path / FILE_NAME)
        assert connection.execute("SELECT count(*) FROM replies").fetchone() == (1,)
        connection.close()


async def test_only_so_many_go_on_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who left them has nobody to pay attention to them."""
    monkeypatch.setattr(replies, "OUTLIVING_MAX", 2)
    async with opened(tmp_path) as kept:
        assert [kept.may_outlive() for _ in range(3)] == [True, True, False]
        kept.ended_alone()
        assert kept.may_outlive()


# ---------------------------------------------------------------- trouble


async def test_a_store_in_trouble_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks is told at once; who has an answer gets it, and so does who waits; the claim is given back later."""
    clock, warnings = ManualClock(), Warnings()
    async with opened(tmp_path, clock=clock, warnings=warnings) as kept:
        flight, other = await fly(kept), await fly(kept, "b")
        following = asyncio.create_task(kept.join(a_ticket()))
        await waiting(flight, 1)
        with monkeypatch.context() as patch:
            for work in ("claim", "keep", "release", "prune"):
                patch.setattr(kept._shelf, work, fail)  # noqa: SLF001  # the disk, in truth
            with pytest.raises(RepliesUnavailable):
                await kept.join(a_ticket("c"))
            await kept.keep(flight, an_entry(clock.now_s()))
            await kept.release(other)
            assert (await kept.prune()) == (0, 0, 0)
        assert isinstance(await following, Entry)
        assert warnings.events == ["replies_unavailable", "idempotency_records_lost"]
        assert warnings.fields[0]["reason"] == "disk I/O error"
        await kept.prune()
        assert await find(kept) is None
        assert await find(kept, "b") is None


async def test_a_watcher_in_trouble_sets_those_who_wait_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They ask again themselves, and are told."""
    async with opened(tmp_path) as here, opened(tmp_path) as there:
        await fly(there)
        following = asyncio.create_task(here.join(a_ticket()))
        await asyncio.sleep(0.05)
        for work in ("look", "claim"):
            monkeypatch.setattr(here._shelf, work, fail)  # noqa: SLF001  # the disk, in truth
        with pytest.raises(RepliesUnavailable):
            await following


async def test_damage_met_in_use_is_left_to_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes have the file open; the next one moves it aside."""
    warnings = Warnings()
    async with opened(tmp_path) as kept:
        monkeypatch.setattr(kept._shelf, "claim", find_damage)  # noqa: SLF001  # a page, in truth
        with pytest.raises(RepliesUnavailable):
            await kept.join(a_ticket())
    async with opened(tmp_path, warnings=warnings) as kept:
        assert await find(kept) is None
    assert warnings.events == ["replies_moved_aside"]
    assert any("damaged" in name for name in os.listdir(tmp_path))  # noqa: PTH208  # a test may block


async def test_a_folder_that_cannot_be_used_stops_no_start(tmp_path: Path) -> None:
    """Nothing is kept then, and the log says so."""
    (tmp_path / FILE_NAME).mkdir()
    warnings = Warnings()
    async with opened(tmp_path, warnings=warnings) as kept:
        with pytest.raises(RepliesUnavailable):
            await kept.join(a_ticket())
        assert (await kept.prune()) == (0, 0, 0)
    assert warnings.events == ["replies_closed"]


async def test_closing_ends_whoever_watches(tmp_path: Path) -> None:
    """Twice is once; nobody hangs."""
    async with opened(tmp_path) as here, opened(tmp_path) as there:
        await fly(there)
        following = asyncio.create_task(here.join(a_ticket(kind=Kind.IDEMPOTENCY)))
        await asyncio.sleep(0.05)
        await here.close()
        with pytest.raises(RepliesUnavailable):
            await asyncio.wait_for(following, 1)


def fail(*_: object) -> None:
    """Be a disk that does not answer."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    raise error


def find_damage(*_: object) -> None:
    """Be a file with a page that is none."""
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    raise error
