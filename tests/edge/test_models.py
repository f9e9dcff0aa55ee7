"""Which models a key is shown, in both shapes."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from proxy.edge import offers
from proxy.routing.table import Route, Target
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
