"""Sums over attempts in plain Python (floor 2, pure): what `queries.sql` says in SQL, for the twin in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from proxy.ledger.records import HOLDING, AttemptRow, AttemptState, ProviderStats, UsageQuery, UsageSum
from proxy.usage import CostSource

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _format_time(form: str) -> Callable[[AttemptRow], str]:
    return lambda row: (_EPOCH + timedelta(seconds=int(row.at_s))).strftime(form)


_DIMENSIONS: Mapping[str, Callable[[AttemptRow], str | None]] = {
    "key": lambda row: row.key,
    "tenant": lambda row: row.tenant,
    "app": lambda row: row.app,
    "user": lambda row: row.user,
    "payer": lambda row: row.payer,
    "route": lambda row: row.route,
    "provider": lambda row: row.provider,
    "model": lambda row: row.model,
    "hour": _format_time("%Y-%m-%dT%H:00"),
    "day": _format_time("%Y-%m-%d"),
    "month": _format_time("%Y-%m"),
}


def sum_usage(rows: Sequence[AttemptRow], query: UsageQuery) -> list[UsageSum]:
    """Sum attempts by the query's dimensions; `rows` is all there is, ValueError names an unknown dimension."""
    unknown = [word for word in query.by if word not in _DIMENSIONS]
    if unknown:
        raise ValueError(f"usage cannot be summed by {', '.join(unknown)}")
    requests: dict[str, list[AttemptRow]] = defaultdict(list)
    groups: dict[tuple[str, ...], list[AttemptRow]] = {} if query.by else {(): []}
    for row in rows:
        requests[row.request_id].append(row)
        if _is_wanted(row, query):
            groups.setdefault(tuple(_DIMENSIONS[word](row) or "" for word in query.by), []).append(row)
    return [_sum_group(group, found, requests) for group, found in sorted(groups.items())]


def sum_providers(rows: Iterable[AttemptRow]) -> list[ProviderStats]:
    """Sum attempts by provider; the median is the lower one of two."""
    by_provider: dict[str, list[AttemptRow]] = defaultdict(list)
    for row in rows:
        by_provider[row.provider].append(row)
    return [_sum_provider(provider, found) for provider, found in sorted(by_provider.items())]


def _is_wanted(row: AttemptRow, query: UsageQuery) -> bool:
    return (
        (query.from_s is None or row.at_s >= query.from_s)
        and (query.to_s is None or row.at_s < query.to_s)
        and query.key_name in {None, row.key}
    )


def _sum_group(
    group: tuple[str, ...], found: Sequence[AttemptRow], requests: Mapping[str, Sequence[AttemptRow]]
) -> UsageSum:
    touched = [requests[request_id] for request_id in {row.request_id for row in found}]
    posted = [row for row in found if row.state is AttemptState.POSTED]
    sources = {row.cost_source for row in posted} - {None, CostSource.UNKNOWN}
    return UsageSum(
        group=group,
        requests=len(touched),
        failed=sum(max(attempts, key=lambda row: row.attempt).error is not None for attempts in touched),
        fallbacks=sum(len(attempts) > 1 for attempts in touched),
        input_tokens=sum(row.usage.input_tokens for row in found),
        output_tokens=sum(row.usage.output_tokens for row in found),
        cached_tokens=sum(row.usage.cached_tokens for row in found),
        reasoning_tokens=sum(row.usage.reasoning_tokens for row in found),
        cost_nano_usd=_sum_costs(posted),
        held_nano_usd=sum(row.hold_nano_usd for row in found if row.state in HOLDING),
        overruns=sum(row.is_overrun for row in found),
        unknown_cost=sum(row.cost_nano_usd is None for row in posted),
        cost_by_source={
            source.value: _sum_costs(row for row in posted if row.cost_source is source)
            for source in CostSource
            if source in sources
        },
    )


def _sum_provider(provider: str, found: Sequence[AttemptRow]) -> ProviderStats:
    first_tokens = sorted(row.first_token_ms for row in found if row.first_token_ms is not None)
    return ProviderStats(
        provider=provider,
        requests=len(found),
        failed=sum(row.error is not None for row in found),
        cost_nano_usd=_sum_costs(found),
        first_token_ms_p50=first_tokens[(len(first_tokens) - 1) // 2] if first_tokens else None,
    )


def _sum_costs(rows: Iterable[AttemptRow]) -> int:
    return sum(row.cost_nano_usd or 0 for row in rows)
