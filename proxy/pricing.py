"""What tokens cost (floor 1a, pure): a price row, and the two sums made from it.

`cost` is what an attempt is booked at; `worst_case` is what it can cost at most and therefore what is held.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from proxy.usage import Usage

_NANO_DIGITS = 9
"""Of one USD in nano-USD."""
_NANO_PER_TOKEN_DIGITS = 3
"""One USD per million tokens is 1,000 nano-USD per token."""

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
    scale: _Scale = field(init=False, repr=False, compare=False)
    """The same as whole numbers, which are exact and quick to reckon with."""

    def __post_init__(self) -> None:
        """Work out the whole numbers once: a price is read rarely and used in every request."""
        object.__setattr__(self, "scale", _make_scale(self))

    @property
    def is_zero(self) -> bool:
        """Tell whether nothing costs anything, however long the request."""
        own = (self.input, self.output, self.cache_read, self.cache_write, self.cache_write_1h)
        amounts = (*own, self.audio_input, self.audio_output, self.request)
        return not any(amounts) and all(tier.prices.is_zero for tier in self.tiers)


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


def contradictions(usage: Usage) -> tuple[str, ...]:
    """Name the counts that cannot be true beside the others."""
    return () if usage.has_no_parts else decompose(usage)[1]


def cost(usage: Usage, prices: Prices) -> int:
    """Price one attempt in nano-USD, exactly, rounded up once at the end."""
    scale = prices.scale
    if usage.has_no_parts:
        row = _row_for(usage.input_tokens, scale)
        return _round_up(row.fixed + usage.input_tokens * row.input + usage.output_tokens * row.output, scale)
    buckets, _ = decompose(usage)
    row = _row_for(buckets.input_tokens, scale)
    charged = (
        (buckets.uncached_input, row.input),
        (buckets.cached, row.cache_read),
        (buckets.cache_write, row.cache_write),
        (buckets.cache_write_1h, row.cache_write_1h),
        (buckets.audio_input, row.audio_input),
        (buckets.text_output, row.output),
        (buckets.audio_output, row.audio_output),
    )
    return _round_up(row.fixed + sum(tokens * rate for tokens, rate in charged), scale)


def worst_case(*, input_tokens_max: int, output_tokens_max: int, prices: Prices) -> int:
    """Price the dearest attempt within these bounds in nano-USD: never below `cost` of any usage that keeps to them.

    Every input token is taken at the dearest kind it may turn out to be (a cache write costs more than a fresh read),
    in the dearest tier the input bound can reach.
    """
    scale = prices.scale
    dearest = 0
    for row in scale.rows:
        if input_tokens_max > row.above_input_tokens:
            dearest = max(dearest, row.fixed + input_tokens_max * row.any_input + output_tokens_max * row.any_output)
    return _round_up(dearest, scale)


def output_tokens_for(budget_nano_usd: int, *, input_tokens_max: int, prices: Prices) -> int:
    """Tell how many output tokens the money buys: the exact inverse of `worst_case`.

    -1 when it does not even buy the input; `OUTPUT_TOKENS_UNBOUNDED` when output costs nothing.
    """
    scale = prices.scale
    tokens = OUTPUT_TOKENS_UNBOUNDED
    for row in scale.rows:
        if input_tokens_max > row.above_input_tokens:
            left = budget_nano_usd * scale.units_per_nano - row.fixed - input_tokens_max * row.any_input
            if left < 0:
                return -1
            if row.any_output:
                tokens = min(tokens, left // row.any_output)
    return tokens


class _Row(NamedTuple):
    """One tier in units of its scale, per token; what a price leaves out is filled in from the kind it is part of."""

    above_input_tokens: int
    """It holds strictly above this; -1 is always."""
    fixed: int
    """Per request."""
    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    audio_input: int
    audio_output: int
    any_input: int
    """The dearest kind an input token can be."""
    any_output: int


class _Scale(NamedTuple):
    """Prices as whole numbers of a unit so small that none of them is broken."""

    units_per_nano: int
    rows: tuple[_Row, ...]
    """The base row and its tiers, thresholds ascending."""


def _make_scale(prices: Prices) -> _Scale:
    tiers = [(-1, prices), *((tier.above_input_tokens, tier.prices) for tier in prices.tiers)]
    digits = max(_digits(row) for _, row in tiers)
    return _Scale(10**digits, tuple(_make_row(above, row, digits) for above, row in tiers))


def _digits(row: Prices) -> int:
    """Count the decimal places needed below one nano-USD."""
    per_token = _decimals(price for price in _rates(row) if price is not None) - _NANO_PER_TOKEN_DIGITS
    return max(0, per_token, _decimals([row.request]) - _NANO_DIGITS)


def _decimals(prices: Iterable[Decimal]) -> int:
    exponents = (price.as_tuple().exponent for price in prices)
    return max((-exponent for exponent in exponents if isinstance(exponent, int)), default=0)


def _rates(row: Prices) -> tuple[Decimal | None, ...]:
    return (
        row.input, row.output, row.cache_read, row.cache_write, row.cache_write_1h, row.audio_input, row.audio_output
    )  # fmt: skip


def _make_row(above_input_tokens: int, row: Prices, digits: int) -> _Row:
    known = [None if price is None else _whole(price, digits + _NANO_PER_TOKEN_DIGITS) for price in _rates(row)]
    fresh, written, read, write, write_1h, audio_in, audio_out = known
    assert fresh is not None, "every price has an input"
    assert written is not None, "every price has an output"
    read = fresh if read is None else read
    write = fresh if write is None else write
    write_1h = write if write_1h is None else write_1h
    audio_in = fresh if audio_in is None else audio_in
    audio_out = written if audio_out is None else audio_out
    return _Row(
        above_input_tokens,
        _whole(row.request, digits + _NANO_DIGITS),
        fresh,
        written,
        read,
        write,
        write_1h,
        audio_in,
        audio_out,
        any_input=max(fresh, read, write, write_1h, audio_in),
        any_output=max(written, audio_out),
    )


def _whole(price: Decimal, digits: int) -> int:
    """Give price x 10^digits, which is whole by the choice of digits."""
    sign, figures, exponent = price.as_tuple()
    assert isinstance(exponent, int), "a price is finite"
    amount = int("".join(map(str, figures)) + "0" * (exponent + digits))
    return -amount if sign else amount


def _row_for(input_tokens: int, scale: _Scale) -> _Row:
    """Find the tier of an input: strictly above a threshold, the whole request is repriced."""
    row = scale.rows[0]
    for tier in scale.rows[1:]:
        if input_tokens > tier.above_input_tokens:
            row = tier
    return row


def _round_up(units: int, scale: _Scale) -> int:
    return -(-units // scale.units_per_nano)


def _take(tokens: int, available: int, anomaly: str, anomalies: list[str]) -> int:
    """Give the count if it lies between 0 and what is available, else the nearer of the two and name it."""
    taken = max(0, min(tokens, available))
    if taken != tokens:
        anomalies.append(anomaly)
    return taken
