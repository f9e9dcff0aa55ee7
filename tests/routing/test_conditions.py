"""Two `provider` objects as one: an operator's conditions, which a client can only tighten."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ClientError
from proxy.routing.conditions import NOBODY, tighten
from proxy.routing.extras import Preferences, read_extras


def read(provider: dict[str, Any]) -> Preferences:
    """Read conditions as the planner does."""
    return read_extras({"provider": provider}).preferences


@pytest.mark.parametrize(
    ("ours", "theirs", "both"),
    [
        ({}, {}, {}),
        ({"zdr": True}, {}, {"zdr": True}),
        ({}, {"zdr": True}, {"zdr": True}),
        ({"zdr": True}, {"zdr": False}, {"zdr": True}),
        ({"zdr": True}, {"zdr": None}, {"zdr": True}),
        ({"zdr": False}, {"zdr": True}, {"zdr": True}),
        ({"enforce_distillable_text": True}, {"enforce_distillable_text": False}, {"enforce_distillable_text": True}),
        ({"require_parameters": True}, {"require_parameters": False}, {"require_parameters": True}),
        ({"allow_fallbacks": False}, {"allow_fallbacks": True}, {"allow_fallbacks": False}),
        ({"allow_fallbacks": True}, {"allow_fallbacks": False}, {"allow_fallbacks": False}),
        ({"data_collection": "deny"}, {"data_collection": "allow"}, {"data_collection": "deny"}),
        ({"data_collection": "allow"}, {"data_collection": "deny"}, {"data_collection": "deny"}),
        ({"data_collection": "deny"}, {"zdr": True}, {"data_collection": "deny", "zdr": True}),
    ],
)
def test_of_two_switches_the_strict_one_holds(
    ours: dict[str, Any], theirs: dict[str, Any], both: dict[str, Any]
) -> None:
    """Whoever set it."""
    assert tighten(ours, theirs) == both


@pytest.mark.parametrize(
    ("ours", "theirs", "both"),
    [
        (["a", "b"], ["b", "c"], ["b"]),
        (["a", "b"], ["b", "a"], ["b", "a"]),
        (["a"], ["c"], [NOBODY]),
        (["a"], [], ["a"]),
        ([], ["c"], ["c"]),
        ([], [], []),
    ],
)
def test_only_is_what_both_allow(ours: list[str], theirs: list[str], both: list[str]) -> None:
    """In the client's order; an empty list allows all, so nothing in common must not become one."""
    assert tighten({"only": ours}, {"only": theirs}) == {"only": both}
    assert tighten({"only": ours}, {}) == {"only": ours}
    assert tighten({}, {"only": theirs}) == {"only": theirs}


def test_ignore_is_what_either_refuses() -> None:
    """Each once."""
    assert tighten({"ignore": ["a", "b"]}, {"ignore": ["c", "a"]}) == {"ignore": ["a", "b", "c"]}
    assert tighten({"ignore": ["a"]}, {"ignore": []}) == {"ignore": ["a"]}
    assert tighten({"ignore": ["a"]}, {}) == {"ignore": ["a"]}


@pytest.mark.parametrize(
    ("ours", "theirs", "both"),
    [
        ({"prompt": 1}, {"prompt": 2}, {"prompt": 1}),
        ({"prompt": 2}, {"prompt": 1}, {"prompt": 1}),
        ({"prompt": "2"}, {"prompt": 1.5}, {"prompt": 1.5}),
        ({"prompt": 1}, {"prompt": "0.99"}, {"prompt": "0.99"}),
        ({"prompt": 1}, {"prompt": "1.0"}, {"prompt": 1}),
        ({"prompt": 1}, {"completion": 3}, {"prompt": 1, "completion": 3}),
        ({"prompt": 1, "request": 0}, {"prompt": 3, "completion": 3}, {"prompt": 1, "request": 0, "completion": 3}),
    ],
)
def test_the_lower_price_is_the_most(ours: dict[str, Any], theirs: dict[str, Any], both: dict[str, Any]) -> None:
    """Kind by kind, as it was written."""
    assert tighten({"max_price": ours}, {"max_price": theirs}) == {"max_price": both}


@pytest.mark.parametrize("price", ["cheap", "NaN", True, [], {}])
def test_a_price_that_is_none_is_left_for_its_reader(price: object) -> None:
    """400 to the client, not a limit less."""
    with pytest.raises(ClientError, match=r"provider\.max_price"):
        read(tighten({"max_price": {"prompt": 1}}, {"max_price": {"prompt": price}}))


@pytest.mark.parametrize("name", ["only", "ignore", "max_price", "data_collection", "zdr"])
def test_what_is_no_condition_is_refused_beside_one_of_ours(name: str) -> None:
    """Not taken for none, but for a switch of ours that is on, which holds."""
    ours: dict[str, Any] = {"only": ["a"], "ignore": ["a"], "max_price": {"prompt": 1}}
    with pytest.raises(ClientError):
        read(tighten(ours, {name: 7}))


def test_other_members_are_the_clients() -> None:
    """An order among its own wishes limits nobody."""
    assert tighten({"order": ["a"], "sort": "price"}, {"order": ["b"]}) == {"order": ["b"], "sort": "price"}


# ---------------------------------------------------------------- any two

flags = st.booleans()
slugs = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3, unique=True)
amounts = st.dictionaries(st.sampled_from(["prompt", "completion", "request"]), st.integers(0, 5))
conditions = st.fixed_dictionaries(
    {},
    optional={
        "zdr": flags,
        "data_collection": st.sampled_from(["allow", "deny"]),
        "enforce_distillable_text": flags,
        "require_parameters": flags,
        "allow_fallbacks": flags,
        "only": slugs,
        "ignore": slugs,
        "max_price": amounts,
    },
)


@given(conditions, conditions)
def test_nobody_is_let_in_whom_either_keeps_out(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Whatever both say; and neither is changed, nor is a third word of the operator's lost on the way."""
    before = copy.deepcopy((ours, theirs))
    both, first, second = read(tighten(ours, theirs)), read(ours), read(theirs)
    assert (ours, theirs) == before
    assert tighten(ours, tighten(ours, theirs)) == tighten(ours, theirs)
    for each in (first, second):
        assert both.zdr >= each.zdr
        assert both.denies_collection >= each.denies_collection
        assert both.distillable >= each.distillable
        assert both.require_parameters >= each.require_parameters
        assert both.allow_fallbacks <= each.allow_fallbacks
        assert set(both.ignore) >= set(each.ignore)
        assert not each.only or (both.only and set(both.only) <= {*each.only, NOBODY})
        for kind in ("prompt", "completion", "request"):
            limit = getattr(each.max_price, kind, None)
            held = getattr(both.max_price, kind, None)
            assert limit is None or (held is not None and held <= limit)


# ---------------------------------------------------------------- what loosens nothing


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"only": ["a"]}, {"only": None}),
        ({"ignore": ["a"]}, {"ignore": None}),
        ({"max_price": {"prompt": 1}}, {"max_price": None}),
        ({"max_price": {"prompt": 1}}, {"max_price": {"prompt": None}}),
        ({"quantizations": ["fp8"]}, {"quantizations": None}),
    ],
)
def test_a_null_takes_nothing_away(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """It says nothing, and what says nothing loosens nothing."""
    assert read(tighten(ours, theirs)) == read(ours)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"quantizations": ["fp8"]}, {"quantizations": ["int4", "unknown"]}),
        ({"order": ["a"], "allow_fallbacks": False}, {"order": ["b"]}),
    ],
)
def test_every_list_that_limits_is_kept(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """`quantizations` is one, and so is an order beside which nobody is allowed."""
    both = read(tighten(ours, theirs))
    assert not {"int4", "unknown"} & set(both.quantizations)
    assert "b" not in both.order
