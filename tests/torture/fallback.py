"""How much longer an answer takes when the first target fails at once and the second is healthy (R30).

What the failing upstream takes before its first byte is not counted: the fault has not begun, and our own tool needs a
while to make some of its faults.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

from tests.faults.client import Ended, ask, chat
from tests.faults.modes import MODES
from tests.faults.ports import closed_port
from tests.faults.serving import TurnpikeServer, serve
from tests.faults.steps import Outcome
from tests.faults.upstream import FaultUpstream
from tests.torture.findings import Finding, counted, duration, percentile, timed

ADDED_S_MAX: Final = 0.05
WARM_UP: Final = 30
SURPLUS_S: Final = 0.1
"""Bytes behind a reply must have arrived before the next request, or no client could tell whose they are."""
WORST_SHOWN: Final = 3
REFUSE: Final = "refuse"

ROUTES: Final = """
providers:
  bad: {{dialect: openai, base_url: "{bad}", price: {{input: $1/M, output: $2/M}}}}
  closed: {{dialect: openai, base_url: "{closed}", price: {{input: $1/M, output: $2/M}}}}
  good: {{dialect: openai, base_url: "{good}", price: {{input: $1/M, output: $2/M}}}}
models:
  alone: good/healthy
  refuse: [closed/any, good/healthy]
  "pair/*": ["bad/fault:*", good/healthy]
keys:
  - {{name: app, key: sk-torture-fallback, budget: $1000/day}}
"""
GOES_ON: Final = (Outcome.FALLBACK, Outcome.CONTEXT, Outcome.CONTENT)


@dataclass(slots=True)
class _Times:
    """Seconds from the request's last byte to the reply's, for streams or for JSON."""

    alone: list[float] = field(default_factory=list)
    pairs: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failed: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """What the failing upstream itself took of it, from its first byte to the fault."""

    def added(self, name: str) -> list[float]:
        """Give what a mode adds to the healthy target alone."""
        usual_s = median(self.alone)
        return [seconds - usual_s for seconds in self.pairs[name]]

    def beyond(self, name: str) -> list[float]:
        """Give what is left of that when the failing upstream's own time is taken off."""
        return [added - own for added, own in zip(self.added(name), self.failed[name], strict=True)]


def modes(*, is_stream: bool) -> list[str]:
    """List the faults that show at once and lead to the next target."""
    quick = [mode for mode in MODES.values() if not mode.is_slow and mode.outcome(is_stream=is_stream) in GOES_ON]
    return [REFUSE, *(mode.name for mode in quick)]


async def run(folder: Path, chance: Random, *, rounds: int = 10) -> list[Finding]:
    """Meet every fault `rounds` times in random order, a request to the healthy target alone before each."""
    times = {True: _Times(), False: _Times()}
    wrong: list[str] = []
    with closed_port() as closed:
        async with FaultUpstream() as bad, FaultUpstream() as good:
            routes = ROUTES.format(bad=bad.base_url, closed=closed, good=good.base_url)
            async with serve(routes, folder) as server:
                for _ in range(WARM_UP):
                    await _measure(server, "alone", is_stream=chance.random() < 0.5)
                for _ in range(rounds):
                    cases = [(name, is_stream) for is_stream in times for name in modes(is_stream=is_stream)]
                    for name, is_stream in chance.sample(cases, len(cases)):
                        wrong += await _compare(server, bad, name, times[is_stream], is_stream=is_stream)
    return _judge(times, wrong)


async def _compare(
    server: TurnpikeServer, bad: FaultUpstream, name: str, times: _Times, *, is_stream: bool
) -> list[str]:
    """Ask the healthy target alone, then behind a fault; gives what was wrong with the answer."""
    seconds, _ = await _measure(server, "alone", is_stream=is_stream)
    times.alone.append(seconds)
    calls, own_s, made_s = len(bad.exchanges), 0.0, 0.0
    seconds, wrong = await _measure(server, name if name == REFUSE else f"pair/{name}", is_stream=is_stream)
    if len(bad.exchanges) > calls:
        exchange = bad.exchanges[-1]
        ended_at = exchange.ended_at or time.monotonic()
        begun_at = exchange.first_byte_at or ended_at
        made_s, own_s = begun_at - exchange.received_at, ended_at - begun_at
    times.pairs[name].append(seconds - made_s)
    times.failed[name].append(own_s)
    if "surplus" in name or "length" in name:
        await asyncio.sleep(SURPLUS_S)
    return wrong


async def _measure(server: TurnpikeServer, model: str, *, is_stream: bool) -> tuple[float, list[str]]:
    answer = await ask(server.url, chat(model, stream=is_stream), key=server.key)
    provider = answer.headers.get("x-turnpike-provider")
    if answer.status == 200 and provider == "good" and answer.end is Ended.COMPLETE:
        return answer.seconds, []
    return answer.seconds, [f"{model} {is_stream=}: {answer.status} from {provider}: {answer.body[:200]!r}"]


def _judge(times: dict[bool, _Times], wrong: Sequence[str]) -> list[Finding]:
    count = sum(len(one.pairs) for one in times.values())
    asked = sum(len(seconds) for one in times.values() for seconds in one.pairs.values())
    found = [
        counted(
            f"R30: {count} faults (stream or not): the healthy second target answers",
            "0 broken",
            f"{asked} answers",
            wrong,
        )
    ]
    for is_stream, one in times.items():
        kind = "stream" if is_stream else "JSON"
        added = [seconds for name in one.pairs for seconds in one.added(name)]
        worst = sorted(one.pairs, key=lambda name: median(one.added(name)), reverse=True)[:WORST_SHOWN]
        named = ", ".join(f"{name} {duration(median(one.added(name)))}" for name in worst)
        beyond = [seconds for name in one.pairs for seconds in one.beyond(name)]
        usual = f"{duration(median(one.alone))}, max {duration(max(one.alone))}"
        own = f"{duration(median(beyond))}, p99 {duration(percentile(beyond, 99))}"
        note = f"; beyond the fault's own time p50 {own}; healthy alone p50 {usual}; slowest medians {named}"
        slow = [f"{name}: {duration(s)}" for name in one.pairs for s in one.added(name) if s >= ADDED_S_MAX]
        found.append(timed(f"R30: time added by a fault, {kind}", added, limit_s=ADDED_S_MAX, note=note, slow=slow))
    return found
