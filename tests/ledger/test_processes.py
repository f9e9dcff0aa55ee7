"""Several real processes on one data folder: the wall between them, their deaths, their locks."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from proxy.ledger.records import Admitted, AttemptState
from proxy.ledger.sqlite import SqliteLedger
from proxy.usage import CostSource
from tests.ledger.entries import NOON_S, ask, key, over, posted, stand
from tests.ledger.houses import SqliteHouse

ROOT = Path(__file__).parents[2]
ROOM = 20

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[SqliteHouse]:
    """A data folder."""
    house = SqliteHouse(tmp_path)
    yield house
    await house.close()


@pytest.fixture
async def start(house: SqliteHouse) -> AsyncIterator[Start]:
    """Start processes on the data folder; whatever still runs at the end is killed."""
    started: list[asyncio.subprocess.Process] = []

    async def start(duty: str, count: int) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.ledger.process", str(house.data_dir), duty, str(count)),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def heard(process: asyncio.subprocess.Process, until: str = "ready") -> list[str]:
    """What a process says until a word of it."""
    words: list[str] = []
    assert process.stdout is not None
    while not words or words[-1] != until:
        line = await process.stdout.readline()
        assert line, f"the process ended before it said {until!r}"
        words.append(line.decode().strip())
    return words


@pytest.mark.parametrize("processes", [1, 2])
async def test_no_number_of_processes_passes_the_limit(house: SqliteHouse, start: Start, processes: int) -> None:
    """200 admissions at once on a key with room for 20: 20 come in, whichever process they come from."""
    ledger = await house.open()
    await ledger.declare_keys([key(limit=10 * ROOM)])
    rushing = [await start("rush", 200 // processes) for _ in range(processes)]
    for process in rushing:
        await heard(process)
    for process in rushing:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
    watched = [asyncio.create_task(process.communicate()) for process in rushing]
    while not all(task.done() for task in watched):
        assert sum(await stand(ledger)) <= 10 * ROOM
        await asyncio.sleep(0.005)
    assert sum([int((await task)[0]) for task in watched]) == ROOM
    # They closed with their holds open, so these are resolved, in full.
    assert await stand(ledger) == (0, 10 * ROOM)
    assert await ledger.resolve_dead_owners(NOON_S) == ROOM
    assert await stand(ledger) == (10 * ROOM, 0)


async def test_a_killed_processs_holds_are_posted_once(house: SqliteHouse, start: Start) -> None:
    """After kill -9: what it held costs its hold, once, whoever resolves it; what the living hold is left alone."""
    first, second = await house.open(), await house.open()
    await first.declare_keys([key(limit=10_000)])
    living, doomed = await start("hold", 3), await start("hold", 5)
    await heard(living)
    await heard(doomed)
    assert await first.resolve_dead_owners(NOON_S) == 0

    doomed.send_signal(signal.SIGKILL)
    await doomed.wait()
    resolved = await asyncio.gather(first.resolve_dead_owners(NOON_S), second.resolve_dead_owners(NOON_S))
    assert sum(resolved) == 5
    assert await stand(first) == (50, 30)
    rows = await first.export(since_s=None, after_seq=0, rows_max=99)
    assert sum(row.error == "owner_died" and row.cost_source is CostSource.HELD for row in rows) == 5
    assert sum(row.state is AttemptState.PENDING for row in rows) == 3
    assert len(list((house.data_dir / "owners").iterdir())) == 3
    assert await second.resolve_dead_owners(NOON_S) == 0


async def test_nothing_said_is_lost_when_a_process_is_killed(house: SqliteHouse, start: Start) -> None:
    """After kill -9 under load: every id that was said has its row, what was settled stays so, the sums balance."""
    ledger = await house.open()
    await ledger.declare_keys([key(limit=None)])
    worker = await start("work", 16)
    await heard(worker)
    await asyncio.sleep(0.2)
    worker.send_signal(signal.SIGKILL)
    said = [line.split() for line in (await worker.communicate())[0].decode().splitlines()]
    said = [words for words in said if len(words) == 2]  # the last line may be cut
    admitted = {request_id for word, request_id in said if word == "admitted"}
    settled = {request_id for word, request_id in said if word == "settled"}
    assert settled

    await ledger.resolve_dead_owners(NOON_S)
    rows = await ledger.export(since_s=None, after_seq=0, rows_max=99_999)
    by_id = {row.request_id: row for row in rows}
    assert len(by_id) == len(rows)
    assert admitted <= by_id.keys()
    assert all(by_id[request_id].cost_source is CostSource.COMPUTED for request_id in settled)
    assert {row.state for row in rows} == {AttemptState.POSTED}
    await ledger.declare_keys([key(limit=10**9)])
    assert await stand(ledger) == (sum(row.cost_nano_usd or 0 for row in rows), 0)


async def test_a_lock_past_the_turnstile_is_waited_for(house: SqliteHouse, start: Start) -> None:
    """Another program holds the file for a second: requests wait, none fails."""
    ledger: SqliteLedger = await house.open()
    await ledger.declare_keys([key(limit=None)])
    locking = await start("lock", 1000)
    await heard(locking)
    began_s = time.monotonic()
    outcomes = await asyncio.gather(*(ledger.admit(ask(f"r{number}")) for number in range(10)))
    assert all(isinstance(outcome, Admitted) for outcome in outcomes)
    assert time.monotonic() - began_s > 0.5
    assert await ledger.settle(over("r1", posted(1, 5)))
