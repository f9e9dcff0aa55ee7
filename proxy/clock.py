"""The only place where time enters (floor 0): everything above is handed a `Clock`.

Durations come from the monotonic clock, dates from the wall clock; the two are never subtracted from each other.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings: `now_s` for dates and periods, `monotonic_s` for durations."""

    def now_s(self) -> float:
        """Give seconds since the epoch, UTC."""
        ...

    def monotonic_s(self) -> float:
        """Give seconds on a clock that never jumps."""
        ...


class SystemClock:
    """The machine's own clocks."""

    now_s = staticmethod(time.time)
    monotonic_s = staticmethod(time.monotonic)


class ManualClock:
    """A clock that moves only when told, for tests and replays."""

    def __init__(self, now_s: float = 1_800_000_000.0) -> None:
        """Start at a wall-clock time in seconds since the epoch."""
        self._now_s = now_s
        self._monotonic_s = 0.0

    def now_s(self) -> float:
        """Give the wall-clock time set so far."""
        return self._now_s

    def monotonic_s(self) -> float:
        """Give the seconds advanced so far."""
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self._now_s += seconds
        self._monotonic_s += seconds
