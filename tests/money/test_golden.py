"""The golden table: every bill by hand, through the real codecs, metering and pricing, to the nano-USD."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from math import ceil
from typing import Any, NamedTuple

import pytest

from proxy.codecs.anthropic import AnthropicCodec
from proxy.codecs.failures import find_fault
from proxy.codecs.google import GoogleCodec
from proxy.codecs.intake import Intake, choices_of, is_meaningful, parse_frame
from proxy.codecs.openai import OpenAICodec
from proxy.codecs.wire import Call, Codec, Reading
from proxy.metering import Booking, Evidence, book
from proxy.pricing import Prices, PriceTier, ServiceTier, cost, decompose
from proxy.usage import CostSource, Usage
from tests.faults.framing import torn
from tests.money.table import HOLD_NANO_USD, Row, load, reckon

ROWS = load()
WITHIN = [row for row in ROWS if not row.is_gateway_only]
CODECS: dict[str, Codec] = {
    "openai": OpenAICodec(is_openrouter=False),
    "openrouter": OpenAICodec(is_openrouter=True),
    "anthropic": AnthropicCodec(),
    "google": GoogleCodec(),
}
SEEDS = (1, 2)
CASES = [
    pytest.param(row, seed, id=f"{row.id}{seed or ''}")
    for row in WITHIN
    for seed in (None, *(SEEDS if row.is_stream else ()))
]


class Said(NamedTuple):
    """What a codec makes of a body."""

    usage: Usage | None
    is_delivering: bool
    is_failed: bool


def prices_of(row: Row) -> Prices | None:
    """Make the price row; a tier takes from the base what it does not name."""
    if row.price is None:
        return None
    services = row.price.get("service_tiers", {}).items()
    return replace(
        _row_of(row.price), service_tiers=tuple(ServiceTier(name, _row_of(price)) for name, price in services)
    )


def _row_of(price: Mapping[str, Any]) -> Prices:
    base: dict[str, Any] = {name: Decimal(value) for name, value in price.items() if isinstance(value, str)}
    tiers = []
    for tier in price.get("tiers", ()):
        given = {name: Decimal(value) for name, value in tier.items() if name != "above"}
        tiers.append(PriceTier(tier["above"], Prices(**base | given)))
    return Prices(**base, tiers=tuple(tiers))


def usage_of(row: Row) -> Usage:
    """Give the counts the row says."""
    return make_usage(row.tokens)


def make_usage(tokens: Mapping[str, int]) -> Usage:
    """Name counts as `Usage` does."""
    counts: dict[str, Any] = {
        name if name in Usage._fields else f"{name}_tokens": count for name, count in tokens.items()
    }
    return Usage(**counts)


def read(row: Row, *, seed: int | None) -> Said:
    """Feed the body to the row's codec; a stream whole, or torn where a seed says."""
    codec, reading = CODECS[row.dialect], Reading(Call("/", b"{}", is_stream=row.is_stream), 1_763_640_000)
    if row.is_stream:
        return _read_stream(row, codec, reading, torn(row.raw, seed=seed) if seed is not None else [row.raw])
    reply = codec.read_reply(row.raw, reading)
    is_failed = find_fault(reply) is not None or not choices_of(reply)
    return Said(codec.read_usage(reply), not is_failed, is_failed)


def _read_stream(row: Row, codec: Codec, reading: Reading, parts: Iterable[bytes]) -> Said:
    """Do as a relay does: what is meaningful is delivered, and a body that ends early has failed unless it was left."""
    intake, is_delivering, is_failed = Intake(codec, reading, choices=1), False, False
    ends = [b""] if not row.is_left else []
    for part in itertools.chain(parts, ends):
        batch = intake.feed(part) if part else intake.end()
        chunks = [parse_frame(frame).chunk for frame in batch.frames]
        is_delivering = is_delivering or any(chunk is not None and is_meaningful(chunk) for chunk in chunks)
        is_failed = batch.failure is not None
        if is_failed or batch.is_end:
            break
    return Said(intake.usage, is_delivering, is_failed)


def booked(row: Row, *, seed: int | None = None) -> Booking:
    """Book a row as the gateway does, with the row's own local count where one is asked for."""
    said = read(row, seed=seed)
    evidence = Evidence(
        hold_nano_usd=HOLD_NANO_USD,
        prices=prices_of(row),
        usage=said.usage,
        is_output_delivered=said.is_delivering,
        is_failed=said.is_failed,
        is_billed_when_failed=row.dialect != "openrouter",
    )
    if evidence.is_local_count_needed:
        evidence = evidence._replace(local=make_usage(row.local))
    return book(evidence)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_the_arithmetic_beside_a_row_gives_its_cost(row: Row) -> None:
    """Rounded up once, at the end; a row nobody can price has none."""
    if row.sum is None:
        assert row.nano_usd is None
    else:
        assert ceil(reckon(row.sum)) == row.nano_usd


@pytest.mark.parametrize(("row", "seed"), CASES)
def test_a_vendor_s_bill_is_booked_to_the_nano(row: Row, seed: int | None) -> None:
    """Cost, source, tokens by kind and what was odd, however the bytes are torn."""
    booking = booked(row, seed=seed)
    assert (booking.cost_nano_usd, booking.source) == (row.nano_usd, row.source and CostSource(row.source))
    assert booking.usage._replace(cost_nano_usd=None, is_byok=False, anomalies=()) == usage_of(row)
    assert booking.usage.is_byok is row.is_byok
    assert set(booking.anomalies) == set(row.anomalies)


@pytest.mark.parametrize("row", [row for row in WITHIN if row.source == "computed"], ids=lambda row: row.id)
def test_the_buckets_of_a_bill_are_its_tokens(row: Row) -> None:
    """No token is charged twice and none forgotten, and `cost` alone gives the same figure."""
    usage, prices = usage_of(row), prices_of(row)
    assert prices is not None
    buckets, _ = decompose(usage)
    assert buckets.input_tokens == usage.input_tokens
    assert buckets.output_tokens == usage.output_tokens
    assert cost(usage, prices) == row.nano_usd


def test_the_table_is_whole() -> None:
    """At least forty bills without any recording, of every vendor, each named once."""
    assert len({row.id for row in ROWS}) == len(ROWS)
    assert len([row for row in ROWS if row.recording is None]) >= 40
    assert {row.vendor for row in ROWS} == {"openai", "anthropic", "google", "openrouter", "others"}
    assert {row.source for row in ROWS} == {*CostSource, None}


@pytest.mark.parametrize("text", ["a", "1 ** 2", "f(1)", "-1", "'1'", "1 // 2"])
def test_only_arithmetic_is_arithmetic(text: str) -> None:
    """A row cannot be right by accident."""
    with pytest.raises(ValueError, match="is no arithmetic"):
        reckon(text)
