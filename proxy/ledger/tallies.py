"""Sums over attempts in plain Python (floor 2, pure): what `queries.sql` says in SQL, for the twin in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

from proxy.ledger.records import (
    HOLDING,
    TAG_PREFIX,
    AttemptFilter,
    AttemptRow,
    AttemptState,
    ProviderStats,
    UsageQuery,
    UsageSum,
)
from proxy.ledger.summing import check_dimensions
from proxy.usage import CostSource, Usage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_FORMS = {"hour": "%Y-%m-%dT%H:00", "day": "%Y-%m-%d", "month": "%Y-%m"}
_LABELS: Mapping[str, Callable[[AttemptRow], str | None]] = {
    "key": lambda row: row.key,
    "tenant": lambda row: row.tenant,
    "app": lambda row: row.app,
    "user": lambda row: row.user,
    "payer": lambda row: row.payer,
    "route": lambda row: row.route,
    "provider": lambda row: row.provider,
    "model": lambda row: row.model,
}
_TOKENS = Usage._fields[:8]


def sum_usage(rows: Sequence[AttemptRow], query: UsageQuery, *, rolled: frozenset[int] = frozenset()) -> list[UsageSum]:
    """Sum attempts by the query's dimensions; `rows` is all there is, ValueError names an unknown dimension.

    Of attempts whose seq is in `rolled` only the day is known.
    """
    check_dimensions(query.by)
    only = AttemptFilter(query.to_s, query.key_name, query.tenant)
    requests: dict[str, list[AttemptRow]] = defaultdict(list)
    groups: dict[tuple[str, ...], list[AttemptRow]] = {} if query.by else {(): []}
    for row in rows:
        requests[row.request_id].append(row)
        if is_wanted(row, query.from_s, only):
            for group in _find_groups(row, query, is_rolled=row.seq in rolled):
                groups.setdefault(group, []).append(row)
    return [_sum_group(group, found, requests) for group, found in sorted(groups.items())][: query.groups_max]


def _find_groups(row: AttemptRow, query: UsageQuery, *, is_rolled: bool) -> set[tuple[str, ...]]:
    """Give every group an attempt counts in: several only by `tag`."""
    labels = [_find_labels(word, row, query.timezone, is_rolled=is_rolled) for word in query.by]
    return set(product(*labels))


def _find_labels(word: str, row: AttemptRow, timezone: str, *, is_rolled: bool) -> Sequence[str]:
    if word == "tag":
        return [f"{name}={value}" for name, value in row.tags] or [""]
    if word.startswith(TAG_PREFIX):
        return [dict(row.tags).get(word.removeprefix(TAG_PREFIX), "")]
    if word not in _TIME_FORMS:
        return [_LABELS[word](row) or ""]
    moment = _EPOCH + timedelta(seconds=int(row.at_s))
    if is_rolled:
        return [moment.strftime(_TIME_FORMS["day" if word == "hour" else word])]
    return [moment.astimezone(ZoneInfo(timezone)).strftime(_TIME_FORMS[word])]


def sum_providers(rows: Iterable[AttemptRow]) -> list[ProviderStats]:
    """Sum attempts by provider; the median is the lower one of two."""
    by_provider: dict[str, list[AttemptRow]] = defaultdict(list)
    for row in rows:
        by_provider[row.provider].append(row)
    return [_sum_provider(provider, found) for provider, found in sorted(by_provider.items())]


def is_wanted(row: AttemptRow, since_s: float | None, only: AttemptFilter) -> bool:
    """Tell whether an attempt is one of those asked for."""
    return (
        (since_s is None or row.at_s >= since_s)
        and (only.until_s is None or row.at_s < only.until_s)
        and only.key_name in {None, row.key}
        and only.tenant in {None, row.tenant}
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
        **{name: sum(getattr(row.usage, name) for row in found) for name in _TOKENS},
        cost_nano_usd=_sum_costs(posted),
        held_nano_usd=sum(row.hold_nano_usd for row in found if row.state in HOLDING),
        unknown_cost=sum(row.cost_nano_usd is None for row in posted),
        overruns=sum(row.is_overrun for row in found),
        cache_hits=sum(row.saved_nano_usd is not None for row in found),
        saved_nano_usd=sum(row.saved_nano_usd or 0 for row in found),
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
