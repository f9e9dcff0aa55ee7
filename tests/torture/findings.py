"""What a run found, as values, and the table they are printed in."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

SHOWN_MAX: Final = 5
"""Breaches shown of each finding; their number is told in full."""
HEADINGS: Final = ("run", "promise", "asked", "seen", "kept")


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise, the figure asked for, and the figure seen."""

    promise: str
    asked: str
    seen: str
    is_kept: bool
    is_timed: bool = False
    """A wall-clock figure: recorded for the reader; no test asserts it, because machines are shared."""
    breaches: tuple[str, ...] = ()
    """The first few, in words that lead to them."""


def counted(promise: str, asked: str, seen: str, breaches: Iterable[str]) -> Finding:
    """Make the finding of a promise that no single case may break."""
    found = list(breaches)
    told = f"{seen}, {len(found)} broken"
    return Finding(promise, asked, told, is_kept=not found, breaches=tuple(found[:SHOWN_MAX]))


def timed(
    promise: str, values_s: Sequence[float], *, limit_s: float, note: str = "", slow: Sequence[str] = ()
) -> Finding:
    """Make the finding of times of which 99 in 100 (all, if fewer were measured) must lie below a limit.

    The largest is told beside it: on a shared machine one in a thousand meets somebody else's work. `slow` names those
    above the limit.
    """
    seen = f"{spread(values_s)}{note}"
    is_kept = bool(values_s) and percentile(values_s, 99) < limit_s
    asked = f"p99 < {duration(limit_s)}"
    return Finding(promise, asked, seen, is_kept=is_kept, is_timed=True, breaches=tuple(slow[:SHOWN_MAX]))


def spread(values_s: Sequence[float]) -> str:
    """Write the median, the 99th percentile and the largest of some times."""
    if not values_s:
        return "nothing measured"
    shown = (percentile(values_s, 50), percentile(values_s, 99), max(values_s))
    return "p50 {}, p99 {}, max {} (n = {})".format(*map(duration, shown), len(values_s))


def percentile(values: Sequence[float], percent: int) -> float:
    """Give the smallest value that this share of all values does not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def duration(seconds: float) -> str:
    """Write a time for people."""
    return f"{seconds * 1000:.1f} ms" if abs(seconds) < 1 else f"{seconds:.2f} s"


def table(findings: Mapping[str, Sequence[Finding]]) -> str:
    """Write the findings of all runs as one Markdown table."""
    rows = [
        (run, finding.promise, finding.asked, finding.seen, "yes" if finding.is_kept else "NO")
        for run, found in findings.items()
        for finding in found
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in [HEADINGS, ["---"] * len(HEADINGS), *rows])


def as_json(heading: Mapping[str, str], findings: Mapping[str, Sequence[Finding]]) -> str:
    """Write the same for programs."""
    runs = {run: [asdict(finding) for finding in found] for run, found in findings.items()}
    return json.dumps({**heading, "runs": runs}, indent=1)
