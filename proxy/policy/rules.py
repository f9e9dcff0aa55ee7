"""What an operator wants to be told about (floor 1a, pure): the rules of `alerts` in routes.yaml, parsed.

A rule is one signal with at most one limit. Its text is written from its values, so `spend>$10.00/day` and
`spend > $10/day` are one rule and share their incidents.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from proxy.money import NANO_PER_USD, UTC_NAME, Period

PPM = 1_000_000
"""Shares are whole parts of a million: 0.5 % is 5,000."""
CENT_NANO_USD = NANO_PER_USD // 100


class Signal(StrEnum):
    """What is watched; the word a rule begins with."""

    SPEND = "spend"
    UPSTREAM_CREDITS = "upstream_credits"
    PROVIDER_DOWN = "provider_down"
    ERROR_RATE = "error_rate"
    P95_FIRST_TOKEN = "p95_first_token"  # noqa: S105  # a time, no secret
    UNKNOWN_PRICE = "unknown_price"
    OVERRUN = "overrun"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True)
class Rule:
    """One signal and its limit; of the three kinds of limit at most one is set."""

    signal: Signal
    share_ppm: int | None = None
    """Of a budget, of the requests, or of what was booked; parts of a million."""
    amount_nano_usd: int | None = None
    period: Period | None = None
    """Of an amount of `spend`."""
    timezone: str = UTC_NAME
    """Whose calendar the period follows."""
    limit_ms: int | None = None
    scopes: tuple[str, ...] = ()
    """`key:NAME` and `tenant:NAME` that `spend` is watched of; () is every budget, or the whole gateway."""

    @property
    def text(self) -> str:
        """Write the rule as routes.yaml has it, always in the same way; scopes are not part of it."""
        sign = "<" if self.signal is Signal.UPSTREAM_CREDITS else ">"
        limit = self._limit()
        return f"{self.signal} {sign} {limit}" if limit else self.signal.value

    def _limit(self) -> str:
        if self.share_ppm is not None:
            return show_share(self.share_ppm)
        if self.limit_ms is not None:
            return show_ms(self.limit_ms)
        if self.amount_nano_usd is None:
            return ""
        per = f"/{self.period}" if self.period is not None else ""
        return f"{show_usd(self.amount_nano_usd).removesuffix('.00')}{per}"


def show_share(ppm: int) -> str:
    """Write parts of a million as `80%` or `0.5%`, cut after the fourth place."""
    whole, rest = divmod(ppm, 10_000)
    return f"{whole}.{rest:04d}".rstrip("0").rstrip(".") + "%"


def show_ms(ms: int) -> str:
    """Write milliseconds as `300ms` or `14.2s`."""
    whole, rest = divmod(ms, 1_000)
    return f"{ms}ms" if ms < 1_000 else f"{whole}.{rest:03d}".rstrip("0").rstrip(".") + "s"


def show_usd(nano_usd: int) -> str:
    """Write an amount as `$5.00` or `$0.001234567`: all of it, at least two places."""
    usd, nano = divmod(abs(nano_usd), NANO_PER_USD)
    cents, rest = divmod(nano, CENT_NANO_USD)
    return f"{'-' if nano_usd < 0 else ''}${usd}.{cents:02d}" + f"{rest:07d}".rstrip("0")
