"""What makes requests equal, and what a hit says of its cost."""

from __future__ import annotations

import random

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.replies import digest, zero_cost

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def shuffled(value: object, chance: random.Random) -> object:
    """Give the same JSON with the members of its objects in another order."""
    if isinstance(value, dict):
        names = list(value)
        chance.shuffle(names)
        return {name: shuffled(value[name], chance) for name in names}
    return [shuffled(member, chance) for member in value] if isinstance(value, list) else value


@given(JSON, st.randoms(use_true_random=False))
def test_the_order_of_members_makes_no_difference(value: object, chance: random.Random) -> None:
    """At any depth."""
    assert digest(value) == digest(shuffled(value, chance))


@given(JSON, JSON)
def test_other_values_are_another_request(one: object, other: object) -> None:
    """As they are written: 1 and true, null and nothing, are not the same."""
    is_same = orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(other, option=orjson.OPT_SORT_KEYS)
    assert (digest(one) == digest(other)) is is_same


def test_parts_cannot_run_into_each_other() -> None:
    """A scope that ends like another begins is another scope."""
    assert digest("a", "b") != digest("ab") != digest("", "ab")


@pytest.mark.parametrize(
    "content",
    [
        b'{"usage":{"prompt_tokens":7,"cost":0.5,"cost_source":"reported"}}',
        b'{"usage":{"prompt_tokens":7,"cost":0.5,"cost_details":{"upstream":1}}}',
        b'{"usage":{"prompt_tokens":7}}',
    ],
)
def test_a_hit_costs_nothing(content: bytes) -> None:
    """Its tokens stay."""
    shown = orjson.loads(zero_cost(content, is_stream=False))
    assert shown == {"usage": {"prompt_tokens": 7, "cost": 0, "cost_source": "computed"}}


@pytest.mark.parametrize("content", [b'{"choices":[]}', b'{"usage":null}', b"[1]", b"no JSON"])
def test_what_names_no_cost_is_left_alone(content: bytes) -> None:
    """Byte for byte."""
    assert zero_cost(content, is_stream=False) == content


def test_a_streams_usage_costs_nothing() -> None:
    """Only that event is written anew; what merely speaks of usage is not."""
    said = b'data: {"choices":[{"delta":{"content":"the word \\"usage\\""}}]}\n\n'
    odd = b': "usage"\n\nevent: x\ndata: {"usage":{"cost":1}}\n\ndata: {"usage":\ndata: {"cost":1}}\n\n'
    told = b'data: {"usage":{"cost":0.5}}\n\n'
    content = said + odd + told + b"data: [DONE]\n\n"
    shown = said + odd + b'data: {"usage":{"cost":0,"cost_source":"computed"}}\n\n' + b"data: [DONE]\n\n"
    assert zero_cost(content, is_stream=True) == shown
