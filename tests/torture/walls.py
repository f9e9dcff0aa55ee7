"""The wall, again and again: 1,000 at once against room for 100, with one worker and with four (R10, R11).

Every round is a server and a ledger of its own. Besides what `budget` looks at, the server is asked in the end how long
its ledger writers waited for each other, and how long a call took until it was durable.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

from tests.torture.budget import USABLE_SHARE, Case, Rushed, rush
from tests.torture.findings import Finding, counted, duration

ROUNDS: Final = 3
WAIT_S_MAX: Final = 0.05
_MOST: Final = re.compile(r"^turnpike_ledger_(turn|commit)_seconds_max (\S+)$", re.MULTILINE)
_BUCKET: Final = re.compile(r'^turnpike_ledger_turn_seconds_bucket\{le="(\S+)"\} (\d+)$', re.MULTILINE)


async def run(
    folder: Path, chance: Random, *, rounds: int = ROUNDS, workers: Sequence[int] = (1, 4), room: int = 100
) -> list[Finding]:
    """Rush so often with each number of workers; odd rounds are answered at once, even ones when all are decided."""
    found: list[Finding] = []
    for count in workers:
        rushes = [
            await rush(
                folder / f"{count}-{number}", Case(10 * room, room, 1, is_held=number % 2 == 0, workers=count), chance
            )
            for number in range(rounds)
        ]
        found += _judge(rushes)
    return found


def _judge(rushes: Sequence[Rushed]) -> list[Finding]:
    case = rushes[0].case
    name = f"{case.requests} at once, room for {case.room}, {case.workers} worker{'s' if case.workers > 1 else ''}"
    broken = [f"round {number}: {breach}" for number, one in enumerate(rushes) for breach in one.breaches]
    leaks = [f"round {number}: {leak}" for number, one in enumerate(rushes) for leak in one.leaks]
    kept = sum(not one.breaches for one in rushes)
    used = [one.used_share for one in rushes]
    looks = sum(one.watch.looks for one in rushes)
    return [
        counted(
            f"R10, R11: {name}: posted + held <= limit at every look, 100 a second",
            f"{len(rushes)} of {len(rushes)} rounds",
            f"{kept} of {len(rushes)} rounds, at most {max(one.most_share for one in rushes):.1%} in {looks} looks",
            broken,
        ),
        counted(
            f"R10: {name}: 402 before any upstream byte",
            "0 broken",
            f"{sum(answer.status == 402 for one in rushes for answer in one.seen)} refused",
            leaks,
        ),
        Finding(
            f"R10: {name}: the budget can be used",
            f">= {USABLE_SHARE:.0%} in every round",
            f"{min(used):.1%} to {max(used):.1%}",
            is_kept=min(used) >= USABLE_SHARE,
        ),
        _judge_waits(name, rushes),
    ]


def _judge_waits(name: str, rushes: Sequence[Rushed]) -> Finding:
    """Judge how long a writer waited for its turn; what a call waits is told beside it: most of it is the queue."""
    most = [{kind: float(value) for kind, value in _MOST.findall(one.metrics)} for one in rushes]
    turns, commits = [one["turn"] for one in most], [one["commit"] for one in most]
    within: Counter[float] = Counter()
    for one in rushes:
        within.update({float(bound): int(count) for bound, count in _BUCKET.findall(one.metrics)})
    count = within[float("inf")]
    p99_s = min(bound for bound, below in within.items() if below * 100 >= count * 99)
    return Finding(
        f"R11: {name}: a ledger writer's wait for another",
        f"p99 < {duration(WAIT_S_MAX)}",
        f"p99 <= {duration(p99_s)}, {within[WAIT_S_MAX]} of {count} below {duration(WAIT_S_MAX)}; longest by round "
        f"{', '.join(map(duration, sorted(turns)))}; asking to durable at worst {duration(max(commits))}",
        is_kept=p99_s <= WAIT_S_MAX,
        is_timed=True,
    )
