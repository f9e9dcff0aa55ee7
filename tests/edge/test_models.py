"""Which models a key is shown, in both shapes."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from proxy.edge import offers
from proxy.errors import FailureKind
from proxy.routing.table import Route, Target, Tenant
from tests.edge.desk import CHEAP, NOW_S, ROUTER, SIM, UNREADY, Desk


@pytest.fixture
async def desk() -> Desk:
    """Give a desk with one key that may ask for everything."""
    desk = Desk()
    await desk.add_key()
    return desk


def ids(response: Any) -> list[str]:
    """Take the names out of a list of models."""
    return [entry["id"] for entry in response.json()["data"]]


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
async def test_aliases_come_first_and_then_what_globs_let_through(desk: Desk, prefix: str) -> None:
    """As far as the catalogue knows it; the trailing slash makes no difference."""
    expected = ["chat", "free", "direct", "or/meta/llama", "or/x/y:free"]
    assert ids(await desk.get(f"{prefix}/models")) == expected
    assert ids(await desk.get(f"{prefix}/models/")) == expected


async def test_a_key_is_shown_only_what_it_may_ask_for() -> None:
    """Names and globs of its list."""
    desk = Desk()
    await desk.add_key(models=("chat", "or/meta/*"))
    assert ids(await desk.get("/v1/models")) == ["chat", "or/meta/llama"]
    refused = await desk.get("/v1/models/free")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")


async def test_an_alias_has_openais_fields_and_ours(desk: Desk) -> None:
    """Those of the first target that is ready."""
    entry = (await desk.get("/v1/models")).json()["data"][0]
    assert entry == {
        "id": "chat",
        "object": "model",
        "created": int(NOW_S - 3600),
        "owned_by": "sim",
        "ready": True,
        "context_length": 128_000,
        "max_output_tokens": 16_384,
        "pricing": {
            "prompt": "0.00000015",
            "completion": "0.0000006",
            "input_cache_read": "0.000000075",
            "request": "0",
        },
    }
    assert (await desk.get("/v1/models/chat")).json() == entry


async def test_an_unknown_price_is_never_0(desk: Desk) -> None:
    """Null in OpenAI's list, -1 in OpenRouter's."""
    assert (await desk.get("/v1/models/free")).json()["pricing"] is None
    data = (await desk.get("/api/v1/models/free")).json()["data"]
    assert data["pricing"] == {"prompt": "-1", "completion": "-1"}


async def test_an_alias_without_a_ready_target_says_so(desk: Desk) -> None:
    """It is listed: it exists, and asking for it names the missing variable."""
    entry = (await desk.get("/v1/models/direct")).json()
    assert (entry["ready"], entry["owned_by"]) == (False, "openai")


async def test_an_alias_has_openrouters_fields(desk: Desk) -> None:
    """All that its strict SDK demands, in its types."""
    response = await desk.get("/api/v1/models")
    assert response.json()["total_count"] == 5
    assert response.json()["links"] == {"next": None}
    entry = response.json()["data"][0]
    assert entry["architecture"]["input_modalities"] == ["text"]
    assert entry["top_provider"] == {
        "context_length": 128_000,
        "max_completion_tokens": 16_384,
        "is_moderated": False,
    }
    assert entry["pricing"]["prompt"] == "0.00000015"
    needed = {"id", "canonical_slug", "name", "created", "description", "context_length", "per_request_limits"}
    assert needed | {"supported_parameters", "default_parameters", "supported_voices", "links"} <= entry.keys()
    one = (await desk.get("/api/v1/models/chat")).json()
    assert (one["id"], one["data"]) == ("chat", entry)


@pytest.mark.parametrize(
    ("query", "expected", "following"),
    [
        ("offset=0&limit=2", ["chat", "free"], "/api/v1/models?offset=2&limit=2"),
        ("offset=3", ["or/meta/llama", "or/x/y:free"], None),
        ("limit=1", ["chat"], "/api/v1/models?offset=1&limit=1"),
        ("offset=9", [], None),
        ("limit=999999", ["chat", "free", "direct", "or/meta/llama", "or/x/y:free"], None),
    ],
)
async def test_openrouters_list_comes_in_pages_when_asked(
    desk: Desk, query: str, expected: list[str], following: str | None
) -> None:
    """`total_count` is always of the whole."""
    response = await desk.get(f"/api/v1/models?{query}")
    assert ids(response) == expected
    assert (response.json()["links"]["next"], response.json()["total_count"]) == (following, 5)


@pytest.mark.parametrize("query", ["offset=-1", "limit=many", "limit=1e3", "offset=9999999999"])
async def test_a_page_that_is_no_number_is_refused(desk: Desk, query: str) -> None:
    """400, in OpenRouter's dialect."""
    response = await desk.get(f"/api/v1/models?{query}")
    assert response.json()["error"]["code"] == 400


@pytest.mark.parametrize(
    ("name", "status"),
    [("or/some/new-model", 200), ("or/meta/llama:free", 200), ("nothing", 404), ("chatt", 404), ("%00", 404)],
)
async def test_any_name_that_can_be_asked_for_is_a_model(desk: Desk, name: str, status: int) -> None:
    """Also one that only a glob knows; an unknown one comes with the nearest names."""
    response = await desk.get(f"/v1/models/{name}")
    assert response.status_code == status
    if name == "chatt":
        assert "'chat'" in response.json()["error"]["message"]
    if status == 404:
        assert response.json()["error"]["code"] == "model_not_found"


async def test_a_glob_of_a_provider_that_is_not_ready_lets_nothing_through(desk: Desk) -> None:
    """Neither does one whose target has no star; one for some models lets through those."""
    globs = (
        Route("openai/*", (Target(UNREADY, "*"),)),
        Route("any*", (Target(SIM, "echo"),)),
        Route("llamas/*", (Target(ROUTER, "meta/*"),)),
    )
    desk.holder.current = replace(desk.holder.current, globs=globs)
    assert ids(await desk.get("/v1/models")) == ["chat", "free", "direct", "llamas/llama"]


async def test_a_list_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The globs of an operator can let through more than any client can show."""
    monkeypatch.setattr(offers, "LISTED_MAX", 4)
    assert len(ids(await desk.get("/v1/models"))) == 4


async def test_a_large_price_is_written_out(desk: Desk) -> None:
    """No exponents, no trailing zeros."""
    target = replace(desk.holder.current.routes["chat"].targets[1])
    facts = replace(target.facts, prices=replace(CHEAP, input=Decimal("3E+2"), output=Decimal("0E-9")))
    route = Route("big", (replace(target, facts=facts),))
    desk.holder.current = replace(desk.holder.current, routes={"big": route})
    pricing = (await desk.get("/v1/models/big")).json()["pricing"]
    assert (pricing["prompt"], pricing["completion"]) == ("0.0003", "0")


# ---------------------------------------------------------------- one model, its endpoints, its providers


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
async def test_a_model_has_one_endpoint_per_target(desk: Desk, prefix: str) -> None:
    """In the order to try, each at its own price; one that is not ready is off."""
    data = (await desk.get(f"{prefix}/models/chat/endpoints")).json()["data"]
    assert data.keys() == {"id", "name", "created", "description", "architecture", "endpoints"}
    assert (data["id"], data["architecture"]["modality"]) == ("chat", "text->text")
    openai, sim = data["endpoints"]
    assert (openai["provider_name"], openai["status"], openai["pricing"]["prompt"]) == ("openai", -10, "-1")
    assert (sim["provider_name"], sim["status"], sim["pricing"]["prompt"]) == ("sim", 0, "0.00000015")
    assert (sim["context_length"], sim["max_completion_tokens"]) == (128_000, 16_384)


async def test_a_model_of_an_author_has_endpoints_too(desk: Desk) -> None:
    """A name with slashes, known to a glob only."""
    data = (await desk.get("/api/v1/models/or/meta/llama/endpoints")).json()["data"]
    assert (data["id"], data["endpoints"][0]["model_id"]) == ("or/meta/llama", "meta/llama")


async def test_an_endpoint_that_keeps_failing_is_degraded(desk: Desk) -> None:
    """Until it answers again."""
    health = desk.services.health

    async def status() -> int:
        endpoints = (await desk.get("/v1/models/free/endpoints")).json()["data"]["endpoints"]
        return int(endpoints[0]["status"])

    for failures in range(1, 4):
        health.record_failure("sim/echo", FailureKind.TIMEOUT, at_s=NOW_S)
        assert await status() == (0 if failures < 3 else -2)
    health.record_success("sim/echo", first_token_ms=1)
    assert await status() == 0


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
async def test_a_single_model_is_the_lists_entry(desk: Desk, prefix: str) -> None:
    """Under OpenRouter's own path for it."""
    listed = (await desk.get("/api/v1/models")).json()["data"]
    assert (await desk.get(f"{prefix}/model/chat")).json() == {"data": listed[0]}
    assert (await desk.get(f"{prefix}/model/or/meta/llama")).json() == {"data": listed[3]}


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
async def test_a_users_list_and_its_length(desk: Desk, prefix: str) -> None:
    """OpenRouter's shapes on both prefixes, under the same filters."""
    assert ids(await desk.get(f"{prefix}/models/user?q=or/")) == ["or/meta/llama", "or/x/y:free"]
    page = (await desk.get(f"{prefix}/models/user?limit=1")).json()
    assert (page["total_count"], page["links"]["next"]) == (5, f"{prefix}/models/user?offset=1&limit=1")
    assert (await desk.get(f"{prefix}/models/count")).json() == {"data": {"count": 5}}
    assert (await desk.get(f"{prefix}/models/count?output_modalities=image")).json() == {"data": {"count": 0}}


@pytest.mark.parametrize("path", ["models/{}", "model/{}", "models/{}/endpoints"])
async def test_what_a_key_may_not_ask_for_is_not_there(path: str) -> None:
    """404 in the words for a model that never was, with the nearest names it may ask for."""
    desk = Desk()
    await desk.add_key(models=("free", "or/meta/*"))
    hidden = await desk.get(f"/api/v1/{path.format('chat')}")
    unknown = await desk.get(f"/api/v1/{path.format('chut')}")
    assert (hidden.status_code, unknown.status_code) == (404, 404)
    assert hidden.json()["error"] == {
        **unknown.json()["error"],
        "message": unknown.json()["error"]["message"].replace("chut", "chat"),
    }
    assert (await desk.get(f"/api/v1/{path.format('or/meta/any')}")).status_code == 200


async def test_a_tenant_hides_what_its_keys_may_not_ask_for() -> None:
    """Whatever the key's own list says: models and providers alike."""
    desk = Desk()
    acme = Tenant("acme", models=("chat", "or/meta/*"))
    desk.holder.current = replace(desk.holder.current, tenants={"acme": acme})
    await desk.add_key(models=("or/*", "free"), tenant="acme")
    assert ids(await desk.get("/v1/models")) == ["or/meta/llama"]
    assert [one["slug"] for one in (await desk.get("/api/v1/providers")).json()["data"]] == ["openrouter"]


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (None, ["sim", "openrouter"]),
        (("*",), ["sim", "openrouter"]),
        (("chat",), ["sim"]),
        (("direct",), []),
        (("or/meta/llama",), ["openrouter"]),
        (("or/meta/*",), ["openrouter"]),
        (("o*",), ["openrouter"]),
        (("orr/*",), []),
        (("else/*", "free"), ["sim"]),
        ((), []),
    ],
)
async def test_providers_are_those_the_keys_models_lead_to(
    allowed: tuple[str, ...] | None, expected: list[str]
) -> None:
    """And that are ready."""
    desk = Desk()
    await desk.add_key(models=allowed)
    assert [one["slug"] for one in (await desk.get("/api/v1/providers")).json()["data"]] == expected
