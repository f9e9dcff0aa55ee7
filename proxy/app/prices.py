"""Fetching prices while a gateway serves (part of `app`, floor 6): opt-in, in the background, never needed.

One process fetches and writes the file; every process sees that it changed and loads its table anew, see
`catalogue.live`. Requests under way keep the prices they were admitted under.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from proxy.catalogue import RefreshedError, take_listing, write_refreshed
from proxy.clock import Clock
from proxy.outbound.listing import FetchError
from proxy.routing.table import Catalogue, Provider, Table
from proxy.telemetry import Telemetry

OPENROUTER = "openrouter"
LOOK_S = 60.0
"""Time between two looks whether it is time to fetch."""
RETRY_S = 600.0
"""Time after a fetch that failed."""

Fetch = Callable[[Provider], Awaitable[Any]]


@dataclass(slots=True)
class PriceRefresher:
    """Fetches OpenRouter's prices as often as the table in use says; `refresh` is a periodic job."""

    path: Path
    """The file, in the data folder; its age tells when the last fetch was, whoever made it."""
    table: Callable[[], Table]
    catalogue: Catalogue
    fetch: Fetch
    telemetry: Telemetry
    clock: Clock
    _failed_s: float | None = field(default=None, init=False)
    """On the monotonic clock."""

    async def refresh(self) -> None:
        """Fetch if that is wanted and due. What fails is logged, changes nothing, and is tried again later."""
        table = self.table()
        if table.price_refresh_s is None or not self._is_due(table.price_refresh_s):
            return
        try:
            await self._fetch(table.providers[OPENROUTER])
        except (FetchError, RefreshedError, OSError) as error:
            self._failed_s = self.clock.monotonic_s()
            reason = str(error) if not isinstance(error, OSError) else f"cannot be written ({error.strerror})"
            self.telemetry.warn("prices_not_refreshed", reason=reason, remedy="the prices there are stay in use")

    async def _fetch(self, provider: Provider) -> None:
        document = await self.fetch(provider)
        day = datetime.fromtimestamp(self.clock.now_s(), UTC).date()
        listing = await asyncio.to_thread(take_listing, document, known=self._input_price, day=day)
        await asyncio.to_thread(write_refreshed, self.path, listing.rows, day=day)
        self._failed_s = None
        self.telemetry.info("prices_refreshed", models=len(listing.rows), refused=listing.refused_rows)
        if listing.refused:
            self.telemetry.warn("prices_refused", models=list(listing.refused))

    def _is_due(self, every_s: float) -> bool:
        if self._failed_s is not None and self.clock.monotonic_s() - self._failed_s < RETRY_S:
            return False
        try:
            age_s = self.clock.now_s() - self.path.stat().st_mtime
        except OSError:
            return True
        return abs(age_s) >= every_s  # far in the future it is as good as never

    def _input_price(self, model: str) -> Decimal | None:
        prices = self.catalogue.find(OPENROUTER, model).prices
        return prices.input if prices is not None else None
