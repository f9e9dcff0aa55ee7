"""What one target is sent of a request: defaults in, alien fields out, prices and cuts kept to."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pricing import ModelFacts
from proxy.routing.bodies import OPENROUTER_CUTS_BELOW_TOKENS, MiddleOut, Written, hold_to_price, write_body
from proxy.routing.extras import read_extras
from proxy.routing.table import ProviderFlags, Target
from tests.routing.made import prices, target

BODY: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}
ASKED = {"id": "context-compression", "engine": "middle-out"}
FORBIDDEN = {"id": "context-compression", "enabled": False}
WEB = {"id": "web"}


def write(made: Target, *, middle_out: MiddleOut = "off", **fields: Any) -> Written:
    """Write a request of these fields for a target; the request stays as it was."""
    body = {**BODY, **fields}
    before = copy.deepcopy(body)
    written = write_body(body, made, read_extras(body), middle_out=middle_out)
    assert body == before
    return written


def fussy(*unsupported: str, **renamed: str) -> Target:
    """Make a target that does not take some fields and has other names for others."""
    flags = ProviderFlags(unsupported=frozenset(unsupported), renamed=renamed)
    return target("openai/m", owner={"flags": flags})


def routed(context_tokens: int | None = None) -> Target:
    """Make a target of OpenRouter's."""
    return target("or/m", facts=ModelFacts(context_tokens=context_tokens))


def test_a_body_nobody_changes_is_not_copied() -> None:
    """Most requests."""
    for made in (target("openai/m"), routed(), routed(100_000), fussy("top_k", a="b")):
        assert write_body(BODY, made, read_extras(BODY), middle_out="off").body is BODY


# ---------------------------------------------------------------- direct targets


def test_fields_a_target_does_not_take_are_left_out_by_name() -> None:
    """One that is null said nothing, so nothing is told of it."""
    written = write(fussy("top_k", "seed", "n"), top_k=4, seed=None, temperature=1)
    assert written == Written({**BODY, "temperature": 1}, ("top_k",))


def test_a_field_is_dropped_by_the_name_it_goes_by_there() -> None:
    """First renamed, then judged."""
    assert write(fussy("random_seed", seed="random_seed"), seed=1) == Written(BODY, ("random_seed",))


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        ({"seed": 7}, {"random_seed": 7}),
        ({"seed": None}, {"random_seed": None}),
        ({"seed": 7, "random_seed": 8}, {"random_seed": 8}),
        ({"random_seed": 8}, {"random_seed": 8}),
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 5, "max_tokens": 9}, {"max_tokens": 9}),
        ({"max_completion_tokens": 9, "max_tokens": 5}, {"max_tokens": 9}),
        ({"max_completion_tokens": 9, "max_tokens": None}, {"max_tokens": 9}),
        ({"max_completion_tokens": None, "max_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 9, "seed": 1, "x": 0}, {"max_tokens": 9, "random_seed": 1, "x": 0}),
    ],
)
def test_a_field_goes_by_the_name_it_has_there(sent: dict[str, Any], written: dict[str, Any]) -> None:
    """Of two caps for one name the higher counts, as it does where the money is held."""
    made = fussy(seed="random_seed", max_completion_tokens="max_tokens")
    assert write(made, **sent).body == {**BODY, **written}


names = st.sampled_from(["a", "b", "c", "d"])


@given(
    st.dictionaries(names, st.none() | st.integers(0, 3)), st.sets(names), st.dictionaries(names, st.just("z")),
)  # fmt: skip
def test_nothing_unsupported_is_sent_and_nothing_else_is_lost(
    fields: dict[str, Any], unsupported: set[str], renamed: dict[str, str]
) -> None:
    """Every field is sent by its name there, or named as dropped, or was null."""
    written = write(fussy(*unsupported, **renamed), **fields)
    assert not unsupported & written.body.keys()
    for name, value in fields.items():
        there = renamed.get(name, name)
        assert there in written.body or there in written.dropped or (there in unsupported and value is None)


# ---------------------------------------------------------------- OpenRouter's targets


def test_openrouters_fields_go_on_as_they_were_sent() -> None:
    """It drops what a model does not take by itself."""
    fields: dict[str, Any] = {
        "provider": {"only": ["openai"], "zdr": True},
        "plugins": [WEB],
        "transforms": [],
        "preset": "mine",
        "route": "fallback",
        "reasoning": {"effort": "high"},
    }
    made = target("or/m", owner={"flags": ProviderFlags(unsupported=frozenset({"reasoning"}))})
    assert write(made, **fields) == Written({**BODY, **fields})


@pytest.mark.parametrize("models", [["a", "b"], [], None])
def test_models_are_never_sent_on(models: object) -> None:
    """Every model tried has its hold and its row, so we try them; `route` is about them."""
    assert write(routed(), models=models, route="fallback").body == BODY


def test_a_preset_that_said_nothing_is_not_sent_on() -> None:
    """OpenRouter would look for one."""
    assert write(routed(), preset=None).body == BODY


@pytest.mark.parametrize(
    ("middle_out", "fields", "context_tokens", "sent"),
    [
        ("ours", {}, 100_000, {"plugins": [FORBIDDEN]}),
        ("ours", {"transforms": ["middle-out"]}, 100_000, {"plugins": [FORBIDDEN]}),
        ("ours", {"plugins": [WEB, ASKED]}, 100_000, {"plugins": [WEB, FORBIDDEN]}),
        ("theirs", {"transforms": ["middle-out"]}, None, {"transforms": ["middle-out"]}),
        ("theirs", {"plugins": [WEB, ASKED]}, None, {"plugins": [WEB, ASKED]}),
        ("theirs", {}, None, {"plugins": [ASKED]}),
        ("theirs", {"plugins": [WEB]}, None, {"plugins": [WEB, ASKED]}),
        ("off", {}, OPENROUTER_CUTS_BELOW_TOKENS, {"plugins": [FORBIDDEN]}),
        ("off", {"plugins": [WEB]}, 4_096, {"plugins": [WEB, FORBIDDEN]}),
        ("off", {}, OPENROUTER_CUTS_BELOW_TOKENS + 1, {}),
        ("off", {}, None, {}),
        ("off", {"transforms": []}, 4_096, {"transforms": []}),
        ("off", {"plugins": [FORBIDDEN]}, 4_096, {"plugins": [FORBIDDEN]}),
    ],
)
def test_openrouter_cuts_only_where_it_is_to(
    middle_out: MiddleOut, fields: dict[str, Any], context_tokens: int | None, sent: dict[str, Any]
) -> None:
    """Where we cut, and where it would by itself, it is told not to; where it may, the request's own form stays."""
    assert write(routed(context_tokens), middle_out=middle_out, **fields).body == {**BODY, **sent}


@pytest.mark.parametrize(
    "fields",
    [
        {"transforms": [], "plugins": [ASKED]},
        {"transforms": ["middle-out"], "plugins": [FORBIDDEN]},
    ],
)
def test_an_off_that_wins_here_wins_at_openrouter(fields: dict[str, Any]) -> None:
    """The word that lost is not sent on."""
    sent = write(routed(), **fields).body
    assert not sent.get("transforms")
    assert ASKED not in sent.get("plugins", [])


# ---------------------------------------------------------------- prices


PRICED = target("or/m", facts=ModelFacts(prices(3, 15)))


@pytest.mark.parametrize(
    ("preferences", "sent"),
    [
        (None, {"max_price": {"prompt": 3.0, "completion": 15.0}}),
        ({}, {"max_price": {"prompt": 3.0, "completion": 15.0}}),
        ({"only": ["a"], "zdr": True}, {"only": ["a"], "zdr": True, "max_price": {"prompt": 3.0, "completion": 15.0}}),
        ({"max_price": {"prompt": "2", "completion": 99}}, {"max_price": {"prompt": 2.0, "completion": 15.0}}),
        ({"max_price": {"image": 1}}, {"max_price": {"image": 1, "prompt": 3.0, "completion": 15.0}}),
        ({"max_price": None}, {"max_price": {"prompt": 3.0, "completion": 15.0}}),
    ],
)
def test_openrouter_is_held_to_our_price(preferences: dict[str, Any] | None, sent: dict[str, Any]) -> None:
    """Or to the client's where it is lower; the rest of `provider` stays, and what the client sent is not touched."""
    body = {**BODY, "provider": preferences}
    before = copy.deepcopy(body)
    assert hold_to_price(body, PRICED) == {**BODY, "provider": sent}
    assert body == before


@pytest.mark.parametrize("made", [target("or/m"), target("openai/m", facts=ModelFacts(prices()))])
def test_only_openrouter_is_held_and_only_to_what_is_known(made: Target) -> None:
    """A direct target has one price; without one nothing is held."""
    assert hold_to_price(BODY, made) is BODY
