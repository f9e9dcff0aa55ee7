"""When a budget has room (floor 1a, pure): calendar windows in UTC, balances, what a refusal says.

Every ledger decides with these functions, so two backends cannot disagree about who is let in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from proxy.money import Budget, Period

_HOUR_S = 3_600
_DAY_S = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_WEEKDAY = 3
"""1970-01-01 was a Thursday; weeks begin on Monday, weekday 0."""


@dataclass(frozen=True, slots=True)
class Window:
    """One run of a period: whole seconds since the epoch, UTC."""

    starts_s: int
    ends_s: int | None
    """Exclusive, and the start of the next window; None for `total`, which never ends."""

    def has(self, at_s: float) -> bool:
        """Tell whether a moment lies in it."""
        return self.starts_s <= at_s and (self.ends_s is None or at_s < self.ends_s)


@dataclass(frozen=True, slots=True)
class Balance:
    """What one window holds: settled money and money still held, nano-USD."""

    posted_nano_usd: int
    held_nano_usd: int

    def plus(self, posted_nano_usd: int, held_nano_usd: int) -> Balance:
        """Add to both sides; what is released or taken back is negative."""
        return Balance(self.posted_nano_usd + posted_nano_usd, self.held_nano_usd + held_nano_usd)


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Why a budget has no room; all amounts nano-USD."""

    needed_nano_usd: int
    left_nano_usd: int
    limit_nano_usd: int
    held_nano_usd: int
    resets_at_s: int | None
    """None: it never does."""


def find_window(period: Period, at_s: float) -> Window:
    """Find the window a moment lies in: hours and days of UTC, weeks from Monday, calendar months."""
    if period is Period.TOTAL:
        return Window(0, None)
    if period is Period.MONTH:
        return _month(at_s)
    if period is Period.HOUR:
        starts_s = int(at_s // _HOUR_S) * _HOUR_S
        return Window(starts_s, starts_s + _HOUR_S)
    day = int(at_s // _DAY_S)
    if period is Period.DAY:
        return Window(day * _DAY_S, (day + 1) * _DAY_S)
    monday = day - (day + _EPOCH_WEEKDAY) % 7
    return Window(monday * _DAY_S, (monday + 7) * _DAY_S)


def find_left_nano_usd(limit_nano_usd: int, balance: Balance) -> int:
    """Tell what is left of a limit, never below 0."""
    return max(0, limit_nano_usd - balance.posted_nano_usd - balance.held_nano_usd)


def find_shortfall(budget: Budget, window: Window, balance: Balance, *, needed_nano_usd: int) -> Shortfall | None:
    """Tell why an amount does not fit into a budget's window, None when it does; the last nano may be used."""
    if balance.posted_nano_usd + balance.held_nano_usd + needed_nano_usd <= budget.limit_nano_usd:
        return None
    return Shortfall(
        needed_nano_usd=needed_nano_usd,
        left_nano_usd=find_left_nano_usd(budget.limit_nano_usd, balance),
        limit_nano_usd=budget.limit_nano_usd,
        held_nano_usd=balance.held_nano_usd,
        resets_at_s=window.ends_s,
    )


def _month(at_s: float) -> Window:
    first = (_EPOCH + timedelta(days=at_s // _DAY_S)).replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return Window((first - _EPOCH).days * _DAY_S, (following - _EPOCH).days * _DAY_S)
