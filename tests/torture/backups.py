"""Backups under load: each is whole and starts as a ledger of its own, and requests hardly notice (R7)."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.faults.client import ask, chat
from tests.faults.replies import ok
from tests.faults.serving import TurnpikeServer, serve
from tests.faults.upstream import FaultUpstream
from tests.torture.books import Books
from tests.torture.findings import Finding, counted, duration, percentile, spread
from tests.torture.load import Load, Question, Seen

ROOT: Final = Path(__file__).resolve().parents[2]
KEY: Final = "sk-torture-backups"
RISE_S_MAX: Final = 0.010
WARM_S: Final = 2.0
"""In which a new server finds its pace."""
SETTLE_S_MAX: Final = 10.0

ROUTES: Final = f"""
providers:
  up: {{{{dialect: openai, base_url: "{{up}}", price: {{{{input: $1/M, output: $2/M}}}}}}}}
models: {{{{"m/*": up/*}}}}
keys:
  - {{{{name: app, key: {KEY}, budget: $1000/day}}}}
"""


@dataclass(slots=True)
class _Log:
    times: list[tuple[float, float]] = field(default_factory=list)
    """When each backup was made."""
    told: list[dict[str, Any]] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)


async def run(
    folder: Path,
    _chance: Random,
    *,
    rows: int = 100_000,
    backups: int = 6,
    every_s: float = 6.0,
    rate_per_s: float = 50,
) -> list[Finding]:
    """Make a backup again and again while requests come, then start each and let it be verified."""
    log = _Log()
    await _call("-m", "tests.ledger.filling", str(folder / "data"), str(rows))
    async with FaultUpstream([ok()]) as up:
        routes = ROUTES.format(up=up.base_url)
        async with serve(routes, folder) as server:
            async with Load(server.url, _question, rate_per_s=rate_per_s) as load:
                await asyncio.sleep(WARM_S)
                warm_s = time.monotonic()
                for number in range(backups):
                    began_s = time.monotonic()
                    await _back_up(server, folder / f"{number}.db", log)
                    log.times.append((began_s, time.monotonic()))
                    await asyncio.sleep(max(0.0, began_s + every_s - time.monotonic()))
            log.breaches += [str(seen) for seen in load.seen if not seen.is_whole]
        for number in range(backups):
            log.breaches += [f"backup {number}: {breach}" async for breach in _restore(routes, folder, number)]
    return list(_judge(log, [seen for seen in load.seen if seen.asked_s > warm_s]))


def _question(number: int) -> Question:
    return Question(f"m/{number}", KEY, is_stream=False)


async def _back_up(server: TurnpikeServer, file: Path, log: _Log) -> None:
    code, told = await _call("-m", "proxy", "ledger", "backup", str(file), "--data", str(server.data), "--json")
    log.told.append(json.loads(told))
    if code or log.told[-1]["findings"]:
        log.breaches.append(f"{file.name}: exit code {code}: {told}")


async def _restore(routes: str, folder: Path, number: int) -> AsyncIterator[str]:
    """Put a copy in place, start on it, ask something, and let it be verified."""
    home = folder / f"restored-{number}"
    (home / "data").mkdir(parents=True, mode=0o700)
    (folder / f"{number}.db").rename(home / "data" / "ledger.db")
    async with serve(routes, home) as server:
        answer = await ask(server.url, chat(f"m/restored-{number}"), key=KEY)
        if answer.status != 200:
            yield f"{answer.status}: {answer.body!r}"
        books = Books(server.data)
        if await books.until_settled(limit_s=SETTLE_S_MAX) is None:
            yield "something is pending for ever"
    code, told = await _call("-m", "proxy", "ledger", "verify", "--data", str(home / "data"))
    if code:
        yield told


async def _call(*arguments: str) -> tuple[int, str]:
    """Run Python and give its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


def _judge(log: _Log, seen: Sequence[Seen]) -> Iterator[Finding]:
    yield counted(
        "R7: every backup made under load is whole, starts as a ledger of its own and is verified",
        "0 broken",
        f"{len(log.told)} backups, {log.told[0]['attempts']} to {log.told[-1]['attempts']} rows",
        log.breaches,
    )
    during = [one.took_s for one in seen if _is_during(one, log)]
    beside = [one.took_s for one in seen if not _is_during(one, log)]
    rise_s = percentile(during, 99) - percentile(beside, 99) if during and beside else None
    yield Finding(
        "R7: rise of a request's time while a backup is made",
        f"p99 < {duration(RISE_S_MAX)}",
        f"{'nothing measured' if rise_s is None else duration(rise_s)}: during {spread(during)}; else {spread(beside)}",
        is_kept=rise_s is not None and rise_s < RISE_S_MAX,
        is_timed=True,
    )


def _is_during(seen: Seen, log: _Log) -> bool:
    return any(began_s < seen.asked_s + seen.took_s and seen.asked_s < ended_s for began_s, ended_s in log.times)
