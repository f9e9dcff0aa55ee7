"""Two processes on one data folder: a start resolves the holds of the dead and never those of the living (R12).

Process A holds streams open while B starts, sweeps and starts again; A is then stopped for a while (SIGSTOP: alive, and
silent), goes on, and settles its own. At last A is killed while it holds others: B, living all along, resolves those
and leaves its own alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from tests.faults.serving import TurnpikeServer
from tests.faults.upstream import FaultUpstream
from tests.torture.books import Books, Row
from tests.torture.findings import Finding, counted, duration
from tests.torture.gates import Gate, held_midway
from tests.torture.load import Question, Seen, put
from tests.torture.start import serve_together
from tests.torture.waiting import wait_until

RESOLVED_S_MAX: Final = 10.0
OPEN_S_MAX: Final = 20.0

ROUTES: Final = """
providers:
  up: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $2/M}}}}
models: {{"m/*": up/*}}
keys:
  - {{name: app, key: sk-torture-owners, budget: $1000/day}}
"""


@dataclass(slots=True)
class _Log:
    touched: list[str] = field(default_factory=list)
    """Rows of a living owner that somebody else ended."""
    answers: list[Seen] = field(default_factory=list)
    resolved_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Stage:
    up: FaultUpstream
    gate: Gate
    books: Books

    async def hold(self, server: TurnpikeServer, name: str, count: int) -> list[asyncio.Task[Seen]]:
        """Open so many streams through a server and wait until the upstream has begun each."""
        before = len(self.up.exchanges)
        questions = [Question(f"m/{name}-{number}", server.key, is_stream=True) for number in range(count)]
        tasks = [asyncio.create_task(put(server.url, question)) for question in questions]
        opened_s = await wait_until(lambda: len(self.up.exchanges) >= before + count, limit_s=OPEN_S_MAX)
        assert opened_s is not None, "some streams did not reach the upstream"
        return tasks

    def find_ended(self, name: str, count: int, *, after: str) -> list[str]:
        """Say which of the streams of that name are no longer pending."""
        rows = [row for row in self.books.rows() if row.model.startswith(f"{name}-")]
        missing = [f"{after}: {count - len(rows)} rows of {name} are missing"] if len(rows) != count else []
        return [*missing, *(f"{after}: {row}" for row in rows if row.state != "pending")]


async def run(folder: Path, _chance: Random, *, streams: int = 20, quiet_s: float = 12.0) -> list[Finding]:
    """Let A hold streams open for `quiet_s` seconds around B's starts, then let it settle, then kill it."""
    log, gate = _Log(), Gate()
    async with AsyncExitStack() as stack:
        up = await stack.enter_async_context(FaultUpstream([held_midway(gate)]))
        routes = ROUTES.format(up=up.base_url)
        (first,) = await stack.enter_async_context(serve_together(routes, folder, 1))
        stage = _Stage(up, gate, Books(first.data))
        held = await stage.hold(first, "living", streams)
        (second,) = await stack.enter_async_context(serve_together(routes, folder, 1))
        await asyncio.sleep(quiet_s / 2)
        log.touched += stage.find_ended("living", streams, after="B started")
        await _pause_over_start(first, second, quiet_s / 2)
        log.touched += stage.find_ended("living", streams, after="B was killed and started again while A was stopped")
        gate.is_open = True
        log.answers = list(await asyncio.gather(*held))
        await stage.books.until_settled(limit_s=RESOLVED_S_MAX)
        await _kill_holder(stage, first, second, log, streams)
        return _judge(stage.books, log, streams)


async def _pause_over_start(first: TurnpikeServer, second: TurnpikeServer, quiet_s: float) -> None:
    """Stop A without ending it, kill and start B meanwhile, and let A go on."""
    assert first.process is not None
    os.killpg(first.process.pid, signal.SIGSTOP)
    try:
        await second.kill()
        await second.restart()
        await asyncio.sleep(quiet_s)
    finally:
        os.killpg(first.process.pid, signal.SIGCONT)


async def _kill_holder(stage: _Stage, first: TurnpikeServer, second: TurnpikeServer, log: _Log, streams: int) -> None:
    """Kill A while both hold streams: B resolves A's and keeps its own."""
    stage.gate.is_open = False
    dying = await stage.hold(first, "dying", streams)
    kept = await stage.hold(second, "kept", streams)
    await first.kill()
    log.resolved_s = await wait_until(
        lambda: len(stage.find_ended("dying", streams, after="")) == streams, limit_s=RESOLVED_S_MAX
    )
    log.touched += stage.find_ended("kept", streams, after="A was killed")
    stage.gate.is_open = True
    await asyncio.gather(*dying)
    log.answers += await asyncio.gather(*kept)
    await stage.books.until_settled(limit_s=RESOLVED_S_MAX)


def _judge(books: Books, log: _Log, streams: int) -> list[Finding]:
    rows = books.rows()
    dead = [row for row in rows if row.model.startswith("dying-")]
    lived = [row for row in rows if not row.model.startswith("dying-")]
    owners = Counter(row.owner for row in rows)
    resolved = "never" if log.resolved_s is None else f"all {len(dead)} in {duration(log.resolved_s)}"
    unresolved = [f"not posted as known: {row}" for row in dead if not row.is_posted_as_known]
    late = [] if log.resolved_s is not None else ["some stayed pending"]
    return [
        counted(
            "R12: a start and its sweeps leave a living process's holds alone, also while that is stopped",
            "0 broken",
            f"{streams} held through 2 starts, {len(owners)} owners in all",
            log.touched,
        ),
        counted(
            "R12: a living owner settles its own: answers whole, usage booked",
            "0 broken",
            f"{len(lived)} streams",
            [*_find_unsettled(lived), *(str(seen) for seen in log.answers if not seen.is_whole)],
        ),
        counted(
            "R12: a dead owner's holds are posted by its checkpoint or in full by a living process",
            f"all within {duration(RESOLVED_S_MAX)}",
            resolved,
            [*unresolved, *late],
        ),
        counted("R12: held 0, balances true in the end", "0 broken", f"{len(rows)} rows", books.find_faults()),
    ]


def _find_unsettled(lived: Sequence[Row]) -> list[str]:
    return [str(row) for row in lived if (row.state, row.cost_source, row.error) != ("posted", "computed", None)]
