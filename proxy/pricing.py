"""What tokens cost (floor 1a, pure): a price row, and the two sums made from it.

`cost` is what an attempt is booked at; `worst_case` is what it can cost at most and therefore what is held.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Clamped, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from typing import NamedTuple

from proxy.usage import Usage

_EXACT = Context(prec=120, traps=[Inexact, Clamped, DivisionByZero, InvalidOperation, Overflow])
"""Far wider than any price times any count we let in, so a sum is exact; were it ever not, that is a bug and raises."""
_NANO_PER_USD = Decimal(1_000_000_000)
_NANO_PER_MICRO_USD = Decimal(1000)

OUTPUT_TOKENS_UNBOUNDED = 1_000_000_000
"""What `output_tokens_for` gives when output is free, and at most: no model writes that much."""


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


@dataclass(frozen=True, slots=True)
class Buckets:
    """Token counts that do not overlap: each is charged at one price, and together they are the whole."""

    uncached_input: int = 0
    """Text (and images) read fresh: what is left of the input after the four kinds below."""
    cached: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    audio_input: int = 0
    text_output: int = 0
    """Reasoning included: no vendor of ours prices it apart."""
    audio_output: int = 0

    @property
    def input_tokens(self) -> int:
        """Sum what was read: the figure tier thresholds are compared with."""
        return self.uncached_input + self.cached + self.cache_write + self.cache_write_1h + self.audio_input


def decompose(usage: Usage) -> tuple[Buckets, tuple[str, ...]]:
    """Split inclusive counts into disjoint buckets, none below 0; what had to be clamped is named, never raised.

    Cached tokens come out of text first: the rest of them overlaps audio, which is then charged as cached, not twice.
    """
    if usage.has_no_parts:
        return Buckets(uncached_input=usage.input_tokens, text_output=usage.output_tokens), ()
    anomalies: list[str] = []
    input_tokens = _take(usage.input_tokens, usage.input_tokens, "negative_input", anomalies)
    cached = _take(usage.cached_tokens, input_tokens, "cached_above_input", anomalies)
    left = input_tokens - cached
    cache_write_1h = _take(usage.cache_write_1h_tokens, left, "cache_write_above_input", anomalies)
    left -= cache_write_1h
    cache_write = _take(usage.cache_write_tokens, left, "cache_write_above_input", anomalies)
    left -= cache_write
    audio_input = min(_take(usage.audio_input_tokens, input_tokens, "audio_above_input", anomalies), left)
    output_tokens = _take(usage.output_tokens, usage.output_tokens, "negative_output", anomalies)
    audio_output = _take(usage.audio_output_tokens, output_tokens, "audio_above_output", anomalies)
    _take(usage.reasoning_tokens, output_tokens, "reasoning_above_output", anomalies)
    buckets = Buckets(
        uncached_input=left - audio_input,
        cached=cached,
        cache_write=cache_write,
        cache_write_1h=cache_write_1h,
        audio_input=audio_input,
        text_output=output_tokens - audio_output,
        audio_output=audio_output,
    )
    return buckets, tuple(dict.fromkeys(anomalies))


def cost(usage: Usage, prices: Prices) -> int:
    """Price one attempt in nano-USD, exactly, rounded up once at the end."""
    buckets, _ = decompose(usage)
    row = _row_for(buckets.input_tokens, prices)
    nano = _add_tokens(_fixed_nano(row), buckets.uncached_input, row.input)
    nano = _add_tokens(nano, buckets.text_output, row.output)
    if usage.has_no_parts:
        return _round_up(nano)
    rates = _rates(row)
    charged = (
        (buckets.cached, rates.cache_read),
        (buckets.cache_write, rates.cache_write),
        (buckets.cache_write_1h, rates.cache_write_1h),
        (buckets.audio_input, rates.audio_input),
        (buckets.audio_output, rates.audio_output),
    )
    for tokens, price in charged:
        nano = _add_tokens(nano, tokens, price)
    return _round_up(nano)


def worst_case(*, input_tokens_max: int, output_tokens_max: int, prices: Prices) -> int:
    """Price the dearest attempt within these bounds in nano-USD: never below `cost` of any usage that keeps to them.

    Every input token is taken at the dearest kind it may turn out to be (a cache write costs more than a fresh read),
    in the dearest tier the input bound can reach.
    """
    return max(
        _round_up(_add_tokens(fixed, output_tokens_max, output_price))
        for fixed, output_price in _worst_rows(input_tokens_max, prices)
    )


def output_tokens_for(budget_nano_usd: int, *, input_tokens_max: int, prices: Prices) -> int:
    """Tell how many output tokens the money buys: the exact inverse of `worst_case`.

    -1 when it does not even buy the input; `OUTPUT_TOKENS_UNBOUNDED` when output costs nothing.
    """
    budget = Decimal(budget_nano_usd)
    tokens = OUTPUT_TOKENS_UNBOUNDED
    for fixed, output_price in _worst_rows(input_tokens_max, prices):
        left = _EXACT.subtract(budget, fixed)
        if left < 0:
            return -1
        if output_price:
            per_token = _EXACT.multiply(output_price, _NANO_PER_MICRO_USD)
            tokens = min(tokens, int(_EXACT.divide_int(left, per_token)))
    return tokens


class _Rates(NamedTuple):
    """The prices of the parts, with what a row leaves out filled in from the kind they are part of."""

    cache_read: Decimal
    cache_write: Decimal
    cache_write_1h: Decimal
    audio_input: Decimal
    audio_output: Decimal


def _rates(row: Prices) -> _Rates:
    cache_write = row.input if row.cache_write is None else row.cache_write
    return _Rates(
        cache_read=row.input if row.cache_read is None else row.cache_read,
        cache_write=cache_write,
        cache_write_1h=cache_write if row.cache_write_1h is None else row.cache_write_1h,
        audio_input=row.input if row.audio_input is None else row.audio_input,
        audio_output=row.output if row.audio_output is None else row.audio_output,
    )


def _row_for(input_tokens: int, prices: Prices) -> Prices:
    """Find the tier of an input: strictly above a threshold, the whole request is repriced."""
    row = prices
    for tier in prices.tiers:
        if input_tokens > tier.above_input_tokens:
            row = tier.prices
    return row


def _worst_rows(input_tokens_max: int, prices: Prices) -> list[tuple[Decimal, Decimal]]:
    """Give, for each tier in reach, what the input costs at most (nano-USD) and the dearest output price (USD/M)."""
    rows = [prices, *(tier.prices for tier in prices.tiers if input_tokens_max > tier.above_input_tokens)]
    worst = []
    for row in rows:
        rates = _rates(row)
        input_price = max(row.input, rates.cache_read, rates.cache_write, rates.cache_write_1h, rates.audio_input)
        fixed = _add_tokens(_fixed_nano(row), input_tokens_max, input_price)
        worst.append((fixed, max(row.output, rates.audio_output)))
    return worst


def _take(tokens: int, available: int, anomaly: str, anomalies: list[str]) -> int:
    """Give the count if it lies between 0 and what is available, else the nearer of the two and name it."""
    taken = max(0, min(tokens, available))
    if taken != tokens:
        anomalies.append(anomaly)
    return taken


def _fixed_nano(row: Prices) -> Decimal:
    return _EXACT.multiply(row.request, _NANO_PER_USD)


def _add_tokens(nano: Decimal, tokens: int, price: Decimal) -> Decimal:
    """Add tokens at a price in USD per million: one USD per million is 1,000 nano-USD per token."""
    return _EXACT.fma(Decimal(tokens), _EXACT.multiply(price, _NANO_PER_MICRO_USD), nano)


def _round_up(nano: Decimal) -> int:
    return int(nano.to_integral_value(rounding=ROUND_CEILING, context=_EXACT))
