"""Records to the SQLite ledger's parameters and back (floor 2); the order of columns is that of `queries.sql`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import orjson

from proxy.ledger.admission import PendingAttempt, Reserve
from proxy.ledger.records import AttemptEnd, AttemptRow, AttemptStart, AttemptState, KeyRecord, UsageSum
from proxy.ledger.rolling import DayRow
from proxy.ledger.rules import read_limits
from proxy.policy.limits import NO_LIMITS
from proxy.policy.scopes import Subject
from proxy.usage import CostSource, Usage

Row = Sequence[Any]
Tags = tuple[tuple[str, str], ...]
_PLAIN_FIELDS = Usage._fields.index("anomalies") + 1
RARE = Usage._fields[_PLAIN_FIELDS:]
"""Of usage, what few answers have: together in one column."""
_NOTHING_RARE = Usage()[_PLAIN_FIELDS:]
_SOURCES = (CostSource.REPORTED, CostSource.COMPUTED, CostSource.ESTIMATED, CostSource.HELD)
_SUMS = (
    "requests",
    "failed",
    "fallbacks",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "audio_input_tokens",
    "reasoning_tokens",
    "audio_output_tokens",
    "cost_nano_usd",
    "held_nano_usd",
    "saved_nano_usd",
    "unknown_cost",
    "overruns",
    "cache_hits",
)
"""Columns of `sum_usage` between the dimensions and the sources."""


def write_end(end: AttemptEnd, at_s: float, seq: int) -> Row:
    """Give the parameters of `end_attempt`.

    Values of exactly SQLite's types: a bool or an enum among them would be looked up in a table of adapters each time.
    """
    return (
        end.state.value,
        at_s,
        end.cost_nano_usd if end.state is AttemptState.POSTED else 0,
        end.cost_source and end.cost_source.value,
        int(end.is_overrun),
        end.status,
        end.error,
        end.latency_ms,
        end.first_token_ms,
        end.generation_id,
        *write_usage(end.usage),
        end.saved_nano_usd,
        seq,
    )


def write_usage(usage: Usage) -> Row:
    """Give the parameters that say what was used, from the input tokens to what is rare."""
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.cache_write_1h_tokens,
        usage.audio_input_tokens,
        usage.reasoning_tokens,
        usage.audio_output_tokens,
        usage.cost_nano_usd,
        int(usage.is_byok),
        json.dumps(usage.anomalies) if usage.anomalies else None,
        None if usage[_PLAIN_FIELDS:] == _NOTHING_RARE else _write_rare(usage),
    )


def read_attempt(row: Row) -> AttemptRow:
    """Read a row of `export_attempts` or `find_request`."""
    (*head, is_stream, status, hold, cost, source, latency, first_token, error, generation_id, is_overrun) = row[:21]
    seq, request_id, number, state, at_s, key, tenant, app, route, provider, model = head
    user, tags, upstream_key, payer, saved_nano_usd, alias = row[-6:]
    return AttemptRow(
        seq=seq,
        request_id=request_id,
        attempt=number,
        state=AttemptState(state),
        at_s=at_s,
        key=key,
        tenant=tenant,
        app=app,
        route=route,
        provider=provider,
        model=model,
        is_stream=bool(is_stream),
        status=status,
        usage=_read_usage(row[21:-6]),
        hold_nano_usd=hold,
        cost_nano_usd=cost,
        cost_source=None if source is None else CostSource(source),
        latency_ms=latency,
        first_token_ms=first_token,
        error=error,
        generation_id=generation_id,
        is_overrun=bool(is_overrun),
        user=user,
        tags=read_tags(tags),
        upstream_key=upstream_key,
        payer=payer,
        saved_nano_usd=saved_nano_usd,
        alias=alias,
    )


def write_start(start: AttemptStart, *, reserve: Reserve | None) -> Row:
    """Give the parameters of `begin_attempt` that differ between a request's attempts, from the provider on."""
    charged = None if reserve is None else orjson.dumps((reserve.tokens, reserve.slots)).decode()
    priced = int(start.is_priced)
    return (start.provider, start.model, start.hold_nano_usd, priced, start.upstream_key, start.payer, charged)


def write_tags(tags: Tags) -> str | None:
    """Write tags as the text of their column."""
    return json.dumps(tags) if tags else None


def read_tags(text: str | None) -> Tags:
    """Read the column of tags."""
    return tuple((name, value) for name, value in json.loads(text)) if text else ()


def read_pending(row: Row) -> PendingAttempt:
    """Read a row of `find_pending` or `find_pending_of_owner`, or the end of one of `find_booked`."""
    seq, request_id, number, at_s, hold_nano_usd, is_priced, charged, *who = row
    key_name, tenant, user, tags, *rest = who
    subject = Subject(key_name, tenant, user, read_tags(tags), *rest)
    reserve = None if charged is None else _read_reserve(charged)
    return PendingAttempt(seq, request_id, number, at_s, hold_nano_usd, is_priced, reserve, subject)


def _read_reserve(text: str) -> Reserve:
    tokens, slots = json.loads(text)
    return Reserve(tokens, tuple((scope, window_s, slot) for scope, window_s, slot in slots))


def _read_usage(row: Row) -> Usage:
    input_tokens, output_tokens, cached, cache_write, cache_write_1h, audio_input, *rest = row
    reasoning, audio_output, reported_nano_usd, is_byok, anomalies, rare = rest
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=cached,
        cache_write_tokens=cache_write,
        cache_write_1h_tokens=cache_write_1h,
        audio_input_tokens=audio_input,
        reasoning_tokens=reasoning,
        audio_output_tokens=audio_output,
        cost_nano_usd=reported_nano_usd,
        is_byok=bool(is_byok),
        anomalies=tuple(json.loads(anomalies)) if anomalies else (),
        **(json.loads(rare) if rare else {}),
    )


def _write_rare(usage: Usage) -> str:
    """Give the counts without a column of their own, those that are not 0."""
    return json.dumps({name: value for name in RARE if (value := getattr(usage, name))})


def write_day(day: DayRow) -> Row:
    """Give the parameters of `add_day`."""
    key_name, tenant, user, tags, alias, provider, model, upstream_key, payer, *_rest = day.subject
    return (
        day.batch,
        day.number,
        int(day.is_last),
        day.day_s,
        day.app,
        day.route,
        *(key_name, tenant, user, write_tags(tags), alias, provider, model, upstream_key, payer),
        *(day.requests, day.failed, day.unknown_cost, day.overruns, day.cache_hits),
        *day.tokens,
        day.saved_nano_usd,
        day.cost_nano_usd,
        *day.costs,
    )


def write_key(key: KeyRecord) -> Row:
    """Give the parameters of `insert_key`."""
    return (
        key.name,
        key.digest,
        key.tenant,
        None if key.models is None else json.dumps(key.models),
        key.default_model,
        json.dumps(dict(key.params), sort_keys=True),
        key.is_declared,
        key.is_enabled,
        key.created_at_s,
        key.expires_at_s,
        key.revision,
        key.parent,
        int(key.may_create_keys),
        key.max_cost_nano_usd,
        int(key.is_revoked),
        key.updated_at_s,
        key.former_digest,
        key.former_until_s,
    )


def write_key_change(key: KeyRecord) -> Row:
    """Give the parameters of `replace_key`: all but the moment of creation, the revision and who made it."""
    name, *rest = write_key(key)
    changing, (_created_at_s, expires_at_s, _revision, _parent), more = rest[:7], rest[7:11], rest[11:]
    return (*changing, expires_at_s, *more, name)


def read_key(row: Row) -> KeyRecord:
    """Read a row of `find_key_by_digest`, `find_key_by_name` or `list_keys`."""
    name, digest, tenant, rules, models, default_model, params, *rest = row
    is_declared, is_enabled, created_at_s, expires_at_s, revision, *more = rest
    parent, may_create_keys, max_cost_nano_usd, is_revoked, updated_at_s, *former, is_walled = more
    former_digest, former_until_s = former
    return KeyRecord(
        name=name,
        digest=digest,
        tenant=tenant,
        limits=NO_LIMITS if rules is None else read_limits(rules),
        models=None if models is None else tuple(json.loads(models)),
        default_model=default_model,
        params=json.loads(params),
        is_declared=bool(is_declared),
        is_enabled=bool(is_enabled),
        created_at_s=created_at_s,
        expires_at_s=expires_at_s,
        revision=revision,
        parent=parent,
        may_create_keys=bool(may_create_keys),
        max_cost_nano_usd=max_cost_nano_usd,
        is_revoked=bool(is_revoked),
        updated_at_s=updated_at_s,
        former_digest=former_digest,
        former_until_s=former_until_s,
        is_walled=bool(is_walled),
    )


def read_sum(row: Row, dimensions: int) -> UsageSum:
    """Read a row of `sum_usage` with that many dimensions before its sums; a dimension without a value is ""."""
    sums, by_source = row[dimensions : -len(_SOURCES)], row[-len(_SOURCES) :]
    return UsageSum(
        group=tuple(row[:dimensions]),
        cost_by_source={
            source.value: cost for source, cost in zip(_SOURCES, by_source, strict=True) if cost is not None
        },
        **dict(zip(_SUMS, sums, strict=True)),
    )
