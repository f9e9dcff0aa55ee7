"""kill -9 in the middle of an upgrade, again and again: the ledger has the old schema or the new one (R8).

The books are those an older version left behind. A process opens them as a start does and is killed at a random moment;
what it leaves is looked at with SQLite alone. In the end one is let through, timed, and `ledger verify` goes over the
result.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from proxy.ledger.folder import find_owners
from proxy.ledger.schema import find_file
from proxy.ledger.sql import load_migrations
from proxy.ledger.verification import verify
from tests.ledger.filling import fill
from tests.torture.findings import Finding, counted, timed

ROOT: Final = Path(__file__).resolve().parents[2]
OLDEST: Final = 1
KILLED_SHARE_MAX: Final = 0.7
"""Of the time the first upgrade took; later ones find the file in memory and are quicker."""
UPGRADE_S_MAX: Final = 30.0
_OBJECTS: Final = "SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name"
_VERSIONS: Final = "SELECT version FROM schema_versions ORDER BY version"
_SUMS: Final = "SELECT count(*), sum(cost_nano_usd), sum(hold_nano_usd), count(DISTINCT key_name) FROM attempts"


class State(NamedTuple):
    """What tells one schema from another, and what no schema may change."""

    versions: list[Any]
    objects: list[Any]
    columns: list[Any]
    sums: tuple[Any, ...]


async def run(folder: Path, chance: Random, *, requests: int = 1_000_000, kills: int = 20) -> list[Finding]:
    """Upgrade a copy for the time it takes, then kill so many upgrades at moments within it, then let one through."""
    data, before = folder / "data", folder / "before"
    await asyncio.to_thread(fill, before, requests, version=OLDEST)
    old = look(before)
    await asyncio.to_thread(shutil.copytree, before, data)
    took_s = await upgrade(data)
    new = look(data)
    await asyncio.to_thread(_put_back, before, data)
    breaches = [] if new.sums == old.sums else [f"{new.sums} after {old.sums}"]
    seen: Counter[str] = Counter()
    for number in range(kills):
        await upgrade(data, kill_after_s=chance.uniform(0, took_s * KILLED_SHARE_MAX))
        state = look(data)
        seen["old" if state == old else "new"] += 1
        if state not in (old, new):
            breaches.append(f"kill {number}: {state.versions}, {state.sums}")
        if state != old:
            await asyncio.to_thread(_put_back, before, data)
    seconds = [took_s, await upgrade(data)]
    breaches += [] if look(data) == new else [f"in the end: {look(data).versions}"]
    found = await asyncio.to_thread(verify, find_file(data), owners=find_owners(data))
    return [
        counted(
            f"R8: {kills} kills -9 in the middle of an upgrade: the old schema or the new one, every row there",
            "0 broken",
            f"{old.sums[0]} rows, schema {OLDEST} to {len(load_migrations())}, {seen['old']} times old, "
            f"{seen['new']} times new",
            breaches,
        ),
        counted(
            "R8: upgraded in the end: `ledger verify` is good",
            "0 findings",
            f"{found.attempts} rows, {found.balances} balances",
            (str(finding) for finding in found.findings),
        ),
        timed(
            f"R8: the upgrade of {old.sums[0]} rows, start and look at the pages included",
            seconds,
            limit_s=UPGRADE_S_MAX,
        ),
    ]


async def upgrade(data: Path, *, kill_after_s: float | None = None) -> float:
    """Open the ledger in a process of its own, and kill that after a while or let it end; gives the seconds it had."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.ledger.process", str(data), "open", "0"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    began_s = time.monotonic()
    try:
        async with asyncio.timeout(kill_after_s):
            assert await process.wait() == 0
    except TimeoutError:
        process.kill()
        await process.wait()
    return time.monotonic() - began_s


def look(data: Path) -> State:
    """Read what there is, as the next start would find it."""
    with closing(sqlite3.connect(find_file(data))) as connection:
        return State(
            connection.execute(_VERSIONS).fetchall(),
            connection.execute(_OBJECTS).fetchall(),
            connection.execute("PRAGMA table_info(attempts)").fetchall(),
            connection.execute(_SUMS).fetchone(),
        )


def _put_back(before: Path, data: Path) -> None:
    shutil.rmtree(data)
    shutil.copytree(before, data)
