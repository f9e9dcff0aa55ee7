"""The sums made from a price row (part of `pricing`, pure): what an attempt is booked at, what it can cost at most."""

from __future__ import annotations

from typing import NamedTuple

from proxy.pricing.buckets import decompose
from proxy.pricing.rows import Prices, Row, Scale
from proxy.usage import Usage

OUTPUT_TOKENS_UNBOUNDED = 1_000_000_000
"""What `output_tokens_for` gives when output is free, and at most: no model writes that much."""


def cost(usage: Usage, prices: Prices) -> int:
    """Price one attempt in nano-USD, exactly, rounded up once at the end.

    A service without a price of its own is charged like the usual one, see `unpriced`.
    """
    scale = prices.scale
    if usage.has_no_parts:
        row = _row_for(usage.input_tokens, scale.rows)
        return _round_up(row.fixed + usage.input_tokens * row.input + usage.output_tokens * row.output, scale)
    buckets, _ = decompose(usage)
    rows = scale.rows if usage.service_tier is None else scale.services.get(usage.service_tier, scale.rows)
    row = _row_for(buckets.input_tokens, rows)
    charged = (
        (buckets.uncached_input, row.input),
        (buckets.cached, row.cache_read),
        (buckets.cached_audio, row.cache_read_audio),
        (buckets.cache_write, row.cache_write),
        (buckets.cache_write_1h, row.cache_write_1h),
        (buckets.audio_input, row.audio_input),
        (buckets.image_input, row.image_input),
        (buckets.text_output, row.output),
        (buckets.audio_output, row.audio_output),
        (buckets.image_output, row.image_output),
        (max(0, usage.images), row.image),
        (max(0, usage.web_searches), row.search),
    )
    return _round_up(row.fixed + sum(count * rate for count, rate in charged), scale)


def unpriced(usage: Usage, prices: Prices) -> tuple[str, ...]:
    """Name what was used and has no price here: `cost` leaves it out, or takes the usual service's price."""
    anomalies = []
    if usage.service_tier is not None and usage.service_tier not in prices.scale.services:
        anomalies.append("service_tier_unpriced")
    if usage.web_searches and prices.search is None:
        anomalies.append("web_search_unpriced")
    return tuple(anomalies)


class Bounds(NamedTuple):
    """What one request can use at most."""

    input_tokens: int
    output_tokens: int = 0
    """Of all its answers together."""
    images: int = 0
    """Pictures in the prompt."""
    web_searches: int = 0
    service_tier: str | None = None
    """The service asked for; the usual one may be given in its place."""


def worst_case(bounds: Bounds, prices: Prices) -> int:
    """Price the dearest attempt within bounds in nano-USD: never below `cost` of any usage that keeps to them.

    Every input token is taken at the dearest kind it may turn out to be (a cache write costs more than a fresh read),
    in the dearest tier the input bound can reach, of the dearest service that may be given.
    """
    output_tokens = bounds.output_tokens
    dearest = max(_before_output(row, bounds) + output_tokens * row.any_output for row in _reachable(bounds, prices))
    return _round_up(dearest, prices.scale)


def output_tokens_for(budget_nano_usd: int, bounds: Bounds, prices: Prices) -> int:
    """Tell how many output tokens the money buys beside all else within bounds: the exact inverse of `worst_case`.

    -1 when it does not even buy the rest; `OUTPUT_TOKENS_UNBOUNDED` when output costs nothing.
    """
    tokens = OUTPUT_TOKENS_UNBOUNDED
    for row in _reachable(bounds, prices):
        left = budget_nano_usd * prices.scale.units_per_nano - _before_output(row, bounds)
        if left < 0:
            return -1
        if row.any_output:
            tokens = min(tokens, left // row.any_output)
    return tokens


def _reachable(bounds: Bounds, prices: Prices) -> list[Row]:
    """Give the rows a request within bounds can be charged by."""
    scale = prices.scale
    rows = scale.rows if bounds.service_tier is None else (*scale.rows, *scale.services.get(bounds.service_tier, ()))
    return [row for row in rows if bounds.input_tokens > row.above_input_tokens]


def _before_output(row: Row, bounds: Bounds) -> int:
    """Sum all a request can be charged for but its answer."""
    flat = row.fixed + bounds.images * row.image + bounds.web_searches * row.search
    return flat + bounds.input_tokens * row.any_input


def _row_for(input_tokens: int, rows: tuple[Row, ...]) -> Row:
    """Find the tier of an input: strictly above a threshold, the whole request is repriced."""
    row = rows[0]
    for tier in rows[1:]:
        if input_tokens > tier.above_input_tokens:
            row = tier
    return row


def _round_up(units: int, scale: Scale) -> int:
    return -(-units // scale.units_per_nano)
