"""Services of other prices: which is asked for, whose price is known, and what is left to nobody's account."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxy.errors import ClientError
from proxy.pricing import ModelFacts, ServiceTier
from proxy.routing.bodies import hold_to_price
from proxy.routing.plan import make_plan
from proxy.routing.principal import Principal
from proxy.routing.services import asked_service, dearest_of, hold_to_service, is_priced
from proxy.routing.table import Dialect
from tests.routing.made import prices, table, target

TIERED = replace(
    prices(2, 10), service_tiers=(ServiceTier("priority", prices(4, 9)), ServiceTier("flex", prices(1, 5)))
)
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        *((usual, None) for usual in (None, "auto", "default", "standard", "on_demand", 3, ["flex"])),
        ("flex", "flex"),
        ("priority", "priority"),
    ],
)
def test_only_another_service_is_asked_for(given: object, asked: str | None) -> None:
    """The usual one has many names."""
    assert asked_service({"service_tier": given}) == asked
    assert asked_service({}) is None


def test_a_cheaper_service_needs_no_price() -> None:
    """The usual price covers it."""
    assert is_priced("flex", prices())
    assert not is_priced("priority", prices())
    assert is_priced("priority", TIERED)


@pytest.mark.parametrize(
    ("given", "sent"),
    [(None, "default"), ("auto", "default"), ("default", "default"), ("flex", "flex"), ("priority", "priority")],
)
def test_under_a_limit_nothing_is_left_to_the_account(given: str | None, sent: str) -> None:
    """It may be set to a dearer service than was held for."""
    body = BODY if given is None else {**BODY, "service_tier": given}
    made = target("openai/m", facts=ModelFacts(TIERED))
    assert hold_to_service(body, made) == {**BODY, "service_tier": sent}


@pytest.mark.parametrize(
    "made",
    [
        target("openai/m", facts=ModelFacts(prices())),
        target("openai/m"),
        target("or/m", facts=ModelFacts(TIERED)),
        target("anthropic/m", facts=ModelFacts(TIERED), owner={"dialect": Dialect.ANTHROPIC}),
    ],
)
def test_who_is_not_known_to_have_services_is_sent_what_came(made: Any) -> None:
    """Some refuse a field they do not know."""
    assert hold_to_service(BODY, made) is BODY


def test_openrouter_is_held_to_the_dearer_of_both_services() -> None:
    """Else it would refuse the service asked for."""
    made = target("or/m", facts=ModelFacts(TIERED))
    sent = hold_to_price({**BODY, "service_tier": "priority"}, made)
    assert sent["provider"] == {"max_price": {"prompt": 4.0, "completion": 10.0}}
    assert hold_to_price(BODY, made)["provider"] == {"max_price": {"prompt": 2.0, "completion": 10.0}}
    assert dearest_of(TIERED, "unheard") is TIERED


def plan(principal: Principal, **fields: Any) -> Any:
    """Plan a request to a chain of which only the second target is known to have services."""
    chain = table({"chat": [target("a/m", facts=ModelFacts(prices())), target("openai/m", facts=ModelFacts(TIERED))]})
    return make_plan(
        {"model": "chat", **BODY, **fields}, principal=principal, table=chain, facts=lambda *_: ModelFacts()
    )


def test_a_budget_may_buy_a_service_whose_price_is_known() -> None:
    """The first that knows it is enough; who does not is left out when the plan is sized."""
    rich = Principal("app", has_budget=True)
    bodies = [candidate.body.get("service_tier") for candidate in plan(rich, service_tier="priority").candidates]
    assert bodies == ["priority", "priority"]
    assert [candidate.body.get("service_tier") for candidate in plan(rich).candidates] == [None, "default"]
    with pytest.raises(ClientError) as caught:
        plan(rich, service_tier="scale")
    assert caught.value.code == "price_unknown"


def test_without_a_limit_a_request_goes_out_as_it_came() -> None:
    """Whatever the account is set to."""
    assert [candidate.body.get("service_tier") for candidate in plan(Principal("app")).candidates] == [None, None]
