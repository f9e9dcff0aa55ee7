"""OpenRouter's word on a generation: the amount, with the maker's own added where that is somebody else's bill."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.codecs.generations import read_generation
from proxy.usage import Usage


def record(**fields: Any) -> bytes:
    """A record with these fields."""
    return orjson.dumps({"data": {"id": "gen-1", "total_cost": 0.0021, "is_byok": False, **fields}})


def test_amount_and_the_maker_s_counts() -> None:
    """What is billed is counted by the maker's tokenizer; the normalised counts stand in where it is missing."""
    counts = {"native_tokens_prompt": 30, "native_tokens_completion": 9, "tokens_prompt": 28, "tokens_completion": 8}
    parts = {"native_tokens_cached": 5, "native_tokens_reasoning": 4}
    assert read_generation(record(**counts, **parts)) == Usage(
        30, 9, cached_tokens=5, reasoning_tokens=4, cost_nano_usd=2_100_000
    )
    normalised = read_generation(record(native_tokens_prompt=None, tokens_prompt=28, tokens_completion=8))
    assert normalised == Usage(28, 8, cost_nano_usd=2_100_000)


@pytest.mark.parametrize("fields", [{"cancelled": True}, {"finish_reason": None}, {"native_tokens_prompt": 3}])
def test_nothing_is_an_amount(fields: dict[str, Any]) -> None:
    """Cancelled in time, or insured: 0 is what it says."""
    usage = read_generation(record(total_cost=0, **fields))
    assert usage is not None
    assert usage.cost_nano_usd == 0


def test_byok_is_the_fee_and_the_maker_s_charge() -> None:
    """0.0001 of fee and 0.036 at the maker; without its figure nobody knows the bill, and no fee is one."""
    usage = read_generation(record(total_cost=0.0001, is_byok=True, upstream_inference_cost=0.036))
    assert usage is not None
    assert (usage.cost_nano_usd, usage.is_byok) == (36_100_000, True)
    assert read_generation(record(total_cost=0.0001, is_byok=True, upstream_inference_cost=None)) is None
    ignored = read_generation(record(upstream_inference_cost=9))
    assert ignored is not None
    assert ignored.cost_nano_usd == 2_100_000


@pytest.mark.parametrize("cost", [None, True, "0.1", -1, 2_000_000, [], {}])
def test_what_is_no_amount_is_none(cost: object) -> None:
    """A truth value, a text, a negative or a mad figure."""
    assert read_generation(record(total_cost=cost)) is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"data": []}', b'{"error": {"code": 404}}'])
def test_what_is_no_record_is_none(body: bytes) -> None:
    """Cut, of another shape, or an error."""
    assert read_generation(body) is None


@given(
    st.dictionaries(
        st.sampled_from(["native_tokens_prompt", "native_tokens_cached", "total_cost", "is_byok"]),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(2**53), 2**53),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(),
        ),
    )
)
def test_whatever_it_says_nothing_is_negative(fields: dict[str, Any]) -> None:
    """Counts and amounts are believed only where they can be true."""
    usage = read_generation(record(**fields))
    if usage is not None:
        assert min(usage.input_tokens, usage.cached_tokens, usage.cost_nano_usd or 0) >= 0
