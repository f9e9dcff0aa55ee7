"""The shapes shared by codecs: how deep a value is nested."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.codecs.wire import Call, Frame, Surface, is_deeper


@pytest.mark.parametrize(
    ("value", "depth"),
    [
        (None, 0),
        ("[[[", 0),
        (5, 0),
        ([], 1),
        ({}, 1),
        ([1, "a"], 1),
        ({"a": {"b": 1}}, 2),
        ([1, [2, [3]], []], 3),
        ({"a": [{"b": []}], "c": 1}, 4),
    ],
)
def test_depth_counts_objects_and_lists(value: object, depth: int) -> None:
    """Each object or list within another is a level; text and numbers are none."""
    assert [is_deeper(value, levels) for levels in range(6)] == [levels < depth for levels in range(6)]


@given(st.lists(st.sampled_from("[{"), max_size=2000))
def test_depth_has_no_depth_of_its_own(shape: list[str]) -> None:
    """What is nested beyond Python's own recursion is measured like anything else."""
    value: Any = None
    for bracket in shape:
        value = [value, 1] if bracket == "[" else {"a": 1, "b": value}
    assert not is_deeper(value, len(shape))
    assert is_deeper(value, len(shape) - 1) is bool(shape)


def test_a_frame_without_more_is_bytes_to_relay() -> None:
    """Most frames are only passed on: no JSON, not the end."""
    assert Frame(b"data: {}\n\n") == (b"data: {}\n\n", None, False)


def test_a_call_has_no_headers_of_its_own() -> None:
    """Content type and credential are the upstream's to write."""
    assert Call("/chat/completions", b"{}", is_stream=False).headers == {}


def test_surfaces_are_their_prefixes() -> None:
    """The two faces, as clients spell them in `base_url`."""
    assert [surface.value for surface in Surface] == ["/v1", "/api/v1"]
