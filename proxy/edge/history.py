"""What became of a key's requests (floor 5): `generation` and `activity`, in OpenRouter's shapes.

Only the calling key's own are shown, to the admin key everybody's. Fields that mean nothing here, or that the books do
not keep (a finish reason, the client's headers), are null; where OpenRouter's client libraries refuse null, they have
the value that says least. Amounts are JSON numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from proxy.edge.answers import iso_time, json_response, usd_number
from proxy.edge.services import Services
from proxy.errors import ClientError, NotFound
from proxy.gateway.attempt import CLIENT_LEFT
from proxy.ledger.records import AttemptRow, AttemptState, UsageQuery, UsageSum
from proxy.money import Period
from proxy.policy.calendar import find_window

ACTIVITY_DAYS = 30
"""`activity` goes back so many whole days; today is not over and not among them."""
ID_CHARS_MAX = 256
"""No request and no generation has a longer id."""
GENERATION_PREFIX = "gen-"
"""What `x-generation-id` puts before the id of a request."""

_DAY_S = 86_400
_FOREIGN_FILTERS = ("api_key_hash", "user_id", "workspace_id", "group_by")
_OPEN = frozenset({AttemptState.PENDING, AttemptState.UNRESOLVED})
_UNKNOWN = dict.fromkeys(
    (
        "session_id",
        "app_id",
        "native_finish_reason",
        "upstream_inference_cost",
        "cache_discount",
        "native_tokens_completion_images",
        "num_media_prompt",
        "num_media_completion",
        "num_input_audio_prompt",
        "num_search_results",
        "num_fetches",
        "web_search_engine",
        "moderation_latency",
        "http_referer",
        "user_agent",
        "external_user",
        "router",
        "preset_id",
        "service_tier",
        "response_cache_source_id",
        "workspace_id",
    )
)


class History:
    """The endpoints."""

    def __init__(self, services: Services) -> None:
        """Answer from these."""
        self._services = services

    async def show_generation(self, request: Request) -> Response:
        """`GET generation?id=`: one request, once it is over; another key's is as unknown as one that never was."""
        name = await self._services.find_whose(request)
        asked = request.query_params.get("id", "")
        if not asked:
            msg = "`id` is missing; send the x-generation-id or x-request-id of a reply, or the id in its body."
            raise ClientError(msg, param="id")
        rows = await self._find_rows(asked, name) if len(asked) <= ID_CHARS_MAX else ()
        if not rows or any(row.state in _OPEN for row in rows):
            msg = "This key has no generation of that id in the books; one is written when its reply has ended."
            raise NotFound(msg, param="id", code="generation_not_found")
        return json_response({"data": generation_object(rows)})

    async def show_activity(self, request: Request) -> Response:
        """`GET activity`: the last whole days in UTC, by model and provider, the newest day first."""
        name = await self._services.find_whose(request)
        asked = request.query_params
        foreign = next((name for name in _FOREIGN_FILTERS if asked.get(name)), None)
        if foreign is not None:
            raise ClientError(f"`{foreign}` is not available: only the calling key's own is shown.", param=foreign)
        ends_s = find_window(Period.DAY, self._services.clock.now_s()).starts_s
        begins_s = ends_s - ACTIVITY_DAYS * _DAY_S
        if text := asked.get("date"):
            begins_s = _read_day(text, begins_s, ends_s)
            ends_s = begins_s + _DAY_S
        query = UsageQuery(("day", "model", "provider"), from_s=begins_s, to_s=ends_s, key_name=name)
        sums = await self._services.ledger.sum_usage(query)
        newest_first = sorted(sums, key=lambda one: one.group[0], reverse=True)
        return json_response({"data": [activity_row(one) for one in newest_first]})

    async def _find_rows(self, asked: str, key_name: str | None) -> Sequence[AttemptRow]:
        """Look for our own ids first: the upstream's may repeat, ours do not."""
        ledger = self._services.ledger
        for request_id in dict.fromkeys((asked, asked.removeprefix(GENERATION_PREFIX))):
            rows = await ledger.find_request(request_id)
            if rows and key_name in {None, rows[0].key}:
                return rows
        if key_name is None:
            return ()
        return await ledger.find_generation(asked, key_name=key_name)


def generation_object(rows: Sequence[AttemptRow]) -> dict[str, Any]:
    """Give one request in OpenRouter's words; tokens and cost are those booked for all its attempts together.

    `cost_source` and `unknown_cost` are ours: a cost nobody knows is left out of the sum, which must be a number.
    """
    last = rows[-1]
    cost = usd_number(sum(row.cost_nano_usd or 0 for row in rows))
    tokens_prompt = sum(row.usage.input_tokens for row in rows)
    tokens_completion = sum(row.usage.output_tokens for row in rows)
    return {
        **_UNKNOWN,
        "id": f"{GENERATION_PREFIX}{last.request_id}",
        "upstream_id": last.generation_id,
        "request_id": last.request_id,
        "model": last.model,
        "provider_name": last.provider,
        "api_type": "completions",
        "created_at": iso_time(rows[0].at_s),
        "streamed": last.is_stream,
        "cancelled": last.error == CLIENT_LEFT,
        "finish_reason": "error" if last.error not in {None, CLIENT_LEFT} else None,
        "total_cost": cost,
        "usage": cost,
        "is_byok": any(row.usage.is_byok for row in rows),
        "tokens_prompt": tokens_prompt,
        "tokens_completion": tokens_completion,
        "native_tokens_prompt": tokens_prompt,
        "native_tokens_completion": tokens_completion,
        "native_tokens_reasoning": sum(row.usage.reasoning_tokens for row in rows),
        "native_tokens_cached": sum(row.usage.cached_tokens for row in rows),
        "latency": _latency_ms(rows),
        "generation_time": _generation_ms(last),
        "origin": "",
        "data_region": "global",
        "provider_responses": [_provider_response(row) for row in rows],
        "cost_source": last.cost_source,
        "unknown_cost": sum(row.state is AttemptState.POSTED and row.cost_nano_usd is None for row in rows),
    }


def activity_row(one: UsageSum) -> dict[str, Any]:
    """Give one day's part of one model at one provider."""
    day, model, provider = one.group
    return {
        "date": day,
        "model": model,
        "model_permaslug": model,
        "endpoint_id": _endpoint_id(provider, model),
        "provider_name": provider,
        "requests": one.requests,
        "prompt_tokens": one.input_tokens,
        "completion_tokens": one.output_tokens,
        "reasoning_tokens": one.reasoning_tokens,
        "cached_tokens": one.cached_tokens,
        "usage": usd_number(one.cost_nano_usd),
        "byok_usage_inference": 0,
    }


def _provider_response(row: AttemptRow) -> dict[str, Any]:
    """Give one attempt; what is not known of it is left out, as null is refused there."""
    given = {"id": row.generation_id, "latency": row.latency_ms}
    return {
        "provider_name": row.provider,
        "endpoint_id": _endpoint_id(row.provider, row.model),
        "model_permaslug": row.model,
        "status": row.status,
        "is_byok": row.usage.is_byok,
        **{name: value for name, value in given.items() if value is not None},
    }


def _endpoint_id(provider: str, model: str) -> str:
    return f"{provider}/{model}"


def _latency_ms(rows: Sequence[AttemptRow]) -> int | None:
    """Measure from the beginning of the first attempt to the end of the last; unknown when its process died."""
    first, last = rows[0], rows[-1]
    return None if last.latency_ms is None else round((last.at_s - first.at_s) * 1000) + last.latency_ms


def _generation_ms(last: AttemptRow) -> int | None:
    """Measure a stream from its first token on; a JSON answer comes in one piece, and all of it is generation."""
    if last.latency_ms is None or not last.is_stream:
        return last.latency_ms
    return last.latency_ms - (last.first_token_ms or 0)


def _read_day(text: str, begins_s: int, ends_s: int) -> int:
    """Read a day of the span as its first second."""
    try:
        day = date.fromisoformat(text)
        starts_s = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    except ValueError:
        starts_s = -1
    if not begins_s <= starts_s < ends_s:
        msg = f"`date` must be one of the last {ACTIVITY_DAYS} whole days in UTC, written as 2026-11-20."
        raise ClientError(msg, param="date")
    return starts_s
