"""A hold is never below the charge (R13): random price tables, and for each whatever a provider may report.

The property stands in tests/test_pricing.py; this run only takes many more examples of it than the test suite can
afford, drawn without hypothesis, which needs a hundred times as long for each.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, Final

from proxy.pricing import PER_TOKEN, Bounds, Prices, PriceTier, ServiceTier
from proxy.usage import Usage
from tests.test_pricing import check_worst_case
from tests.torture.findings import Finding, counted

SERVICES: Final = ("flex", "priority", "batch")
BREACHES_MAX: Final = 5
USAGES_PER_TABLE: Final = 10


async def run(_folder: Path, chance: Random, *, examples: int = 100_000) -> list[Finding]:
    """Draw so many usages, each against a price table, and compare hold and charge."""
    breaches = await asyncio.to_thread(_search, chance, examples)
    return [
        counted(
            "R13: a hold is never below the charge: tiers, services, caches, pictures, audio, searches, fees, n > 1",
            "0 broken",
            f"{examples:,} examples",
            breaches,
        )
    ]


def _search(chance: Random, examples: int) -> list[str]:
    breaches: list[str] = []
    prices = _table(chance)
    for number in range(examples):
        if number % USAGES_PER_TABLE == 0:
            prices = _table(chance)
        usage, choices = _usage(chance), chance.randint(1, 8)
        more = [chance.choice((0, 0, 1, chance.randint(0, 2_000))) for _ in range(2)]
        spare = Bounds(more[0], more[1], chance.randint(0, 2), chance.randint(0, 2))
        try:
            check_worst_case(usage, prices, spare, choices)
        except AssertionError:
            breaches.append(f"{usage} at {prices} with {spare}, n={choices}")
            if len(breaches) == BREACHES_MAX:
                break
    return breaches


def _table(chance: Random) -> Prices:
    names = chance.sample(SERVICES, chance.randint(0, len(SERVICES)))
    services = tuple(ServiceTier(name, _long_row(chance, ())) for name in names)
    return _long_row(chance, services)


def _long_row(chance: Random, services: tuple[ServiceTier, ...]) -> Prices:
    above = sorted({chance.randint(1, 5_000) for _ in range(chance.choice((0, 0, 1, 2, 3)))})
    return _row(chance, tuple(PriceTier(length, _row(chance)) for length in above), services)


def _row(chance: Random, tiers: tuple[PriceTier, ...] = (), services: tuple[ServiceTier, ...] = ()) -> Prices:
    parts: dict[str, Any] = {
        name: _price(chance, 3) for name, whole in PER_TOKEN.items() if not whole or chance.random() < 0.6
    }
    fees: dict[str, Any] = {name: _price(chance, 0) for name in ("request", "image", "search") if chance.random() < 0.5}
    return Prices(**parts, **fees, tiers=tiers, service_tiers=services)


def _price(chance: Random, digits: int) -> Decimal:
    """Draw a price of up to so many digits before its point, and up to nine behind it; often a plain one, or none."""
    kind = chance.random()
    if kind < 0.1:
        return Decimal(0)
    places = chance.choice((0, 1, 2, 4, 9))
    return Decimal(chance.randint(0, 10 ** (digits + places))).scaleb(-places)


def _usage(chance: Random) -> Usage:
    most = chance.choice((0, 10, 5_000, 1_000_000))
    counts = {name: chance.randint(0, most) for name in Usage._fields if name.endswith("_tokens")}
    kept: dict[str, Any] = {name: count for name, count in counts.items() if name in _TOTALS or chance.random() < 0.5}
    return Usage(
        **kept,
        images=chance.choice((0, 0, 1, 20)),
        web_searches=chance.choice((0, 0, 1, 20)),
        service_tier=chance.choice((None, None, *SERVICES, "unheard")),
    )


_TOTALS = ("input_tokens", "output_tokens")
