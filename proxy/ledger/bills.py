"""What providers say of their accounts, beside what was booked (floor 2): bills, and how far the two drift apart.

An account may have a history and other users, so only differences count: what it billed between two bills, and what
was booked between the same two. Both sides only ever grow, and neither changes when detail is summed by day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from proxy.policy.readings import DRIFT_NANO_USD, DRIFT_PPM
from proxy.policy.rules import PPM

DRIFT_FLOOR_NANO_USD = 10_000_000
"""Less than a cent is no drift: that much is under way while a provider is asked, or not in its figure yet."""
BILLS_KEPT_S = 35 * 86_400.0
"""How far back drift is looked at."""


@dataclass(frozen=True, slots=True)
class Bill:
    """One look at one credential's account."""

    provider: str
    upstream_key: str
    """The credential's name in its provider's pool, "" for the only one."""
    at_s: float
    fingerprint: str
    """Tells credentials apart: another one begins anew."""
    billed_nano_usd: int
    """Since the account began, by the provider's word."""
    booked_nano_usd: int
    """Since the books began."""
    left_nano_usd: int | None = None
    """What may still be spent; None: it does not say, or there is no limit."""


@dataclass(frozen=True, slots=True)
class Drift:
    """What was booked and what was billed between two bills of one account."""

    provider: str
    upstream_key: str
    ours_nano_usd: int
    theirs_nano_usd: int
    since_s: float
    until_s: float

    @property
    def difference_nano_usd(self) -> int:
        """Give how much more was billed than booked; negative when less was."""
        return self.theirs_nano_usd - self.ours_nano_usd

    @property
    def is_small(self) -> bool:
        """Tell whether it is no more than what may be under way."""
        return abs(self.difference_nano_usd) <= DRIFT_FLOOR_NANO_USD

    @property
    def is_notable(self) -> bool:
        """Tell whether it is more than rounding and what is under way: by the limits that alerts have."""
        off = abs(self.difference_nano_usd)
        is_above = off > DRIFT_NANO_USD or off * PPM > DRIFT_PPM * self.theirs_nano_usd
        return is_above and not self.is_small


class Bills(Protocol):
    """The ledger's part that keeps them; raises `LedgerUnavailable` when the store cannot be used."""

    async def add(self, bill: Bill) -> None:
        """Keep a bill, and forget those older than `BILLS_KEPT_S` before it."""
        ...

    async def list(self) -> Sequence[Bill]:
        """List all that are kept, by account and time."""
        ...

    async def sum_booked(self, provider: str) -> Mapping[str, int]:
        """Give what was ever booked at a provider on the gateway's account, by credential, nano-USD."""
        ...


def find_drifts(bills: Sequence[Bill]) -> list[Drift]:
    """Compare both ends of each account's bills, as listed; one that has no two yet tells nothing."""
    drifts = []
    for (provider, upstream_key), of_account in groupby(bills, key=_account):
        run = _take_run(list(of_account))
        first, last = run[0], run[-1]
        if first is not last:
            ours = last.booked_nano_usd - first.booked_nano_usd
            theirs = last.billed_nano_usd - first.billed_nano_usd
            drifts.append(Drift(provider, upstream_key, ours, theirs, first.at_s, last.at_s))
    return drifts


def list_newest(bills: Sequence[Bill]) -> list[Bill]:
    """Give each account's last bill."""
    return [list(of_account)[-1] for _, of_account in groupby(bills, key=_account)]


def _account(bill: Bill) -> tuple[str, str]:
    return bill.provider, bill.upstream_key


def _take_run(bills: Sequence[Bill]) -> list[Bill]:
    """Give the last bills of one and the same account: another credential, or a figure set back, begins anew."""
    run = [bills[-1]]
    for bill in reversed(bills[:-1]):
        if bill.fingerprint != run[0].fingerprint or bill.billed_nano_usd > run[0].billed_nano_usd:
            break
        run.insert(0, bill)
    return run
