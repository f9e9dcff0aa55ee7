"""Usage as people ask for it and read it (floor 5, no I/O): the query's words, one row per group, JSON, lines and CSV.

`GET /v1/usage` and `turnpike usage` are both made of this, so they cannot disagree.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson

from proxy.edge.answers import iso_time
from proxy.ledger.records import DIMENSIONS, TAG_PREFIX, UsageQuery, UsageSum
from proxy.money import UTC_NAME, format_usd
from proxy.usage import CostSource

COUNTS = (
    "requests",
    "failed",
    "fallbacks",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
)
FURTHER_COUNTS = (
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "overruns",
    "cache_hits",
)
"""Behind the money, where they came later: what reads the columns by their place goes on reading them."""
BOOKED_SOURCES = tuple(source.value for source in CostSource if source is not CostSource.UNKNOWN)
TAGS_MAX = 8
"""Tags whose values one question may name."""
TAG_CHARS_MAX = 64

_RATE_DIGITS = 6
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001  # some read the wide ones too


def parse_by(text: str) -> tuple[str, ...]:
    """Read `key,model,tag:job`; ValueError names the dimensions there are."""
    wanted = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    unknown = [word for word in wanted if word not in DIMENSIONS and not _names_tag(word)]
    if unknown:
        known = f"{', '.join(DIMENSIONS)} and {TAG_PREFIX}NAME"
        raise ValueError(f"usage cannot be summed by {unknown[0][:40]!r}; there are {known}")
    if len(wanted) > len(DIMENSIONS) + TAGS_MAX:
        raise ValueError(f"usage cannot be summed by more than {TAGS_MAX} tags at once")
    return wanted


def parse_timezone(text: str) -> str:
    """Read a time zone's name, as Europe/Berlin; ValueError for one that there is not."""
    try:
        return ZoneInfo(text.strip()).key
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError(f"{text[:40]!r} is no time zone; write it as Europe/Berlin or UTC") from None


def parse_moment(text: str, *, is_end: bool = False, timezone: str = UTC_NAME) -> float:
    """Read a date or an ISO 8601 time as seconds since the epoch; without an offset it is of the time zone.

    A date is a whole day: as an end it stands for the midnight after it. ValueError names the forms wanted.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no date; write it as 2026-11-20 or 2026-11-20T15:00:00Z") from None
    if is_end and _DATE.fullmatch(text.strip()):
        moment += timedelta(days=1)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(timezone))
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
        **{name: getattr(one, name) for name in FURTHER_COUNTS},
        "saved_usd": format_usd(one.saved_nano_usd),
        "fallback_rate": _rate(one),
    }


def write_usage(form: str, by: Sequence[str]) -> Callable[[Iterable[UsageSum]], str]:
    """Make what turns pages of groups into text: `csv`, with a head before the first page, or `jsonl`."""
    if form == "csv":
        return _write_csv(by)
    return lambda sums: "".join(orjson.dumps(usage_row(by, one)).decode() + "\n" for one in sums)


def write_cells(head: Sequence[str]) -> Callable[[Iterable[Sequence[object]]], str]:
    """Make what turns pages of rows into CSV; text that a spreadsheet would take for a formula is marked as text."""
    is_first = True

    def write(rows: Iterable[Sequence[object]]) -> str:
        nonlocal is_first
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if is_first:
            writer.writerow(map(safe_cell, head))
            is_first = False
        writer.writerows([safe_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
        return text.getvalue()

    return write


def safe_cell(text: str) -> str:
    """Keep a spreadsheet from taking a name for a formula (S32), or a part of it for a line of its own.

    Python's `csv` does not quote a carriage return, which most spreadsheets end a line at.
    """
    marked = f"'{text}" if text.startswith(_FORMULA) else text
    return marked.replace("\r", " ")


def _write_csv(by: Sequence[str]) -> Callable[[Iterable[UsageSum]], str]:
    sources = [f"cost_{source}_usd" for source in BOOKED_SOURCES]
    money = ["cost_usd", "held_usd", "unknown_cost"]
    write = write_cells([*by, *COUNTS, *money, *sources, *FURTHER_COUNTS, "saved_usd", "fallback_rate"])
    return lambda sums: write(_cells(one) for one in sums)


def _cells(one: UsageSum) -> list[object]:
    return [
        *one.group,
        *(getattr(one, name) for name in COUNTS),
        format_usd(one.cost_nano_usd),
        format_usd(one.held_nano_usd),
        one.unknown_cost,
        *(format_usd(one.cost_by_source.get(source, 0)) for source in BOOKED_SOURCES),
        *(getattr(one, name) for name in FURTHER_COUNTS),
        format_usd(one.saved_nano_usd),
        _rate(one),
    ]


def _rate(one: UsageSum) -> float:
    """Give the share of requests that fell back."""
    return round(one.fallbacks / one.requests, _RATE_DIGITS) if one.requests else 0.0


def _names_tag(word: str) -> bool:
    name = word.removeprefix(TAG_PREFIX)
    return word.startswith(TAG_PREFIX) and 0 < len(name) <= TAG_CHARS_MAX and name.isprintable()
