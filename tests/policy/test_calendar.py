"""Windows in named time zones: clocks put forward and back, leap days, the ends of months."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.money import Period
from proxy.policy.calendar import QUARTER_S, Window, find_offsets, find_window

BERLIN = "Europe/Berlin"
ZONES = (BERLIN, "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "UTC")
finite = st.sampled_from([period for period in Period if period is not Period.TOTAL])
moments = st.floats(min_value=1_000_000_000, max_value=4_102_444_800, allow_nan=False)


def at(text: str, zone: str = BERLIN) -> int:
    """Read a moment of a zone's clock as seconds since the epoch."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


@pytest.mark.parametrize(
    ("period", "moment", "starts", "hours"),
    [
        (Period.DAY, "2026-03-29T12:00", "2026-03-29T00:00", 23),  # the clock is put forward
        (Period.DAY, "2026-10-25T12:00", "2026-10-25T00:00", 25),  # and back
        (Period.DAY, "2026-10-25T00:00", "2026-10-25T00:00", 25),
        (Period.DAY, "2026-10-25T23:59:59", "2026-10-25T00:00", 25),
        (Period.DAY, "2028-02-29T01:00", "2028-02-29T00:00", 24),
        (Period.WEEK, "2026-10-25T23:59", "2026-10-19T00:00", 7 * 24 + 1),
        (Period.WEEK, "2026-03-30T00:00", "2026-03-30T00:00", 7 * 24),
        (Period.MONTH, "2026-10-31T23:59", "2026-10-01T00:00", 31 * 24 + 1),
        (Period.MONTH, "2026-03-01T00:00", "2026-03-01T00:00", 31 * 24 - 1),
        (Period.MONTH, "2028-02-29T23:59", "2028-02-01T00:00", 29 * 24),
        (Period.HOUR, "2026-06-01T13:59:59", "2026-06-01T13:00", 1),
    ],
)
def test_windows_follow_the_clock_of_their_zone(period: Period, moment: str, starts: str, hours: int) -> None:
    """A day has 23 or 25 hours where the clock is changed, and weeks and months with it."""
    window = find_window(period, at(moment), BERLIN)
    assert window == Window(at(starts), at(starts) + hours * 3_600)


def test_an_hour_that_comes_twice_is_two_hours() -> None:
    """In autumn each of the two hours from two to three has a window of its own."""
    first, second = at("2026-10-25T02:30"), at("2026-10-25T02:30") + 3_600
    windows = [find_window(Period.HOUR, moment, BERLIN) for moment in (first, second)]
    assert windows[0].ends_s == windows[1].starts_s


def test_midnight_may_be_leapt_over() -> None:
    """A day begins with the leap where the clock goes from midnight to one."""
    cairo = "Africa/Cairo"
    window = find_window(Period.DAY, at("2026-04-24T12:00", cairo), cairo)
    assert window.ends_s is not None
    assert window.ends_s - window.starts_s == 23 * 3_600
    assert datetime.fromtimestamp(window.starts_s, ZoneInfo(cairo)).hour == 1


def test_total_is_the_same_everywhere() -> None:
    """All time has no clock."""
    assert find_window(Period.TOTAL, 0, BERLIN) == Window(0, None)


@given(finite, moments, st.sampled_from(ZONES))
def test_a_moment_lies_in_its_window_and_windows_meet(period: Period, at_s: float, zone: str) -> None:
    """In every zone, whatever its clock does."""
    window = find_window(period, at_s, zone)
    assert window.ends_s is not None
    assert window.has(at_s)
    assert window.starts_s % QUARTER_S == window.ends_s % QUARTER_S == 0
    if period is not Period.HOUR:
        assert find_window(period, window.ends_s, zone).starts_s == window.ends_s
        assert find_window(period, window.ends_s - 1, zone) == window
        here = datetime.fromtimestamp(at_s, UTC).astimezone(ZoneInfo(zone)).date()
        assert datetime.fromtimestamp(window.starts_s, ZoneInfo(zone)).date() <= here


@given(st.sampled_from(ZONES), st.integers(1_577_836_800, 2_366_841_600))
def test_a_zones_offset_is_found_for_every_moment(timezone: str, at_s: int) -> None:
    """The first whose end lies behind the moment."""
    offsets = find_offsets(timezone, 1_577_836_800, 2_366_841_600)
    found = next(offset for offset in offsets if at_s < offset.until_s)
    told = datetime.fromtimestamp(at_s, ZoneInfo(timezone)).utcoffset()
    assert told is not None
    assert found.offset_s == told.total_seconds()


def test_a_zone_without_changes_has_one_offset() -> None:
    """Which holds for ever."""
    (only,) = find_offsets("Asia/Kathmandu", 1_577_836_800, 1_893_456_000)
    assert only.offset_s == 20_700
