"""What every exchange draws on (part of the gateway, floor 4): made once by `app`, shared by all requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from proxy.clock import Clock, SystemClock
from proxy.gateway.attempt import Line
from proxy.gateway.drains import Drains
from proxy.gateway.planning import Planner
from proxy.gateway.progress import Reporting
from proxy.gateway.queue import Queue
from proxy.health import Health
from proxy.ledger.protocol import Ledger
from proxy.pools import Pools
from proxy.replies import Replies
from proxy.routing.resolve import Facts
from proxy.routing.table import Provider
from proxy.telemetry import FinishedRequest


def _tell_nobody(record: FinishedRequest) -> None:
    """Stand in for a log."""


@dataclass(frozen=True, slots=True)
class Service:
    """The collaborators of the gateway."""

    ledger: Ledger
    health: Health
    clock: Clock
    facts: Facts
    """The catalogue's look-up."""
    line: Callable[[Provider], Line]
    """How a provider is reached and spoken to."""
    jitter: Callable[[], float]
    """A random number from 0 to 1."""
    pools: Pools = field(default_factory=lambda: Pools(SystemClock()))
    """What is known of the keys of providers that have several."""
    replies: Replies | None = None
    """Answers that are kept; None: none are."""
    planner: Planner = field(init=False)
    queue: Queue = field(default_factory=Queue)
    drains: Drains = field(default_factory=Drains)
    under_way: set[Reporting] = field(default_factory=set)
    """Exchanges of which something is pending."""
    on_drained: Callable[[FinishedRequest], None] = _tell_nobody
    """Told what a request came to whose reply was read to its end after its client had left."""
    _shielded: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Plan with the same facts."""
        object.__setattr__(self, "planner", Planner(self.facts))

    async def shield(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` to its end even when the caller is cancelled meanwhile, once or again."""
        task = asyncio.get_running_loop().create_task(work)
        self._shielded.add(task)
        task.add_done_callback(self._shielded.discard)
        await asyncio.shield(task)

    async def drain(self) -> None:
        """End what goes on for nobody and wait for shielded work: called before the ledger is closed."""
        await self.drains.stop()
        while self._shielded:
            await asyncio.wait(tuple(self._shielded))
