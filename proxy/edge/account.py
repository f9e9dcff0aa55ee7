"""What a key may know of itself (floor 5): `key`, `credits`, `usage`, `stats`; the admin key sees all keys together.

`key` and `credits` have OpenRouter's shapes on both prefixes, filled from our ledger, with JSON numbers; `usage`,
`stats` and the `budgets` inside `key` are ours, with decimal strings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from proxy.edge.answers import iso_time, json_response, usd_number
from proxy.edge.report import parse_by, parse_moment, parse_timezone, usage_object, write_usage
from proxy.edge.services import Services
from proxy.edge.spooling import read_chunks, spool
from proxy.errors import ClientError
from proxy.ledger.records import BudgetState, KeyRecord, UsageQuery, UsageSum
from proxy.money import AMOUNT_NANO_USD_MAX, UTC_NAME, Period, format_usd
from proxy.policy.calendar import find_window
from proxy.policy.limits import Measure, Rate, format_rate
from proxy.policy.scopes import GLOBAL

STATS_SPAN_S = 86_400
"""What `stats` looks back on unless told `since`."""
CREDITS_WITHOUT_LIMIT_NANO_USD = AMOUNT_NANO_USD_MAX
"""`credits` of a key without a budget: never null, and far above anything a client would warn of."""

GROUPS_MAX = 10_000
"""Groups in one JSON answer; CSV and lines have no limit."""

T = TypeVar("T")
_MEDIA_TYPES = {"json": "application/json", "csv": "text/csv", "jsonl": "application/x-ndjson"}
ADMINISTRATOR = KeyRecord("admin", digest="")
"""What the admin key is shown as: no key of the ledger's, it sees them all."""

_RESETS = {"day": "daily", "week": "weekly", "month": "monthly"}
"""OpenRouter's words; it has none for an hour or for all time."""


class Account:
    """The endpoints."""

    def __init__(self, services: Services) -> None:
        """Answer from these."""
        self._services = services

    async def show_key(self, request: Request) -> Response:
        """`GET key`: what the key has used, what it may still use."""
        now_s = self._services.clock.now_s()
        record = await self._find_record(request)
        name = None if record is ADMINISTRATOR else record.name
        budgets = await self._budgets(name, now_s)
        used = {
            figure: usd_number(await self._spent(name, period, now_s))
            for figure, period in (
                ("usage", Period.TOTAL),
                ("usage_daily", Period.DAY),
                ("usage_weekly", Period.WEEK),
                ("usage_monthly", Period.MONTH),
            )
        }
        return json_response({"data": {**_key_fields(record), **used, **_limit_fields(budgets)}})

    async def show_credits(self, request: Request) -> Response:
        """`GET credits`: total less used is what the key's budget has left in its period."""
        name = await self._services.find_whose(request)
        now_s = self._services.clock.now_s()
        used = await self._spent(name, Period.TOTAL, now_s)
        budget = _tightest(await self._budgets(name, now_s))
        total = CREDITS_WITHOUT_LIMIT_NANO_USD
        if budget is not None:
            total = used + max(0, budget.limit_nano_usd - budget.posted_nano_usd)
        return json_response({"data": {"total_credits": usd_number(total), "total_usage": usd_number(used)}})

    async def show_usage(self, request: Request) -> Response:
        """`GET usage`: sums over the key's own attempts, as JSON, lines or CSV."""
        name = await self._services.find_whose(request)
        query = _read_query(request, name)
        form = request.query_params.get("format", "json")
        if form not in _MEDIA_TYPES:
            raise ClientError(f"format {form[:40]!r} is unknown; there are json, csv and jsonl.", param="format")
        if form != "json":
            return await self._send_usage(query, form)
        sums = await self._services.ledger.sum_usage(replace(query, groups_max=GROUPS_MAX + 1))
        if len(sums) > GROUPS_MAX:
            msg = f"There are more than {GROUPS_MAX} groups; ask for fewer dimensions or days, or for format=csv."
            raise ClientError(msg, param="by")
        return json_response(usage_object(query, sums, await self._total(query)))

    async def _send_usage(self, query: UsageQuery, form: str) -> Response:
        write = write_usage(form, query.by)
        file = await spool(write(page) async for page in self._services.ledger.walk_usage(query))
        headers = {"content-disposition": f'attachment; filename="usage.{form}"', "cache-control": "no-store"}
        return StreamingResponse(read_chunks(file), headers=headers, media_type=_MEDIA_TYPES[form])

    async def show_stats(self, request: Request) -> Response:
        """`GET stats`: how each provider did lately, for this key."""
        name = await self._services.find_whose(request)
        since_s = _read_moment(request, "since")
        if since_s is None:
            since_s = self._services.clock.now_s() - STATS_SPAN_S
        total = await self._total(UsageQuery(from_s=since_s, key_name=name))
        providers = await self._services.ledger.provider_stats(since_s=since_s, key_name=name)
        return json_response(
            {
                "since": iso_time(since_s),
                "requests": total.requests,
                "failed": total.failed,
                "cost_usd": format_usd(total.cost_nano_usd),
                "providers": {
                    one.provider: {
                        "requests": one.requests,
                        "failed": one.failed,
                        "cost_usd": format_usd(one.cost_nano_usd),
                        "p50_first_token_ms": one.first_token_ms_p50,
                    }
                    for one in providers
                },
                "strategies": {},
            }
        )

    async def _find_record(self, request: Request) -> KeyRecord:
        """Give the calling key; the admin key is none, and stands for all of them."""
        if await self._services.find_whose(request) is None:
            return ADMINISTRATOR
        return await self._services.authenticator.find(request.scope["headers"])

    async def _budgets(self, key_name: str | None, now_s: float) -> Sequence[BudgetState]:
        """Give a key's budgets, or those of the whole gateway."""
        if key_name is not None:
            return await self._services.ledger.budgets(key_name, now_s)
        return [one for one in await self._services.ledger.list_budgets(now_s) if one.scope == GLOBAL]

    async def _spent(self, key_name: str | None, period: Period, now_s: float) -> int:
        from_s = None if period is Period.TOTAL else find_window(period, now_s).starts_s
        return (await self._total(UsageQuery(from_s=from_s, key_name=key_name))).cost_nano_usd

    async def _total(self, query: UsageQuery) -> UsageSum:
        (total,) = await self._services.ledger.sum_usage(replace(query, by=()))
        return total


def _read_query(request: Request, key_name: str | None) -> UsageQuery:
    asked = request.query_params
    by = _read("by", parse_by, asked.get("by", ""))
    timezone = _read("timezone", parse_timezone, asked.get("timezone") or UTC_NAME)
    from_s = _read_moment(request, "from", timezone=timezone)
    to_s = _read_moment(request, "to", is_end=True, timezone=timezone)
    return UsageQuery(by=by, from_s=from_s, to_s=to_s, key_name=key_name, timezone=timezone)


def _read(name: str, parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except (ValueError, OverflowError) as error:
        raise ClientError(f"`{name}`: {error}.", param=name) from error


def _read_moment(request: Request, name: str, *, is_end: bool = False, timezone: str = UTC_NAME) -> float | None:
    text = request.query_params.get(name)
    return _read(name, partial(parse_moment, is_end=is_end, timezone=timezone), text) if text else None


def _key_fields(record: KeyRecord) -> dict[str, Any]:
    """Give the fields OpenRouter's strict client libraries demand and that mean nothing here."""
    return {
        "label": record.name,
        "include_byok_in_limit": False,
        "byok_usage": 0,
        "byok_usage_daily": 0,
        "byok_usage_weekly": 0,
        "byok_usage_monthly": 0,
        "is_free_tier": False,
        "is_management_key": record is ADMINISTRATOR,
        "is_provisioning_key": record is ADMINISTRATOR or record.may_create_keys,
        "expires_at": iso_time(record.expires_at_s),
        "creator_user_id": None,
        "organization_id": None,
        "workspace_id": None,
        "allowed_data_regions": [],
        "effective_budget": None,
        "free_model_daily_requests": {"limit": 0, "remaining": 0, "used": 0},
        "rate_limit": _rate_limit(record.limits.rates),
        "rate": _rate_texts(record.limits.rates),
        "parallel": record.limits.parallel,
    }


def _rate_texts(rates: Sequence[Rate]) -> str | list[str] | None:
    """Give the key's own rates in the words of routes.yaml: one, or a list of them; None: it has none."""
    texts = [format_rate(rate) for rate in rates]
    return texts[0] if len(texts) == 1 else texts or None


def _rate_limit(rates: Sequence[Rate]) -> dict[str, Any]:
    """Give the slowest of the key's rates of requests as OpenRouter does; -1 stands for none."""
    counting = [rate for rate in rates if rate.measure is Measure.REQUESTS]
    if not counting:
        return {"requests": -1, "interval": "10s", "note": "No limit of requests is set."}
    slowest = min(counting, key=lambda rate: rate.limit / rate.window_s)
    return {"requests": slowest.limit, "interval": f"{slowest.window_s}s", "note": "In any stretch of so long."}


def _limit_fields(budgets: Sequence[BudgetState]) -> dict[str, Any]:
    budget = _tightest(budgets)
    shown = [_budget_fields(one) for one in budgets]
    if budget is None:
        return {"limit": None, "limit_remaining": None, "limit_reset": None, "budgets": shown}
    return {
        "limit": usd_number(budget.limit_nano_usd),
        "limit_remaining": usd_number(_left(budget)),
        "limit_reset": _RESETS.get(budget.period),
        "budgets": shown,
    }


def _budget_fields(budget: BudgetState) -> dict[str, Any]:
    """Give one budget in our words, then the rest of OpenRouter's entry, so that its SDK reads it too."""
    return {
        "scope": budget.scope,
        "period": budget.period,
        "limit_usd": format_usd(budget.limit_nano_usd),
        "posted_usd": format_usd(budget.posted_nano_usd),
        "held_usd": format_usd(budget.held_nano_usd),
        "resets_at": iso_time(budget.resets_at_s),
        "spend_usd": format_usd(budget.posted_nano_usd),
        "remaining_usd": format_usd(_left(budget)),
        "reset_interval": _RESETS.get(budget.period),
        "include_byok": True,
        "budget_id": None,
        "guardrail_id": None,
    }


def _left(budget: BudgetState) -> int:
    return max(0, budget.limit_nano_usd - budget.posted_nano_usd - budget.held_nano_usd)


def _tightest(budgets: Sequence[BudgetState]) -> BudgetState | None:
    """Give the wall nearest to being met; a soft budget refuses nobody."""
    return min((budget for budget in budgets if not budget.is_soft), key=_left, default=None)
