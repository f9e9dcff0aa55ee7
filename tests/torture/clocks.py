"""A wall clock that jumps: no stream breaks, no time is wrong, and each period of a budget begins once (R64, R65).

The gateway runs in this process, over real sockets, with a clock that is set. Before each boundary of a period, some
of them on days that are not like others, a key spends its budget; behind it there is a new one; and whatever the clock
does then, going back and forth over the boundary, gives it no third.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Final

import pytest

from proxy.clock import SystemClock
from tests.behaviours.gateway import Running, running
from tests.faults import client
from tests.faults.client import Ended
from tests.faults.replies import ok, ok_paced
from tests.faults.upstream import FaultUpstream
from tests.torture.books import Books
from tests.torture.findings import Finding, counted

ROOM: Final = 3
"""Requests that a period's budget has room for."""
TRIES: Final = 6
TOKENS: Final = 64
"""The least a request is clamped to, so its hold cannot shrink."""
LATENCY_MS_MAX: Final = 60_000
"""A stream here takes a second; a jump is an hour and more."""
JUMPS_S: Final = (3_600.0, -3_600.0, -7_200.0, 86_400.0, 0.0)
"""From the true time."""
SETTLE_S_MAX: Final = 15.0

ROUTES: Final = """
providers:
  up: {{dialect: openai, base_url: "{up}", price: {{input: $0/M, output: $10/M}}}}
models: {{m: up/m, slow: up/slow}}
keys: {keys}
"""


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where one period of a budget ends and the next begins."""

    what: str
    period: str
    at: str
    """ISO, with the offset of the zone at that moment."""
    zone: str = "Europe/Berlin"

    @property
    def key(self) -> str:
        """Give the key's name, which is its client key too."""
        return f"sk-clock-{self.what.replace(' ', '-')}"

    @property
    def at_s(self) -> float:
        """Give the moment."""
        return datetime.fromisoformat(self.at).timestamp()

    @property
    def entry(self) -> dict[str, object]:
        """Give the key's entry in routes.yaml."""
        limit = f"${ROOM * TOKENS * 10_000 / 1e9:.9f}/{self.period}"
        return {"name": self.key, "key": self.key, "budget": {"limit": limit, "timezone": self.zone}}


BOUNDARIES: Final = (
    Boundary("a day", "day", "2026-11-21T00:00:00+01:00"),
    Boundary("end of a month", "month", "2026-12-01T00:00:00+01:00"),
    Boundary("end of a year", "month", "2027-01-01T00:00:00+01:00"),
    Boundary("into a leap day", "day", "2028-02-29T00:00:00+01:00"),
    Boundary("out of a leap month", "month", "2028-03-01T00:00:00+01:00"),
    Boundary("day of 23 hours", "day", "2027-03-29T00:00:00+02:00"),
    Boundary("day of 25 hours", "day", "2027-11-01T00:00:00+01:00"),
    Boundary("hour that is leapt over", "hour", "2027-03-28T03:00:00+02:00"),
    Boundary("hour that comes twice", "hour", "2027-10-31T02:00:00+01:00"),
    Boundary("week from Monday", "week", "2026-11-23T00:00:00+01:00"),
    Boundary("half an hour off", "day", "2026-11-21T00:00:00+05:30", "Asia/Kolkata"),
    Boundary("midnight leapt over", "day", "2018-11-04T01:00:00-02:00", "America/Sao_Paulo"),
)


class Wall:
    """The wall clock, which can be set."""

    def __init__(self) -> None:
        """Tell the true time."""
        self._ahead_s = 0.0

    def now_s(self) -> float:
        """Give the time as set."""
        return time.time() + self._ahead_s

    def set_to(self, at_s: float) -> None:
        """Set it to a moment."""
        self._ahead_s = at_s - time.time()

    def jump_to(self, ahead_s: float) -> None:
        """Set it so far ahead of the true time."""
        self._ahead_s = ahead_s


@dataclass(slots=True)
class _Log:
    admitted: list[str] = field(default_factory=list)
    """Where more or fewer were let in than a period has room for."""
    let_in: int = 0
    broken: list[str] = field(default_factory=list)
    streams: int = 0
    late: list[str] = field(default_factory=list)


async def run(
    folder: Path, chance: Random, *, boundaries: Sequence[Boundary] = BOUNDARIES, streams: int = 20
) -> list[Finding]:
    """Cross every boundary, then let the clock jump under streams."""
    log = _Log()
    keys = [*(boundary.entry for boundary in boundaries), {"name": "streams", "key": "sk-clock-streams"}]
    async with FaultUpstream([ok(TOKENS)]) as up:
        with _set_clock() as wall:
            async with running(ROUTES.format(up=up.base_url, keys=keys), folder) as gateway:
                for boundary in boundaries:
                    await _cross(gateway, wall, boundary, chance, log)
                up.replace_script([ok_paced(10, every_s=0.1)])
                await _jump_under_streams(gateway, wall, streams, log)
                wall.jump_to(0)
                books = Books(folder / "data")
                await books.until_settled(limit_s=SETTLE_S_MAX)
                log.late = [
                    f"{row.request_id}: {row.latency_ms} ms, first token {row.first_token_ms} ms"
                    for row in await gateway.rows()
                    if not 0 <= (row.first_token_ms or 0) <= (row.latency_ms or 0) <= LATENCY_MS_MAX
                ]
                faults = books.find_faults()
    return _judge(log, faults, boundaries)


@contextmanager
def _set_clock() -> Iterator[Wall]:
    wall = Wall()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SystemClock, "now_s", staticmethod(wall.now_s))
        yield wall


async def _cross(gateway: Running, wall: Wall, boundary: Boundary, chance: Random, log: _Log) -> None:
    """Spend both periods, then go back and forth between them."""
    before_s, after_s = boundary.at_s - 1.5, boundary.at_s + 0.5
    wanted = [(before_s, ROOM), (after_s, ROOM)]
    wanted += [(moment_s, 0) for moment_s in chance.choices((before_s, after_s), k=4)]
    for moment_s, room in wanted:
        wall.set_to(moment_s)
        answers = await asyncio.gather(*(_ask(gateway, boundary.key) for _ in range(TRIES)))
        statuses = Counter(answer.status for answer in answers)
        log.let_in += statuses[200]
        if statuses != Counter({200: room, 402: TRIES - room}):
            side = "before" if moment_s < boundary.at_s else "behind"
            log.admitted.append(f"{boundary.what}: {dict(statuses)} {side} it, room for {room}")


async def _ask(gateway: Running, key: str) -> client.Answer:
    return await client.ask(gateway.url, client.chat("m", max_tokens=TOKENS), key=key)


async def _jump_under_streams(gateway: Running, wall: Wall, streams: int, log: _Log) -> None:
    """Let the clock jump while streams run: before the first byte, between two, and before the last."""

    async def stream() -> None:
        payload = client.chat("slow", stream=True, max_tokens=TOKENS)
        async with client.call(gateway.url, payload, key="sk-clock-streams") as reply:
            events = [event async for event in reply.events()]
            if reply.end is not Ended.COMPLETE or not events[-1].is_done:
                log.broken.append(f"ended {reply.end} after {len(events)} events")

    tasks = [asyncio.create_task(stream()) for _ in range(streams)]
    for ahead_s in JUMPS_S:
        wall.jump_to(ahead_s)
        await asyncio.sleep(0.2)
    await asyncio.gather(*tasks)
    log.streams += streams


def _judge(log: _Log, faults: Sequence[str], boundaries: Sequence[Boundary]) -> list[Finding]:
    return [
        counted(
            f"R64, R65: {len(boundaries)} boundaries of periods (DST, leap day, month end), the clock going back and "
            "forth over each: every period has its budget once",
            f"exactly {2 * ROOM * len(boundaries)} let in",
            f"{log.let_in} let in",
            log.admitted,
        ),
        counted(
            f"R64: the clock jumps {len(JUMPS_S)} times under streams, by up to a day: none breaks",
            "0 broken",
            f"{log.streams} streams",
            log.broken,
        ),
        counted("R64: times of attempts are durations", "0 broken", "every row looked at", log.late),
        counted("R64: balances are the sums of their rows, none held", "0 broken", "all books", faults),
    ]
