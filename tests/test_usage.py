"""Usage: inclusive counts, and when they say nothing."""

from __future__ import annotations

import pytest

from proxy.usage import CostSource, Usage


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
