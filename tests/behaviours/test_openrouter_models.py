"""Who is asked: further models, presets, suffixes, and a `*` behind all."""

from __future__ import annotations

from typing import Any

import pytest

from tests.behaviours.openrouter import FREE, LISTED, OPENROUTER_OWN, SURFACES, TEXT, Stage, text_of
from tests.faults import makers
from tests.faults.statuses import refusing

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("surface", SURFACES)
async def test_models_are_a_chain_of_our_own(stage: Stage, surface: str) -> None:
    """Each model tried has its hold and its row; nobody is sent `models`, and the first name is the route."""
    models = ["cut-off", "b", "a"]
    answer = await stage.ask("broken", models=models, route="fallback", surface=surface)
    assert (answer.status, text_of(answer)) == (200, TEXT)
    assert answer.headers["x-turnpike-route"] == "broken"
    assert (answer.headers["x-turnpike-provider"], answer.headers["x-turnpike-attempts"]) == ("two", "3")
    rows = await stage.rows(answer)
    assert [(row.provider, row.attempt) for row in rows] == [("one", 1), ("one", 2), ("two", 3)]
    assert all(row.hold_nano_usd > 0 for row in rows)
    assert [row.error for row in rows] == ["server_error", "broken_stream", None]
    bodies = [exchange.body for up in stage.ups.values() for exchange in up.exchanges]
    assert not any(OPENROUTER_OWN & set(body) for body in bodies)


async def test_models_without_model_begin_with_the_first(stage: Stage) -> None:
    """The default model is not asked then."""
    answer = await stage.ask(None, models=["b", "a"])
    assert (answer.status, answer.headers["x-turnpike-route"]) == (200, "b")
    assert stage.calls == 1


async def test_models_are_never_sent_to_openrouter(stage: Stage) -> None:
    """Its own chain would be three long and without rows here."""
    answer = await stage.ask("routed", models=["vendor/other", "b"], key=FREE)
    assert answer.status == 200
    sent = stage.sent("router")
    assert sent["model"] == "vendor/model"
    assert not {"models", "route"} & set(sent)


async def test_eight_models_are_the_most(stage: Stage) -> None:
    """Eight with `model` are tried; nine are refused before anything is held or sent."""
    names = [f"direct/fault:{name}" for name in ("status_500", "status_502", "status_503", "status_504")]
    names += ["direct/fault:rate_limited", "direct/fault:not_found", "direct/fault:no_endpoints"]
    answer = await stage.ask(names[0], models=[*names[1:], "b"])
    assert (answer.status, answer.headers["x-turnpike-attempts"]) == (200, "8")
    assert len(await stage.rows(answer)) == 8
    before = len(await stage.gateway.rows())
    answer = await stage.ask("a", models=[*names, "b"])
    assert (answer.status, answer.error["param"]) == (400, "models")
    assert len(await stage.gateway.rows()) == before


async def test_a_key_s_list_holds_for_models_too(stage: Stage) -> None:
    """One forbidden name among them and nothing is tried."""
    answer = await stage.ask("a", models=["broken", "b"], key=LISTED)
    assert (answer.status, answer.error["code"]) == (403, "model_not_allowed")
    assert stage.calls == 0
    answer = await stage.ask("broken", models=["a"], key=LISTED)
    assert (answer.status, answer.headers["x-turnpike-attempts"]) == (200, "2")


async def test_route_alone_adds_nobody(stage: Stage) -> None:
    """`route: fallback` without `models`: only the table names models."""
    answer = await stage.ask("broken", route="fallback")
    assert answer.status == 502
    assert len(await stage.rows(answer)) == 1


# ---------------------------------------------------------------- presets, suffixes, "*"


@pytest.mark.parametrize(
    "fields",
    [{"model": "@preset/b"}, {"preset": "b"}, {"model": "broken", "preset": "b"}],
    ids=["model", "field", "both"],
)
async def test_a_preset_that_is_an_alias_is_that_alias(stage: Stage, fields: dict[str, Any]) -> None:
    """In either spelling; a model of the request's own is tried in front of it."""
    answer = await stage.ask(fields.get("model"), **{name: value for name, value in fields.items() if name != "model"})
    assert (answer.status, answer.headers["x-turnpike-provider"]) == (200, "two")
    assert "preset" not in stage.sent("two")


async def test_any_other_preset_is_openrouter_s(stage: Stage) -> None:
    """It goes on untouched, direct targets behind it are left out, and a chain without OpenRouter is refused."""
    answer = await stage.ask("routed-then-direct", preset="theirs", key=FREE)
    assert answer.status == 200
    assert stage.sent("router")["preset"] == "theirs"
    answer = await stage.ask("a", preset="theirs", key=FREE)
    assert (answer.status, stage.calls) == (404, 1)


async def test_a_budget_keeps_openrouter_s_presets_away(stage: Stage) -> None:
    """They may choose any model and tool, which no price here covers."""
    answer = await stage.ask("routed", preset="theirs")
    assert (answer.status, answer.error["param"], stage.calls) == (400, "preset", 0)


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("@preset/theirs", {"model": "@preset/theirs"}),
        ("vendor/model@preset/theirs", {"model": "vendor/model", "preset": "theirs"}),
        ("routed@preset/theirs", {"model": "vendor/model", "preset": "theirs"}),
    ],
)
async def test_openrouter_s_preset_in_the_name_of_a_model(stage: Stage, model: str, sent: dict[str, str]) -> None:
    """It goes on: alone by its whole name, behind a model as the field that says the same."""
    answer = await stage.ask(model, key=FREE)
    assert answer.status == 200
    assert {name: stage.sent("router").get(name) for name in ("model", "preset")} == {"preset": None, **sent}


@pytest.mark.parametrize("model", ["@preset/theirs", "vendor/model@preset/theirs"])
async def test_a_budget_keeps_presets_in_names_away_too(stage: Stage, model: str) -> None:
    """The same preset in another spelling."""
    answer = await stage.ask(model)
    assert answer.status == 400
    assert stage.calls == 0


async def test_a_direct_target_is_sent_no_preset(stage: Stage) -> None:
    """What stands in a preset of OpenRouter's nobody else knows: 404, and no call."""
    answer = await stage.ask("direct/model@preset/theirs", key=FREE)
    assert (answer.status, stage.calls) == (404, 0)


async def test_anything_else_goes_to_openrouter_with_one_model_behind_all(stage: Stage) -> None:
    """`"*"` with a global fallback: any name reaches OpenRouter, and when that fails the same small model answers."""
    answer = await stage.ask("vendor/whatever:nitro")
    assert (answer.status, stage.sent("router")["model"]) == (200, "vendor/whatever:nitro")
    stage.ups["router"].replace_script([makers.refusing_anthropic(404, "not_found", "No endpoints found.")])
    answer = await stage.ask("vendor/else")
    assert (answer.status, answer.headers["x-turnpike-model"]) == (200, "b")
    assert answer.headers["x-turnpike-route"] == "vendor/else"
    assert [row.error for row in await stage.rows(answer)] == ["not_found", None]


async def test_a_free_model_has_its_backup(stage: Stage) -> None:
    """`:free` goes to OpenRouter as it stands; when its daily limit is used up the next target answers."""
    answer = await stage.ask("gratis")
    assert (answer.status, stage.sent("router")["model"]) == (200, "vendor/model:free")
    limit = {"error": {"message": "Rate limit exceeded: free-models-per-day.", "code": 429}}
    stage.ups["router"].replace_script([refusing("free_limit", 429, limit)])
    answer = await stage.ask("gratis")
    assert (answer.status, answer.headers["x-turnpike-provider"]) == (200, "two")
