"""What a key learns of its requests: one by any of its ids, and its days; nobody else's."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.ledger.records import Admission, Admitted, Advance, AttemptEnd, AttemptStart, AttemptState, Settlement
from proxy.usage import CostSource, Usage
from tests.edge.desk import NOW_S, Desk

PREFIXES = ["/v1", "/api/v1"]
DAY_S = 86_400
GENERATION_FIELDS = {
    "id",
    "upstream_id",
    "request_id",
    "session_id",
    "app_id",
    "model",
    "provider_name",
    "api_type",
    "created_at",
    "streamed",
    "cancelled",
    "finish_reason",
    "native_finish_reason",
    "total_cost",
    "usage",
    "upstream_inference_cost",
    "cache_discount",
    "is_byok",
    "tokens_prompt",
    "tokens_completion",
    "native_tokens_prompt",
    "native_tokens_completion",
    "native_tokens_reasoning",
    "native_tokens_cached",
    "native_tokens_completion_images",
    "num_media_prompt",
    "num_media_completion",
    "num_input_audio_prompt",
    "num_search_results",
    "num_fetches",
    "web_search_engine",
    "latency",
    "generation_time",
    "moderation_latency",
    "origin",
    "http_referer",
    "user_agent",
    "external_user",
    "router",
    "preset_id",
    "service_tier",
    "data_region",
    "response_cache_source_id",
    "workspace_id",
    "provider_responses",
    "cost_source",
    "unknown_cost",
}
ACTIVITY_FIELDS = {
    "date",
    "model",
    "model_permaslug",
    "endpoint_id",
    "provider_name",
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "cached_tokens",
    "usage",
    "byok_usage_inference",
}
FAILED = AttemptEnd(1, AttemptState.VOIDED, 0, None, Usage(), 503, "server_error", 7)
ANSWERED = AttemptEnd(
    number=2,
    state=AttemptState.POSTED,
    cost_nano_usd=1_234_567,
    cost_source=CostSource.REPORTED,
    usage=Usage(input_tokens=100, output_tokens=20, cached_tokens=40, reasoning_tokens=5),
    status=200,
    error=None,
    latency_ms=900,
    first_token_ms=150,
    generation_id="chatcmpl-1",
)


@pytest.fixture
async def desk() -> Desk:
    """Give a desk with one key."""
    desk = Desk()
    await desk.add_key()
    return desk


async def fall_back(desk: Desk, last: AttemptEnd = ANSWERED, *, request_id: str = "req", is_stream: bool = True) -> str:
    """Let a request fail at one provider and end at another half a second later; gives its id."""
    start = AttemptStart(1, "other", "gpt", 10_000_000)
    admission = Admission(request_id, "mobile", 1, None, "chat", None, is_stream, NOW_S, (start,))
    admitted = await desk.ledger.admit(admission)
    assert isinstance(admitted, Admitted)
    begins = AttemptStart(2, "sim", "echo", 10_000_000)
    step = Advance(admitted.request_id, FAILED, begins, NOW_S + 0.5)
    assert isinstance(await desk.ledger.advance(step), Admitted)
    assert await desk.ledger.settle(Settlement(admitted.request_id, (last,), NOW_S + 1.4))
    return admitted.request_id


async def find(desk: Desk, generation_id: str, prefix: str = "/api/v1") -> Any:
    """Ask for a generation that there is."""
    response = await desk.get(f"{prefix}/generation?id={generation_id}")
    assert response.status_code == 200
    return response.json()["data"]


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_a_generation_has_every_field_of_the_schema(desk: Desk, prefix: str) -> None:
    """And two of ours, which say how sure its cost is."""
    await fall_back(desk)
    assert (await find(desk, "req", prefix)).keys() == GENERATION_FIELDS


async def test_a_generation_says_what_was_booked(desk: Desk) -> None:
    """Exact numbers; times from the first attempt to the last's end, and from the first token on."""
    await fall_back(desk)
    data = await find(desk, "req")
    shown = {name: value for name, value in data.items() if value is not None}
    assert shown.pop("provider_responses") == [
        {
            "provider_name": "other",
            "endpoint_id": "other/gpt",
            "model_permaslug": "gpt",
            "status": 503,
            "is_byok": False,
            "latency": 7,
        },
        {
            "provider_name": "sim",
            "endpoint_id": "sim/echo",
            "model_permaslug": "echo",
            "status": 200,
            "is_byok": False,
            "id": "chatcmpl-1",
            "latency": 900,
        },
    ]
    assert shown == {
        "id": "gen-req",
        "upstream_id": "chatcmpl-1",
        "request_id": "req",
        "model": "echo",
        "provider_name": "sim",
        "api_type": "completions",
        "created_at": "2026-11-18T11:06:40Z",
        "streamed": True,
        "cancelled": False,
        "total_cost": 0.001234567,
        "usage": 0.001234567,
        "is_byok": False,
        "tokens_prompt": 100,
        "tokens_completion": 20,
        "native_tokens_prompt": 100,
        "native_tokens_completion": 20,
        "native_tokens_reasoning": 5,
        "native_tokens_cached": 40,
        "latency": 1_400,
        "generation_time": 750,
        "origin": "",
        "data_region": "global",
        "cost_source": "reported",
        "unknown_cost": 0,
    }


async def test_all_of_a_json_answers_time_is_generation(desk: Desk) -> None:
    """It comes in one piece, so its first token is its last."""
    await fall_back(desk, ANSWERED._replace(first_token_ms=900), is_stream=False)
    data = await find(desk, "req")
    assert (data["streamed"], data["generation_time"]) == (False, 900)


@pytest.mark.parametrize("generation_id", ["req", "gen-req", "chatcmpl-1"])
async def test_a_generation_is_found_by_any_of_its_ids(desk: Desk, generation_id: str) -> None:
    """Of the request, of `x-generation-id`, of the reply's body."""
    await fall_back(desk)
    assert (await find(desk, generation_id))["id"] == "gen-req"


async def test_an_id_of_ours_is_looked_for_before_an_upstreams(desk: Desk) -> None:
    """A request may be called as another's reply was."""
    await fall_back(desk, ANSWERED._replace(generation_id="gen-b"), request_id="a")
    await fall_back(desk, request_id="gen-b")
    await fall_back(desk, request_id="b")
    assert (await find(desk, "gen-b"))["request_id"] == "gen-b"
    assert (await find(desk, "gen-gen-b"))["request_id"] == "gen-b"
    assert (await find(desk, "b"))["request_id"] == "b"


async def test_another_keys_generation_is_not_there(desk: Desk) -> None:
    """404 with the very words for one that never was, by whichever id; a like-named one of its own is found."""
    await desk.add_key("other")
    await fall_back(desk)
    never = (await desk.get("/api/v1/generation?id=never", "sk-tp-other")).json()
    assert (never["error"]["code"], never["error"]["metadata"]["error_code"]) == (404, "generation_not_found")
    for generation_id in ("req", "gen-req", "chatcmpl-1"):
        response = await desk.get(f"/api/v1/generation?id={generation_id}", "sk-tp-other")
        assert response.status_code == 404
        assert response.json() == never


async def test_a_generation_is_there_once_it_is_over(desk: Desk) -> None:
    """Until then it is 404, as at OpenRouter."""
    request_id = await desk.hold("mobile", provider="sim", at_s=NOW_S)
    response = await desk.get(f"/v1/generation?id={request_id}")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "generation_not_found")
    await desk.ledger.settle(Settlement(request_id, (ANSWERED._replace(number=1),), NOW_S))
    assert (await find(desk, request_id))["latency"] == 900


@pytest.mark.parametrize(("query", "status"), [("", 400), ("?id=", 400), (f"?id={'x' * 300}", 404), ("?id=%00", 404)])
async def test_an_id_that_is_none_is_refused(desk: Desk, query: str, status: int) -> None:
    """A missing one is the client's mistake, an odd one is only unknown."""
    response = await desk.get(f"/v1/generation{query}")
    assert response.status_code == status
    assert response.json()["error"]["param"] == "id"


@pytest.mark.parametrize(
    ("error", "cancelled", "finish_reason"),
    [(None, False, None), ("client_left", True, None), ("broken_stream", False, "error")],
)
async def test_how_a_generation_ended(
    desk: Desk, error: str | None, cancelled: bool, finish_reason: str | None
) -> None:
    """As far as the books know: they keep no finish reason of a good end."""
    await fall_back(desk, ANSWERED._replace(error=error))
    data = await find(desk, "req")
    assert (data["cancelled"], data["finish_reason"]) == (cancelled, finish_reason)


async def test_a_cost_nobody_knows_is_counted(desk: Desk) -> None:
    """The sum must be a number for OpenRouter's clients; what it lacks stands beside it."""
    await fall_back(desk, ANSWERED._replace(cost_nano_usd=None, cost_source=CostSource.UNKNOWN))
    data = await find(desk, "req")
    assert (data["total_cost"], data["cost_source"], data["unknown_cost"]) == (0, "unknown", 1)


async def test_a_dead_processs_generation_has_no_times(desk: Desk) -> None:
    """Its hold was booked in full, and nobody measured it."""
    await desk.hold("mobile", provider="sim", at_s=NOW_S)
    survivor = desk.ledger.share()
    desk.ledger.die()
    assert await survivor.resolve_dead_owners(NOW_S) == 1
    desk.reopen(survivor)
    data = await find(desk, "req")
    assert (data["latency"], data["generation_time"], data["total_cost"]) == (None, None, 0.01)
    assert data["provider_responses"][0].keys() == {
        "provider_name",
        "endpoint_id",
        "model_permaslug",
        "status",
        "is_byok",
    }


# ---------------------------------------------------------------- activity


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_activity_is_of_whole_days_by_model_and_provider(desk: Desk, prefix: str) -> None:
    """The newest first; today is not over."""
    await desk.add_key("other")
    for ago_days in (0, 1, 1, 2, 30, 31):
        await desk.book(ago_s=ago_days * DAY_S)
    await desk.book(provider="beta", ago_s=DAY_S)
    await desk.book("other", ago_s=DAY_S)
    data = (await desk.get(f"{prefix}/activity")).json()["data"]
    assert [(row["date"], row["provider_name"], row["requests"]) for row in data] == [
        ("2026-11-17", "beta", 1),
        ("2026-11-17", "sim", 2),
        ("2026-11-16", "sim", 1),
        ("2026-10-19", "sim", 1),
    ]
    assert all(row.keys() == ACTIVITY_FIELDS for row in data)
    assert data[1] == {
        "date": "2026-11-17",
        "model": "echo",
        "model_permaslug": "echo",
        "endpoint_id": "sim/echo",
        "provider_name": "sim",
        "requests": 2,
        "prompt_tokens": 200,
        "completion_tokens": 40,
        "reasoning_tokens": 10,
        "cached_tokens": 80,
        "usage": 0.003,
        "byok_usage_inference": 0,
    }


async def test_activity_of_one_day(desk: Desk) -> None:
    """From its first second to its last."""
    for ago_s in (DAY_S, 2 * DAY_S, 3 * DAY_S):
        await desk.book(ago_s=ago_s)
    data = (await desk.get("/api/v1/activity?date=2026-11-16")).json()["data"]
    assert [row["date"] for row in data] == ["2026-11-16"]
    assert (await desk.get("/api/v1/activity?date=2026-10-19")).json() == {"data": []}


@pytest.mark.parametrize("day", ["2026-11-18", "2026-10-18", "2026-11-99", "yesterday", "1795000000", "0001-01-01"])
async def test_a_day_outside_is_refused(desk: Desk, day: str) -> None:
    """Today, the day before the first, and what is no day."""
    response = await desk.get(f"/v1/activity?date={day}")
    assert (response.status_code, response.json()["error"]["param"]) == (400, "date")


@pytest.mark.parametrize("name", ["api_key_hash", "user_id", "workspace_id", "group_by"])
async def test_activity_of_others_is_refused_by_name(desk: Desk, name: str) -> None:
    """Left unheard, the filter would make the figures those of something else."""
    response = await desk.get(f"/api/v1/activity?{name}=x")
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, 400, name)
