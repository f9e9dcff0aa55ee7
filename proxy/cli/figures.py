"""`turnpike usage` and `turnpike export` (part of `cli`, floor 7): sums of the books, and the books themselves."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Any, TypeVar

import orjson
import typer

from proxy.cli.books import ask_ledger
from proxy.cli.output import Column, print_json, print_table
from proxy.cli.places import Places
from proxy.edge.report import parse_by, parse_moment, parse_timezone, usage_object, write_cells, write_usage
from proxy.edge.spooling import read_chunks, spool
from proxy.files import parse_duration_s
from proxy.ledger.protocol import Ledger
from proxy.ledger.records import AttemptFilter, AttemptRow, UsageQuery, UsageSum
from proxy.money import UTC_NAME, format_usd
from proxy.usage import TOKEN_COUNTS

PAGE_ROWS = 1_000
"""Attempts read at a time: an export of any size needs the memory of one page."""
TOTAL = "total"

T = TypeVar("T")
_COUNTS = (*TOKEN_COUNTS, "images", "web_searches", "service_tier")


@dataclass(frozen=True, slots=True)
class UsageWishes:
    """What `usage` was told, as text."""

    by: str
    since: str | None = None
    until: str | None = None
    key: str | None = None
    tenant: str | None = None
    timezone: str = UTC_NAME


@dataclass(frozen=True, slots=True)
class ExportWishes:
    """What `export` was told, as text."""

    since: str | None = None
    until: str | None = None
    key: str | None = None
    tenant: str | None = None


def print_usage(places: Places, wishes: UsageWishes, *, as_csv: bool, as_json: bool) -> None:
    """Print sums over the books; raises `BadParameter` for a wish that cannot be read."""
    query = _read_wishes(wishes)
    if as_csv and not as_json:
        return _print_csv(places, query)

    async def read(ledger: Ledger) -> tuple[Sequence[UsageSum], UsageSum]:
        (total,) = await ledger.sum_usage(replace(query, by=()))
        return await ledger.sum_usage(query), total

    sums, total = ask_ledger(places, read)
    if as_json:
        print_json(usage_object(query, sums, total))
    else:
        _print_sums(query.by, sums, total)
    return None


def export_attempts(places: Places, wishes: ExportWishes, *, as_csv: bool) -> None:
    """Write every attempt that is wished for, oldest first."""
    since_s = read_since(wishes.since)
    only = AttemptFilter(
        until_s=_read_moment(wishes.until, "--until", is_end=True),
        key_name=wishes.key,
        tenant=wishes.tenant,
    )
    write = _write_csv() if as_csv else _write_jsonl

    async def read(ledger: Ledger) -> None:
        after_seq = 0
        while rows := await ledger.export(since_s=since_s, after_seq=after_seq, rows_max=PAGE_ROWS, only=only):
            sys.stdout.write(write(rows))
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
        "user": row.user,
        "tags": dict(row.tags),
        "upstream_key": row.upstream_key,
        "payer": row.payer,
        "saved_nano_usd": row.saved_nano_usd,
    }


def _time(at_s: float) -> str:
    """Write a moment as ISO 8601 in UTC, to the millisecond."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s))
    return f"{whole}.{int(at_s * 1000) % 1000:03d}Z"


def _print_csv(places: Places, query: UsageQuery) -> None:
    """Read everything before anything is printed: a reader who stops to think must not keep the books open."""
    write = write_usage("csv", query.by)

    async def read(ledger: Ledger) -> IO[bytes]:
        return await spool(write(page) async for page in ledger.walk_usage(query))

    for chunk in read_chunks(ask_ledger(places, read)):
        sys.stdout.write(chunk.decode())


def _write_jsonl(rows: Sequence[AttemptRow]) -> str:
    return "".join(orjson.dumps(attempt_object(row)).decode() + "\n" for row in rows)


def _write_csv() -> Callable[[Sequence[AttemptRow]], str]:
    write: Callable[[Iterable[Sequence[object]]], str] | None = None

    def write_page(rows: Sequence[AttemptRow]) -> str:
        nonlocal write
        shown = [_flatten(attempt_object(row)) for row in rows]
        write = write or write_cells(list(shown[0]))
        return write(list(one.values()) for one in shown)

    return write_page


def _flatten(shown: dict[str, Any]) -> dict[str, object]:
    """Make every value fit one cell."""
    tags = ", ".join(f"{name}={value}" for name, value in shown["tags"].items())
    return {**shown, "tags": tags}


def _read_wishes(wishes: UsageWishes) -> UsageQuery:
    by = _read(parse_by, wishes.by, "--by")
    timezone = _read(parse_timezone, wishes.timezone, "--timezone")
    return UsageQuery(
        by=by,
        from_s=_read_moment(wishes.since, "--from", is_end=False, timezone=timezone),
        to_s=_read_moment(wishes.until, "--to", is_end=True, timezone=timezone),
        key_name=wishes.key,
        tenant=wishes.tenant,
        timezone=timezone,
    )


def _read(parse: Callable[[str], T], text: str, flag: str) -> T:
    try:
        return parse(text)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"{error}", param_hint=flag) from error


def _read_moment(text: str | None, flag: str, *, is_end: bool, timezone: str = UTC_NAME) -> float | None:
    return None if text is None else _read(partial(parse_moment, is_end=is_end, timezone=timezone), text, flag)


def read_since(text: str | None) -> float | None:
    """Read a moment, or how far back from now it is."""
    if text is None:
        return None
    try:
        return time.time() - parse_duration_s(text)
    except ValueError:
        return _read(_parse_since, text, "--since")


def _parse_since(text: str) -> float:
    try:
        return parse_moment(text)
    except (ValueError, OverflowError) as error:
        msg = f"{error}, or how far back as 30d"
        raise ValueError(msg) from error


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
