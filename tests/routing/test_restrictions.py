"""What a key with a list of models or a budget may not add to a request."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.errors import ClientError, PermissionRefused, RequestError
from proxy.routing.plan import Plan, make_plan
from proxy.routing.principal import Principal
from proxy.routing.table import Catalogue
from tests.routing.made import ANYONE, table

BODY = {"messages": [{"role": "user", "content": "Hi"}]}
LISTED = Principal("app", models=("chat", "openai/*"))
BUDGETED = Principal("app", has_budget=True)
BOTH = Principal("app", models=("chat", "openai/*"), has_budget=True)
FUSED = {"model": "openai/gpt-4o", "analysis_models": ["openai/gpt-4o"]}
TABLE = table({"chat": ["or/a"], "openai/*": ["or/openai/*"]})


def plan(principal: Principal, *, model: str = "chat", **fields: Any) -> Plan:
    """Plan a request."""
    return make_plan({**BODY, "model": model, **fields}, principal=principal, table=TABLE, facts=Catalogue().find)


def refused(principal: Principal, **fields: Any) -> RequestError:
    """Plan a request that is refused; a key without limits may send it."""
    assert plan(ANYONE, **fields).candidates
    with pytest.raises(RequestError) as caught:
        plan(principal, **fields)
    return caught.value


@pytest.mark.parametrize("principal", [LISTED, BUDGETED, BOTH])
def test_a_preset_kept_at_openrouter_is_refused(principal: Principal) -> None:
    """It may choose any model and any price."""
    error = refused(principal, preset="mine")
    assert isinstance(error, ClientError)
    assert (error.status, error.param) == (400, "preset")
    assert "any model and price" in error.message


@pytest.mark.parametrize("principal", [LISTED, BOTH])
def test_a_preset_in_a_models_name_is_refused_as_well(principal: Principal) -> None:
    """`model@preset/slug` is one of its three spellings (openrouter.md 1.7)."""
    error = refused(principal, model="openai/gpt-4o@preset/mine")
    assert (error.status, "any model and price" in error.message) == (400, True)


# ---------------------------------------------------------------- models


@pytest.mark.parametrize("field", ["model", "pin_model", "allowed_models", "analysis_models"])
@pytest.mark.parametrize("principal", [LISTED, BOTH])
def test_a_plugin_may_name_only_models_of_the_list(field: str, principal: Principal) -> None:
    """Whichever of its options names one."""
    value: Any = "anthropic/claude"
    for named in (value, ["openai/gpt-4o", value]):
        error = refused(principal, plugins=[{"id": "fusion", **FUSED, field: named}])
        assert isinstance(error, PermissionRefused)
        assert (error.status, error.code, error.param) == (403, "model_not_allowed", "plugins")
        assert "'anthropic/claude'" in error.message


@pytest.mark.parametrize("router", ["auto-router", "auto-beta-router", "pareto-router"])
def test_a_router_must_be_told_what_it_may_choose(router: str) -> None:
    """Left to itself it chooses among all."""
    untold: list[dict[str, Any]] = [{}, {"allowed_models": []}, {"pin_model": "openai/gpt-4o"}]
    for more in untold:
        error = refused(LISTED, plugins=[{"id": router, **more}])
        assert isinstance(error, PermissionRefused)
        assert f"`{router}` may choose any model" in error.message
    assert plan(LISTED, plugins=[{"id": router, "allowed_models": ["openai/gpt-4o", "openai/*"]}]).candidates
    refused(LISTED, plugins=[{"id": router, "allowed_models": ["*"]}])
    assert plan(LISTED, plugins=[{"id": router, "enabled": False}]).candidates


@pytest.mark.parametrize("more", [{}, {"model": "chat"}, {"analysis_models": ["chat"]}, {**FUSED, "preset": "best"}])
def test_fusion_must_be_told_what_it_may_choose(more: dict[str, Any]) -> None:
    """It asks up to eight models of its own choice (openrouter.md 1.5)."""
    error = refused(LISTED, plugins=[{"id": "fusion", **more}])
    assert "`fusion` may choose any model; send `model` and `analysis_models`" in error.message
    assert plan(LISTED, plugins=[{"id": "fusion", **FUSED}]).candidates


def test_a_listed_key_without_a_budget_may_use_what_costs() -> None:
    """Nothing but its models is limited."""
    fields = {
        "plugins": [{"id": "web", "max_results": 3, "model": None}],
        "tools": [{"type": "openrouter:web_search"}],
        "service_tier": "priority",
    }
    assert plan(LISTED, model="openai/gpt-4o:online", **fields).candidates


# ---------------------------------------------------------------- prices


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"service_tier": "priority"}, "service_tier"),
        ({"service_tier": "fast"}, "service_tier"),
        ({"service_tier": "scale"}, "service_tier"),
        ({"service_tier": 3}, "service_tier"),
        ({"plugins": [{"id": "web"}]}, "plugins"),
        ({"plugins": [{"id": "moderation"}, {"id": "unheard-of"}]}, "plugins"),
        ({"plugins": [{"id": "file-parser"}]}, "plugins"),
        ({"plugins": [{"id": "file-parser", "pdf": {"engine": "mistral-ocr"}}]}, "plugins"),
        ({"plugins": [{"id": "file-parser", "pdf": {}}]}, "plugins"),
        ({"plugins": [{"id": "auto-router", "allowed_models": ["openai/gpt-4o"]}]}, "plugins"),
        ({"tools": [{"type": "openrouter:web_search"}]}, "tools"),
        ({"tools": [{"type": "function"}, {"type": "openrouter:x"}]}, "tools"),
        ({"tools": [{"type": 1}]}, "tools"),
        ({"tools": [{"type": None}]}, "tools"),
        ({"model": "openai/gpt-4o:online"}, "model"),
        ({"model": "chat:online"}, "model"),
        ({"models": ["openai/gpt-4o:online"]}, "model"),
    ],
)
@pytest.mark.parametrize("principal", [BUDGETED, Principal("app", models=("*",), has_budget=True)])
def test_behind_a_budget_what_has_no_price_here_is_refused(
    fields: dict[str, Any], param: str, principal: Principal
) -> None:
    """What nobody can hold nobody may spend."""
    error = refused(principal, **fields)
    assert (error.status, error.code, error.param) == (400, "price_unknown", param)
    assert error.message.startswith("Nobody here knows the price of ")


@pytest.mark.parametrize(
    "fields",
    [
        {"web_search_options": {}},
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
    ],
)
def test_a_makers_own_search_has_no_price_either(fields: dict[str, Any]) -> None:
    """Each search is billed, ten dollars per thousand (openrouter.md 7.2), and nothing here holds that."""
    assert refused(BUDGETED, **fields).code == "price_unknown"


@pytest.mark.parametrize(
    "fields",
    [
        {"service_tier": None},
        {"service_tier": "auto"},
        {"service_tier": "default"},
        {"service_tier": "flex"},
        {"plugins": [{"id": "response-healing"}, {"id": "moderation"}]},
        {"plugins": [{"id": "web", "enabled": False}]},
        {"plugins": [{"id": "context-compression"}]},
        *(
            {"plugins": [{"id": "file-parser", "pdf": {"engine": one}}]}
            for one in ("native", "cloudflare-ai", "pdf-text")
        ),
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"tools": [{"type": "custom", "custom": {"name": "c"}}]},
        {"tools": [7, {}]},
        {"tools": {"type": "openrouter:x"}},
        {"provider": {"sort": "price"}},
        {"model": "chat:nitro"},
    ],
)
def test_behind_a_budget_what_costs_nothing_more_passes(fields: dict[str, Any]) -> None:
    """Tokens are held, whoever writes them."""
    assert plan(BUDGETED, **fields).candidates


def test_a_name_in_a_refusal_is_fit_to_be_shown() -> None:
    """Printable and short."""
    error = refused(BUDGETED, plugins=[{"id": "\x1b[31m" + "x" * 300}])
    assert error.message.isprintable()
    assert len(error.message) < 300


@pytest.mark.parametrize(
    "fields", [{"google": {"cached_content": "c/1"}}, {"extra_body": {"google": {"cached_content": "c"}}}]
)
def test_a_prompt_kept_at_google_is_refused_under_a_limit(fields: dict[str, Any]) -> None:
    """Nobody here knows how long it is; a key without a limit may read it."""
    assert "cached_content" in refused(BUDGETED, **fields).message
    assert plan(LISTED, **fields).candidates


@pytest.mark.parametrize(
    "fields", [{"google": {"thinking_config": {}}}, {"google": 5}, {"extra_body": {"google": 5}}, {"extra_body": {}}]
)
def test_other_words_for_google_pass(fields: dict[str, Any]) -> None:
    """Only a kept prompt is of unknown length."""
    assert plan(BUDGETED, **fields).candidates
