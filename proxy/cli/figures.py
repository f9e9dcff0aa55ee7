"""`turnpike usage` and `turnpike export` (part of `cli`, floor 7): sums of the books, and the books themselves."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import typer

from proxy.cli.books import ask_ledger
from proxy.cli.output import Column, print_json, print_table
from proxy.cli.places import Places
from proxy.edge.report import parse_by, parse_moment, safe_cell, usage_csv, usage_object
from proxy.files import parse_duration_s
from proxy.ledger.records import AttemptRow, Ledger, UsageQuery, UsageSum
from proxy.money import format_usd
from proxy.usage import TOKEN_COUNTS

PAGE_ROWS = 1_000
"""Attempts read at a time: an export of any size needs the memory of one page."""
TOTAL = "total"

_COUNTS = (*TOKEN_COUNTS, "images", "web_searches", "service_tier")


@dataclass(frozen=True, slots=True)
class UsageWishes:
    """What `usage` was told, as text."""

    by: str
    since: str | None = None
    until: str | None = None


def print_usage(places: Places, wishes: UsageWishes, *, as_csv: bool, as_json: bool) -> None:
    """Print sums over the books; raises `BadParameter` for a wish that cannot be read."""
    query = _read_wishes(wishes)

    async def read(ledger: Ledger) -> tuple[Sequence[UsageSum], UsageSum]:
        (total,) = await ledger.sum_usage(UsageQuery(from_s=query.from_s, to_s=query.to_s))
        return await ledger.sum_usage(query), total

    sums, total = ask_ledger(places, read)
    if as_json:
        print_json(usage_object(query, sums, total))
    elif as_csv:
        sys.stdout.write(usage_csv(query.by, sums))
    else:
        _print_sums(query.by, sums, total)


def export_attempts(places: Places, *, since: str | None, as_csv: bool) -> None:
    """Write every attempt since a moment, oldest first."""
    since_s = _read_since(since)
    write = _write_csv() if as_csv else _write_jsonl

    async def read(ledger: Ledger) -> None:
        after_seq = 0
        while rows := await ledger.export(since_s=since_s, after_seq=after_seq, rows_max=PAGE_ROWS):
            write(rows)
            after_seq = rows[-1].seq

    ask_ledger(places, read)


def attempt_object(row: AttemptRow) -> dict[str, Any]:
    """Give one attempt in the shape of `turnpike export`."""
    return {
        "request_id": row.request_id,
        "attempt": row.attempt,
        "state": row.state.value,
        "time": _time(row.at_s),
        "key": row.key,
        "tenant": row.tenant,
        "app": row.app,
        "route": row.route,
        "provider": row.provider,
        "model": row.model,
        "stream": row.is_stream,
        "status": row.status,
        **{name: getattr(row.usage, name) for name in _COUNTS},
        "hold_nano_usd": row.hold_nano_usd,
        "cost_nano_usd": row.cost_nano_usd,
        "cost_source": row.cost_source.value if row.cost_source is not None else None,
        "latency_ms": row.latency_ms,
        "first_token_ms": row.first_token_ms,
        "generation_id": row.generation_id,
        "overrun": row.is_overrun,
        "error": row.error,
    }


def _time(at_s: float) -> str:
    """Write a moment as ISO 8601 in UTC, to the millisecond."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s))
    return f"{whole}.{int(at_s * 1000) % 1000:03d}Z"


def _write_jsonl(rows: Sequence[AttemptRow]) -> None:
    sys.stdout.write("".join(orjson.dumps(attempt_object(row)).decode() + "\n" for row in rows))


def _write_csv() -> Callable[[Sequence[AttemptRow]], None]:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    has_head = False

    def write(rows: Sequence[AttemptRow]) -> None:
        nonlocal has_head
        for row in rows:
            shown = attempt_object(row)
            if not has_head:
                writer.writerow(shown)
                has_head = True
            writer.writerow([safe_cell(value) if isinstance(value, str) else value for value in shown.values()])

    return write


def _read_wishes(wishes: UsageWishes) -> UsageQuery:
    try:
        by = parse_by(wishes.by)
    except ValueError as error:
        raise typer.BadParameter(f"{error}", param_hint="--by") from error
    since_s = _read_moment(wishes.since, "--from", is_end=False)
    return UsageQuery(by=by, from_s=since_s, to_s=_read_moment(wishes.until, "--to", is_end=True))


def _read_moment(text: str | None, flag: str, *, is_end: bool) -> float | None:
    if text is None:
        return None
    try:
        return parse_moment(text, is_end=is_end)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"{error}", param_hint=flag) from error


def _read_since(text: str | None) -> float | None:
    """Read a moment, or how far back from now it is."""
    if text is None:
        return None
    try:
        return time.time() - parse_duration_s(text)
    except ValueError:
        return _read_moment(text, "--since", is_end=False)


def _print_sums(by: Sequence[str], sums: Sequence[UsageSum], total: UsageSum) -> None:
    counts = ("REQUESTS", "FAILED", "FALLBACKS", "INPUT", "OUTPUT", "COST USD", "HELD USD")
    columns = [*(Column(word.upper()) for word in by), *(Column(title, is_number=True) for title in counts)]
    rows = [[*(value or "-" for value in one.group), *_figures(one)] for one in sums] if by else []
    label = [TOTAL, *([""] * (len(by) - 1))] if by else []
    print_table(columns, [*rows, [*label, *_figures(total)]])


def _figures(one: UsageSum) -> list[str]:
    cost = format_usd(one.cost_nano_usd)
    if one.unknown_cost:
        cost += f" + {one.unknown_cost} unknown"
    counts = (one.requests, one.failed, one.fallbacks, one.input_tokens, one.output_tokens)
    return [*map(str, counts), cost, format_usd(one.held_nano_usd)]
