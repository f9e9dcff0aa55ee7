"""Attempts summed by day, before their detail goes (floor 2, pure).

Requests of one *batch* had everything in common but their moments and their amounts, attempt by attempt. So a batch can
stand for them in every question that counts a request once in each group it touched, and no sum changes.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from proxy.ledger.records import HOLDING, AttemptRow, AttemptState
from proxy.policy.scopes import Subject
from proxy.usage import CostSource, Usage

DAY_S = 86_400
_BATCH_BYTES = 16
_TOKENS = Usage._fields[:8]
_SOURCES = (CostSource.REPORTED, CostSource.COMPUTED, CostSource.ESTIMATED, CostSource.HELD)


class DayRow(NamedTuple):
    """One attempt of all requests of a batch."""

    batch: str
    number: int
    is_last: bool
    day_s: int
    app: str | None
    route: str
    subject: Subject
    requests: int
    failed: int
    """Of the requests, in the end."""
    unknown_cost: int
    overruns: int
    cache_hits: int
    tokens: tuple[int, ...]
    """In the order of `Usage`."""
    saved_nano_usd: int
    cost_nano_usd: int
    costs: tuple[int | None, ...]
    """By source, reported first; None: nothing was booked from it."""


def floor_day_s(at_s: float) -> int:
    """Give the beginning of a moment's day, UTC."""
    return int(at_s // DAY_S) * DAY_S


def sum_days(rows: Iterable[AttemptRow]) -> list[DayRow]:
    """Sum whole requests; `rows` are all their attempts, a request's together and in order."""
    batches: dict[str, list[Sequence[AttemptRow]]] = {}
    for _request_id, found in groupby(rows, key=attrgetter("request_id")):
        attempts = list(found)
        batches.setdefault(_digest(attempts), []).append(attempts)
    return [
        _sum_attempt(batch, of_number, requests)
        for batch, requests in batches.items()
        for of_number in zip(*requests, strict=True)
    ]


def forget_detail(attempts: Sequence[AttemptRow], before_s: int, *, asked: Container[int]) -> list[AttemptRow]:
    """Give what is left of a request in books that sum anew each time; nothing when it is too young or not over.

    `asked` are the attempts, by seq, whose provider is still to be asked. The id, which may come back, is not left.
    """
    if not all(row.at_s < before_s and row.state not in HOLDING and row.seq not in asked for row in attempts):
        return []
    name = f"{attempts[0].request_id} {attempts[0].seq}"
    return [replace(row, request_id=name, at_s=row.at_s // DAY_S * DAY_S) for row in attempts]


def subject_of_row(row: AttemptRow) -> Subject:
    """Give an attempt as limits see it."""
    alias = row.alias or row.route
    return Subject(row.key, row.tenant, row.user, row.tags, alias, row.provider, row.model, row.upstream_key, row.payer)


def _digest(attempts: Sequence[AttemptRow]) -> str:
    way = [(row.attempt, floor_day_s(row.at_s), row.app, row.route, subject_of_row(row)) for row in attempts]
    return blake2b(json.dumps(way).encode(), digest_size=_BATCH_BYTES).hexdigest()


def _sum_attempt(batch: str, rows: Sequence[AttemptRow], requests: Sequence[Sequence[AttemptRow]]) -> DayRow:
    first = rows[0]
    posted = [row for row in rows if row.state is AttemptState.POSTED]
    by_source = [[row.cost_nano_usd or 0 for row in posted if row.cost_source is source] for source in _SOURCES]
    return DayRow(
        batch=batch,
        number=first.attempt,
        is_last=first is requests[0][-1],
        day_s=floor_day_s(first.at_s),
        app=first.app,
        route=first.route,
        subject=subject_of_row(first),
        requests=len(requests),
        failed=sum(attempts[-1].error is not None for attempts in requests),
        unknown_cost=sum(row.cost_nano_usd is None for row in posted),
        overruns=sum(row.is_overrun for row in rows),
        cache_hits=sum(row.saved_nano_usd is not None for row in rows),
        tokens=tuple(sum(getattr(row.usage, name) for row in rows) for name in _TOKENS),
        saved_nano_usd=sum(row.saved_nano_usd or 0 for row in rows),
        cost_nano_usd=sum(row.cost_nano_usd or 0 for row in posted),
        costs=tuple(sum(costs) if costs else None for costs in by_source),
    )
