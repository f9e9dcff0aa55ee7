"""Units of routes.yaml besides money."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.files import units

GOOD: list[tuple[Callable[[str], float], str, float]] = [
    (units.parse_duration_s, "300ms", 0.3),
    (units.parse_duration_s, "0s", 0),
    (units.parse_duration_s, "1.5s", 1.5),
    (units.parse_duration_s, " 2m ", 120),
    (units.parse_duration_s, "1 h", 3600),
    (units.parse_duration_s, "30d", 2_592_000),
    (units.parse_duration_s, "366d", 31_622_400),
    (units.parse_positive_duration_s, "1ms", 0.001),
    (units.parse_count, "0", 0),
    (units.parse_count, "4k", 4_000),
    (units.parse_count, "128K", 128_000),
    (units.parse_count, "1M", 1_000_000),
    (units.parse_count, "1000m", 1_000_000_000),
    (units.parse_positive_count, "1", 1),
    (units.parse_speed_per_s, "50/s", 50),
    (units.parse_speed_per_s, "0.5 / s", 0.5),
    (units.parse_share, "0%", 0),
    (units.parse_share, "12.5%", 0.125),
    (units.parse_share, "100%", 1),
]
BAD: list[tuple[Callable[[str], float], str]] = [
    (units.parse_duration_s, "3"),
    (units.parse_duration_s, "-3s"),
    (units.parse_duration_s, "3 weeks"),
    (units.parse_duration_s, "367d"),
    (units.parse_duration_s, "9999999999s"),
    (units.parse_positive_duration_s, "0s"),
    (units.parse_count, "-1"),
    (units.parse_count, "1.5k"),
    (units.parse_count, "1001M"),
    (units.parse_positive_count, "0k"),
    (units.parse_speed_per_s, "50"),
    (units.parse_speed_per_s, "0/s"),
    (units.parse_speed_per_s, "1000001/s"),
    (units.parse_share, "50"),
    (units.parse_share, "100.1%"),
]
PARSERS = sorted({parse for parse, *_ in GOOD}, key=lambda parse: parse.__name__)


@pytest.mark.parametrize(("parse", "text", "value"), GOOD)
def test_a_unit_is_read(parse: Callable[[str], float], text: str, value: float) -> None:
    """Each form of the documentation, blanks forgiven."""
    assert parse(text) == pytest.approx(value)


@pytest.mark.parametrize(("parse", "text"), BAD)
def test_a_bad_unit_names_itself(parse: Callable[[str], float], text: str) -> None:
    """The message shows what was written."""
    with pytest.raises(ValueError, match=r"'.+' (is|would|must)"):
        parse(text)


@given(st.sampled_from(PARSERS), st.text())
def test_any_text_is_a_value_or_a_value_error(parse: Callable[[str], float], text: str) -> None:
    """Nothing else leaves a parser, and no value is negative."""
    with contextlib.suppress(ValueError):
        assert parse(text) >= 0
