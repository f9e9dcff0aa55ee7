"""`python -m tests.torture [RUN ...] [--json] [--seed N] [--rounds N]`: runs them one by one and prints one table.

It ends with 1 when a promise was broken, with 2 when it was asked wrongly.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tests.torture import (
    agents,
    backups,
    budget,
    clocks,
    crash,
    fallback,
    holds,
    leaving,
    machine,
    owners,
    power,
    rates,
    reload,
    reset,
    store,
    upgrade,
    walls,
)
from tests.torture.findings import Finding, as_json, duration, table

Run = Callable[..., Coroutine[Any, Any, list[Finding]]]
RUNS: Final[Mapping[str, Run]] = MappingProxyType(
    {
        "crash": crash.run,
        "workers": partial(crash.run, workers=4, rounds=10),
        "budget": budget.run,
        "walls": walls.run,
        "fallback": fallback.run,
        "leaving": leaving.run,
        "reload": reload.run,
        "owners": owners.run,
        "power": power.run,
        "store": store.run,
        "upgrade": upgrade.run,
        "backups": backups.run,
        "reset": reset.run,
        "machine": machine.run,
        "holds": holds.run,
        "rates": rates.run,
        "agents": agents.run,
        "clocks": clocks.run,
    }
)
ROUNDED: Final = frozenset({"crash", "workers", "walls"})
"""Those that are done in rounds, whose number may be given."""
ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say and give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"which of {', '.join(RUNS)}; all by default")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32), help="of moments and orders")
    parser.add_argument("--rounds", type=int, help=f"of {', '.join(sorted(ROUNDED))}; each has a number of its own")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.runs) - set(RUNS))
    if unknown:
        parser.error(f"no run is called {', '.join(unknown)}; there are {', '.join(RUNS)}")
    _raise_file_limit()
    heading = describe(options.seed)
    findings = {name: _run(name, options.seed, options.rounds) for name in options.runs or RUNS}
    if options.json:
        _say(as_json(heading, findings))
    else:
        _say("\n".join(f"{name}: {value}" for name, value in heading.items()))
        _say(f"\n{table(findings)}")
    _tell_breaches(findings)
    return 0 if all(finding.is_kept for found in findings.values() for finding in found) else 1


def describe(seed: int) -> dict[str, str]:
    """Say when, on what and with what these figures were seen."""
    git = ("git", "-C", str(ROOT))
    commit = subprocess.run((*git, "rev-parse", "--short", "HEAD"), capture_output=True, text=True, check=False)
    changes = subprocess.run((*git, "status", "--porcelain", "proxy"), capture_output=True, text=True, check=False)
    load = os.getloadavg()[0]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit.stdout.strip() + (" with changes" if changes.stdout.strip() else ""),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "load": f"{load:.1f} at the start, nice {os.nice(0)}",
        "python": platform.python_version(),
        "seed": str(seed),
    }


def _run(name: str, seed: int, rounds: int | None) -> list[Finding]:
    """Carry out one run in a folder of its own, the same every time for the same seed."""
    more = {"rounds": rounds} if rounds and name in ROUNDED else {}
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"torture-{name}-") as folder:
        found = asyncio.run(RUNS[name](Path(folder), random.Random(f"{name} {seed}"), **more))
    sys.stderr.write(f"{name}: {duration(time.monotonic() - begun_s)}\n")
    return found


def _tell_breaches(findings: Mapping[str, Sequence[Finding]]) -> None:
    for name, found in findings.items():
        for finding in found:
            for breach in finding.breaches:
                sys.stderr.write(f"{name}: {finding.promise}: {breach}\n")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _raise_file_limit() -> None:
    """A thousand clients and their upstream calls need more open files than a shell often grants."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
