"""A rate that several processes keep together: exactly so many, and no more in any stretch of its window (R15).

The moments of a stretch are those in the books, when a request was let in: on its way upstream it may wait for a busy
machine, and two that were let in five seconds apart may arrive closer together.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from tests.faults.serving import TurnpikeServer
from tests.faults.upstream import FaultUpstream
from tests.torture.books import Books
from tests.torture.findings import Finding, counted
from tests.torture.load import Question, Seen, put
from tests.torture.start import serve_together

PAUSE_S_MAX: Final = 0.02
"""Between two tries of one asker at a window's edge."""
USABLE_SHARE: Final = 0.9

ROUTES: Final = """
providers:
  up: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $2/M}}}}
models: {{"m/*": up/*}}
keys:
  - {{name: burst, key: sk-torture-burst, rate: {limit}/min}}
  - {{name: edge, key: sk-torture-edge, rate: {limit}/{window_s}s}}
"""


@dataclass(frozen=True, slots=True)
class Case:
    """So many processes, each asked so often, on one rate."""

    processes: int
    tries: int
    limit: int
    window_s: int
    """Of the second part; the first is counted over a minute."""
    windows: int
    """How many of them the second part lasts."""


CASE: Final = Case(processes=8, tries=200, limit=100, window_s=5, windows=4)


async def run(folder: Path, chance: Random, *, case: Case = CASE) -> list[Finding]:
    """Ask all processes at once, then go on asking over the edges of a shorter window."""
    async with FaultUpstream() as up:
        routes = ROUTES.format(up=up.base_url, limit=case.limit, window_s=case.window_s)
        async with serve_together(routes, folder, case.processes) as servers:
            burst = await _rush(case, servers)
            at_first = len(up.exchanges)
            edge = await _keep_asking(case, servers, chance)
            calls = len(up.exchanges) - at_first
            moments = Books(servers[0].data).moments("edge")
    return [*_judge_burst(case, burst, at_first), *_judge_edge(case, edge, moments, calls)]


async def _rush(case: Case, servers: Sequence[TurnpikeServer]) -> list[Seen]:
    questions = [Question(f"m/burst-{number}", "sk-torture-burst", is_stream=False) for number in range(case.tries)]
    return await asyncio.gather(*(put(server.url, question) for question in questions for server in servers))


async def _keep_asking(case: Case, servers: Sequence[TurnpikeServer], chance: Random) -> list[Seen]:
    """Ask every process without end, until some windows have passed."""
    ends_s = time.monotonic() + case.window_s * case.windows

    async def ask(server: TurnpikeServer) -> list[Seen]:
        seen: list[Seen] = []
        while time.monotonic() < ends_s:
            seen.append(await put(server.url, Question("m/edge", "sk-torture-edge", is_stream=False)))
            await asyncio.sleep(chance.random() * PAUSE_S_MAX)
        return seen

    return [one for seen in await asyncio.gather(*map(ask, servers)) for one in seen]


def _judge_burst(case: Case, seen: Sequence[Seen], calls: int) -> list[Finding]:
    statuses = Counter(one.status for one in seen)
    odd = [str(one) for one in seen if one.status not in {200, 429}]
    wrong = [] if statuses[200] == calls == case.limit else [f"{statuses[200]} answered, {calls} calls went out"]
    return [
        counted(
            f"R15: {case.limit}/min, {case.processes} processes x {case.tries} tries at once",
            f"exactly {case.limit}",
            f"{statuses[200]} answered, {statuses[429]} x 429, {calls} calls upstream",
            [*wrong, *odd],
        )
    ]


def _judge_edge(case: Case, seen: Sequence[Seen], moments: Sequence[float], calls: int) -> list[Finding]:
    most = _count_most(moments, case.window_s)
    # A window is cut into sixty pieces and frees a piece when all of it has passed, so it lasts 61 of them at most.
    possible = case.limit * (1 + int(case.windows / (61 / 60)))
    over = [] if most <= case.limit else [f"{most} let in within {case.window_s} s"]
    over += [] if calls == len(moments) else [f"{len(moments)} let in, {calls} calls upstream"]
    odd = [str(one) for one in seen if one.status not in {200, 429}]
    return [
        counted(
            f"R15: {case.limit} in {case.window_s} s, {case.processes} processes asking without end: "
            f"never more in any stretch of {case.window_s} s",
            f"<= {case.limit}",
            f"at most {most} in {len(seen)} tries over {case.windows} windows",
            [*over, *odd],
        ),
        Finding(
            f"R15: {case.limit} in {case.window_s} s: what the rate allows can be had",
            f">= {USABLE_SHARE:.0%} of it",
            f"{len(moments) / possible:.0%}, {len(moments)} calls",
            is_kept=len(moments) >= USABLE_SHARE * possible,
        ),
    ]


def _count_most(moments: Sequence[float], window_s: float) -> int:
    """Give the most calls that lie in any stretch of the window, both of its ends not counted."""
    most = first = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - window_s:
            first += 1
        most = max(most, last - first + 1)
    return most
