"""The plan of a request: which targets, in which order, with which params, clocks and limits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import NotFound, UpstreamUnusable
from proxy.policy.timeouts import Clocks
from proxy.pricing import ModelFacts
from proxy.routing.choice import TARGETS_MAX
from proxy.routing.plan import Plan, make_plan
from proxy.routing.principal import Principal
from proxy.routing.refusals import require_candidate
from proxy.routing.table import Catalogue, Retry, Route, Table, Timeouts
from tests.routing.made import ANYONE, prices, table, target

BODY = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}


def plan(made: Table, *, principal: Principal = ANYONE, **fields: Any) -> Plan:
    """Plan a chat request on this table."""
    return make_plan({**BODY, **fields}, principal=principal, table=made, facts=Catalogue().find)


def chain(*names: str, **more: Any) -> Table:
    """Make a table whose `chat` is this chain."""
    return table({"chat": names}, **more)


def test_a_plan_has_the_targets_in_their_order() -> None:
    """The chain as written; who asks and what the table says go with it."""
    made = plan(chain("or/a", "openai/b", "or/c", retry=Retry(5)))
    assert [candidate.target.name for candidate in made.candidates] == ["or/a", "openai/b", "or/c"]
    assert (made.alias, made.route.name, made.retries, made.skipped) == ("chat", "chat", 5, ())
    assert (made.max_cost_nano_usd, made.has_budget, made.is_limited) == (None, False, False)
    first = made.candidates[0]
    assert (first.input_tokens_max, first.output_tokens_max, first.worst_case_nano_usd) == (0, None, 0)


def test_what_was_asked_for_is_kept() -> None:
    """The alias is the client's word, the route the key of the table it came to."""
    made = plan(table({"openai/*": ["or/openai/*"]}), model="openai/gpt-4o:nitro")
    assert (made.alias, made.route.name) == ("openai/gpt-4o:nitro", "openai/*")


def test_targets_that_are_not_ready_are_skipped() -> None:
    """A provider without its key is passed over, and the reason is told."""
    made = plan(table({"chat": [target("openai/a", not_ready="OPENAI_API_KEY is not set"), "or/b"]}))
    assert [candidate.target.name for candidate in made.candidates] == ["or/b"]
    assert [(skip.target.name, skip.reason) for skip in made.skipped] == [("openai/a", "OPENAI_API_KEY is not set")]


def test_every_reason_to_skip_is_told() -> None:
    """First what a suffix rules out, then what is not ready."""
    made = plan(
        table({"chat": ["openai/a", target("orx/b", not_ready="OPENROUTER_API_KEY is not set"), "or/c"]}),
        model="chat:free",
    )
    assert [candidate.target.name for candidate in made.candidates] == ["or/c:free"]
    assert [(skip.target.name, skip.reason) for skip in made.skipped] == [
        ("openai/a", "`:free` exists only at OpenRouter"),
        ("orx/b:free", "OPENROUTER_API_KEY is not set"),
    ]


def test_a_model_without_a_ready_target_is_the_operators_matter() -> None:
    """The model exists but no provider of it is ready: 503, and which variable is missing is no secret."""
    routes = table({"chat": [target("openai/a", not_ready="OPENAI_API_KEY is not set")]})
    made = plan(routes)
    assert made.candidates == ()
    with pytest.raises(UpstreamUnusable) as caught:
        require_candidate(made, principal=Principal("app"), table=routes)
    assert "No target of the model 'chat' is ready: openai/a: OPENAI_API_KEY is not set." in caught.value.message
    assert (caught.value.status, caught.value.code) == (503, "upstream_credentials")


def test_a_name_only_an_unready_glob_lets_through_is_not_found() -> None:
    """Most likely a slip: 404 with the nearest names, and why the glob did not help."""
    routes = table({"chat": ["or/b"], "*": [target("openai/*", not_ready="OPENAI_API_KEY is not set")]})
    made = plan(routes, model="chatt")
    with pytest.raises(NotFound) as caught:
        require_candidate(made, principal=Principal("app"), table=routes)
    assert caught.value.metadata == {"near": ["chat"]}
    assert "OPENAI_API_KEY is not set" in caught.value.message


def test_a_plan_with_a_candidate_passes() -> None:
    """Nothing is refused while one target is left."""
    routes = table({"chat": ["or/b"]})
    require_candidate(plan(routes), principal=Principal("app"), table=routes)


def test_a_request_tries_so_many_targets_at_most() -> None:
    """Those that are not ready do not count; what is beyond is skipped by name."""
    unready = [target(f"x/{index}", not_ready="no key") for index in range(3)]
    made = plan(table({"chat": [*unready, *(f"or/{index}" for index in range(TARGETS_MAX + 1))]}))
    assert [candidate.target.model for candidate in made.candidates] == [str(index) for index in range(TARGETS_MAX)]
    assert [skip.target.name for skip in made.skipped] == ["x/0", "x/1", "x/2", f"or/{TARGETS_MAX}"]
    assert made.skipped[-1].reason == f"{TARGETS_MAX} targets are the most one request tries"


# Params: request > key > tenant > model.


@pytest.mark.parametrize(
    ("of_target", "of_key", "of_request", "sent"),
    [
        ({}, {}, {}, {}),
        ({"a": 1}, {}, {}, {"a": 1}),
        ({"a": 1}, {"a": 2}, {}, {"a": 2}),
        ({"a": 1}, {"a": 2}, {"a": 3}, {"a": 3}),
        ({"a": 1}, {}, {"a": None}, {"a": None}),
        ({"a": 1}, {"b": 2}, {"c": 3}, {"a": 1, "b": 2, "c": 3}),
        ({"max_tokens": 1}, {}, {"max_completion_tokens": 9}, {"max_completion_tokens": 9}),
        ({"max_completion_tokens": 1}, {}, {"max_tokens": 9}, {"max_tokens": 9}),
        ({"max_completion_tokens": 1}, {"max_tokens": 2}, {}, {"max_tokens": 2}),
        ({"max_completion_tokens": 1}, {"max_tokens": 2}, {"max_completion_tokens": 3}, {"max_completion_tokens": 3}),
    ],
)
def test_defaults_fill_in_and_the_request_wins(
    of_target: dict[str, Any], of_key: dict[str, Any], of_request: dict[str, Any], sent: dict[str, Any]
) -> None:
    """Nearer to the client is stronger; an output cap under either name is one option."""
    made = table({"chat": [target("or/a", params=of_target), "or/b"]})
    first, second = plan(made, principal=Principal("app", params=of_key), **of_request).candidates
    assert first.body == {**BODY, **sent}
    assert second.body == {**BODY, **of_key, **of_request} or "max_tokens" in of_key


def test_a_body_without_defaults_is_not_copied() -> None:
    """Most requests: the parsed body itself goes on."""
    body = dict(BODY)
    made = make_plan(body, principal=ANYONE, table=chain("or/a"), facts=Catalogue().find)
    assert made.candidates[0].body is body


params = st.dictionaries(st.sampled_from(["a", "b", "max_tokens", "max_completion_tokens"]), st.integers(1, 3))


@given(params, params, params)
def test_a_default_never_overrides_nor_touches_what_was_given(
    of_target: dict[str, Any], of_key: dict[str, Any], of_request: dict[str, Any]
) -> None:
    """Every field of the request arrives; every other comes from the key, else from the model; inputs stay."""
    before = repr((of_target, of_key, of_request))
    made = table({"chat": [target("or/a", params=of_target)]})
    (candidate,) = plan(made, principal=Principal("app", params=of_key), **of_request).candidates
    for name, value in candidate.body.items():
        assert value == {**BODY, **of_target, **of_key, **of_request}[name]
    assert {**BODY, **of_request}.items() <= candidate.body.items()
    assert repr((of_target, of_key, of_request)) == before


# Clocks.


def test_clocks_are_the_target_s_then_the_table_s_then_ours() -> None:
    """Each of the four on its own; the default of the first token depends on what was asked for."""
    own = Timeouts(connect_s=1, idle_s=5)
    made = table({"chat": [target("or/a", timeouts=own), "or/b"]}, timeouts=Timeouts(connect_s=2, total_s=100))
    first, second = plan(made, stream=True).candidates
    assert first.clocks == Clocks(connect_s=1, first_token_s=60, idle_s=5, total_s=100)
    assert second.clocks == Clocks(connect_s=2, first_token_s=60, idle_s=60, total_s=100)
    for stream in (False, None):
        assert plan(made, stream=stream).candidates[0].clocks.first_token_s == 600


def test_the_whole_request_has_the_shortest_total() -> None:
    """One clock runs over all attempts; the tightest of the chain holds."""
    first, second = (target(name, timeouts=Timeouts(total_s=limit_s)) for name, limit_s in (("or/a", 50), ("or/b", 20)))
    assert plan(table({"chat": [first, second, "or/c"]})).total_s == 20


# Money.


@pytest.mark.parametrize(
    ("max_cost", "has_budget", "is_limited"),
    [(None, False, False), (5, False, True), (0, False, True), (None, True, True)],
)
def test_a_budget_or_a_ceiling_is_a_limit(max_cost: int | None, has_budget: bool, is_limited: bool) -> None:
    """Either makes the price matter; a ceiling of nothing is one too."""
    route = Route("chat", (target("or/a"),), max_cost_nano_usd=max_cost)
    made = plan(Table("t", {}, {"chat": route}), principal=Principal("app", has_budget=has_budget))
    assert (made.max_cost_nano_usd, made.has_budget, made.is_limited) == (max_cost, has_budget, is_limited)


@pytest.mark.parametrize(
    ("own", "ceilings", "lowest"),
    [(5, [None], 5), (5, [9], 5), (9, [5], 5), (9, [7, 5], 5), (3, [7, None], 3), (0, [5], 0), (None, [7, 5], 5)],
)
def test_the_lowest_ceiling_holds(own: int | None, ceilings: list[int | None], lowest: int) -> None:
    """Of who asks and of every model asked for: limits add up."""
    routes = {
        name: Route(name, (target(f"or/{name}"),), max_cost_nano_usd=ceiling)
        for name, ceiling in zip(("chat", "more"), ceilings, strict=False)
    }
    principal = Principal("app", max_cost_nano_usd=own)
    made = plan(Table("t", {}, routes), principal=principal, models=[*routes][1:])
    assert (made.max_cost_nano_usd, made.is_limited) == (lowest, True)


def test_an_attempt_is_booked_at_its_target_s_price() -> None:
    """Where the price came from was decided when the table was read."""
    priced = prices(3)
    made = plan(table({"chat": [target("or/a", facts=ModelFacts(priced)), "or/b"]}))
    assert [candidate.prices for candidate in made.candidates] == [priced, None]


@pytest.mark.parametrize(
    ("walls", "model", "is_limited"),
    [
        (set(), "chat", False),
        ({"model:chat"}, "chat", True),
        ({"model:other"}, "chat", False),
        ({"provider:or"}, "chat", True),
        ({"provider:openai"}, "chat", True),
        ({"provider:acme"}, "chat", False),
        ({"model:vendor/*"}, "vendor/x", True),
    ],
)
def test_a_hard_budget_of_a_model_or_a_provider_on_the_way_is_a_limit(
    walls: set[str], model: str, *, is_limited: bool
) -> None:
    """Whether or not the key has one of its own."""
    made = table({"chat": ["or/a", "openai/b"], "vendor/*": ["acme/*"]}, walls=frozenset(walls))
    assert plan(made, model=model).is_limited is is_limited
