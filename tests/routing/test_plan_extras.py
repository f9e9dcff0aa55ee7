"""The plan of a request that says more than a model: further models, presets, conditions, cuts (openrouter.md 1.2)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ClientError, NotFound, PermissionRefused
from proxy.pricing import ModelFacts
from proxy.routing.choice import TARGETS_MAX
from proxy.routing.eligibility import Reason
from proxy.routing.plan import BY_OPENROUTER, Plan
from proxy.routing.principal import Principal
from proxy.routing.refusals import require_candidate
from proxy.routing.table import Route, Table, Target, Timeouts
from tests.routing.made import ANYONE, prices, table, target
from tests.routing.test_plan import BODY, chain, plan

THREE = {"a": ["or/a"], "b": ["openai/b", "or/b"], "c": ["openai/c"]}


def names(made: Plan) -> list[str]:
    """Give the targets to try, in their order."""
    return [candidate.target.name for candidate in made.candidates]


@pytest.mark.parametrize(
    ("model", "models", "tried"),
    [
        ("a", ["c", "b"], ["or/a", "openai/c", "openai/b", "or/b"]),
        ("b", ["a"], ["openai/b", "or/b", "or/a"]),
        (None, ["c", "a"], ["openai/c", "or/a"]),
        ("a", ["a", "c", "a", "c"], ["or/a", "openai/c"]),
        ("a", ["b", "@preset/b", "a"], ["or/a", "openai/b", "or/b"]),
        ("a", [], ["or/a"]),
        ("a", None, ["or/a"]),
    ],
)
def test_models_are_tried_behind_the_model(model: str | None, models: list[str] | None, tried: list[str]) -> None:
    """In the client's order, each by its own chain and no target twice; alone they are the chain."""
    made = plan(table(THREE), model=model, models=models, route="fallback")
    assert names(made) == tried
    assert made.alias == (model or "c")
    for candidate in made.candidates:
        assert candidate.target.provider.name != "or" or not {"models", "route"} & candidate.body.keys()


def test_models_alone_need_no_default() -> None:
    """With one, and without either, the default is asked for."""
    defaulted = table(THREE, default_model="c")
    assert names(plan(defaulted, model=None, models=["a"])) == ["or/a"]
    assert names(plan(defaulted, model=None, models=[])) == ["openai/c"]


def test_so_many_models_are_the_most() -> None:
    """Together with `model`; more is 400 by name, and one named twice counts once."""
    many = table({str(index): [f"or/{index}"] for index in range(TARGETS_MAX + 1)})
    named = [str(index) for index in range(TARGETS_MAX + 1)]
    assert len(plan(many, model="0", models=named[:TARGETS_MAX]).candidates) == TARGETS_MAX
    assert len(plan(many, model=None, models=named[:TARGETS_MAX]).candidates) == TARGETS_MAX
    for model in ("0", None):
        with pytest.raises(ClientError, match=f"{TARGETS_MAX} models") as caught:
            plan(many, model=model, models=named)
        assert (caught.value.status, caught.value.param) == (400, "models")


def test_each_of_the_models_must_exist() -> None:
    """One that does not is the client's mistake, not a link to leave out."""
    with pytest.raises(NotFound, match="'nobody' does not exist"):
        plan(table(THREE), model="a", models=["nobody"])


def test_models_keep_the_lowest_ceiling_and_the_shortest_clock() -> None:
    """What limits one model of the chain limits the request."""
    routes = {
        "a": Route("a", (target("or/a", timeouts=Timeouts(total_s=30)),), max_cost_nano_usd=5),
        "b": Route("b", (target("or/b", timeouts=Timeouts(total_s=20)),), max_cost_nano_usd=3),
        "c": Route("c", (target("or/c"),)),
    }
    made = plan(Table("t", {}, routes), model="c", models=["a", "b"])
    assert (made.max_cost_nano_usd, made.total_s, made.route.name) == (3, 20, "c")


@pytest.mark.parametrize(
    ("fields", "tried", "alias"),
    [
        ({"model": None, "preset": "b"}, ["openai/b", "or/b"], "b"),
        ({"model": "a", "preset": "b"}, ["or/a", "openai/b", "or/b"], "a"),
        ({"model": "b", "preset": "b"}, ["openai/b", "or/b"], "b"),
        ({"model": None, "preset": "b", "models": ["a"]}, ["openai/b", "or/b", "or/a"], "b"),
        ({"model": "@preset/b"}, ["openai/b", "or/b"], "b"),
    ],
)
def test_a_preset_that_is_an_alias_is_that_alias(fields: dict[str, Any], tried: list[str], alias: str) -> None:
    """Nobody upstream hears of it; a model of the request's own stays in front."""
    made = plan(table(THREE), **fields)
    assert (names(made), made.alias) == (tried, alias)
    assert not any(
        "preset" in candidate.body for candidate in made.candidates if candidate.target.provider.name == "or"
    )


def test_any_other_preset_goes_on_to_openrouter_alone() -> None:
    """Untouched; no other target knows it, and without one of OpenRouter's the answer is 404."""
    made = plan(table(THREE), model="b", preset="mine")
    assert names(made) == ["or/b"]
    assert made.candidates[0].body["preset"] == "mine"
    assert [(skip.target.name, skip.kind) for skip in made.skipped] == [("openai/b", Reason.ONLY_OPENROUTER)]
    nobody = plan(table(THREE), model="c", preset="mine")
    with pytest.raises(NotFound, match="No endpoints found: this request asks for what exists only at OpenRouter"):
        require_candidate(nobody, principal=ANYONE, table=table(THREE))


@pytest.mark.parametrize(
    ("provider", "tried"),
    [
        ({}, ["or/a", "openai/b", "groq/c"]),
        ({"allow_fallbacks": True}, ["or/a", "openai/b", "groq/c"]),
        ({"order": ["groq"]}, ["or/a", "groq/c", "openai/b"]),
        ({"order": ["groq", "openai"]}, ["or/a", "groq/c", "openai/b"]),
        ({"order": ["groq"], "allow_fallbacks": False}, ["or/a", "groq/c"]),
        ({"allow_fallbacks": False}, ["or/a"]),
        ({"only": ["openai"]}, ["or/a", "openai/b"]),
        ({"ignore": ["openai"]}, ["or/a", "groq/c"]),
        ({"only": ["openai", "groq"], "ignore": ["groq"]}, ["or/a", "openai/b"]),
    ],
)
def test_a_clients_conditions_choose_among_direct_targets(provider: dict[str, Any], tried: list[str]) -> None:
    """OpenRouter's keep their places and are told the conditions as they were sent."""
    made = plan(chain("or/a", "openai/b", "groq/c"), provider=provider)
    assert names(made) == tried
    assert made.candidates[0].body["provider"] == provider
    assert len(made.candidates) + len(made.skipped) == 3


def test_without_fallbacks_each_model_has_its_first_target() -> None:
    """The condition is about the providers of one model; further models are the client's own wish."""
    made = plan(table(THREE), model="b", models=["a"], provider={"allow_fallbacks": False})
    assert names(made) == ["openai/b", "or/a"]
    (left_out,) = made.skipped
    assert (left_out.reason, left_out.kind) == ("`provider.allow_fallbacks` is false", Reason.CONDITION)


def test_fields_a_target_does_not_take_are_left_out_or_rule_it_out() -> None:
    """Dropped and told, unless all of them are required: then the target is none."""
    fussy = target("openai/b", facts=ModelFacts(capabilities={"unsupported": frozenset({"top_k", "seed"})}))
    routes = table({"chat": ["or/a", fussy]})
    first, second = plan(routes, top_k=4, seed=None).candidates
    assert (first.dropped, first.body["top_k"]) == ((), 4)
    assert (second.dropped, {"top_k", "seed"} & second.body.keys()) == (("top_k",), set())
    required = plan(routes, top_k=4, provider={"require_parameters": True})
    assert names(required) == ["or/a"]
    assert required.requires_parameters
    (skip,) = required.skipped
    assert (skip.target.name, skip.kind) == ("openai/b", Reason.CONDITION)
    assert skip.reason == "it does not take top_k, and `provider.require_parameters` is set"
    assert names(plan(routes, seed=None, provider={"require_parameters": True})) == ["or/a", "openai/b"]


@pytest.mark.parametrize(("max_cost", "has_budget"), [(None, True), (5, False)])
def test_openrouter_is_held_to_the_price_that_is_held(max_cost: int | None, *, has_budget: bool) -> None:
    """No endpoint dearer than our row may serve a request that a limit in money holds for."""
    cheap = target("or/a", facts=ModelFacts(prices(3, 15)))
    route = Route("chat", (cheap, target("openai/b", facts=ModelFacts(prices()))), max_cost_nano_usd=max_cost)
    made = plan(Table("t", {}, {"chat": route}), principal=Principal("app", has_budget=has_budget))
    assert made.candidates[0].body["provider"] == {"max_price": {"prompt": 3.0, "completion": 15.0}}
    assert "provider" not in made.candidates[1].body


def test_without_a_limit_no_price_is_set() -> None:
    """The request goes on as it came."""
    made = plan(table({"chat": [target("or/a", facts=ModelFacts(prices()))]}))
    assert made.candidates[0].body == BODY


# Who cuts an overlong prompt (openrouter.md 2.2).

CUT = {"transforms": ["middle-out"]}


def known(name: str) -> Target:
    """Make a target whose context is known."""
    return target(name, facts=ModelFacts(context_tokens=100_000))


@pytest.mark.parametrize(
    ("of_route", "of_request", "expected"),
    [
        (None, {}, ["off", "off", "off", "off"]),
        (("middle-out",), {}, ["ours", "theirs", "ours", "off"]),
        ((), {}, ["off", "off", "off", "off"]),
        (None, CUT, ["ours", "theirs", "ours", "off"]),
        (None, {"plugins": [{"id": "context-compression"}]}, ["ours", "theirs", "ours", "off"]),
        (("middle-out",), {"transforms": []}, ["off", "off", "off", "off"]),
        (("middle-out",), {"plugins": [{"id": "context-compression", "enabled": False}]}, ["off", "off", "off", "off"]),
        (("middle-out",), {**CUT, "plugins": [{"id": "context-compression", "enabled": False}]}, ["off"] * 4),
    ],
)
def test_who_may_cut_is_the_requests_word_then_the_aliases(
    of_route: tuple[str, ...] | None, of_request: dict[str, Any], expected: list[str]
) -> None:
    """We where the context is known; OpenRouter where it is not, and says so; nobody unless asked, and off wins."""
    route = Route("chat", (known("or/a"), target("or/b"), known("openai/c"), target("openai/d")), transforms=of_route)
    made = plan(Table("t", {}, {"chat": route}), **of_request)
    assert [candidate.middle_out for candidate in made.candidates] == expected
    told = [BY_OPENROUTER if who == "theirs" else None for who in expected]
    assert [candidate.transforms for candidate in made.candidates] == told


# What a key with a list of models or a budget may add.

LISTED = Principal("app", models=("a", "c"))
BUDGETED = Principal("app", has_budget=True)


def test_a_condition_of_the_operators_own_holds_too() -> None:
    """`params: {provider: {zdr: true}}` of a model, a tenant or a key fails closed as a client's does."""
    strict = {"provider": {"zdr": True}}
    assert names(plan(table({"chat": [target("openai/a", params=strict)]}))) == []
    assert names(plan(chain("openai/a"), principal=Principal("app", params=strict))) == []


def test_a_price_ceiling_of_the_operators_own_is_never_raised() -> None:
    """The lowest of all holds."""
    made = target("or/a", facts=ModelFacts(prices(3, 15)), params={"provider": {"max_price": {"prompt": 1}}})
    (candidate,) = plan(table({"chat": [made]}), principal=BUDGETED).candidates
    assert candidate.body["provider"]["max_price"] == {"prompt": 1, "completion": 15.0}


def test_a_listed_key_may_name_models_of_its_list() -> None:
    """Each is checked as if it were asked for; a preset that is an alias too."""
    assert names(plan(table(THREE), principal=LISTED, model="a", models=["c"])) == ["or/a", "openai/c"]
    assert names(plan(table(THREE), principal=LISTED, model="a", preset="c")) == ["or/a", "openai/c"]
    for fields in ({"models": ["c", "b"]}, {"preset": "b"}):
        with pytest.raises(PermissionRefused, match="may not ask for the model 'b'"):
            plan(table(THREE), principal=LISTED, model="a", **fields)


def test_a_budgeted_key_may_name_models() -> None:
    """Every model tried has its hold."""
    assert names(plan(table(THREE), principal=BUDGETED, model="a", models=["b"])) == ["or/a", "openai/b", "or/b"]


@pytest.mark.parametrize("principal", [LISTED, BUDGETED])
def test_a_limited_key_may_send_what_does_no_harm(principal: Principal) -> None:
    """Empty says nothing, and some plugins cost nothing and choose no model."""
    harmless: list[dict[str, Any]] = [{"models": []}, {"plugins": []}, {"preset": None}]
    for fields in (*harmless, {"plugins": [{"id": "response-healing"}]}):
        assert plan(table(THREE), principal=principal, model="a", **fields).candidates


def test_a_key_without_limits_may_send_anything() -> None:
    """It goes on to OpenRouter as it came."""
    fields: dict[str, Any] = {
        "plugins": [{"id": "web", "max_results": 3}],
        "preset": "mine",
        "service_tier": "priority",
    }
    (candidate,) = plan(chain("or/a"), **fields).candidates
    assert candidate.body == {**BODY, **fields}


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=5), st.sampled_from(["a", "b", "c", None]))
def test_the_chain_of_models_is_the_chains_one_after_another(models: list[str], model: str | None) -> None:
    """First come, first tried; what is planned for one model does not depend on the others."""
    asked = list(dict.fromkeys([*([model] if model else []), *models]))
    single = [name for one in asked for name in names(plan(table(THREE), model=one))]
    if asked:
        assert names(plan(table(THREE), model=model, models=models)) == list(dict.fromkeys(single))
