"""From the models a request names to the targets that may serve it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from proxy.errors import ClientError, NotFound, PermissionRefused
from proxy.pricing import ModelFacts
from proxy.routing.choice import TARGETS_MAX, Choice, choose, resolve_legs
from proxy.routing.eligibility import Reason, Skipped
from proxy.routing.extras import NO_EXTRAS, read_extras
from proxy.routing.principal import Principal
from proxy.routing.resolve import Resolved
from proxy.routing.table import Catalogue, Table
from tests.routing.made import ANYONE, static, table, target

HI: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
TABLE = table({"a": ["or/a"], "b": ["openai/b", "or/b"], "c": ["openai/b", "groq/c"]}, default_model="a")


def legs_of(body: Mapping[str, Any], *, principal: Principal = ANYONE, made: Table = TABLE) -> list[Resolved]:
    """Resolve the models of a request."""
    return resolve_legs(body, read_extras(body), principal=principal, table=made, facts=Catalogue().find)


def chosen(made: Table = TABLE, **fields: Any) -> tuple[list[Choice], list[Skipped]]:
    """Choose for a request of these fields."""
    body = {**HI, **fields}
    return choose(legs_of(body, made=made), body, read_extras(body))


def names(choices: list[Choice]) -> list[str]:
    """Give the targets, in their order."""
    return [choice.target.name for choice in choices]


# ---------------------------------------------------------------- models


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"model": "b"}, ["b"]),
        ({}, ["a"]),
        ({"model": None, "models": []}, ["a"]),
        ({"models": ["c", "b"]}, ["c", "b"]),
        ({"model": "b", "models": ["c", "b", "c"]}, ["b", "c"]),
        ({"model": "b", "models": ["b"]}, ["b"]),
    ],
)
def test_each_model_is_one_leg(fields: dict[str, Any], asked: list[str]) -> None:
    """`model` first, each once; the default only where none is named."""
    assert [leg.asked for leg in legs_of(fields)] == asked


def test_a_ninth_model_is_refused() -> None:
    """With `model`, or without."""
    many = table({str(index): ["or/m"] for index in range(TARGETS_MAX + 1)})
    named = [str(index) for index in range(TARGETS_MAX + 1)]
    assert len(legs_of({"model": "0", "models": named[:-1]}, made=many)) == TARGETS_MAX
    for fields in ({"models": named}, {"model": "0", "models": named}):
        with pytest.raises(ClientError, match=f"{TARGETS_MAX} models together with `model`"):
            legs_of(fields, made=many)


@pytest.mark.parametrize(
    ("models", "kind"),
    [(["nobody"], NotFound), (["c"], PermissionRefused)],
)
def test_a_fault_is_laid_to_the_field_that_names_the_model(models: list[str], kind: type[Exception]) -> None:
    """`models`, not `model`."""
    listed = Principal("app", models=("a", "nobody"))
    for name, fields in (("models", {"model": "a", "models": models}), ("model", {"model": models[0]})):
        with pytest.raises(kind) as caught:
            legs_of(fields, principal=listed)
        assert getattr(caught.value, "param", None) == name


# ---------------------------------------------------------------- targets


def test_a_target_two_models_share_is_tried_once() -> None:
    """For the first of them; within one model a chain may name it twice."""
    choices, skipped = chosen(model="b", models=["c"])
    assert (names(choices), skipped) == (["openai/b", "or/b", "groq/c"], [])
    assert [choice.route.name for choice in choices] == ["b", "b", "c"]
    twice = table({"a": ["or/a", "or/a"]})
    assert names(chosen(twice, model="a")[0]) == ["or/a", "or/a"]


def test_who_cannot_serve_is_told_with_the_kind_of_reason() -> None:
    """A suffix, no key, a lack; a fixed answer is left whatever is asked."""
    blind = target("openai/b", facts=ModelFacts(capabilities={"tools": False}))
    made = table({"a": ["groq/a", target("or/b", not_ready="no key"), blind, static()]})
    choices, skipped = chosen(made, model="a:free", tools=[{"type": "function"}])
    assert names(choices) == ["static/fixed"]
    assert [(skip.target.name, skip.kind) for skip in skipped] == [
        ("groq/a", Reason.SUFFIX),
        ("openai/b", Reason.SUFFIX),
        ("or/b:free", Reason.NOT_READY),
    ]
    _, skipped = chosen(made, model="a", tools=[{"type": "function"}])
    assert [(skip.target.name, skip.kind) for skip in skipped] == [
        ("or/b", Reason.NOT_READY),
        ("openai/b", Reason.ABILITY),
    ]


def test_so_many_targets_are_the_most() -> None:
    """Of all models together; the others are named."""
    made = table({"a": [f"or/{index}" for index in range(6)], "b": [f"groq/{index}" for index in range(6)]})
    choices, skipped = chosen(made, model="a", models=["b"])
    assert len(choices) == TARGETS_MAX
    assert [(skip.target.name, skip.kind) for skip in skipped] == [
        (f"groq/{index}", Reason.LIMIT) for index in range(2, 6)
    ]


# ---------------------------------------------------------------- defaults


def test_without_defaults_a_target_gets_the_very_request() -> None:
    """Nothing is copied, and there is nothing to read anew."""
    body = {**HI, "model": "b"}
    choices, _ = choose(legs_of(body), body, NO_EXTRAS)
    assert all(choice.body is body and choice.extras is NO_EXTRAS for choice in choices)


def test_defaults_are_filled_in_beneath_the_request() -> None:
    """A plain option changes no condition."""
    made = table({"a": [target("openai/a", params={"temperature": 0, "top_p": 1}), "or/b"]})
    first, second = chosen(made, model="a", top_p=0.5)[0]
    assert first.body == {**HI, "model": "a", "temperature": 0, "top_p": 0.5}
    assert second.body == {**HI, "model": "a", "top_p": 0.5}
    assert first.extras is second.extras is NO_EXTRAS


def test_a_condition_among_the_defaults_is_read_for_its_target_alone() -> None:
    """The one beside it is not held to it; further models stay the request's own."""
    strict = {"provider": {"zdr": True}}
    made = table({"a": [target("openai/a", params=strict), target("or/b", params=strict), "groq/c"], "d": ["or/d"]})
    choices, skipped = chosen(made, model="a", models=["d"])
    assert names(choices) == ["or/b", "groq/c", "or/d"]
    assert [choice.extras.preferences.zdr for choice in choices] == [True, False, False]
    assert [choice.extras.models for choice in choices] == [("d",)] * 3
    assert [(skip.target.name, skip.kind) for skip in skipped] == [("openai/a", Reason.PRIVACY)]


def test_cuts_and_plugins_among_the_defaults_count_as_asked_for() -> None:
    """By this target; an explicit word of the request stands over them."""
    made = table({"a": [target("or/a", params={"transforms": ["middle-out"], "plugins": [{"id": "web"}]})]})
    (choice,) = chosen(made, model="a")[0]
    assert choice.extras.middle_out is True
    assert [plugin["id"] for plugin in choice.extras.plugins] == ["web"]
    (choice,) = chosen(made, model="a", transforms=[], plugins=[])[0]
    assert (choice.extras.middle_out, choice.extras.plugins) == (False, ())


# ---------------------------------------------------------------- fallbacks


def test_without_fallbacks_the_first_that_may_serve_is_the_only_one() -> None:
    """Of each model; with an order those it names are left."""
    one = {"allow_fallbacks": False}
    choices, skipped = chosen(model="b", models=["c"], provider=one)
    assert names(choices) == ["openai/b", "groq/c"]
    assert [(skip.target.name, skip.kind) for skip in skipped] == [("or/b", Reason.CONDITION)]
    choices, _ = chosen(model="c", provider={**one, "order": ["groq", "openai"]})
    assert names(choices) == ["groq/c", "openai/b"]


def test_a_model_nobody_may_serve_leaves_the_others() -> None:
    """The chain goes on to the next one."""
    choices, skipped = chosen(model="c", models=["a"], provider={"zdr": True})
    assert names(choices) == ["or/a"]
    assert {skip.kind for skip in skipped} == {Reason.PRIVACY}
