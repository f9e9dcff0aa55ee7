"""The shared rules on plain values: which id a request gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.ledger.admission import find_free_id

LOOK_UPS_MAX = 45


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        (set(), "r"),
        ({"r"}, "r-2"),
        ({"r", "r-2"}, "r-3"),
        ({"r", "r-2", "r-3"}, "r-4"),
        ({"r", "r-3"}, "r-2"),
        ({"r-2"}, "r"),
        ({"r", *(f"r-{n}" for n in range(2, 101))}, "r-101"),
        ({"r", "r-2", "r-4"}, "r-5"),
        ({"r", "r-2", "r-3", "r-4", "r-6"}, "r-7"),  # any free one will do where clients tore gaps
    ],
)
def test_an_id_gets_the_next_number(taken: set[str], expected: str) -> None:
    """As wished when free, else numbered from 2."""
    assert find_free_id("r", taken.__contains__) == expected


@given(st.integers(min_value=0, max_value=10**9))
def test_a_million_repeats_cost_few_look_ups(repeats: int) -> None:
    """The next number is found without walking through those before it."""
    asked = []

    def is_taken(request_id: str) -> bool:
        asked.append(request_id)
        return int(request_id.removeprefix("r").removeprefix("-") or 1) <= repeats

    found = find_free_id("r", is_taken)
    assert found == (f"r-{repeats + 1}" if repeats else "r")
    assert len(asked) <= 2 * LOOK_UPS_MAX


@given(st.sets(st.integers(min_value=2, max_value=40)))
def test_the_id_found_is_free_whatever_others_wished_for(numbers: set[int]) -> None:
    """Gaps that clients tore into the numbers are no reason to give out a taken id."""
    taken = {"r", *(f"r-{n}" for n in numbers)}
    assert find_free_id("r", taken.__contains__) not in taken
