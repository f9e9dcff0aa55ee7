"""Work that no request waits for (floor 4): resolving what dead processes left pending, taking away old answers.

Every pass is safe to run in several processes at once; the ledger makes each thing happen once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.clock import Clock
from proxy.errors import LedgerUnavailable
from proxy.ledger.records import Ledger
from proxy.replies import Replies

SWEEP_S = 5.0
"""Time between two looks for dead owners: their holds are resolved within 10 s."""

PRUNE_S = 60.0
"""Time between two looks for kept answers that are out of date or too many."""


async def prune(replies: Replies) -> None:
    """Take away old answers now and from time to time, for ever; cancel it to stop."""
    while True:
        await replies.prune()
        await asyncio.sleep(PRUNE_S)


async def sweep(ledger: Ledger, *, clock: Clock, on_resolved: Callable[[int], None]) -> None:
    """Resolve dead owners' holds now and from time to time, for ever; cancel it to stop.

    `on_resolved` is told how many attempts a pass posted, when there were any.
    """
    while True:
        try:
            resolved = await ledger.resolve_dead_owners(clock.now_s())
        except LedgerUnavailable:
            resolved = 0
        if resolved:
            on_resolved(resolved)
        await asyncio.sleep(SWEEP_S)
