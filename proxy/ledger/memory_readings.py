"""The twin of readings in plain Python (floor 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from proxy.ledger.readings import READINGS_KEPT_S, Reading
from proxy.ledger.records import AttemptRow, AttemptState
from proxy.policy.scopes import PAYER_GATEWAY


class MemoryReadings:
    """The `Readings` of readings.py."""

    def __init__(self, rows: Callable[[], Iterable[AttemptRow]]) -> None:
        self._rows = rows
        self._kept: dict[tuple[str, str, float], Reading] = {}

    async def add(self, reading: Reading) -> None:
        """Keep a reading, and forget old ones."""
        self._kept.setdefault((reading.provider, reading.upstream_key, reading.at_s), reading)
        oldest_s = reading.at_s - READINGS_KEPT_S
        self._kept = {place: one for place, one in self._kept.items() if one.at_s >= oldest_s}

    async def list(self) -> Sequence[Reading]:
        """List all that are kept, by account and time."""
        return [reading for _place, reading in sorted(self._kept.items())]

    async def sum_booked(self, provider: str) -> Mapping[str, int]:
        """Give what was ever booked at a provider, by credential."""
        booked: dict[str, int] = {}
        for row in self._rows():
            if row.provider == provider and row.payer == PAYER_GATEWAY and row.state is AttemptState.POSTED:
                name = row.upstream_key or ""
                booked[name] = booked.get(name, 0) + (row.cost_nano_usd or 0)
        return dict(sorted(booked.items()))
