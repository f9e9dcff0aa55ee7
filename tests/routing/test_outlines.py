"""Plans without their request: whoever is planned by an outline is planned exactly as if there were none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import RequestError
from proxy.pricing import ModelFacts
from proxy.routing.outlines import fill_in, fits, make_outline, outline_key
from proxy.routing.plan import Plan, make_plan
from proxy.routing.principal import Principal
from proxy.routing.table import Catalogue, ProviderFlags
from tests.routing.made import ANYONE, prices, static, table, target

TEXT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
PICTURE: dict[str, Any] = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}
FUSSY = ModelFacts(prices(), capabilities={"unsupported": frozenset({"seed"}), "input": ("text",), "tools": False})
RENAMED = {"flags": ProviderFlags(renamed={"max_completion_tokens": "max_tokens"})}
TABLE = table(
    {
        "chat": ["openai/a", target("groq/b", facts=FUSSY), "or/c", static()],
        "small": [target("or/d", facts=ModelFacts(context_tokens=4_096))],
        "named": [target("mistral/e", owner=RENAMED), "xai/e"],
        "filled": [target("openai/f", params={"temperature": 0, "provider": {"zdr": True}}), "or/f"],
        "warm": [target("openai/f", params={"temperature": 0})],
        "away": [target("openai/g", not_ready="no key")],
        "direct/*": ["openai/*"],
        "*": ["or/*"],
    }
)
KEYS = [
    ANYONE,
    Principal("listed", models=("chat", "named", "direct/*")),
    Principal("budgeted", has_budget=True),
    Principal("filled", params={"top_p": 0.5, "provider": {"data_collection": "deny"}}),
    Principal("grouped", tenant_models=("chat", "direct/*"), max_cost_nano_usd=1_000),
]


def planned(body: dict[str, Any], principal: Principal) -> Plan | str:
    """Plan anew, or give the refusal."""
    try:
        return make_plan(body, principal=principal, table=TABLE, facts=Catalogue().find)
    except RequestError as error:
        return f"{error.status} {error.param} {error.message}"


names = st.sampled_from(
    [
        "chat",
        "chat:nitro",
        "small",
        "named",
        "filled",
        "warm",
        "away",
        "direct/x",
        "v/m",
        "v/m:online",
        "@preset/chat",
        "v/m@preset/x",
    ]
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "stream": st.booleans(),
        "temperature": st.just(1),
        "seed": st.sampled_from([None, 7]),
        "max_tokens": st.integers(1, 9),
        "max_completion_tokens": st.integers(1, 9),
        "tools": st.sampled_from([[], [{"type": "function"}], [{"type": "web_search"}]]),
        "provider": st.sampled_from([None, {}, {"zdr": True}, {"only": ["groq"]}]),
        "plugins": st.sampled_from([[], [{"id": "web"}]]),
        "transforms": st.sampled_from([[], ["middle-out"]]),
        "models": st.sampled_from([[], ["small"]]),
        "preset": st.sampled_from([None, "mine", "chat"]),
        "reasoning": st.sampled_from([{}, {"effort": "high"}, {"effort": "turbo"}]),
        "service_tier": st.sampled_from(["flex", "priority"]),
        "web_search_options": st.just({}),
        "unheard_of": st.just(1),
    },
)
bodies = st.builds(lambda more, said: {**more, **said}, st.sampled_from([TEXT, PICTURE]), fields)


@given(names, st.sampled_from(KEYS), bodies, bodies)
def test_an_outline_gives_the_plan_that_would_be_made(
    model: str, principal: Principal, first: dict[str, Any], second: dict[str, Any]
) -> None:
    """Of any two requests with one key the second is planned by the outline of the first, or it does not fit."""
    first, second = {**first, "model": model}, {**second, "model": model}
    made = planned(first, principal)
    if isinstance(made, str) or outline_key(first, principal) != outline_key(second, principal):
        return
    outline = make_outline(made, first, principal)
    if outline is not None and fits(outline.telling, second):
        assert fill_in(outline.plan, second) == planned(second, principal)


def test_a_plain_request_has_one() -> None:
    """Most requests, and the next one is sent by it as it stands."""
    first, second = {**TEXT, "model": "chat"}, {**TEXT, "model": "chat", "temperature": 1, "max_tokens": 5}
    made = planned(first, ANYONE)
    assert isinstance(made, Plan)
    outline = make_outline(made, first, ANYONE)
    assert outline is not None
    assert fits(outline.telling, second)
    filled = fill_in(outline.plan, second)
    assert all(candidate.body is second for candidate in filled.candidates)
    assert filled.asked_output_tokens == 5


@pytest.mark.parametrize(
    ("model", "more", "principal"),
    [
        ("chat", {"provider": {}}, ANYONE),
        ("chat", {"tools": [{"type": "function"}]}, ANYONE),
        ("chat", {"seed": None}, ANYONE),
        ("chat", PICTURE, ANYONE),
        ("small", {}, ANYONE),
        ("warm", {}, ANYONE),
        ("v/m@preset/x", {}, ANYONE),
        ("chat", {}, KEYS[3]),
    ],
)
def test_what_a_plan_depends_on_has_none(model: str, more: dict[str, Any], principal: Principal) -> None:
    """Fields that choose, inputs a model may lack, and bodies that are written anew."""
    body = {**TEXT, **more, "model": model}
    made = planned(body, principal)
    assert isinstance(made, Plan)
    assert make_outline(made, body, principal) is None


@pytest.mark.parametrize(
    ("body", "principal"),
    [
        ({**TEXT, "model": "named"}, ANYONE),
        ({**TEXT}, ANYONE),
        ({**TEXT, "model": "chat", "stream": True}, ANYONE),
        ({**TEXT, "model": "chat"}, replace(ANYONE, name="other")),
        ({**TEXT, "model": "chat"}, replace(ANYONE, revision=2)),
        ({**TEXT, "model": "chat"}, replace(ANYONE, models=("chat",))),
        ({**TEXT, "model": "chat"}, replace(ANYONE, has_budget=True)),
        ({**TEXT, "model": "chat"}, replace(ANYONE, default_model="x")),
    ],
)
def test_who_asks_for_what_is_told_apart(body: dict[str, Any], principal: Principal) -> None:
    """An outline of one is never another's."""
    assert outline_key(body, principal) != outline_key({**TEXT, "model": "chat"}, ANYONE)


def test_an_outline_keeps_nothing_of_the_request_it_was_made_from() -> None:
    """Prompts are long and private: a plan that is remembered holds none."""
    body = {"model": "chat", **TEXT}
    outline = make_outline(make_plan(body, principal=ANYONE, table=TABLE, facts=Catalogue().find), body, ANYONE)
    assert outline is not None
    assert [candidate.body for candidate in outline.plan.candidates] == [{}] * len(outline.plan.candidates)
