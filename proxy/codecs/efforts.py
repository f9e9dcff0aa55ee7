"""Efforts and the order they stand in (floor 1a, pure; openrouter.md 1.4)."""

from __future__ import annotations

from collections.abc import Sequence

OFF = "none"
"""Not to think at all."""
SHARES = {"minimal": 10, "low": 20, "medium": 50, "high": 80, "xhigh": 95, "max": 95}
"""Per cent of the output that an effort may think, from the least to the most."""
ROOMY_PERCENT = 80
"""The most of the output that thinking may take where the client has not asked for more by an effort of that name."""
EFFORTS = (OFF, *SHARES)
"""From least to most."""


def nearest(effort: str, known: Sequence[str]) -> str:
    """Give the known effort nearest to one asked for; of two as near the lower, since thinking costs money."""
    asked = EFFORTS.index(effort)
    return min(known, key=lambda one: (abs(EFFORTS.index(one) - asked), EFFORTS.index(one)))


def room(output_tokens: int, effort: str | None = None) -> int:
    """Give how many tokens may go to thinking, so that a share of the output is left for the answer."""
    return output_tokens * max(ROOMY_PERCENT, SHARES.get(effort or "", 0)) // 100
