"""Usage: inclusive counts, and when they say nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.usage import CostSource, Usage, merge_usage

TOLD = Usage(20, 3, cached_tokens=10, cost_nano_usd=80)


def test_usage_that_reports_nothing_is_empty() -> None:
    """Zeros everywhere are a form nobody filled in."""
    assert Usage().is_empty
    assert Usage(cost_nano_usd=0, anomalies=("odd",)).is_empty


@pytest.mark.parametrize("usage", [Usage(input_tokens=1), Usage(output_tokens=1), Usage(cost_nano_usd=1)])
def test_usage_that_reports_anything_is_not_empty(usage: Usage) -> None:
    """One figure above zero is a report."""
    assert not usage.is_empty


def test_sources_stand_in_the_order_of_trust() -> None:
    """The best comes first: reports and documents list them so."""
    assert [source.value for source in CostSource] == ["reported", "computed", "estimated", "held", "unknown"]


# ---------------------------------------------------------------- usage that repeats


@pytest.mark.parametrize(
    ("earlier", "later", "merged"),
    [
        pytest.param(None, TOLD, TOLD, id="the first is taken as it is"),
        pytest.param(Usage(5, 1), Usage(7, 2), Usage(7, 2), id="the last counts, never the sum"),
        pytest.param(Usage(7, 2), Usage(5, 1), Usage(5, 1), id="even when it is less"),
        pytest.param(Usage(5, 1), Usage(0, 9), Usage(5, 9), id="a zero wipes no input out"),
        pytest.param(Usage(5, 1), Usage(7, 0), Usage(7, 1), id="nor any output"),
        pytest.param(TOLD, Usage(20, 3), TOLD, id="parts and an amount told earlier hold beside the same counts"),
        pytest.param(TOLD, Usage(20, 3, cost_nano_usd=0), TOLD._replace(cost_nano_usd=0), id="an amount of 0 is told"),
        pytest.param(
            TOLD, Usage(20, 3, cost_nano_usd=90), TOLD._replace(cost_nano_usd=90), id="the last amount counts"
        ),
        pytest.param(TOLD, Usage(20, 4), Usage(20, 4, cached_tokens=10), id="an amount is not one of more output"),
        pytest.param(TOLD, Usage(21, 3), Usage(21, 3, cached_tokens=10), id="nor one of more input"),
        pytest.param(TOLD, Usage(20, 2), TOLD._replace(output_tokens=2), id="fewer tokens do not lose an amount"),
        pytest.param(
            Usage(20, 3), Usage(cost_nano_usd=80), Usage(20, 3, cost_nano_usd=80), id="an amount may come by itself"
        ),
        pytest.param(
            Usage(20, 3, is_byok=True), Usage(20, 3), Usage(20, 3, is_byok=True), id="the operator's own key is kept"
        ),
        pytest.param(
            Usage(20, 3), Usage(20, 3, is_byok=True), Usage(20, 3, is_byok=True), id="and may be told at the end"
        ),
        pytest.param(
            Usage(20, 3, anomalies=("a",)),
            Usage(20, 3, anomalies=("b",)),
            Usage(20, 3, anomalies=("b",)),
            id="odd last",
        ),
    ],
)
def test_usage_that_repeats_is_taken_figure_by_figure(earlier: Usage | None, later: Usage, merged: Usage) -> None:
    """The last of each component (reliability.md 3.3)."""
    assert merge_usage(earlier, later) == merged


COUNTS: list[Any] = [st.integers(0, 100)] * 8
USAGES = st.builds(Usage, *COUNTS, st.none() | st.integers(0, 100), st.booleans())


@given(USAGES, USAGES)
def test_no_figure_is_made_up_when_usage_repeats(earlier: Usage, later: Usage) -> None:
    """Each is the one or the other, the later one's unless that says nothing; the same again changes nothing."""
    merged = merge_usage(earlier, later)
    for first, last, figure in zip(earlier[:8], later[:8], merged[:8], strict=True):
        assert figure == (last or first)
    assert merged.cost_nano_usd in (earlier.cost_nano_usd, later.cost_nano_usd)
    assert later.cost_nano_usd in (None, merged.cost_nano_usd)
    assert merge_usage(merged, later) == merged
    assert merge_usage(earlier, earlier) == earlier


def test_a_fee_alone_does_not_stand_for_a_bill() -> None:
    """What was told before it was known that the operator's own key pays is only OpenRouter's fee."""
    merged = merge_usage(Usage(20, 3, cost_nano_usd=5), Usage(20, 3, is_byok=True))
    assert (merged.cost_nano_usd, merged.is_byok) == (None, True)
