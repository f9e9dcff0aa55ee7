"""What tokens cost (floor 1a, pure): a price row, and the two sums made from it.

`cost` is what an attempt is booked at; `worst_case` is what it can cost at most and therefore what is held.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Prices:
    """One model's prices at one provider, exact USD per million tokens; None means "as the kind it is part of"."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    audio_input: Decimal | None = None
    audio_output: Decimal | None = None
    request: Decimal = Decimal(0)
    """USD per request."""
    tiers: tuple[PriceTier, ...] = ()
    """Long-context tiers, ascending; the last one whose threshold is passed reprices the whole request."""
    source: str = "routes.yaml"
    as_of: str = ""
    """Date of the row, ISO."""


@dataclass(frozen=True, slots=True)
class PriceTier:
    """Prices that hold for the whole request once its input is longer than `above_input_tokens`."""

    above_input_tokens: int
    prices: Prices


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the catalogue knows of one model at one provider; None is unknown."""

    prices: Prices | None = None
    context_tokens: int | None = None
    output_tokens_max: int | None = None
    capabilities: dict[str, object] = field(default_factory=dict)
