"""Efforts: the nearest that is known, and the share of the output that thinking leaves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.codecs.efforts import EFFORTS, nearest, room


@pytest.mark.parametrize(
    ("asked", "known", "expected"),
    [
        ("xhigh", ("low", "medium", "high", "max"), "high"),
        ("medium", ("high", "low"), "low"),
        ("minimal", ("low", "high"), "low"),
        ("none", ("high", "low"), "low"),
        ("max", ("low",), "low"),
        ("high", ("low", "max", "high"), "high"),
    ],
)
def test_the_nearest_effort(asked: str, known: tuple[str, ...], expected: str) -> None:
    """The one asked for where it is known, and of two as near the lower."""
    assert nearest(asked, known) == expected


@given(st.sampled_from(EFFORTS), st.sets(st.sampled_from(EFFORTS), min_size=1))
def test_none_is_nearer_than_the_nearest(asked: str, known: set[str]) -> None:
    """Whatever a model takes."""
    found = nearest(asked, tuple(known))
    assert found in known
    assert (found == asked) is (asked in known)


@pytest.mark.parametrize(("effort", "expected"), [(None, 80), ("low", 80), ("high", 80), ("xhigh", 95), ("max", 95)])
def test_thinking_leaves_a_share_of_the_output(effort: str | None, expected: int) -> None:
    """A fifth, or what the effort itself leaves."""
    assert room(100, effort) == expected
