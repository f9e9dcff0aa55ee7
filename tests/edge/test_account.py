"""What a key learns of itself: its limits and money, its usage, and nobody else's."""

from __future__ import annotations

import csv
import io
import json

import pytest

from proxy.edge import account
from proxy.money import Budget, Period
from proxy.policy.limits import Limits, Measure, Rate
from tests.edge.desk import NOW_S, Desk

PREFIXES = ["/v1", "/api/v1"]
PATHS = [
    "models",
    "models/chat",
    "models/user",
    "models/count",
    "models/chat/endpoints",
    "model/chat",
    "providers",
    "key",
    "credits",
    "generation?id=x",
    "activity",
    "usage",
    "stats",
]
KEY_FIELDS = {
    "label",
    "limit",
    "limit_remaining",
    "limit_reset",
    "include_byok_in_limit",
    "usage",
    "usage_daily",
    "usage_weekly",
    "usage_monthly",
    "byok_usage",
    "byok_usage_daily",
    "byok_usage_weekly",
    "byok_usage_monthly",
    "is_free_tier",
    "is_management_key",
    "is_provisioning_key",
    "expires_at",
    "creator_user_id",
    "organization_id",
    "workspace_id",
    "allowed_data_regions",
    "effective_budget",
    "free_model_daily_requests",
    "rate_limit",
    "budgets",
    "rate",
    "parallel",
}


@pytest.fixture
async def desk() -> Desk:
    """Give a desk with one key without limits."""
    desk = Desk()
    await desk.add_key()
    return desk


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_a_key_sees_what_it_used_per_period(desk: Desk, prefix: str) -> None:
    """UTC days, weeks from Monday, calendar months; numbers, not strings."""
    for ago_days in (0, 1, 5, 20):
        await desk.book(ago_s=ago_days * 86_400)
    data = (await desk.get(f"{prefix}/key")).json()["data"]
    assert (data["usage"], data["usage_daily"]) == (0.006, 0.0015)
    assert (data["usage_weekly"], data["usage_monthly"]) == (0.003, 0.0045)
    assert data["label"] == "mobile"
    assert (data["limit"], data["limit_remaining"], data["limit_reset"], data["budgets"]) == (None, None, None, [])
    assert data["rate_limit"]["requests"] == -1


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_a_key_has_every_field_of_the_schema(desk: Desk, prefix: str) -> None:
    """With a budget and without, and three of ours."""
    await desk.add_key("poor", limits=Limits(budgets=(Budget(50_000_000, Period.DAY),)))
    for key in ("sk-tp-mobile", "sk-tp-poor"):
        data = (await desk.get(f"{prefix}/key", key)).json()["data"]
        assert data.keys() == KEY_FIELDS
        assert data["rate_limit"].keys() == {"requests", "interval", "note"}


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_a_key_sees_its_rates_and_how_many_at_once(prefix: str) -> None:
    """In the words of routes.yaml, one alone or a list; OpenRouter's field has the slowest of requests."""
    desk = Desk()
    minute, second = Rate(Measure.REQUESTS, 60, 60), Rate(Measure.REQUESTS, 5, 1)
    tokens = Rate(Measure.TOKENS, 100_000, 60)
    await desk.add_key(limits=Limits(rates=(minute,), parallel=20))
    await desk.add_key("several", limits=Limits(rates=(second, minute, tokens)))
    await desk.add_key("texts", limits=Limits(rates=(tokens,)))
    data = (await desk.get(f"{prefix}/key")).json()["data"]
    assert (data["rate"], data["parallel"]) == ("60/min", 20)
    assert (data["rate_limit"]["requests"], data["rate_limit"]["interval"]) == (60, "60s")
    data = (await desk.get(f"{prefix}/key", "sk-tp-several")).json()["data"]
    assert (data["rate"], data["parallel"]) == (["5/s", "60/min", "100000 tokens/min"], None)
    assert (data["rate_limit"]["requests"], data["rate_limit"]["interval"]) == (60, "60s")
    data = (await desk.get(f"{prefix}/key", "sk-tp-texts")).json()["data"]
    assert (data["rate"], data["rate_limit"]["requests"]) == ("100000 tokens/min", -1)


async def test_a_soft_budget_is_shown_and_limits_nothing() -> None:
    """It stands among the budgets; what is left is that of the wall."""
    desk = Desk()
    budgets = (Budget(1_000_000, Period.DAY, is_soft=True), Budget(50_000_000, Period.DAY))
    await desk.add_key(limits=Limits(budgets=budgets))
    data = (await desk.get("/v1/key")).json()["data"]
    assert (data["limit"], len(data["budgets"])) == (0.05, 2)


async def test_the_old_path_of_key_still_works(desk: Desk) -> None:
    """Clients in use ask for `auth/key`."""
    assert (await desk.get("/api/v1/auth/key")).json() == (await desk.get("/api/v1/key")).json()


async def test_a_budget_is_shown_as_numbers_and_in_full_as_strings() -> None:
    """What is held counts as used; `budgets` has our exact decimal strings."""
    desk = Desk()
    await desk.add_key(limits=Limits(budgets=(Budget(50_000_000, Period.DAY),)), expires_at_s=NOW_S + 60)
    await desk.book(cost=20_000_000)
    await desk.hold("mobile", provider="sim", at_s=NOW_S)
    await desk.book(cost=99_000_000, ago_s=86_400)
    data = (await desk.get("/v1/key")).json()["data"]
    assert (data["limit"], data["limit_remaining"], data["limit_reset"]) == (0.05, 0.02, "daily")
    assert data["expires_at"] == "2026-11-18T11:07:40Z"
    (budget,) = data["budgets"]
    assert budget["scope"] == "key:mobile"
    assert budget["period"] == "day"
    assert (budget["limit_usd"], budget["posted_usd"], budget["held_usd"]) == (
        "0.050000000",
        "0.020000000",
        "0.010000000",
    )
    assert budget["resets_at"] == "2026-11-19T00:00:00Z"


@pytest.mark.parametrize(
    ("period", "reset"),
    [(Period.HOUR, None), (Period.WEEK, "weekly"), (Period.MONTH, "monthly"), (Period.TOTAL, None)],
)
async def test_a_budgets_period_has_openrouters_word(period: Period, reset: str | None) -> None:
    """It has none for an hour, and `total` never resets."""
    desk = Desk()
    await desk.add_key(limits=Limits(budgets=(Budget(50_000_000, period),)))
    data = (await desk.get("/v1/key")).json()["data"]
    assert data["limit_reset"] == reset
    assert (data["budgets"][0]["resets_at"] is None) is (period is Period.TOTAL)


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_credits_less_usage_is_what_is_left(prefix: str) -> None:
    """Of the budget's period, whatever was used before it."""
    desk = Desk()
    await desk.add_key(limits=Limits(budgets=(Budget(50_000_000, Period.DAY),)))
    await desk.book(cost=20_000_000)
    await desk.book(cost=30_000_000, ago_s=86_400)
    data = (await desk.get(f"{prefix}/credits")).json()["data"]
    assert data == {"total_credits": 0.08, "total_usage": 0.05}


async def test_credits_without_a_limit_are_never_null(desk: Desk) -> None:
    """A client that warns of an empty account has nothing to warn of."""
    await desk.book(cost=20_000_000)
    data = (await desk.get("/v1/credits")).json()["data"]
    assert data == {"total_credits": 9_000_000_000, "total_usage": 0.02}


async def test_an_overspent_budget_has_nothing_left() -> None:
    """A provider billed more than was held: the truth is booked, the rest is 0."""
    desk = Desk()
    await desk.add_key(limits=Limits(budgets=(Budget(50_000_000, Period.TOTAL),)))
    await desk.book(cost=70_000_000)
    data = (await desk.get("/v1/key")).json()["data"]
    assert data["limit_remaining"] == 0
    assert (await desk.get("/v1/credits")).json()["data"] == {"total_credits": 0.07, "total_usage": 0.07}


# ---------------------------------------------------------------- usage


async def test_usage_is_summed_by_what_was_asked(desk: Desk) -> None:
    """Money as strings of nine places, by source; a total beside the groups."""
    await desk.book(provider="sim", cost=1_234_567)
    await desk.book(provider="sim", error="broken_stream", cost=None)
    await desk.hold("mobile", provider="other", at_s=NOW_S)
    usage = (await desk.get("/v1/usage?by=provider,model")).json()
    assert (usage["object"], usage["by"], usage["from"], usage["to"]) == ("list", ["provider", "model"], None, None)
    other, sim = usage["data"]
    assert sim == {
        "provider": "sim",
        "model": "echo",
        "requests": 2,
        "failed": 1,
        "fallbacks": 0,
        "input_tokens": 200,
        "output_tokens": 40,
        "cached_tokens": 80,
        "reasoning_tokens": 10,
        "cost_usd": "0.001234567",
        "held_usd": "0.000000000",
        "unknown_cost": 1,
        "cost_by_source": {"computed": "0.001234567"},
        "cache_write_tokens": 0,
        "cache_write_1h_tokens": 0,
        "audio_input_tokens": 0,
        "audio_output_tokens": 0,
        "overruns": 0,
        "cache_hits": 0,
        "saved_usd": "0.000000000",
        "fallback_rate": 0.0,
    }
    assert other["held_usd"] == "0.010000000"
    assert usage["total"]["requests"] == 3
    assert "provider" not in usage["total"]


async def test_usage_without_a_dimension_is_one_row(desk: Desk) -> None:
    """It is the total."""
    await desk.book()
    usage = (await desk.get("/v1/usage")).json()
    assert usage["data"] == [usage["total"]]


async def test_a_key_sees_only_its_own_rows(desk: Desk) -> None:
    """S6: also when it asks by key."""
    await desk.add_key("other")
    await desk.book("other")
    await desk.book("mobile")
    usage = (await desk.get("/v1/usage?by=key")).json()
    assert [row["key"] for row in usage["data"]] == ["mobile"]
    assert (await desk.get("/v1/stats")).json()["requests"] == 1


@pytest.mark.parametrize(
    ("span", "requests"),
    [
        ("from=2026-11-18", 1),
        ("from=2026-11-17&to=2026-11-17", 1),
        ("from=2026-11-17&to=2026-11-18", 2),
        ("to=2026-11-17", 1),
        ("from=2026-11-18T11:06:40Z", 1),
        ("from=2026-11-18T11:06:41", 0),
        ("to=2026-11-18T11:06:40%2B00:00", 1),
        ("from=2026-11-18T12:06:40%2B01:00", 1),
        ("from=&to=", 2),
    ],
)
async def test_usage_is_of_the_days_or_times_asked_for(desk: Desk, span: str, requests: int) -> None:
    """A date is a whole day, also as an end; a time as an end is exclusive; without an offset it is UTC."""
    await desk.book()
    await desk.book(ago_s=86_400)
    usage = (await desk.get(f"/v1/usage?{span}")).json()
    assert usage["total"]["requests"] == requests


async def test_the_span_is_told_in_full(desk: Desk) -> None:
    """As times in UTC, the end exclusive."""
    usage = (await desk.get("/v1/usage?from=2026-11-17&to=2026-11-18")).json()
    assert (usage["from"], usage["to"]) == ("2026-11-17T00:00:00Z", "2026-11-19T00:00:00Z")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("by=colour", "by"),
        ("by=provider,%20secret", "by"),
        ("by=tag:", "by"),
        ("from=yesterday", "from"),
        ("to=2026-13-01", "to"),
        ("to=9999-12-31", "to"),
        ("format=xml", "format"),
        ("timezone=Mars/Olympus", "timezone"),
        ("timezone=../../etc/passwd", "timezone"),
    ],
)
async def test_a_question_nobody_can_answer_is_refused_by_name(desk: Desk, query: str, param: str) -> None:
    """400 that names the words there are."""
    response = await desk.get(f"/v1/usage?{query}")
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, "invalid_value", param)
    if param == "by":
        assert "key, tenant, app, user, tag, payer, route, provider, model, hour, day, month" in error["message"]


async def test_usage_as_csv_holds_no_formula(desk: Desk) -> None:
    """S32: a name a client chose must not run in a spreadsheet."""
    for app in ("=cmd|' /C calc'!A0", "+1", "-1", "@x", "plain"):
        await desk.book(app=app)
    response = await desk.get("/v1/usage?by=app,day&format=csv")
    assert response.headers["content-type"].startswith("text/csv")
    assert "attachment" in response.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert sorted(row["app"] for row in rows) == ["'+1", "'-1", "'=cmd|' /C calc'!A0", "'@x", "plain"]
    assert {row["cost_usd"] for row in rows} == {"0.001500000"}
    assert {row["cost_computed_usd"] for row in rows} == {"0.001500000"}
    assert {row["day"] for row in rows} == {"2026-11-18"}


async def test_usage_as_lines_is_one_object_each(desk: Desk) -> None:
    """The rows of the JSON form."""
    for app in ("a", "b"):
        await desk.book(app=app)
    response = await desk.get("/v1/usage?by=app&format=jsonl")
    assert response.headers["content-type"].startswith("application/x-ndjson")
    rows = [json.loads(line) for line in response.text.splitlines()]
    assert rows == (await desk.get("/v1/usage?by=app")).json()["data"]


async def test_too_many_groups_are_refused_as_json_and_not_as_csv(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JSON answer is made in memory; the other forms are not."""
    monkeypatch.setattr(account, "GROUPS_MAX", 2)
    for app in ("a", "b", "c"):
        await desk.book(app=app)
    refused = await desk.get("/v1/usage?by=app")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "by")
    assert "format=csv" in refused.json()["error"]["message"]
    assert len((await desk.get("/v1/usage?by=app&format=csv")).text.splitlines()) == 4


async def test_days_are_those_of_the_time_zone_asked_for(desk: Desk) -> None:
    """Groups, and dates in `from` and `to`."""
    await desk.book()  # 2026-11-18T11:06:40Z, already the 19th on Kiritimati
    usage = (await desk.get("/v1/usage?by=day,hour&timezone=Pacific/Kiritimati&from=2026-11-19")).json()
    assert usage["from"] == "2026-11-18T10:00:00Z"
    assert [(row["day"], row["hour"]) for row in usage["data"]] == [("2026-11-19", "2026-11-19T01:00")]


# ---------------------------------------------------------------- stats


async def test_stats_are_of_the_last_day_by_provider(desk: Desk) -> None:
    """Unless another beginning is asked for."""
    await desk.book(cost=1_000_000)
    await desk.book(cost=1_000_000, error="timeout")
    await desk.book(provider="other", ago_s=2 * 86_400)
    stats = (await desk.get("/v1/stats")).json()
    assert stats == {
        "since": "2026-11-17T11:06:40Z",
        "requests": 2,
        "failed": 1,
        "cost_usd": "0.002000000",
        "providers": {"sim": {"requests": 2, "failed": 1, "cost_usd": "0.002000000", "p50_first_token_ms": 150}},
        "strategies": {},
    }
    assert set((await desk.get("/v1/stats?since=2026-11-01")).json()["providers"]) == {"sim", "other"}


# ---------------------------------------------------------------- who asks


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("prefix", PREFIXES)
async def test_nothing_is_told_without_a_valid_key(desk: Desk, prefix: str, path: str) -> None:
    """401 in the dialect of the prefix, with the header that says how to do better."""
    for key in (None, "sk-tp-wrong"):
        response = await desk.get(f"{prefix}/{path}", key)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        code = "missing_api_key" if key is None else "invalid_api_key"
        error = response.json()["error"]
        assert (error["code"] if prefix == "/v1" else error["metadata"]["error_code"]) == code


async def test_a_revoked_key_is_refused_from_the_next_request(desk: Desk) -> None:
    """Nothing here comes from memory."""
    assert (await desk.get("/v1/key")).status_code == 200
    await desk.ledger.revoke_key("mobile")
    assert (await desk.get("/v1/key")).status_code == 401


async def test_a_ledger_that_is_away_is_503(desk: Desk) -> None:
    """With a time to come back."""
    await desk.ledger.close()
    response = await desk.get("/v1/key")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert response.headers["retry-after"] == "1"
