"""What alerts are told of accounts (part of `app`, floor 6): the ledger's bills in the words of rules."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.clock import Clock
from proxy.ledger.bills import find_drifts, list_newest
from proxy.ledger.protocol import Ledger
from proxy.policy.figures import CreditFigure, DriftFigure

STALE_S = 3 * 3_600.0
"""A bill older than this says nothing any more: three rounds have failed."""


class ReadAccounts:
    """The `Accounts` of alerts: what was read last, as far as it is young enough."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        """Read from these books."""
        self._ledger = ledger
        self._clock = clock

    async def credits(self) -> Sequence[CreditFigure] | None:
        """Give what is left by provider, of several credentials the least; None when nothing young is known."""
        since_s = self._clock.now_s() - STALE_S
        left: dict[str, int] = {}
        for one in list_newest(await self._ledger.bills.list()):
            if one.left_nano_usd is not None and one.at_s >= since_s:
                left[one.provider] = min(one.left_nano_usd, left.get(one.provider, one.left_nano_usd))
        return [CreditFigure(provider, amount) for provider, amount in left.items()] or None

    async def drifts(self) -> Sequence[DriftFigure] | None:
        """Give by provider what was booked and billed, all its credentials together; None when nothing young is known.

        Less than `DRIFT_FLOOR_NANO_USD` is none: that much is under way while a provider is asked.
        """
        since_s = self._clock.now_s() - STALE_S
        sums: dict[str, tuple[int, int]] = {}
        for one in find_drifts(await self._ledger.bills.list()):
            if one.until_s >= since_s:
                booked, billed = sums.get(one.provider, (0, 0))
                ours = one.theirs_nano_usd if one.is_small else one.ours_nano_usd
                sums[one.provider] = (booked + ours, billed + one.theirs_nano_usd)
        return [DriftFigure(provider, *amounts) for provider, amounts in sums.items()] or None
