"""When a provider is asked what a generation cost (floor 1a, pure; openrouter.md 4.7).

The record is late: half a second behind a good end, much more behind a stream that was broken off.
"""

from __future__ import annotations

from typing import Final

LOOKUP_AFTER_S: Final = (1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 28_800.0, 86_400.0)
"""Moments of the tries, from the one at which the question arose."""
TRIES_MAX: Final = len(LOOKUP_AFTER_S)
HELD_TRIES: Final = 5
"""A hold waits for the first minute's tries. Behind them the best estimate is booked, and later tries correct it."""


def find_delay_s(tries: int) -> float | None:
    """Give the time from one try to the next when so many have been made, None behind the last."""
    if tries >= TRIES_MAX:
        return None
    return LOOKUP_AFTER_S[tries] - (LOOKUP_AFTER_S[tries - 1] if tries else 0.0)
