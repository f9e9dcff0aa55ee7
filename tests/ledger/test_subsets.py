"""A key can only make keys that may do no more than itself (S20)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.ledger.records import KeyRecord
from proxy.ledger.subsets import find_excess
from proxy.money import Budget, Period
from proxy.policy.limits import Limits, Measure, Rate
from proxy.routing.principal import covers, matches

MAKER = KeyRecord(
    "maker",
    "d",
    tenant="acme",
    models=("chat", "or/*"),
    default_model="chat",
    params={"temperature": 0},
    limits=Limits(
        budgets=(Budget(100, Period.DAY), Budget(5, Period.HOUR, is_soft=True)),
        rates=(Rate(Measure.REQUESTS, 60, 60),),
        parallel=4,
    ),
    max_cost_nano_usd=50,
    expires_at_s=1000.0,
    may_create_keys=True,
)
CHILD = replace(MAKER, name="child", parent="maker", may_create_keys=False, expires_at_s=900.0)


def limited(**fields: Any) -> KeyRecord:
    """The child with these limits alone."""
    return replace(CHILD, limits=Limits(**fields))


@pytest.mark.parametrize(
    "key",
    [
        CHILD,
        replace(CHILD, models=("chat",)),
        replace(CHILD, models=("or/meta/*", "or/x")),
        replace(CHILD, default_model=None),
        replace(CHILD, models=("or/x",), default_model="or/x"),
        replace(CHILD, max_cost_nano_usd=None),
        replace(CHILD, expires_at_s=1000.0),
        limited(),
        limited(budgets=(Budget(100, Period.DAY),)),
        limited(budgets=(Budget(1_000, Period.MONTH), Budget(9, Period.HOUR))),
        limited(rates=(Rate(Measure.REQUESTS, 60, 60), Rate(Measure.TOKENS, 10**6, 60))),
        limited(parallel=4),
    ],
)
def test_a_subset_is_let_be(key: KeyRecord) -> None:
    """What is not said is no more: the maker's limits hold for its keys as well."""
    assert find_excess(key, MAKER) is None


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (replace(CHILD, tenant=None), "tenant"),
        (replace(CHILD, tenant="beta"), "tenant"),
        (replace(CHILD, may_create_keys=True), "operator"),
        (replace(CHILD, params={}), "params"),
        (replace(CHILD, models=None), "every model"),
        (replace(CHILD, models=("chat", "gpt")), "gpt"),
        (replace(CHILD, models=("or*",)), "or*"),
        (replace(CHILD, models=("*",)), "*"),
        (replace(CHILD, models=("or/x",), default_model="or/y"), "default_model"),
        (replace(CHILD, expires_at_s=None), "outlive"),
        (replace(CHILD, expires_at_s=1000.5), "outlive"),
        (replace(CHILD, max_cost_nano_usd=51), "max_cost"),
        (limited(budgets=(Budget(101, Period.DAY),)), "budget per day"),
        (limited(rates=(Rate(Measure.REQUESTS, 61, 60),)), "rate of requests"),
        (limited(parallel=5), "at once"),
        (limited(budgets=(Budget(1, Period.DAY, when_spent="dear"),)), "when_spent"),
        (limited(users=Limits(budgets=(Budget(1, Period.DAY, when_spent="dear"),))), "when_spent"),
        (limited(tags=(("job", Limits(budgets=(Budget(1, Period.DAY, when_spent="dear"),))),)), "when_spent"),
    ],
)
def test_whatever_goes_beyond_is_named(key: KeyRecord, said: str) -> None:
    """Wider models, a larger budget, a longer life, another tenant, a way around the list."""
    assert said in (find_excess(key, MAKER) or "")


def test_a_maker_without_limits_may_give_any() -> None:
    """But for what only the operator gives."""
    free = KeyRecord("maker", "d", may_create_keys=True)
    child = KeyRecord("child", "c", parent="maker", models=("x",), default_model="x", max_cost_nano_usd=9)
    assert find_excess(child, free) is None
    assert find_excess(replace(child, default_model="y"), free) is not None


NAMES = st.text("ab/", min_size=0, max_size=4)
PATTERNS = st.builds(lambda head, star, tail: head + star + tail, NAMES, st.sampled_from(["", "*"]), NAMES)


@given(PATTERNS, PATTERNS, NAMES)
def test_what_a_pattern_covers_it_matches(pattern: str, other: str, name: str) -> None:
    """No name gets in through the narrower pattern that the wider one keeps out."""
    if covers(pattern, other) and matches(other, name):
        assert matches(pattern, name)


@given(PATTERNS, PATTERNS)
def test_what_a_pattern_does_not_cover_has_a_name_outside(pattern: str, other: str) -> None:
    """Nothing is refused that would be a subset."""
    witnesses = [other.replace("*", filling) for filling in ("", "x", "xyxyxyxyxy")]
    assert covers(pattern, other) == all(matches(pattern, witness) for witness in witnesses)


@given(st.lists(PATTERNS, min_size=1, max_size=3), st.lists(PATTERNS, min_size=1, max_size=3), NAMES)
def test_no_chain_of_keys_reaches_further_than_its_head(wide: list[str], narrow: list[str], name: str) -> None:
    """A key that passes asks for nothing that its maker may not ask for."""
    maker = KeyRecord("maker", "d", models=tuple(wide), may_create_keys=True)
    child = KeyRecord("child", "c", parent="maker", models=tuple(narrow))
    if find_excess(child, maker) is None and any(matches(pattern, name) for pattern in narrow):
        assert any(matches(pattern, name) for pattern in wide)
