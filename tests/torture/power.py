"""The power fails, or the disk does, while the ledger is written: nothing it had said is lost (R2, R3).

The ledger itself works on a `Disk` that notes every write and every sync. Then the power is cut at random moments of
what was noted, what would be left of the files is put into a folder of its own, opened as a start does, and held
against what the ledger had said until then.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Final, NamedTuple
from unittest.mock import patch

from proxy.clock import ManualClock, SystemClock
from proxy.errors import LedgerUnavailable
from proxy.ledger import committer, schema
from proxy.ledger.folder import find_owners
from proxy.ledger.records import Admitted
from proxy.ledger.sqlite import SqliteLedger
from proxy.ledger.verification import verify
from tests.faults.disk import Disk, Sync
from tests.ledger.entries import NOON_S, ask, key, onward, over, posted, start, voided
from tests.torture.findings import Finding, counted

WORKERS: Final = 8
REQUESTS: Final = 96
"""Made by all of them in one recording."""
HOLD: Final = REQUESTS
"""Nano-USD: request n costs n."""
CUTS_PER_RECORDING: Final = 20
LOG_PAGES: Final = 40
"""So short a log is copied into the file again and again: there are many moments of that kind too."""
FAILING_SHARE: Final = 0.05
"""Of all syncs."""
BACKOFF_S: Final = 0.005
"""What the ledger waits before it tries again, shortened: a recording is over in less than a second."""
FILES: Final = ("ledger.db", "ledger.db-wal", "ledger.db-journal")


class Said(NamedTuple):
    """What the ledger told a caller, and how many things had happened on the disk by then."""

    moment: int
    request_id: str
    cost_nano_usd: int | None
    """None as long as it was only let in."""


@dataclass(slots=True)
class _Tally:
    cuts: int = 0
    said: int = 0
    refused: int = 0
    failed_syncs: int = 0
    breaches: list[str] = field(default_factory=list)


async def run(folder: Path, chance: Random, *, cuts: int = 1_000, failing_cuts: int = 250) -> list[Finding]:
    """Cut the power so many times on a good disk, and on one whose syncs fail; then kill and start in between too."""
    with patch.object(schema, "WAL_PAGES_MAX", LOG_PAGES), patch.object(committer, "BACKOFF_FIRST_S", BACKOFF_S):
        good = await _cut_often(folder / "good", chance, cuts, _steady)
        failing = await _cut_often(folder / "failing", chance, failing_cuts, _failing)
        again = await _cut_after_restarts(folder / "again", chance, failing_cuts)
    return [
        counted(
            "R2: the power fails: all that was said is there, `ledger verify` is good",
            "0 lost, 0 corrupt",
            f"{good.cuts} cuts, {good.said} rows said before them",
            good.breaches,
        ),
        counted(
            f"R3: {FAILING_SHARE:.0%} of syncs fail for good, then the power: all that was said is there",
            "0 lost, 0 corrupt",
            f"{failing.cuts} cuts, {failing.failed_syncs} failed syncs, {failing.refused} calls refused, "
            f"{failing.said} rows said",
            failing.breaches,
        ),
        counted(
            "R3: a sync fails, kill -9, started again, then the power fails: all that was said is there",
            "0 lost, 0 corrupt",
            f"{again.cuts} cuts, {again.said} rows said",
            again.breaches,
        ),
    ]


def _steady(_disk: Disk, _chance: Random) -> None:
    """A disk without faults."""


def _failing(disk: Disk, chance: Random) -> None:
    """Let some syncs fail."""
    disk.fails_to_sync = lambda: chance.random() < FAILING_SHARE


async def _cut_often(folder: Path, chance: Random, cuts: int, spoil: Callable[[Disk, Random], None]) -> _Tally:
    """Record again and again, and cut each recording at many moments."""
    tally = _Tally()
    numbers = itertools.count()
    while tally.cuts < cuts:
        home = folder / f"recording-{next(numbers)}"
        with Disk(home) as disk:
            said, refused = await record(home, disk, partial(spoil, disk, chance))
        tally.refused += refused
        tally.failed_syncs += sum(isinstance(note, Sync) and not note.is_good for note in disk.notes)
        for _ in range(min(CUTS_PER_RECORDING, cuts - tally.cuts)):
            await _cut(home / f"cut-{tally.cuts}", disk, chance.randint(0, disk.moment), chance, said, tally)
    return tally


async def _cut_after_restarts(folder: Path, chance: Random, cuts: int) -> _Tally:
    """Kill the process at a moment at which a sync has failed; what its successor says must be durable as well."""
    tally = _Tally()
    numbers = itertools.count()
    while tally.cuts < cuts:
        home = folder / f"recording-{next(numbers)}"
        with Disk(home) as disk:
            said, _ = await record(home, disk, partial(_failing, disk, chance))
        failures = [at for at, note in enumerate(disk.notes, 1) if isinstance(note, Sync) and not note.is_good]
        if not failures:
            continue
        killed = chance.choice(failures)
        successor = home / "successor"
        put(disk.cache(at=killed), successor)
        with Disk(successor, history=disk.notes[:killed]) as second:
            later, _ = await record(successor, second, lambda: None, name="later")
        said = [one for one in said if one.moment <= killed] + later
        for _ in range(min(CUTS_PER_RECORDING, cuts - tally.cuts)):
            moment = chance.randint(killed, second.moment)
            await _cut(home / f"cut-{tally.cuts}", second, moment, chance, said, tally)
    return tally


async def record(folder: Path, disk: Disk, spoil: Callable[[], None], *, name: str = "r") -> tuple[list[Said], int]:
    """Let the ledger work on a disk that goes bad after its start; gives what it said and how many calls it refused."""
    said: list[Said] = []
    refused = 0
    ledger = await SqliteLedger.open(folder / "data", clock=SystemClock())
    await ledger.declare_keys([key(limit=10**9)])
    spoil()

    async def serve(number: int) -> None:
        nonlocal refused
        request_id = f"{name}-{number}"
        try:
            assert isinstance(await ledger.admit(ask(request_id, HOLD)), Admitted)
            said.append(Said(disk.moment, request_id, None))
            last = 1
            if number % 5 == 0:
                await ledger.advance(onward(request_id, voided(1), start(2, HOLD)))
                last = 2
            assert await ledger.settle(over(request_id, posted(last, number)))
            said.append(Said(disk.moment, request_id, number))
        except LedgerUnavailable:
            refused += 1

    async def work(worker: int) -> None:
        for number in range(worker, REQUESTS, WORKERS):
            await serve(number)

    await asyncio.gather(*(work(worker) for worker in range(WORKERS)))
    disk.fails_to_sync = lambda: False
    await ledger.close()
    return said, refused


def put(image: dict[str, bytes], folder: Path) -> None:
    """Make a data folder of what a disk holds."""
    data = folder / "data"
    data.mkdir(parents=True)
    for name in FILES:
        if name in image:
            (data / name).write_bytes(image[name])


async def _cut(folder: Path, disk: Disk, moment: int, chance: Random, said: Iterable[Said], tally: _Tally) -> None:
    """Cut the power at one moment and look."""
    before = [one for one in said if one.moment <= moment]
    put(disk.image(at=moment, chance=chance), folder)
    tally.cuts += 1
    tally.said += len(before)
    tally.breaches += [f"{folder.name}, after {moment}: {breach}" async for breach in look(folder / "data", before)]


async def look(data: Path, said: Iterable[Said]) -> AsyncIterator[str]:
    """Start on what is left and say what is missing or wrong."""
    try:
        ledger = await SqliteLedger.open(data, clock=ManualClock(NOON_S))
    except LedgerUnavailable as error:
        yield error.message
        return
    try:
        rows = await ledger.export(since_s=None, after_seq=0, rows_max=99_999)
        await ledger.resolve_dead_owners(NOON_S)
    finally:
        await ledger.close()
    found = verify(schema.find_file(data), owners=find_owners(data))
    for finding in found.findings:
        yield str(finding)
    costs: dict[str, int] = {}
    for row in rows:
        costs[row.request_id] = costs.get(row.request_id, 0) + (row.cost_nano_usd or 0)
    for one in said:
        if one.request_id not in costs:
            yield f"{one} is lost"
        elif one.cost_nano_usd is not None and costs[one.request_id] != one.cost_nano_usd:
            yield f"{one} is booked with {costs[one.request_id]}"
