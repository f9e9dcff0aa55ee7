"""The twin of bills in plain Python (floor 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from proxy.ledger.bills import BILLS_KEPT_S, Bill
from proxy.ledger.records import AttemptRow, AttemptState
from proxy.policy.scopes import PAYER_GATEWAY


class MemoryBills:
    """The `Bills` of bills.py."""

    def __init__(self, rows: Callable[[], Iterable[AttemptRow]]) -> None:
        self._rows = rows
        self._kept: dict[tuple[str, str, float], Bill] = {}

    async def add(self, bill: Bill) -> None:
        """Keep a bill, and forget old ones."""
        self._kept.setdefault((bill.provider, bill.upstream_key, bill.at_s), bill)
        oldest_s = bill.at_s - BILLS_KEPT_S
        self._kept = {place: one for place, one in self._kept.items() if one.at_s >= oldest_s}

    async def list(self) -> Sequence[Bill]:
        """List all that are kept, by account and time."""
        return [bill for _place, bill in sorted(self._kept.items())]

    async def sum_booked(self, provider: str) -> Mapping[str, int]:
        """Give what was ever booked at a provider, by credential."""
        booked: dict[str, int] = {}
        for row in self._rows():
            if row.provider == provider and row.payer == PAYER_GATEWAY and row.state is AttemptState.POSTED:
                name = row.upstream_key or ""
                booked[name] = booked.get(name, 0) + (row.cost_nano_usd or 0)
        return dict(sorted(booked.items()))
