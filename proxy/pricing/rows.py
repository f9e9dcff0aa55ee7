"""What a model's tokens and pieces cost (part of `pricing`, pure): exact decimals, and the same as whole numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

_NANO_DIGITS = 9
"""Of one USD in nano-USD."""
_NANO_PER_TOKEN_DIGITS = 3
"""One USD per million tokens is 1,000 nano-USD per token."""

ROUTES = "routes.yaml"
"""The source of a price that the operator wrote."""
PER_TOKEN: Mapping[str, str] = {
    "input": "",
    "cache_read": "input",
    "cache_read_audio": "cache_read",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "audio_input": "input",
    "image_input": "input",
    "output": "",
    "audio_output": "output",
    "image_output": "output",
}
"""Prices per million tokens, and the kind each is part of: its price holds where it has none of its own."""
PER_PIECE = ("request", "image", "search")
"""Prices of one thing each, in USD."""


class Origin(StrEnum):
    """Where a price was found, for people."""

    DECLARED = "routes.yaml"
    SHIPPED = "catalogue"
    CORRECTED = "correction"
    FETCHED = "fetched"


@dataclass(frozen=True, slots=True)
class Prices:
    """One model's prices at one provider, exact USD per million tokens; None means "as the kind it is part of"."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_read_audio: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    audio_input: Decimal | None = None
    audio_output: Decimal | None = None
    image_input: Decimal | None = None
    image_output: Decimal | None = None
    request: Decimal = Decimal(0)
    """USD per request."""
    image: Decimal = Decimal(0)
    """USD per picture in the prompt, besides its tokens."""
    search: Decimal | None = None
    """USD per web search that the provider makes; None: not known, and what is not known is not charged."""
    tiers: tuple[PriceTier, ...] = ()
    """Long-context tiers, ascending; the last one whose threshold is passed reprices the whole request."""
    service_tiers: tuple[ServiceTier, ...] = ()
    """Prices of other services than the usual one, each a whole row; they have none of their own in turn."""
    source: str = ROUTES
    as_of: str = ""
    """Date of the row, ISO."""
    origin: Origin = field(default=Origin.DECLARED, compare=False)
    scale: Scale = field(init=False, repr=False, compare=False)
    """The same as whole numbers, which are exact and quick to reckon with."""

    def __post_init__(self) -> None:
        """Work out the whole numbers once: a price is read rarely and used in every request."""
        object.__setattr__(self, "scale", _make_scale(self))

    @property
    def is_declared(self) -> bool:
        """Tell whether the operator wrote it: then it holds for all that the model does."""
        return self.source.startswith(ROUTES)

    @property
    def is_zero(self) -> bool:
        """Tell whether nothing costs anything, however long the request and whatever the service."""
        others = [*(tier.prices for tier in self.tiers), *(tier.prices for tier in self.service_tiers)]
        own = [getattr(self, name) for name in (*PER_TOKEN, *PER_PIECE)]
        return not any(own) and all(other.is_zero for other in others)


@dataclass(frozen=True, slots=True)
class PriceTier:
    """Prices that hold for the whole request once its input is longer than `above_input_tokens`."""

    above_input_tokens: int
    prices: Prices


@dataclass(frozen=True, slots=True)
class ServiceTier:
    """Prices that hold for a request served by a named service (`flex`, `priority`)."""

    name: str
    prices: Prices


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the catalogue knows of one model at one provider; None is unknown."""

    prices: Prices | None = None
    context_tokens: int | None = None
    output_tokens_max: int | None = None
    capabilities: dict[str, object] = field(default_factory=dict)


class Row(NamedTuple):
    """One tier in units of its scale, per token; what a price leaves out is filled in from the kind it is part of."""

    above_input_tokens: int
    """It holds strictly above this; -1 is always."""
    fixed: int
    """Per request."""
    image: int
    """Per picture in the prompt."""
    search: int
    """Per web search."""
    input: int
    cache_read: int
    cache_read_audio: int
    cache_write: int
    cache_write_1h: int
    audio_input: int
    image_input: int
    output: int
    audio_output: int
    image_output: int
    any_input: int
    """The dearest kind an input token can be."""
    any_output: int


class Scale(NamedTuple):
    """Prices as whole numbers of a unit so small that none of them is broken."""

    units_per_nano: int
    rows: tuple[Row, ...]
    """The base row and its tiers, thresholds ascending."""
    services: Mapping[str, tuple[Row, ...]]
    """The same of each service with prices of its own."""
    charges_images: bool
    """Pictures in the prompt cost something by the piece."""


def _make_scale(prices: Prices) -> Scale:
    services = {service.name: service.prices for service in prices.service_tiers}
    digits = max(_digits(row) for whole in (prices, *services.values()) for _, row in _tiers_of(whole))
    rows = _make_rows(prices, digits)
    of_services = {name: _make_rows(whole, digits) for name, whole in services.items()}
    charges_images = any(row.image for part in (rows, *of_services.values()) for row in part)
    return Scale(10**digits, rows, of_services, charges_images)


def _tiers_of(prices: Prices) -> Iterator[tuple[int, Prices]]:
    yield -1, prices
    yield from ((tier.above_input_tokens, tier.prices) for tier in prices.tiers)


def _make_rows(prices: Prices, digits: int) -> tuple[Row, ...]:
    return tuple(_make_row(above, row, digits) for above, row in _tiers_of(prices))


def _digits(row: Prices) -> int:
    """Count the decimal places needed below one nano-USD."""
    per_token = _decimals(getattr(row, name) for name in PER_TOKEN) - _NANO_PER_TOKEN_DIGITS
    return max(0, per_token, _decimals(getattr(row, name) for name in PER_PIECE) - _NANO_DIGITS)


def _decimals(prices: Iterable[Decimal | None]) -> int:
    exponents = (price.as_tuple().exponent for price in prices if price is not None)
    return max((-exponent for exponent in exponents if isinstance(exponent, int)), default=0)


def _make_row(above_input_tokens: int, row: Prices, digits: int) -> Row:
    rates: dict[str, int] = {}
    for name, whole in PER_TOKEN.items():
        price: Decimal | None = getattr(row, name)
        rates[name] = rates[whole] if price is None else _whole(price, digits + _NANO_PER_TOKEN_DIGITS)
    rates["any_input"] = max(rate for name, rate in rates.items() if not name.endswith("output"))
    rates["any_output"] = max(rate for name, rate in rates.items() if name.endswith("output"))
    fixed, image, search = (_whole(getattr(row, name) or Decimal(0), digits + _NANO_DIGITS) for name in PER_PIECE)
    return Row(above_input_tokens, fixed, image, search, **rates)


def _whole(price: Decimal, digits: int) -> int:
    """Give price x 10^digits, which is whole by the choice of digits."""
    sign, figures, exponent = price.as_tuple()
    assert isinstance(exponent, int), "a price is finite"
    amount = int("".join(map(str, figures)) + "0" * (exponent + digits))
    return -amount if sign else amount
