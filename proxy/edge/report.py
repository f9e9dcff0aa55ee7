"""Usage as people ask for it and read it (floor 5, no I/O): the query's words, one row per group, JSON and CSV.

`GET /v1/usage` and `turnpike usage` are both made of this, so they cannot disagree.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from proxy.edge.answers import iso_time
from proxy.ledger.records import UsageQuery, UsageSum
from proxy.money import format_usd
from proxy.usage import CostSource

DIMENSIONS = ("key", "tenant", "app", "route", "provider", "model", "hour", "day", "month")
COUNTS = (
    "requests",
    "failed",
    "fallbacks",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
)
BOOKED_SOURCES = tuple(source.value for source in CostSource if source is not CostSource.UNKNOWN)

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def parse_by(text: str) -> tuple[str, ...]:
    """Read `key,model`; ValueError names the dimensions there are."""
    wanted = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    unknown = [word for word in wanted if word not in DIMENSIONS]
    if unknown:
        raise ValueError(f"usage cannot be summed by {unknown[0][:40]!r}; there are {', '.join(DIMENSIONS)}")
    return wanted


def parse_moment(text: str, *, is_end: bool = False) -> float:
    """Read a date or an ISO 8601 time as seconds since the epoch; without an offset it is UTC.

    A date is a whole day: as an end it stands for the midnight after it. ValueError names the forms wanted.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no date; write it as 2026-11-20 or 2026-11-20T15:00:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if is_end and _DATE.fullmatch(text.strip()):
        moment += timedelta(days=1)
    return moment.timestamp()


def usage_object(query: UsageQuery, sums: Iterable[UsageSum], total: UsageSum) -> dict[str, Any]:
    """Give the JSON of a usage report; money is a decimal string, `to` is exclusive."""
    return {
        "object": "list",
        "from": iso_time(query.from_s),
        "to": iso_time(query.to_s),
        "by": list(query.by),
        "data": [usage_row(query.by, one) for one in sums],
        "total": usage_row((), total),
    }


def usage_row(by: Sequence[str], one: UsageSum) -> dict[str, Any]:
    """Give one group: its dimensions, its counts, its money."""
    return {
        **dict(zip(by, one.group, strict=True) if by else ()),
        **{name: getattr(one, name) for name in COUNTS},
        "cost_usd": format_usd(one.cost_nano_usd),
        "held_usd": format_usd(one.held_nano_usd),
        "unknown_cost": one.unknown_cost,
        "cost_by_source": {source: format_usd(cost) for source, cost in one.cost_by_source.items()},
    }


def usage_csv(by: Sequence[str], sums: Iterable[UsageSum]) -> str:
    """Give the same as CSV, one line per group."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    sources = [f"cost_{source}_usd" for source in BOOKED_SOURCES]
    writer.writerow([*by, *COUNTS, "cost_usd", "held_usd", "unknown_cost", *sources])
    for one in sums:
        costs = [format_usd(one.cost_by_source.get(source, 0)) for source in BOOKED_SOURCES]
        counts = [getattr(one, name) for name in COUNTS]
        money = [format_usd(one.cost_nano_usd), format_usd(one.held_nano_usd), one.unknown_cost]
        writer.writerow([*map(safe_cell, one.group), *counts, *money, *costs])
    return text.getvalue()


def safe_cell(text: str) -> str:
    """Keep a spreadsheet from taking a name for a formula (S32)."""
    return f"'{text}" if text.startswith(_FORMULA) else text
