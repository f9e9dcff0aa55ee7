"""The store fails under load and recovers: syncs that fail, a disk that is full, somebody else's lock (R3, R4, R5).

Clients ask at a steady rate all the while, slow streams among them. As long as the store is away each new request must
get 503 with `retry-after` and reach no upstream, running streams must come to their end, and /health must say so; once
it is back all that was told must be in the books.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from tests.faults.altered import AlteredServer, Fault, altered
from tests.faults.client import get
from tests.faults.replies import answering, ok, ok_paced
from tests.faults.steps import Mode
from tests.faults.upstream import FaultUpstream
from tests.torture.books import Books
from tests.torture.findings import Finding, counted, duration, percentile, timed
from tests.torture.load import Load, Question, Seen
from tests.torture.waiting import wait_until

ROOT: Final = Path(__file__).resolve().parents[2]
KEY: Final = "sk-torture-store"
REFUSAL: Final = '"ledger_unavailable"'
CALM_S: Final = 4.0
"""Before the trouble and after it."""
USUAL_S: Final = 2.0
"""The end of that, in which a new server has found its pace."""
NOTICED_S_MAX: Final = 20.0
BACK_S_MAX: Final = 5.0
NORMAL_S_MAX: Final = 1.0
REFUSED_S_MAX: Final = 3.0
LOOK_S: Final = 0.05
PIECES: Final = 8
SLOW_S: Final = 2.0
"""How long a slow reply takes its upstream."""
DISK_MIB: Final = 8
LARGER_MIB: Final = 64

ROUTES: Final = f"""
providers:
  up: {{{{dialect: openai, base_url: "{{up}}", price: {{{{input: $1/M, output: $2/M}}}}}}}}
models: {{{{"m/*": up/*}}}}
keys:
  - {{{{name: app, key: {KEY}, budget: $1000/day}}}}
"""

Act = Callable[[AlteredServer], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that happens to the store."""

    promise: str
    begin: Act
    end: Act
    for_s: float
    """How long it lasts once /health tells of it."""


@dataclass(slots=True)
class _Log:
    """What was seen, in seconds of the monotonic clock."""

    seen: list[Seen] = field(default_factory=list)
    began_s: float = 0.0
    ended_s: float = 0.0
    told_s: float | None = None
    """How long /health took to say that the store is away."""
    well_s: float | None = None
    settled_s: float | None = None
    waiting: int = 0
    """Attempts that were pending when the trouble was over: under way, or waiting to be settled."""
    faults: list[str] = field(default_factory=list)

    def find(self, from_s: float, to_s: float) -> list[Seen]:
        """Give what was asked within that time."""
        return [seen for seen in self.seen if from_s <= seen.asked_s < to_s]


async def run(folder: Path, chance: Random, *, rate_per_s: float = 50, lock_s: float = 10.0) -> list[Finding]:
    """Do each in turn, the full disk on one that is really small where mounting it is allowed."""
    syncs = await endure(folder / "sync", chance, failing_syncs(3.0), rate_per_s=rate_per_s)
    async with small_disk(folder / "full") as grow:
        trouble = full_disk(3.0) if grow is None else _filled_disk(grow)
        full = await endure(folder / "full", chance, trouble, rate_per_s=rate_per_s)
    locked = await endure(folder / "locked", chance, foreign_lock(folder / "locked", lock_s), rate_per_s=rate_per_s)
    return [*syncs, *full, *locked]


def failing_syncs(for_s: float) -> Trouble:
    """Let every sync fail."""
    return _faulty("R3: every sync fails", Fault.SYNC, for_s)


def full_disk(for_s: float) -> Trouble:
    """Let every write that needs space fail, as SQLite sees it."""
    return _faulty("R4: the disk is full (simulated: no right to mount one)", Fault.FULL, for_s)


def _faulty(promise: str, fault: Fault, for_s: float) -> Trouble:
    async def begin(server: AlteredServer) -> None:
        server.spoil(fault)

    async def end(server: AlteredServer) -> None:
        server.mend(fault)

    return Trouble(promise, begin, end, for_s)


def _filled_disk(grow: Callable[[], None]) -> Trouble:
    """Wait for the load to fill a small disk, and make that larger in the end."""

    async def begin(_server: AlteredServer) -> None:
        """The load does it."""

    async def end(_server: AlteredServer) -> None:
        grow()

    return Trouble(f"R4: a disk of {DISK_MIB} MiB, written full", begin, end, 3.0)


def foreign_lock(folder: Path, for_s: float) -> Trouble:
    """Let another program lock the ledger, past the turnstile."""
    lockers: list[asyncio.subprocess.Process] = []

    async def begin(server: AlteredServer) -> None:
        command = (sys.executable, "-m", "tests.ledger.process", str(server.data), "lock", str(round(for_s * 1000)))
        lockers.append(await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE))
        stdout = lockers[0].stdout
        assert stdout is not None
        assert await stdout.readline() == b"ready\n"

    async def end(_server: AlteredServer) -> None:
        await lockers[0].wait()

    return Trouble(f"R5: locked by another program for {for_s:.0f} s", begin, end, 0.0)


@asynccontextmanager
async def small_disk(folder: Path) -> AsyncIterator[Callable[[], None] | None]:
    """Give the data folder a disk of its own, and what makes it larger; None where mounting is not allowed."""
    data = folder / "data"
    data.mkdir(parents=True, mode=0o700)
    if not _mount("-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=700", "tmpfs", str(data)):
        yield None
        return
    try:
        yield lambda: _grow(data)
    finally:
        _run("umount", "--lazy", str(data))


def _grow(data: Path) -> None:
    assert _mount("-o", f"remount,size={LARGER_MIB}m", str(data)), "the disk could not be made larger"


def _mount(*arguments: str) -> bool:
    return _run("mount", *arguments)


def _run(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


async def endure(
    folder: Path, chance: Random, trouble: Trouble, *, rate_per_s: float, calm_s: float = CALM_S
) -> list[Finding]:
    """Let the trouble come and go under load, and hold what was seen against the books."""
    log = _Log()
    async with FaultUpstream([varied()]) as up, altered(ROUTES.format(up=up.base_url), folder) as server:
        books = Books(server.data)

        def ask(number: int) -> Question:
            return Question(f"m/{number}", KEY, is_stream=chance.random() < 0.5)

        async with Load(server.url, ask, rate_per_s=rate_per_s) as load:
            await asyncio.sleep(calm_s)
            log.began_s = time.monotonic()
            await trouble.begin(server)
            log.told_s = await _until_health(server, 503)
            await asyncio.sleep(trouble.for_s)
            await trouble.end(server)
            log.ended_s = time.monotonic()
            left = _list_pending(books)
            log.well_s = await _until_health(server, 200)
            await wait_until(lambda: not left & _list_pending(books), limit_s=BACK_S_MAX)
            log.settled_s = time.monotonic() - log.ended_s
            await asyncio.sleep(calm_s)
        log.seen = load.seen
        log.waiting = len(left)
        await books.until_settled(limit_s=BACK_S_MAX)
        log.faults = books.find_faults()
        called = {str(exchange.model) for exchange in up.exchanges}
        return list(_judge(trouble.promise, log, books, called))


def varied() -> Mode:
    """Answer at once, or slowly when a stream is asked for whose number is odd: some are under way at any moment."""
    slow, fast = ok_paced(PIECES, every_s=SLOW_S / PIECES), ok()
    return answering("varied", lambda ask: (slow if ask.model[-1] in "13579" else fast).plan(ask), is_slow=True)


def _list_pending(books: Books) -> set[str]:
    return {row.request_id for row in books.rows() if row.state == "pending"}


async def _until_health(server: AlteredServer, status: int) -> float | None:
    began_s = time.monotonic()
    while (await get(server.url, "/health")).status != status:
        if time.monotonic() - began_s > NOTICED_S_MAX:
            return None
        await asyncio.sleep(LOOK_S)
    return time.monotonic() - began_s


def _judge(promise: str, log: _Log, books: Books, called: set[str]) -> Iterator[Finding]:
    statuses = Counter(seen.status for seen in log.seen)
    refused = [seen for seen in log.seen if seen.status == 503]
    running = [seen for seen in log.seen if seen.asked_s < log.began_s < seen.asked_s + seen.took_s]
    yield counted(
        f"{promise}: 503 `ledger_unavailable` with `retry-after`, nothing else, and nothing sent upstream",
        "0 broken, some refused",
        f"{statuses[200]} answered, {len(refused)} refused",
        [*_find_odd(log.seen), *_find_called(refused, called), *([] if refused else ["nothing was refused"])],
    )
    meanwhile = [seen for seen in running if seen.asked_s + SLOW_S < log.ended_s]
    yield counted(
        f"{promise}: replies under way come to their proper end",
        "0 broken, some whose end comes meanwhile",
        f"{len(running)} were under way, of which {len(meanwhile)} had all of their upstream before it was over",
        [
            *(str(seen) for seen in running if seen.status == 200 and not seen.is_whole),
            *([] if meanwhile else ["the end of none came meanwhile"]),
        ],
    )
    told = [seen for seen in log.seen if seen.cost_nano_usd is not None]
    yield counted(
        f"{promise}: what was told is booked, once; held 0, balances are the sums of their rows",
        "0 lost",
        f"{len(told)} costs told",
        [*_find_lost(log.seen, books), *log.faults],
    )
    yield _limited(f"{promise}: /health says so", log.told_s, NOTICED_S_MAX, "")
    yield _limited(f"{promise}: /health is well again", log.well_s, BACK_S_MAX, " after it was over")
    waiting = f", {log.waiting} attempts"
    yield _limited(f"{promise}: what was pending when it was over is settled", log.settled_s, BACK_S_MAX, waiting)
    yield timed(f"{promise}: time to a refusal", [seen.took_s for seen in refused], limit_s=REFUSED_S_MAX)
    before = [seen.took_s for seen in _quick(log.find(log.began_s - USUAL_S, log.began_s))]
    after = [seen.took_s for seen in _quick(log.find(log.ended_s + NORMAL_S_MAX, float("inf")))]
    usual_s = percentile(before, 99) if before else 0.0
    yield timed(
        f"{promise}: as quick as before ({duration(usual_s)}) {NORMAL_S_MAX:.0f} s after it was over",
        after,
        limit_s=usual_s + LOOK_S,
    )


def _quick(seen: Sequence[Seen]) -> list[Seen]:
    """Leave out those whose upstream is slow."""
    return [one for one in seen if one.question.model[-1] not in "13579"]


def _limited(promise: str, seconds: float | None, limit_s: float, note: str) -> Finding:
    seen = "never" if seconds is None else f"{duration(seconds)}{note}"
    return Finding(promise, f"within {duration(limit_s)}", seen, is_kept=seconds is not None and seconds <= limit_s)


def _find_odd(seen: Sequence[Seen]) -> Iterator[str]:
    for one in seen:
        is_refusal = one.status == 503 and REFUSAL in one.trouble and one.retry_after is not None
        if not is_refusal and not one.is_whole:
            yield str(one)


def _find_called(refused: Sequence[Seen], called: set[str]) -> Iterator[str]:
    yield from (f"sent upstream: {one}" for one in refused if one.question.model.removeprefix("m/") in called)


def _find_lost(seen: Sequence[Seen], books: Books) -> Iterator[str]:
    rows = books.by_request()
    for one in seen:
        found = rows.get(one.request_id or "", [])
        booked = sum(row.cost_nano_usd or 0 for row in found)
        if one.status == 200 and not found:
            yield f"no row: {one}"
        elif one.cost_nano_usd is not None and booked != one.cost_nano_usd:
            yield f"{booked} booked, {one.cost_nano_usd} told: {one}"
