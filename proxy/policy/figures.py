"""What the rules of alerts are held against (floor 1a, pure): plain values, from the books or told by providers."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.money import Period


@dataclass(frozen=True, slots=True)
class BudgetFigure:
    """How much of a budget is spent; nano-USD."""

    scope: str
    """`key:NAME`, `tenant:NAME`, ..."""
    period: str
    limit_nano_usd: int
    posted_nano_usd: int
    resets_at_s: float | None


@dataclass(frozen=True, slots=True)
class SpendFigure:
    """What one scope has spent in the current window of a period."""

    scope: str
    """`key:NAME`, `tenant:NAME`, or `global`: the whole gateway."""
    period: Period
    timezone: str
    posted_nano_usd: int
    ends_s: int | None


@dataclass(frozen=True, slots=True)
class ProviderFigure:
    """How a provider's last attempts ended."""

    provider: str
    answered: tuple[bool, ...]
    """Newest first, at most `readings.DOWN_ATTEMPTS`; attempts that say nothing about the provider are left out."""


@dataclass(frozen=True, slots=True)
class RecentFigure:
    """The requests that ended in the last `readings.RECENT_S`."""

    requests: int
    failed: int
    """By no fault of their clients."""
    streams: int
    """Attempts that streamed."""
    first_token_ms_p95: int | None
    """Of those; the nearest rank."""


@dataclass(frozen=True, slots=True)
class EventFigure:
    """Attempts of a provider in the last `readings.EVENTS_S` that something happened to."""

    provider: str
    model: str
    """One of the models."""
    attempts: int


@dataclass(frozen=True, slots=True)
class CreditFigure:
    """What is left of an account at a provider, by the provider's own word."""

    provider: str
    left_nano_usd: int


@dataclass(frozen=True, slots=True)
class DriftFigure:
    """What a provider billed for a time, and what we booked for it."""

    provider: str
    booked_nano_usd: int
    billed_nano_usd: int


@dataclass(frozen=True, slots=True)
class Figures:
    """All that rules are held against; None is what cannot be told now."""

    budgets: tuple[BudgetFigure, ...] | None = None
    spends: tuple[SpendFigure, ...] | None = None
    providers: tuple[ProviderFigure, ...] | None = None
    recent: RecentFigure | None = None
    unknown_prices: tuple[EventFigure, ...] | None = None
    overruns: tuple[EventFigure, ...] | None = None
    credits: tuple[CreditFigure, ...] | None = None
    drifts: tuple[DriftFigure, ...] | None = None
