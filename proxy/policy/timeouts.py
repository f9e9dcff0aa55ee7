"""The four clocks of an attempt and their defaults (floor 1a, pure).

The defaults are wide because a reasoning model may think for minutes before its first token, and a JSON answer comes
only when all of it is written. A route that wants to move on sooner says so.
"""

from __future__ import annotations

from typing import NamedTuple

CONNECT_S = 3.0
FIRST_TOKEN_STREAM_S = 60.0
FIRST_TOKEN_JSON_S = 600.0
"""As long as the official SDKs wait for a whole answer."""
IDLE_S = 60.0
TOTAL_S = 900.0


class Clocks(NamedTuple):
    """What one attempt is given, in seconds, all set."""

    connect_s: float
    first_token_s: float
    idle_s: float
    total_s: float


def clocks(
    *,
    connect_s: float | None,
    first_token_s: float | None,
    idle_s: float | None,
    total_s: float | None,
    is_stream: bool,
) -> Clocks:
    """Fill what the operator left open."""
    return Clocks(
        connect_s=connect_s or CONNECT_S,
        first_token_s=first_token_s or (FIRST_TOKEN_STREAM_S if is_stream else FIRST_TOKEN_JSON_S),
        idle_s=idle_s or IDLE_S,
        total_s=total_s or TOTAL_S,
    )
