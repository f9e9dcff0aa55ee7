"""Waiting for something that can only be looked at: rows in a file, bytes an upstream has written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

LOOK_S: Final = 0.005


async def wait_until(condition: Callable[[], bool], *, limit_s: float) -> float | None:
    """Look again and again, and give the seconds until the condition held; None when the limit came first."""
    begun_s = time.monotonic()
    while True:
        waited_s = time.monotonic() - begun_s
        if condition():
            return waited_s
        if waited_s > limit_s:
            return None
        await asyncio.sleep(LOOK_S)
