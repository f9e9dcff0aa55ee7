"""What providers say of their accounts, beside what was booked (floor 2): readings, and how far the two drift apart.

An account may have a history and other users, so only differences count: what it billed between two readings, and what
was booked between the same two. Both sides only ever grow, and neither changes when detail is summed by day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

PPM = 1_000_000
DRIFT_PPM = 5_000
"""More than 0.5 % of what was billed is told,"""
DRIFT_NANO_USD = 1_000_000_000
"""and more than $1;"""
DRIFT_FLOOR_NANO_USD = 10_000_000
"""never less than a cent: that much is under way while a provider is asked, or not in its figure yet."""
READINGS_KEPT_S = 35 * 86_400.0
"""How far back drift is looked at."""


@dataclass(frozen=True, slots=True)
class Reading:
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
    """What was booked and what was billed between two readings of one account."""

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
    def is_notable(self) -> bool:
        """Tell whether it is more than rounding and what is under way."""
        off = abs(self.difference_nano_usd)
        return off > DRIFT_NANO_USD or (
            off > DRIFT_FLOOR_NANO_USD and off * PPM > DRIFT_PPM * max(self.theirs_nano_usd, 0)
        )


class Readings(Protocol):
    """The ledger's part that keeps them; raises `LedgerUnavailable` when the store cannot be used."""

    async def add(self, reading: Reading) -> None:
        """Keep a reading, and forget those older than `READINGS_KEPT_S` before it."""
        ...

    async def list(self) -> Sequence[Reading]:
        """List all that are kept, by account and time."""
        ...

    async def sum_booked(self, provider: str) -> Mapping[str, int]:
        """Give what was ever booked at a provider on the gateway's account, by credential, nano-USD."""
        ...


def find_drifts(readings: Sequence[Reading]) -> list[Drift]:
    """Compare both ends of each account's readings, as listed; one that has no two yet tells nothing."""
    drifts = []
    for (provider, upstream_key), of_account in groupby(readings, key=_account):
        run = _take_run(list(of_account))
        first, last = run[0], run[-1]
        if first is not last:
            ours = last.booked_nano_usd - first.booked_nano_usd
            theirs = last.billed_nano_usd - first.billed_nano_usd
            drifts.append(Drift(provider, upstream_key, ours, theirs, first.at_s, last.at_s))
    return drifts


def list_newest(readings: Sequence[Reading]) -> list[Reading]:
    """Give each account's last reading."""
    return [list(of_account)[-1] for _, of_account in groupby(readings, key=_account)]


def _account(reading: Reading) -> tuple[str, str]:
    return reading.provider, reading.upstream_key


def _take_run(readings: Sequence[Reading]) -> list[Reading]:
    """Give the last readings of one and the same account: another credential, or a figure set back, begins anew."""
    run = [readings[-1]]
    for reading in reversed(readings[:-1]):
        if reading.fingerprint != run[0].fingerprint or reading.billed_nano_usd > run[0].billed_nano_usd:
            break
        run.insert(0, reading)
    return run
