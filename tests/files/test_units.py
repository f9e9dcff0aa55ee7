"""Units of routes.yaml besides money."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.files import units
from proxy.policy.limits import Measure, Rate, format_rate

GOOD: list[tuple[Callable[[str], float], str, float]] = [
    (units.parse_duration_s, "300ms", 0.3),
    (units.parse_duration_s, "0s", 0),
    (units.parse_duration_s, "1.5s", 1.5),
    (units.parse_duration_s, " 2m ", 120),
    (units.parse_duration_s, "1 h", 3600),
    (units.parse_duration_s, "30d", 2_592_000),
    (units.parse_duration_s, "366d", 31_622_400),
    (units.parse_positive_duration_s, "1ms", 0.001),
    (units.parse_pause_s, "0s", 0),
    (units.parse_pause_s, "30s", 30),
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
    (units.parse_pause_s, "30.001s"),
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
RATES = [
    ("60/min", Rate(Measure.REQUESTS, 60, 60)),
    ("60 requests/min", Rate(Measure.REQUESTS, 60, 60)),
    ("1 request / s", Rate(Measure.REQUESTS, 1, 1)),
    ("5/sec", Rate(Measure.REQUESTS, 5, 1)),
    ("20/10s", Rate(Measure.REQUESTS, 20, 10)),
    ("20 / 10 seconds", Rate(Measure.REQUESTS, 20, 10)),
    ("7/m", Rate(Measure.REQUESTS, 7, 60)),
    ("7/15 minutes", Rate(Measure.REQUESTS, 7, 900)),
    ("1k/hour", Rate(Measure.REQUESTS, 1_000, 3_600)),
    ("1000/day", Rate(Measure.REQUESTS, 1_000, 86_400)),
    ("2/24h", Rate(Measure.REQUESTS, 2, 86_400)),
    ("100k tokens/min", Rate(Measure.TOKENS, 100_000, 60)),
    ("2M Tokens/D", Rate(Measure.TOKENS, 2_000_000, 86_400)),
    ("1000M/s", Rate(Measure.REQUESTS, 1_000_000_000, 1)),
]
BAD_RATES = ["60", "60/", "/min", "0/min", "-1/s", "1.5/s", "60/week", "60 words/min", "60tok/min", "60/0s", "5/2d"]
BAD_RATES += ["5/25h", "1001M/s", "60 per min", "1/1000000s", ""]

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


@pytest.mark.parametrize(("text", "rate"), RATES)
def test_a_rate_is_read(text: str, rate: Rate) -> None:
    """Of requests where it does not say; over 1 second to 1 day."""
    assert units.parse_rate(text) == rate


@pytest.mark.parametrize("text", BAD_RATES)
def test_a_bad_rate_is_refused_by_its_text(text: str) -> None:
    """With the form wanted, or the bounds."""
    with pytest.raises(ValueError, match=r"100k tokens/min|must"):
        units.parse_rate(text)


@pytest.mark.parametrize(
    ("text", "days"), [("35d", 35), (" 90 d ", 90), ("2y", 730), ("3660d", 3_660), ("forever", None)]
)
def test_a_retention_is_read(text: str, days: int | None) -> None:
    """Days, years of 365 of them, or for ever."""
    assert units.parse_retention_s(text) == (None if days is None else days * 86_400)


@pytest.mark.parametrize("text", ["34d", "11y", "90", "3 months", "0d", "never", ""])
def test_a_bad_retention_is_refused_by_its_text(text: str) -> None:
    """Shorter than a month, longer than ten years, or no such thing."""
    with pytest.raises(ValueError, match=r"write it as 90d, 2y or forever|must be 35d to 3660d"):
        units.parse_retention_s(text)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("60/min", "60/min"),
        ("60 requests/minute", "60/min"),
        ("5/s", "5/s"),
        ("20/10s", "20/10s"),
        ("1k/h", "1000/h"),
        ("1000/day", "1000/day"),
        ("100k tokens/min", "100000 tokens/min"),
    ],
)
def test_a_rate_is_shown_as_it_could_have_been_written(written: str, shown: str) -> None:
    """What is shown reads back as the same rate."""
    rate = units.parse_rate(written)
    assert format_rate(rate) == shown
    assert units.parse_rate(shown) == rate
