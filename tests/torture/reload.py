"""Broken edits of routes.yaml under load: no request fails, /health says so, the next good file is used (R60, R61)."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any, Final

from tests.faults.client import ask, chat, get
from tests.faults.replies import ok_paced
from tests.faults.serving import TurnpikeServer, serve
from tests.faults.upstream import FaultUpstream
from tests.torture.findings import Finding, counted, timed
from tests.torture.load import Load, Question

USED_S_MAX: Final = 1.5
NOTICED_S_MAX: Final = 1.5
GIVEN_UP_S: Final = 10.0
LOOK_S: Final = 0.02
LARGE_BYTES: Final = 50 * 1024 * 1024
KEY: Final = "sk-torture-reload"

ROUTES: Final = f"""
providers:
  up: {{{{dialect: openai, base_url: "{{up}}", price: {{{{input: $1/M, output: $2/M}}}}}}}}
models:
  m: up/one
  edit-{{number}}: "up/fault:ok"
keys:
  - {{{{name: app, key: {KEY}, budget: $1000/day}}}}
"""
TOLD: Final = re.compile(r"routes_refused.*routes\.yaml:\d+:\d+")

Edit = Callable[[Path, str], None]
"""Spoils a routes file; the text is the good one."""


def _write(change: Callable[[str], str]) -> Edit:
    """Write a spoilt text over the file, in place."""
    return lambda path, good: _put(path, change(good))


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _rename(path: Path, good: str) -> None:
    draft = path.with_suffix(".draft")
    _put(draft, good.replace("m: up/one", "m: nobody/one"))
    draft.replace(path)


def _delete(path: Path, _good: str) -> None:
    path.unlink()


def _swap_link(path: Path, good: str) -> None:
    """Put a symbolic link to a broken file in its place, as a ConfigMap is swapped."""
    broken = path.with_name("elsewhere.yaml")
    _put(broken, good.replace("providers:", "providers: ["))
    link = path.with_suffix(".link")
    link.symlink_to(broken)
    link.replace(path)


def _half(good: str) -> str:
    """Cut inside the key at its end: what stands there so far is no YAML."""
    return good[: good.index(KEY) + 4]


EDITS: Final[Mapping[str, Edit]] = MappingProxyType(
    {
        "a syntax error": _write(lambda good: good.replace("models:", "models: {")),
        "an unknown provider, by rename": _rename,
        "a cycle": _write(lambda good: good.replace("m: up/one", "m: n\n  n: m")),
        "an alias to itself": _write(lambda good: good.replace("m: up/one", "m: m")),
        "a variable that is not set": _write(lambda good: good.replace(KEY, '"${NOT_SET_ANYWHERE}"')),
        "emptied": _write(lambda _good: ""),
        "deleted": _delete,
        "half written": _write(_half),
        "50 MB of comments": _write(lambda good: good + "# padding\n" * (LARGE_BYTES // 10)),
        "a link swapped to a broken file": _swap_link,
    }
)


@dataclass(slots=True)
class _Log:
    before: dict[str, Any] = field(default_factory=dict)
    """What /health said before the edit."""
    noticed_s: list[float] = field(default_factory=list)
    used_s: list[float] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)


async def run(
    folder: Path,
    chance: Random,
    *,
    edits: Sequence[str] = tuple(EDITS),
    rate_per_s: float = 50,
    left_broken_s: float = 1.0,
) -> list[Finding]:
    """Spoil the file in each way and mend it again while requests come at a steady rate."""
    log = _Log()
    async with FaultUpstream([ok_paced(8, every_s=0.05)]) as up:
        routes = [ROUTES.format(up=up.base_url, number=number) for number in range(len(edits) + 1)]
        async with serve(routes[0], folder) as server:
            async with Load(server.url, lambda _: _question(chance), rate_per_s=rate_per_s) as load:
                for number, edit in enumerate(edits, 1):
                    await _spoil(server, edit, routes[number - 1], log)
                    await asyncio.sleep(left_broken_s)
                    await _hold_still(server, edit, log)
                    await _mend(server, edit, routes[number], f"edit-{number}", log)
            told = [line for line in server.logs.splitlines() if TOLD.search(line)]
    statuses = Counter(seen.status for seen in load.seen)
    untold = [] if len(told) >= len(edits) else [f"{len(told)} lines for {len(edits)} edits"]
    return [
        counted(
            f"R60, R61: {len(edits)} broken, {len(edits)} good edits under load fail no request, cut no stream",
            "0 broken",
            f"{len(load.seen)} requests, {statuses[200]} x 200",
            (str(seen) for seen in load.seen if not seen.is_whole),
        ),
        counted(
            "R60: broken: /health stale, table of before; mended: used, not stale",
            "0 broken",
            f"{len(edits)} edits",
            log.breaches,
        ),
        counted("R60: each is told in the log with file, line and column", "0 broken", f"{len(told)} lines", untold),
        timed("R60: broken edit noticed", log.noticed_s, limit_s=NOTICED_S_MAX),
        timed("R60: good file in use", log.used_s, limit_s=USED_S_MAX),
    ]


def _question(chance: Random) -> Question:
    return Question("m", KEY, is_stream=chance.random() < 0.6)


async def _spoil(server: TurnpikeServer, edit: str, good: str, log: _Log) -> None:
    """Break the file and wait until /health says so."""
    log.before = await _health(server)
    begun_s = time.monotonic()
    EDITS[edit](server.routes_file, good)
    while not (health := await _health(server))["config"]["stale"]:
        if time.monotonic() - begun_s > GIVEN_UP_S:
            log.breaches.append(f"{edit}: not noticed in {GIVEN_UP_S} s: {health}")
            return
        await asyncio.sleep(LOOK_S)
    log.noticed_s.append(time.monotonic() - begun_s)


async def _hold_still(server: TurnpikeServer, edit: str, log: _Log) -> None:
    """While the file is broken the table in use is the one of before, and /health says both."""
    health = await _health(server)
    if health["status"] != "degraded" or health["config"] != log.before["config"] | {"stale": True}:
        log.breaches.append(f"{edit}: {health} after {log.before}")


async def _mend(server: TurnpikeServer, edit: str, good: str, alias: str, log: _Log) -> None:
    """Write a good file with a new alias and wait until that alias answers."""
    begun_s = time.monotonic()
    server.write_routes(good)
    while (await ask(server.url, chat(alias), key=KEY)).status != 200:
        if time.monotonic() - begun_s > GIVEN_UP_S:
            log.breaches.append(f"after {edit}: the good file is not in use after {GIVEN_UP_S} s")
            return
        await asyncio.sleep(LOOK_S)
    log.used_s.append(time.monotonic() - begun_s)
    health = await _health(server)
    if health["status"] != "ok" or health["config"]["stale"]:
        log.breaches.append(f"after {edit}: mended, yet {health}")


async def _health(server: TurnpikeServer) -> dict[str, Any]:
    answer = await get(server.url, "/health")
    assert answer.status == 200, answer.body
    health: dict[str, Any] = answer.json
    return health
