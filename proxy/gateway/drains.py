"""Replies read to their end for nobody (part of the gateway, floor 4), because leaving would not stop the bill.

What is read is dropped; only usage and what a transcript keeps to count by remain. A reply that does not end in time is
cut off and booked by what came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from proxy.errors import Failure, UpstreamError

DRAINS_MAX: Final = 64
"""At once in one process; who leaves when there are so many has its call cut off."""
DRAIN_S_MAX: Final = 120.0
STOP_S_MAX: Final = 5.0
"""How long a process that is to end waits for them."""

Settle = Callable[[Failure | None], Awaitable[None]]
"""Closes and books, given how the upstream failed, if it did."""


class Drains:
    """The drains of one process."""

    def __init__(self) -> None:
        """Begin with none."""
        self._readings: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def has_room(self) -> bool:
        """Tell whether one more may begin."""
        return len(self._tasks) < DRAINS_MAX

    def start(self, read_on: Callable[[], Awaitable[None]], settle: Settle) -> None:
        """Read on in the background, then settle; nobody waits for it."""
        task = asyncio.get_running_loop().create_task(self._run(read_on, settle))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Give those under way a moment, then cut them off; returns when all are settled."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=STOP_S_MAX)
        while self._tasks:
            for reading in self._readings:
                reading.cancel()
            await asyncio.wait(tuple(self._tasks))

    async def _run(self, read_on: Callable[[], Awaitable[None]], settle: Settle) -> None:
        reading = asyncio.ensure_future(_read(read_on))
        self._readings.add(reading)
        await asyncio.wait({reading}, timeout=DRAIN_S_MAX)
        reading.cancel()
        await asyncio.wait({reading})
        self._readings.discard(reading)
        error = None if reading.cancelled() else reading.exception()
        await settle(error.failure if isinstance(error, UpstreamError) else None)
        if error is not None and not isinstance(error, UpstreamError):
            raise error


async def _read(read_on: Callable[[], Awaitable[None]]) -> None:
    await read_on()
