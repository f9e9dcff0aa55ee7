"""Plans made anew or filled in: the same for the client, and never those of a table that is gone."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.errors import NotFound
from proxy.gateway import planning
from proxy.gateway.planning import Planner
from proxy.routing.plan import Plan, make_plan
from proxy.routing.principal import Principal
from proxy.routing.table import Catalogue, Table
from tests.routing.made import ANYONE, table

TABLE = table({"chat": ["openai/a", "or/b"], "*": ["or/*"]})


class Counting:
    """Stands in for `make_plan` and counts."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, body: dict[str, Any], **more: Any) -> Plan:
        self.made += 1
        return make_plan(body, **more)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """Count the plans that are made anew."""
    made = Counting()
    monkeypatch.setattr(planning, "make_plan", made)
    return made


def asked(text: str = "Hi", *, model: str = "chat", **more: Any) -> dict[str, Any]:
    """Make a request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def anew(body: dict[str, Any], principal: Principal = ANYONE, made: Table = TABLE) -> Plan:
    """Plan without a memory."""
    return make_plan(body, principal=principal, table=made, facts=Catalogue().find)


def test_plain_requests_are_planned_once(counting: Counting) -> None:
    """Each gets its own body in it."""
    planner = Planner(Catalogue().find)
    for index in range(5):
        body = asked(str(index), max_tokens=index + 1)
        assert planner.plan(body, ANYONE, TABLE) == anew(body)
    assert counting.made == 1


def test_a_request_that_says_more_is_planned_by_itself(counting: Counting) -> None:
    """And the next plain one is still known, whichever came first."""
    planner = Planner(Catalogue().find)
    telling = asked(provider={"only": ["groq"]})
    for body in (telling, asked(), telling, asked(), asked(stream=True), asked(stream=True)):
        assert planner.plan(body, ANYONE, TABLE) == anew(body)
    assert counting.made == 4


def test_a_key_that_changed_is_planned_anew(counting: Counting) -> None:
    """By its list, its budget, its revision."""
    planner = Planner(Catalogue().find)
    keys = [ANYONE, Principal("app", revision=2), Principal("app", has_budget=True), Principal("app", models=("chat",))]
    for key in (*keys, *keys):
        assert planner.plan(asked(), key, TABLE) == anew(asked(), key)
    assert counting.made == len(keys)


def test_another_table_begins_anew(counting: Counting) -> None:
    """A reload, or a tenant's own view: no plan of one table is taken for another's."""
    planner = Planner(Catalogue().find)
    other = table({"chat": ["groq/z"]})
    for made in (TABLE, other, other, TABLE):
        assert planner.plan(asked(), ANYONE, made) == anew(asked(), made=made)
    assert counting.made == 2


def test_a_refusal_is_not_remembered() -> None:
    """Nor does it disturb what is."""
    planner = Planner(Catalogue().find)
    small = table({"chat": ["openai/a"]})
    for _ in range(2):
        with pytest.raises(NotFound):
            planner.plan(asked(model="nobody"), ANYONE, small)
    assert planner.plan(asked(), ANYONE, small) == anew(asked(), made=small)


def test_names_that_clients_choose_do_not_fill_the_memory(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a glob there is no end of them: at the limit it is begun anew."""
    monkeypatch.setattr(planning, "OUTLINES_MAX", 3)
    planner = Planner(Catalogue().find)
    for index in range(10):
        body = asked(model=f"v/{index}")
        assert planner.plan(body, ANYONE, TABLE) == anew(body)
    planner.plan(asked(model="v/9"), ANYONE, TABLE)
    assert counting.made == 10
    planner.plan(asked(model="v/0"), ANYONE, TABLE)
    assert counting.made == 11
