"""What an operator's `params` say of who may serve: conditions of an alias, a key, a tenant hold, whoever asks."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.pricing import ModelFacts
from proxy.routing.eligibility import Reason
from proxy.routing.plan import Plan
from proxy.routing.principal import Principal, lay_over
from proxy.routing.table import Table
from tests.routing.made import ANYONE, prices, table, target
from tests.routing.test_plan import plan

DENY = {"provider": {"data_collection": "deny"}}
STRICT = {"provider": {"zdr": True}}
LOOSENING: list[dict[str, Any]] = [
    {},
    {"provider": {}},
    {"provider": {"zdr": False, "data_collection": "allow"}},
    {"provider": {"zdr": None, "data_collection": None}},
    {"provider": {"only": ["openai"]}},
    {"provider": {"order": ["openai"], "allow_fallbacks": True}},
]


def names(made: Plan) -> list[str]:
    """Give the targets to try, in their order."""
    return [candidate.target.name for candidate in made.candidates]


def held(params: dict[str, Any], by: str) -> tuple[Table, Principal]:
    """Set params on the model, or on who asks for it (where a tenant's are merged in before)."""
    vault = target("vault/b", owner={"zdr": True}, params=params if by == "model" else {})
    made = table({"chat": [target("openai/a", params=params if by == "model" else {}), vault]})
    return made, Principal("app", params=params) if by == "key" else ANYONE


@pytest.mark.parametrize("by", ["model", "key"])
@pytest.mark.parametrize("params", [STRICT, DENY])
@pytest.mark.parametrize("fields", LOOSENING)
def test_privacy_an_operator_demands_no_client_takes_back(by: str, params: Any, fields: dict[str, Any]) -> None:
    """Whatever a request says, nobody the operator does not vouch for is called."""
    made, principal = held(params, by)
    planned = plan(made, principal=principal, **fields)
    assert set(names(planned)) <= {"vault/b"}
    assert {skip.target.name: skip.kind for skip in planned.skipped}["openai/a"] is Reason.PRIVACY


@pytest.mark.parametrize("by", ["model", "key"])
def test_a_null_takes_no_privacy_back(by: str) -> None:
    """It is a field that says nothing."""
    made, principal = held(STRICT, by)
    assert names(plan(made, principal=principal, provider=None)) == ["vault/b"]


@pytest.mark.parametrize("by", ["model", "key"])
def test_a_client_may_ask_for_more_privacy_than_its_operator(by: str) -> None:
    """A provider that only denies collection is not enough for `zdr`."""
    discreet = target("quiet/a", owner={"data_collection": "deny"}, params=DENY if by == "model" else {})
    principal = Principal("app", params=DENY) if by == "key" else ANYONE
    made = table({"chat": [discreet]})
    assert names(plan(made, principal=principal)) == ["quiet/a"]
    assert names(plan(made, principal=principal, **STRICT)) == []


def test_openrouter_is_told_what_the_operator_demands() -> None:
    """In one object with the client's own."""
    made = table({"chat": [target("or/a", params={"provider": {"data_collection": "deny", "ignore": ["x"]}})]})
    key = Principal("app", params={"provider": {"zdr": True, "ignore": ["y"]}})
    (candidate,) = plan(made, principal=key, provider={"zdr": False, "ignore": ["z"], "sort": "price"}).candidates
    sent = candidate.body["provider"]
    assert {**sent, "ignore": set(sent["ignore"])} == {
        "data_collection": "deny",
        "zdr": True,
        "ignore": {"x", "y", "z"},
        "sort": "price",
    }


def test_the_lowest_price_of_all_is_the_most() -> None:
    """Model, key, request, and what is held under a budget."""
    made = target("or/a", facts=ModelFacts(prices(3, 15)), params={"provider": {"max_price": {"prompt": 2}}})
    key = Principal("app", has_budget=True, params={"provider": {"max_price": {"completion": 9}}})
    (candidate,) = plan(
        table({"chat": [made]}), principal=key, provider={"max_price": {"prompt": 99, "completion": 99, "request": 1}}
    ).candidates
    assert candidate.body["provider"]["max_price"] == {"prompt": 2.0, "completion": 9.0, "request": 0.0}


def test_without_a_meeting_of_two_lists_nobody_serves() -> None:
    """The key may use one provider and the client wants another."""
    key = Principal("app", params={"provider": {"only": ["openai"]}})
    made = table({"chat": ["openai/a", "groq/b"]})
    assert names(plan(made, principal=key)) == ["openai/a"]
    assert names(plan(made, principal=key, provider={"only": ["groq", "openai"]})) == ["openai/a"]
    assert names(plan(made, principal=key, provider={"only": ["groq"]})) == []


@pytest.mark.parametrize("by", ["model", "key"])
def test_required_parameters_are_required_of_every_request(by: str) -> None:
    """`require_parameters` of the operator's leaves out who would lose one."""
    params = {"provider": {"require_parameters": True}}
    fussy = target(
        "openai/b",
        facts=ModelFacts(capabilities={"unsupported": frozenset({"top_k"})}),
        params=params if by == "model" else {},
    )
    key = Principal("app", params=params) if by == "key" else ANYONE
    made = table({"chat": [fussy, "groq/c"]})
    planned = plan(made, principal=key, top_k=4, provider={"require_parameters": False})
    assert names(planned) == ["groq/c"]
    assert [skip.kind for skip in planned.skipped] == [Reason.CONDITION]
    assert names(plan(made, principal=key)) == ["openai/b", "groq/c"]


def test_conditions_are_laid_over_only_where_both_are_some() -> None:
    """What is no object is left for its reader."""
    assert lay_over(STRICT, {"a": 1}) == {**STRICT, "a": 1}
    assert lay_over({"a": 1}, STRICT) == {**STRICT, "a": 1}
    assert lay_over(STRICT, {"provider": {"zdr": False}}) == STRICT
    assert lay_over(STRICT, {"provider": "x"}) == {"provider": "x"}
    assert lay_over({"provider": "x"}, STRICT) == STRICT
