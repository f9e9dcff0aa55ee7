"""kill -9 under load, again and again on one data folder: nothing acknowledged is lost, nothing stays pending (R1)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final
from zlib import crc32

from tests.faults.replies import answering, ok, ok_paced
from tests.faults.serving import TurnpikeServer
from tests.faults.statuses import server_fault
from tests.faults.steps import Mode
from tests.faults.upstream import FaultUpstream
from tests.torture.books import Books, Row
from tests.torture.findings import Finding, counted, duration, timed
from tests.torture.load import Load, Question, Seen
from tests.torture.start import LOOK_S, is_whole, start_timed, workers_of

READY_S_MAX: Final = 2.0
PENDING_S_MAX: Final = 10.0
OWNER_DIED: Final = "owner_died"
"""What the ledger writes as the `error` of an attempt whose process died."""
RICH: Final = "sk-torture-rich"
TIGHT: Final = "sk-torture-tight"
ROUTES: Final = f"""
providers:
  up: {{{{dialect: openai, base_url: "{{up}}", price: {{{{input: $1/M, output: $2/M}}}}}}}}
  bad: {{{{dialect: openai, base_url: "{{bad}}", price: {{{{input: $1/M, output: $2/M}}}}}}}}
models:
  "one/*": up/*
  "two/*": ["bad/*", "up/*"]
keys:
  - {{{{name: rich, key: {RICH}, budget: $1000/day}}}}
  - {{{{name: tight, key: {TIGHT}, budget: $0.25}}}}
"""


@dataclass(slots=True)
class _Log:
    """What was seen over all rounds."""

    seen: list[Seen] = field(default_factory=list)
    ready_s: list[float] = field(default_factory=list)
    settled_s: list[float | None] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    cut: int = 0
    """Requests that were under way when the server was killed."""


async def run(
    folder: Path,
    chance: Random,
    *,
    rounds: int = 20,
    rate_per_s: float = 80,
    kill_after_s: tuple[float, float] = (0.3, 3.0),
    workers: int = 1,
) -> list[Finding]:
    """Kill the server in the midst of a mixed load, start it on the same folder again, and look at the books.

    Of several workers one is killed, and started again by its parent.
    """
    log = _Log()
    async with FaultUpstream([varied()]) as up, FaultUpstream([server_fault(502)]) as bad:
        routes = ROUTES.format(up=up.base_url, bad=bad.base_url)
        server = TurnpikeServer(routes, folder, arguments=["--workers", str(workers)])
        books = Books(server.data)
        try:
            await server.start()
            for number in range(rounds):
                async with Load(server.url, Asking(number, chance), rate_per_s=rate_per_s) as load:
                    await asyncio.sleep(chance.uniform(*kill_after_s))
                    if workers > 1:
                        log.ready_s.append(await _replace_one(server, chance))
                    else:
                        await server.kill()
                log.seen += load.seen
                log.cut += sum(seen.request_id is not None and not _is_over(seen) for seen in load.seen)
                if workers == 1:
                    log.ready_s.append(await start_timed(server))
                log.settled_s.append(await books.until_settled(limit_s=PENDING_S_MAX))
                log.faults += [f"round {number}: {fault}" for fault in books.find_faults()]
        finally:
            await server.kill()
        called = {(name, str(exchange.model)) for name, one in (("up", up), ("bad", bad)) for exchange in one.exchanges}
    return _judge(log, books, called)


async def _replace_one(server: TurnpikeServer, chance: Random) -> float:
    """Kill one worker and give the seconds until another has its place and answers again."""
    before = workers_of(server)
    begun_s = time.monotonic()
    os.kill(chance.choice(before), signal.SIGKILL)
    while len(set(workers_of(server)) - set(before)) < 1 or not await is_whole(server):  # noqa: ASYNC110
        await asyncio.sleep(LOOK_S)
    return time.monotonic() - begun_s


class Asking:
    """Makes the questions of one round: streams and JSON, one target and two, two keys, each model name once."""

    def __init__(self, round_number: int, chance: Random) -> None:
        self._round = round_number
        self._chance = chance

    def __call__(self, number: int) -> Question:
        """Give the question of that number."""
        route = "two" if self._chance.random() < 0.25 else "one"
        key = TIGHT if self._chance.random() < 0.25 else RICH
        return Question(f"{route}/m-{self._round}-{number}", key, is_stream=self._chance.random() < 0.6)


def varied() -> Mode:
    """Answer at once, soon or slowly, by the model's name."""
    modes = (ok(), ok_paced(3, every_s=0.05, first_s=0.1), ok_paced(8, every_s=0.05))
    return answering("varied", lambda ask: modes[crc32(ask.model.encode()) % len(modes)].plan(ask), is_slow=True)


def _is_over(seen: Seen) -> bool:
    return seen.is_whole or (seen.status is not None and seen.status != 200)


def _judge(log: _Log, books: Books, called: set[tuple[str, str]]) -> list[Finding]:
    """Hold what clients and upstreams saw against the rows."""
    rows = books.by_request()
    known = [seen for seen in log.seen if seen.request_id is not None]
    told = [seen for seen in known if seen.cost_nano_usd is not None]
    statuses = Counter(seen.status for seen in log.seen)
    kinds = f"{statuses[200]} answered, {statuses[402]} refused with 402, {log.cut} cut by the kill"
    booked = {(row.provider, row.model) for found in rows.values() for row in found}
    unbooked = sorted(called - booked)
    died = [row for found in rows.values() for row in found if row.error == OWNER_DIED]
    kills = len(log.settled_s)
    slowest_s = max((seconds for seconds in log.settled_s if seconds is not None), default=0.0)
    late = [f"round {number}" for number, seconds in enumerate(log.settled_s) if seconds is None]
    return [
        counted(
            f"R1: {kills} kills -9: every id a client saw has one row per attempt, a refused one none",
            "0 broken",
            f"{len(known)} ids ({kinds})",
            _find_lost(known, rows),
        ),
        counted(
            "R1: a cost that was told to a client is in the books",
            "0 broken",
            f"{len(told)} told",
            _find_untold(told, rows),
        ),
        counted(
            "R1: no upstream call without a row",
            "0 broken",
            f"{len(called)} calls",
            (f"no row for {call}" for call in unbooked),
        ),
        counted(
            "R12: nothing pending after a restart",
            f"0 within {duration(PENDING_S_MAX)}",
            f"none later than {duration(slowest_s)} after ready",
            late,
        ),
        counted(
            "R1: what died with the process is posted by its checkpoint or in full, never voided",
            "0 broken",
            f"{len(died)} attempts",
            (str(row) for row in died if not row.is_posted_as_known),
        ),
        counted("R12: held 0, balances are the sums of their rows", "0 broken", f"{kills} restarts", log.faults),
        timed("R1: ready again after kill -9", log.ready_s, limit_s=READY_S_MAX),
    ]


def _find_lost(known: list[Seen], rows: dict[str, list[Row]]) -> Iterator[str]:
    """Find requests whose client saw an id that the books do not account for."""
    doubled = [request_id for request_id, count in Counter(seen.request_id for seen in known).items() if count > 1]
    yield from (f"two requests were told the id {request_id}" for request_id in doubled)
    for seen in known:
        found = rows.get(seen.request_id or "", [])
        if seen.status == 200 and len(found) != seen.attempts:
            yield f"{len(found)} rows instead of {seen.attempts}: {seen}"
        elif seen.status == 402 and found:
            yield f"{len(found)} rows of a refused request: {seen}"
        elif seen.status not in (200, 402):
            yield f"an answer nobody expected: {seen}"


def _find_untold(told: list[Seen], rows: dict[str, list[Row]]) -> Iterator[str]:
    """Find replies whose cost is not that of their rows."""
    for seen in told:
        booked = sum(row.cost_nano_usd or 0 for row in rows.get(seen.request_id or "", []))
        if booked != seen.cost_nano_usd:
            yield f"{booked} booked, {seen.cost_nano_usd} told: {seen}"
