"""OpenRouter's own request fields, on whatever answers: honoured here, forwarded untouched, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.behaviours.openrouter import FREE, SURFACES, Stage
from tests.faults import makers

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"route": "anywhere"}, "route"),
        ({"route": "sort", "models": ["b"]}, "route"),
        ({"provider": {"sort": {"by": "price", "partition": "none"}}, "models": ["b"]}, "provider"),
        ({"models": "b"}, "models"),
        ({"provider": {"data_collection": "maybe"}}, "provider"),
        ({"provider": {"zdr": "yes"}}, "provider"),
        ({"preset": ""}, "preset"),
        ({"plugins": [{"engine": "x"}]}, "plugins"),
    ],
)
async def test_what_cannot_be_understood_is_refused_by_name(stage: Stage, fields: dict[str, Any], param: str) -> None:
    """400 with the field in `param`; nothing is sent."""
    answer = await stage.ask("a", **fields)
    assert (answer.status, answer.error["param"]) == (400, param)
    assert stage.calls == 0


# ---------------------------------------------------------------- provider: privacy


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("wanted", [{"zdr": True}, {"data_collection": "deny"}], ids=["zdr", "data_collection"])
async def test_privacy_nobody_vouches_for_is_refused(stage: Stage, wanted: dict[str, Any], surface: str) -> None:
    """A direct target that routes.yaml does not flag is none: 404 in OpenRouter's words, no call, no row."""
    before = len(await stage.gateway.rows())
    answer = await stage.ask("a", provider=wanted, surface=surface)
    assert (answer.status, answer.error["code"]) == (404, "no_endpoints" if surface == "/v1" else 404)
    assert answer.error["message"].startswith("No endpoints found matching your data policy")
    assert stage.calls == 0
    assert len(await stage.gateway.rows()) == before


@pytest.mark.parametrize(
    ("model", "wanted", "provider"),
    [
        ("open-then-vault", {"zdr": True}, "vault"),
        ("open-then-vault", {"data_collection": "deny"}, "vault"),
        ("open-then-discreet", {"data_collection": "deny"}, "discreet"),
        ("open-then-vault", {"zdr": False, "data_collection": "allow"}, "one"),
    ],
)
async def test_privacy_is_kept_by_a_target_that_is_flagged(
    stage: Stage, model: str, wanted: dict[str, Any], provider: str
) -> None:
    """The open one is passed over without a call, and the flagged one is sent no `provider`."""
    answer = await stage.ask(model, provider=wanted)
    assert (answer.status, answer.headers["x-turnpike-provider"]) == (200, provider)
    assert answer.headers["x-turnpike-attempts"] == "1"
    assert stage.calls == 1
    assert "provider" not in stage.sent("one" if provider == "one" else "two")


async def test_a_chain_never_falls_back_past_privacy(stage: Stage) -> None:
    """OpenRouter fails, and the backup behind it is not flagged: the request fails rather than leak."""
    stage.ups["router"].replace_script([makers.refusing_anthropic(502, "api_error", "Away")])
    answer = await stage.ask("routed-then-direct", models=["b"], provider={"zdr": True})
    assert answer.status == 502
    assert (len(stage.ups["router"].exchanges), stage.calls) == (1, 1)


# ---------------------------------------------------------------- provider, plugins and the rest, to OpenRouter


async def test_openrouter_gets_its_fields_as_they_were_sent(stage: Stage) -> None:
    """Known and unknown members alike, from a key without a budget."""
    fields: dict[str, Any] = {
        "provider": {"order": ["Anthropic", "x/y"], "sort": {"by": "price"}, "zdr": True, "max_price": {"prompt": "3"}},
        "plugins": [{"id": "web", "max_results": 3}, {"id": "response-healing"}],
        "reasoning": {"effort": "high", "exclude": True},
        "session_id": "s-1",
        "trace": {"trace_id": "t"},
        "usage": {"include": True},
        "newest_field": {"deep": [1, {"er": None}]},
    }
    answer = await stage.ask("routed", key=FREE, **fields)
    assert answer.status == 200
    sent = stage.sent("router")
    assert {name: sent.get(name) for name in fields} == fields


HEADERS = {
    "x-session-id": "s-1",
    "x-openrouter-metadata": "enabled",
    "x-anthropic-beta": "interleaved-thinking-2025-05-14",
    "cookie": "secret=1",
    "x-forwarded-for": "10.0.0.1",
    "http-referer": "https://client.example",
}


@pytest.mark.parametrize(
    ("model", "name", "told"),
    [
        ("routed", "router", {"x-session-id", "x-openrouter-metadata", "x-anthropic-beta"}),
        ("sonnet", "claude", set()),
        ("flash", "gemini", set()),
        ("a", "one", set()),
    ],
)
async def test_few_of_a_client_s_headers_go_on(stage: Stage, model: str, name: str, told: set[str]) -> None:
    """OpenRouter's to OpenRouter, a beta to Anthropic under its own name; no credential, cookie or address."""
    answer = await stage.ask(model, headers=HEADERS)
    assert answer.status == 200
    got = stage.ups[name].exchanges[0].headers
    assert HEADERS.keys() & got.keys() == told
    assert (HEADERS["x-anthropic-beta"] in got.get("anthropic-beta", "")) is (name == "claude")
    assert not any(stage.gateway.key in value for value in got.values())


async def test_a_budget_sends_its_price_along(stage: Stage) -> None:
    """`max_price` keeps OpenRouter to what is held; a lower one of the client's stands."""
    answer = await stage.ask("routed", provider={"order": ["x"], "max_price": {"prompt": 0.5, "image": 1}})
    assert answer.status == 200
    wanted = stage.sent("router")["provider"]
    assert wanted == {"order": ["x"], "max_price": {"prompt": 0.5, "completion": 2.0, "image": 1}}


async def test_a_budget_sends_its_price_along_unasked(stage: Stage) -> None:
    """Without any `provider` of the client's, too; a key without a budget sends none."""
    await stage.ask("routed")
    assert stage.sent("router")["provider"] == {"max_price": {"prompt": 1.0, "completion": 2.0}}
    stage.ups["router"].exchanges.clear()
    await stage.ask("routed", key=FREE)
    assert "provider" not in stage.sent("router")


async def test_plugins_only_openrouter_has_pass_direct_targets_over(stage: Stage) -> None:
    """A web search is never left out in silence: the chain has OpenRouter or the request is refused."""
    plugins = [{"id": "web"}]
    answer = await stage.ask("a", plugins=plugins, key=FREE)
    assert (answer.status, stage.calls) == (404, 0)
    stage.ups["router"].replace_script([makers.refusing_anthropic(502, "api_error", "Away")])
    answer = await stage.ask("routed-then-direct", plugins=plugins, key=FREE)
    assert (answer.status, stage.calls) == (502, 1)


@pytest.mark.parametrize(
    "fields",
    [{"plugins": [{"id": "web"}]}, {"service_tier": "priority"}, {"tools": [{"type": "openrouter:web_search"}]}],
)
async def test_what_nobody_can_price_is_kept_from_a_budget(stage: Stage, fields: dict[str, Any]) -> None:
    """400 `price_unknown`, nothing held, nothing sent."""
    answer = await stage.ask("routed", **fields)
    assert (answer.status, answer.error["code"]) == (400, "price_unknown")
    assert stage.calls == 0


@pytest.mark.parametrize(
    ("wanted", "provider"),
    [
        ({"order": ["two"]}, "two"),
        ({"only": ["two"]}, "two"),
        ({"ignore": ["one"]}, "two"),
        ({"max_price": {"prompt": 1, "completion": 2}}, "one"),
        ({"allow_fallbacks": False}, "one"),
    ],
)
async def test_choices_hold_for_direct_targets(stage: Stage, wanted: dict[str, Any], provider: str) -> None:
    """`order`, `only`, `ignore` and `max_price` are matched against our own providers."""
    answer = await stage.ask("pair", provider=wanted)
    assert (answer.status, answer.headers["x-turnpike-provider"]) == (200, provider)


async def test_a_price_nobody_meets_is_refused(stage: Stage) -> None:
    """404 as OpenRouter says it."""
    answer = await stage.ask("a", provider={"max_price": {"completion": 1.99}})
    assert (answer.status, stage.calls) == (404, 0)
    assert answer.error["message"].startswith("No allowed providers are available for the selected model")
