"""Prices: golden bills worked out by hand, and what must hold for any price table."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.pricing import (
    OUTPUT_TOKENS_UNBOUNDED,
    PER_TOKEN,
    Bounds,
    Buckets,
    Prices,
    PriceTier,
    ServiceTier,
    cost,
    decompose,
    output_tokens_for,
    unpriced,
    worst_case,
)
from proxy.usage import Usage


def priced(read: str, written: str, tiers: tuple[PriceTier, ...] = (), **parts: str) -> Prices:
    """Make a price row of decimal strings, USD per million tokens."""
    columns: dict[str, Any] = {
        name: Decimal(text) for name, text in {"input": read, "output": written, **parts}.items()
    }
    return Prices(**columns, tiers=tiers, source="by hand", as_of="2026-11-20")


GPT_4O = priced("2.5", "10", cache_read="1.25")
GPT_4O_AUDIO = priced("2.5", "10", audio_input="40", audio_output="80")
GPT_5_4 = priced("2.5", "15", (PriceTier(272_000, priced("5", "22.5", cache_read="0.5")),), cache_read="0.25")
GPT_5_6 = priced("2", "10", cache_read="0.2", cache_write="2.5")
LLAMA_AT_GROQ = priced("0.59", "0.79")
DEEPSEEK = priced("0.27", "1.1", cache_read="0.07")
GROK_3_MINI = priced("0.3", "0.5", cache_read="0.075")
SONNET = priced("3", "15", cache_read="0.3", cache_write="3.75", cache_write_1h="6")
GEMINI_PRO = priced("1.25", "10", (PriceTier(200_000, priced("2.5", "15", cache_read="0.25")),), cache_read="0.125")
GEMINI_FLASH = priced("0.3", "2.5", cache_read="0.03", audio_input="1")
SONAR = priced("1", "1", request="0.012")


# One dollar per million tokens is 1,000 nano-USD per token: that factor is in every row.
@pytest.mark.parametrize(
    ("usage", "prices", "nano_usd"),
    [
        pytest.param(Usage(1_000, 500), GPT_4O, 7_500_000, id="openai-plain: 1000*2500 + 500*10000"),
        pytest.param(
            Usage(2_006, 300, cached_tokens=1_920),
            GPT_4O,
            5_615_000,
            id="openai-cached: (2006-1920)*2500 + 1920*1250 + 300*10000 = 215000 + 2400000 + 3000000",
        ),
        pytest.param(
            Usage(50, 1_000, reasoning_tokens=960),
            GPT_4O,
            10_125_000,
            id="openai-reasoning-is-inside-the-output: 50*2500 + 1000*10000",
        ),
        pytest.param(
            Usage(120, 90, audio_input_tokens=100, audio_output_tokens=70),
            GPT_4O_AUDIO,
            9_850_000,
            id="openai-audio: 20*2500 + 100*40000 + 20*10000 + 70*80000 = 50000 + 4000000 + 200000 + 5600000",
        ),
        pytest.param(
            Usage(5_000, 10, cached_tokens=1_000, cache_write_tokens=3_000),
            GPT_5_6,
            9_800_000,
            id="openai-5.6-cache-write: 1000*2000 + 1000*200 + 3000*2500 + 10*10000 = 2000000+200000+7500000+100000",
        ),
        pytest.param(
            Usage(5_000, 10, cached_tokens=1_000, cache_write_tokens=3_000),
            GPT_4O,
            11_350_000,
            id="openai-before-5.6-writes-cost-the-input: 4000*2500 + 1000*1250 + 10*10000 = 10000000+1250000+100000",
        ),
        pytest.param(Usage(272_000, 1), GPT_5_4, 680_015_000, id="tier-not-passed-at-272000: 272000*2500 + 15000"),
        pytest.param(
            Usage(272_001, 1, cached_tokens=1),
            GPT_5_4,
            1_360_023_000,
            id="tier-passed-at-272001-reprices-all: 272000*5000 + 1*500 + 22500",
        ),
        pytest.param(Usage(18, 272), LLAMA_AT_GROQ, 225_500, id="groq: 18*590 + 272*790 = 10620 + 214880"),
        pytest.param(
            Usage(1_088, 100, cached_tokens=1_024),
            DEEPSEEK,
            198_960,
            id="deepseek-cache-hit: 64*270 + 1024*70 + 100*1100 = 17280 + 71680 + 110000",
        ),
        pytest.param(
            Usage(12, 2 + 340, cached_tokens=11, reasoning_tokens=340),
            GROK_3_MINI,
            172_125,
            id="xai-reasoning-added-to-the-output: 1*300 + 11*75 + 342*500 = 300 + 825 + 171000 (1721250 ticks)",
        ),
        pytest.param(Usage(15, 9), GPT_4O, 127_500, id="azure: 15*2500 + 9*10000 = 37500 + 90000"),
        pytest.param(
            Usage(10_100, 200, cached_tokens=8_000, cache_write_tokens=2_000),
            SONNET,
            13_200_000,
            id="anthropic-5m: 100*3000 + 8000*300 + 2000*3750 + 200*15000 = 300000+2400000+7500000+3000000",
        ),
        pytest.param(
            Usage(10_100, 200, cached_tokens=5_000, cache_write_tokens=2_000, cache_write_1h_tokens=3_000),
            SONNET,
            30_300_000,
            id="anthropic-1h: 100*3000 + 5000*300 + 2000*3750 + 3000*6000 + 200*15000",
        ),
        pytest.param(
            Usage(3_000, 0, cache_write_1h_tokens=3_000),
            replace(SONNET, cache_write_1h=None),
            11_250_000,
            id="a-1h-write-without-a-price-costs-the-other-write: 3000*3750",
        ),
        pytest.param(Usage(200_000, 10), GEMINI_PRO, 250_100_000, id="gemini-at-200000: 200000*1250 + 10*10000"),
        pytest.param(
            Usage(200_001, 10, cached_tokens=100_000),
            GEMINI_PRO,
            275_152_500,
            id="gemini-above-200000: 100001*2500 + 100000*250 + 10*15000 = 250002500 + 25000000 + 150000",
        ),
        pytest.param(
            Usage(1_000, 100, audio_input_tokens=900),
            GEMINI_FLASH,
            1_180_000,
            id="gemini-audio: 100*300 + 900*1000 + 100*2500 = 30000 + 900000 + 250000",
        ),
        pytest.param(
            Usage(1_000, 0, cached_tokens=300, audio_input_tokens=900),
            GEMINI_FLASH,
            709_000,
            id="cached-audio-is-charged-once: text is 100, so 200 of the cached are audio: 300*30 + 700*1000",
        ),
        pytest.param(Usage(10, 20), SONAR, 12_030_000, id="perplexity-per-request: 12000000 + 10*1000 + 20*1000"),
        pytest.param(Usage(), SONAR, 12_000_000, id="a-request-without-tokens-still-costs-its-fee"),
        pytest.param(Usage(1, 0), priced("0.0025", "0"), 3, id="a-part-of-a-nano-rounds-up-once: 2.5 -> 3"),
        pytest.param(Usage(3, 1), priced("0.0001", "0.0007"), 1, id="rounds-the-sum: 0.3 + 0.7 = 1, not 2"),
    ],
)
def test_golden_bills(usage: Usage, prices: Prices, nano_usd: int) -> None:
    """Each row is a bill worked out by hand, to the nano-USD; the arithmetic is its name."""
    assert cost(usage, prices) == nano_usd


@pytest.mark.parametrize(
    ("usage", "buckets", "anomalies"),
    [
        (Usage(10, 5, cached_tokens=11), Buckets(cached=10, text_output=5), ("cached_above_input",)),
        (
            Usage(10, 0, cached_tokens=4, cache_write_tokens=5, cache_write_1h_tokens=5),
            Buckets(cached=4, cache_write=1, cache_write_1h=5),
            ("cache_write_above_input",),
        ),
        (
            Usage(10, 0, cache_write_tokens=5, cache_write_1h_tokens=11),
            Buckets(cache_write_1h=10),
            ("cache_write_above_input",),
        ),
        (Usage(10, 0, audio_input_tokens=11), Buckets(audio_input=10), ("audio_above_input",)),
        (Usage(0, 10, audio_output_tokens=11), Buckets(audio_output=10), ("audio_above_output",)),
        (Usage(0, 10, reasoning_tokens=11), Buckets(text_output=10), ("reasoning_above_output",)),
        (Usage(-1, -1, cached_tokens=-1), Buckets(), ("negative_input", "cached_above_input", "negative_output")),
        (Usage(10, 0, cached_tokens=8, audio_input_tokens=5), Buckets(cached=8, audio_input=2), ()),
        (
            Usage(10, 0, cached_tokens=4, cached_audio_tokens=5),
            Buckets(6, cached_audio=4),
            ("cached_audio_above_cached",),
        ),
        (Usage(10, 0, image_input_tokens=11), Buckets(image_input=10), ("images_above_input",)),
        (Usage(0, 10, image_output_tokens=11), Buckets(image_output=10), ("images_above_output",)),
        (
            Usage(0, 10, audio_output_tokens=6, image_output_tokens=6),
            Buckets(audio_output=6, image_output=4),
            ("images_above_output",),
        ),
        (Usage(10, 0, cached_tokens=3, audio_input_tokens=5, image_input_tokens=4), Buckets(0, 3, 0, 0, 0, 5, 2), ()),
    ],
)
def test_contradicting_counts_are_clamped_and_named(usage: Usage, buckets: Buckets, anomalies: tuple[str, ...]) -> None:
    """Nobody is charged twice for a token, or less than nothing, and the row says what was odd."""
    assert decompose(usage) == (buckets, anomalies)


prices_per_million = st.decimals(min_value=0, max_value=1_000, places=6)
maybe_price = st.none() | prices_per_million


@st.composite
def price_rows(draw: st.DrawFn) -> Prices:
    """Any row: parts may be missing, dearer or cheaper than what they are part of."""
    parts: dict[str, Any] = {name: draw(maybe_price) for name, whole in PER_TOKEN.items() if whole}
    needed: dict[str, Any] = {name: draw(prices_per_million) for name, whole in PER_TOKEN.items() if not whole}
    fee = st.decimals(min_value=0, max_value=1, places=6)
    return Prices(**needed, **parts, request=draw(fee), image=draw(fee), search=draw(st.none() | fee))


@st.composite
def long_rows(draw: st.DrawFn) -> Prices:
    """Any row with up to three tiers, whose prices may rise or fall."""
    thresholds = sorted(draw(st.sets(st.integers(1, 3_000), max_size=3)))
    tiers = tuple(PriceTier(threshold, draw(price_rows())) for threshold in thresholds)
    return replace(draw(price_rows()), tiers=tiers)


SERVICES = ("flex", "priority")


@st.composite
def price_tables(draw: st.DrawFn) -> Prices:
    """Any such row with those of up to two other services."""
    names = draw(st.sets(st.sampled_from(SERVICES)))
    services = tuple(ServiceTier(name, draw(long_rows())) for name in sorted(names))
    return replace(draw(long_rows()), service_tiers=services)


usages = st.builds(
    Usage,
    input_tokens=st.integers(0, 4_000),
    output_tokens=st.integers(0, 4_000),
    cached_tokens=st.integers(0, 5_000),
    cached_audio_tokens=st.integers(0, 5_000),
    cache_write_tokens=st.integers(0, 5_000),
    cache_write_1h_tokens=st.integers(0, 5_000),
    audio_input_tokens=st.integers(0, 5_000),
    image_input_tokens=st.integers(0, 5_000),
    reasoning_tokens=st.integers(0, 5_000),
    audio_output_tokens=st.integers(0, 5_000),
    image_output_tokens=st.integers(0, 5_000),
    images=st.integers(0, 20),
    web_searches=st.integers(0, 20),
    service_tier=st.sampled_from([None, *SERVICES]),
)
spares = st.builds(Bounds, st.integers(0, 2_000), st.integers(0, 2_000), st.integers(0, 2), st.integers(0, 2))


def check_worst_case(usage: Usage, prices: Prices, spare: Bounds, choices: int) -> None:
    """Hold for bounds that the usage keeps to, as for `n` answers of one length, and see that it is covered (R13)."""
    each = -(-usage.output_tokens // choices)
    held = worst_case(
        Bounds(
            input_tokens=usage.input_tokens + spare.input_tokens,
            output_tokens=(each + spare.output_tokens) * choices,
            images=usage.images + spare.images,
            web_searches=usage.web_searches + spare.web_searches,
            service_tier=usage.service_tier,
        ),
        prices,
    )
    assert held >= cost(usage, prices)
    assert held >= cost(usage._replace(service_tier=None), prices)  # it was asked for and not given


@given(usages)
def test_buckets_always_add_up_to_the_totals(usage: Usage) -> None:
    """Whatever a vendor claims of the parts, the whole is charged once."""
    buckets, _ = decompose(usage)
    assert buckets.input_tokens == usage.input_tokens
    assert buckets.output_tokens == usage.output_tokens
    assert min(getattr(buckets, name) for name in Buckets._fields) >= 0


@given(usages, price_tables(), spares, st.integers(1, 8))
def test_the_worst_case_covers_any_usage_within_its_bounds(
    usage: Usage, prices: Prices, spare: Bounds, choices: int
) -> None:
    """A hold is never below the charge, whatever is cached, written, spoken, drawn, searched or repriced (R13)."""
    check_worst_case(usage, prices, spare, choices)


@given(price_tables(), spares, st.sampled_from([None, *SERVICES]), st.integers(0, 10**11))
def test_the_money_buys_exactly_the_output_told(
    prices: Prices, bounds: Bounds, service: str | None, budget: int
) -> None:
    """The clamp uses all of the budget and not one nano-USD more."""
    bounds = bounds._replace(service_tier=service)
    bought = output_tokens_for(budget, bounds, prices)
    assume(bought < OUTPUT_TOKENS_UNBOUNDED)
    if bought >= 0:
        assert worst_case(bounds._replace(output_tokens=bought), prices) <= budget
    assert worst_case(bounds._replace(output_tokens=bought + 1), prices) > budget


def test_a_budget_below_the_input_buys_no_output() -> None:
    """-1 tells "not even the input" from "the input alone"."""
    assert output_tokens_for(2_499, Bounds(1), GPT_4O) == -1
    assert output_tokens_for(2_500, Bounds(1), GPT_4O) == 0


def test_free_output_is_bought_without_end() -> None:
    """A free model has no clamp, only a figure no model reaches."""
    free = priced("0", "0")
    assert output_tokens_for(0, Bounds(1_000), free) == OUTPUT_TOKENS_UNBOUNDED


@given(usages, price_tables())
def test_a_cost_is_the_exact_sum_rounded_up_once(usage: Usage, prices: Prices) -> None:
    """Against fractions, which cannot round: one nano-USD at most lies between the sum and the booking."""
    buckets, _ = decompose(usage)
    served = next((one.prices for one in prices.service_tiers if one.name == usage.service_tier), prices)
    row = next((t.prices for t in reversed(served.tiers) if buckets.input_tokens > t.above_input_tokens), served)
    charged = dict(zip(("input", *CHARGED), (getattr(buckets, name) for name in Buckets._fields), strict=True))
    exact = sum((Fraction(tokens) * rate(row, name) * 1000 for name, tokens in charged.items()), Fraction(0))
    pieces = row.request + usage.images * row.image + usage.web_searches * (row.search or 0)
    assert cost(usage, prices) == math.ceil(exact + Fraction(pieces) * 10**9)


CHARGED = (
    *("cache_read", "cache_read_audio", "cache_write", "cache_write_1h", "audio_input", "image_input"),
    *("output", "audio_output", "image_output"),
)
"""Columns in the order of the buckets, behind plain input."""


def rate(row: Prices, name: str) -> Fraction:
    """Give a column's price, or that of the kind it is part of."""
    price: Decimal | None = getattr(row, name)
    return rate(row, PER_TOKEN[name]) if price is None else Fraction(price)


@pytest.mark.parametrize(
    ("usage", "prices", "told"),
    [
        (Usage(1, 1), GPT_4O, ()),
        (Usage(1, 1, web_searches=1), GPT_4O, ("web_search_unpriced",)),
        (Usage(1, 1, web_searches=1), priced("1", "1", search="0"), ()),
        (Usage(1, 1, service_tier="priority"), GPT_4O, ("service_tier_unpriced",)),
        (
            Usage(1, 1, service_tier="priority"),
            replace(GPT_4O, service_tiers=(ServiceTier("priority", GPT_4O_AUDIO),)),
            (),
        ),
    ],
)
def test_what_has_no_price_is_named(usage: Usage, prices: Prices, told: tuple[str, ...]) -> None:
    """Left out of the sum, or charged as usual, but never in silence."""
    assert unpriced(usage, prices) == told


def test_only_the_service_that_was_asked_for_can_be_given() -> None:
    """A hold for the usual service is not swollen by the price of another."""
    prices = replace(GPT_4O, service_tiers=(ServiceTier("priority", priced("4.25", "17")),))
    assert worst_case(Bounds(100, 10), prices) == 100 * 2_500 + 10 * 10_000
    assert worst_case(Bounds(100, 10, service_tier="priority"), prices) == 100 * 4_250 + 10 * 17_000
    assert worst_case(Bounds(100, 10, service_tier="unheard"), prices) == 100 * 2_500 + 10 * 10_000


@given(usages, price_rows(), st.sampled_from(["input_tokens", "output_tokens"]), st.integers(1, 1_000))
def test_more_tokens_never_cost_less(usage: Usage, prices: Prices, name: str, more: int) -> None:
    """Within one tier a cost rises with the totals."""
    assert cost(usage._replace(**{name: getattr(usage, name) + more}), prices) >= cost(usage, prices)


def test_prices_of_any_length_stay_exact() -> None:
    """The longest price the routes file can spell times the largest count a codec lets in loses no digit."""
    price = "999999999999.123456789012345678"
    assert cost(Usage(10**12, 0), priced(price, "0")) == math.ceil(Fraction(price) * 10**12 * 1000)


@pytest.mark.parametrize(
    ("prices", "is_zero"),
    [
        (priced("0", "0"), True),
        (priced("0", "0", cache_read="0", request="0"), True),
        (priced("0.01", "0"), False),
        (priced("0", "0.01"), False),
        (priced("0", "0", cache_write_1h="1"), False),
        (priced("0", "0", request="0.001"), False),
        (priced("0", "0", (PriceTier(1_000, priced("0", "0")),)), True),
        (priced("0", "0", (PriceTier(1_000, priced("1", "0")),)), False),
    ],
)
def test_what_costs_nothing_has_no_price_at_all(prices: Prices, *, is_zero: bool) -> None:
    """Of no kind, in no tier, and none per request."""
    assert prices.is_zero is is_zero
