"""Windows and room of budgets: tables at the edges of the calendar, and what holds for every moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.money import Budget, Period
from proxy.policy.calendar import Window, find_window
from proxy.policy.limits import (
    NO_LIMITS,
    RATE_SLOTS,
    Balance,
    Flow,
    Limits,
    Measure,
    Quota,
    Rate,
    Shortfall,
    find_left_nano_usd,
    find_shortfall,
    find_wait_s,
    tell_quota,
)

SECOND_LAST = 0.999
moments = st.floats(min_value=0, max_value=4_102_444_800, allow_nan=False)
finite = st.sampled_from([period for period in Period if period is not Period.TOTAL])
amounts = st.integers(min_value=0, max_value=10**18)


def at(text: str) -> int:
    """Read a moment in UTC as seconds since the epoch."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("period", "moment", "starts", "ends"),
    [
        (Period.HOUR, "2026-11-20T13:00:00", "2026-11-20T13:00", "2026-11-20T14:00"),
        (Period.HOUR, "2026-11-20T13:59:59", "2026-11-20T13:00", "2026-11-20T14:00"),
        (Period.HOUR, "2026-12-31T23:30:00", "2026-12-31T23:00", "2027-01-01T00:00"),
        (Period.DAY, "2026-11-20T00:00:00", "2026-11-20", "2026-11-21"),
        (Period.DAY, "2026-11-20T23:59:59", "2026-11-20", "2026-11-21"),
        (Period.DAY, "2028-02-28T12:00:00", "2028-02-28", "2028-02-29"),
        (Period.DAY, "2028-02-29T12:00:00", "2028-02-29", "2028-03-01"),
        (Period.WEEK, "2026-11-16T00:00:00", "2026-11-16", "2026-11-23"),  # a Monday
        (Period.WEEK, "2026-11-22T23:59:59", "2026-11-16", "2026-11-23"),  # the Sunday after
        (Period.WEEK, "2027-01-01T00:00:00", "2026-12-28", "2027-01-04"),
        (Period.WEEK, "1970-01-05T00:00:00", "1970-01-05", "1970-01-12"),
        (Period.MONTH, "2026-11-01T00:00:00", "2026-11-01", "2026-12-01"),
        (Period.MONTH, "2026-11-30T23:59:59", "2026-11-01", "2026-12-01"),
        (Period.MONTH, "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
        (Period.MONTH, "2026-01-31T00:00:00", "2026-01-01", "2026-02-01"),
        (Period.MONTH, "2027-02-28T23:59:59", "2027-02-01", "2027-03-01"),
        (Period.MONTH, "2028-02-29T23:59:59", "2028-02-01", "2028-03-01"),
    ],
)
def test_windows_follow_the_calendar(period: Period, moment: str, starts: str, ends: str) -> None:
    """A moment's window begins and ends where the calendar says, the last fraction of a second included."""
    expected = Window(at(starts), at(ends))
    assert find_window(period, at(moment)) == expected
    assert find_window(period, at(moment) + SECOND_LAST) == expected


def test_total_never_ends() -> None:
    """A budget for all time has one window."""
    assert find_window(Period.TOTAL, at("2026-11-20")) == find_window(Period.TOTAL, 0) == Window(0, None)


@given(finite, moments)
def test_windows_hold_their_moment_and_meet_without_gap(period: Period, at_s: float) -> None:
    """Windows tile the time: each holds its moments, and its end is the start of the next."""
    window = find_window(period, at_s)
    assert window.ends_s is not None
    assert window.has(at_s)
    assert find_window(period, window.starts_s) == find_window(period, window.ends_s - 1) == window
    following = find_window(period, window.ends_s)
    assert following.starts_s == window.ends_s
    assert not window.has(window.ends_s)
    assert not following.has(at_s)


@given(moments)
def test_longer_periods_hold_the_shorter_ones(at_s: float) -> None:
    """An hour lies in its day, a day in its week and in its month; a month begins on the first, a week on Monday."""
    hour, day, week, month = (find_window(p, at_s) for p in (Period.HOUR, Period.DAY, Period.WEEK, Period.MONTH))
    for outer, inner in ((day, hour), (week, day), (month, day)):
        assert outer.starts_s <= inner.starts_s
        assert (inner.ends_s or 0) <= (outer.ends_s or 0)
    assert (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=month.starts_s)).day == 1
    assert (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=week.starts_s)).weekday() == 0


def test_total_holds_every_moment_from_its_start() -> None:
    """The window of all time has moments, but none before the epoch."""
    assert Window(0, None).has(at("2126-01-01"))
    assert not Window(0, None).has(-1)


@pytest.mark.parametrize(
    ("posted", "held", "needed", "left"),
    [
        (0, 0, 100, None),
        (40, 50, 10, None),
        (100, 0, 0, None),
        (0, 0, 101, 100),
        (40, 50, 11, 10),
        (100, 0, 1, 0),
        (120, 0, 0, 0),  # an overrun was booked: even what costs nothing waits
        (90, 30, 1, 0),
    ],
)
def test_room_ends_exactly_at_the_limit(posted: int, held: int, needed: int, left: int | None) -> None:
    """The last nano of a budget can be used and not one more."""
    budget = Budget(100, Period.DAY)
    window = find_window(Period.DAY, at("2026-11-20"))
    expected = left if left is None else Shortfall(needed, left, 100, held, at("2026-11-21"))
    assert find_shortfall(budget, window, Balance(posted, held), needed_nano_usd=needed) == expected


@given(amounts, amounts, amounts, amounts)
def test_what_is_left_fits_and_one_more_does_not(limit: int, posted: int, held: int, needed: int) -> None:
    """Exactly what is left can be had, unless the limit is passed already."""
    budget, window, balance = Budget(limit, Period.TOTAL), Window(0, None), Balance(posted, held)
    left = find_left_nano_usd(limit, balance)
    shortfall = find_shortfall(budget, window, balance, needed_nano_usd=needed)
    assert (shortfall is None) == (posted + held <= limit and needed <= left)
    if shortfall is None:
        after = balance.plus(0, needed)
        assert after.posted_nano_usd + after.held_nano_usd <= limit
    assert find_shortfall(budget, window, balance, needed_nano_usd=left + 1) is not None


def test_balances_add_on_both_sides() -> None:
    """A settled attempt moves its hold away and its cost in."""
    assert Balance(10, 50).plus(7, -20) == Balance(17, 30)


@pytest.mark.parametrize(
    ("limit", "posted", "held", "has_room"), [(10, 0, 0, True), (10, 9, 0, True), (10, 5, 5, False), (10, 30, 0, False)]
)
def test_a_soft_budget_has_room_until_it_is_spent(limit: int, posted: int, held: int, has_room: bool) -> None:
    """It is no wall: the request that passes it may be as dear as it likes."""
    budget = Budget(limit, Period.TOTAL, is_soft=True)
    shortfall = find_shortfall(budget, Window(0, None), Balance(posted, held), needed_nano_usd=1_000)
    assert (shortfall is None) is has_room


PER_MINUTE = Rate(Measure.REQUESTS, 3, 60)
TOKENS = Rate(Measure.TOKENS, 100, 60)


@pytest.mark.parametrize(
    ("rate", "flow", "tokens", "wait_s"),
    [
        (PER_MINUTE, Flow(2, 0, 940), 0, None),
        (PER_MINUTE, Flow(3, 0, 940), 0, 1.0),
        (PER_MINUTE, Flow(3, 0, 1_000), 0, 61.0),
        (PER_MINUTE, Flow(3, 0, None), 0, 61.0),
        (TOKENS, Flow(9, 60, 990), 40, None),
        (TOKENS, Flow(9, 60, 990), 41, 51.0),
        (TOKENS, Flow(9, 100, 990), 0, 51.0),
        (TOKENS, Flow(0, 0, None), 5_000, None),  # it could never come otherwise
        (Rate(Measure.REQUESTS, 0, 60), Flow(0, 0, None), 0, 61.0),
    ],
)
def test_a_rate_has_room_or_says_when(rate: Rate, flow: Flow, tokens: int, wait_s: float | None) -> None:
    """As soon as its oldest piece of time has left the window."""
    assert find_wait_s(rate, flow, 1_000.0, tokens=tokens) == wait_s


def test_a_quota_counts_the_request_it_is_told_to() -> None:
    """What remains is behind it, never below nothing."""
    assert tell_quota(PER_MINUTE, Flow(1, 0, 940), 1_000.5, tokens=9) == Quota(Measure.REQUESTS, 3, 1, 60.5)
    assert tell_quota(TOKENS, Flow(1, 90, 940), 1_000.0, tokens=20).remaining == 0


@given(st.lists(st.floats(min_value=0, max_value=600, allow_nan=False), max_size=80), st.integers(1, 9))
def test_no_stretch_of_a_window_lets_more_through_than_the_rate(moments: list[float], limit: int) -> None:
    """Asked at any moments in their order: the window slides, it does not start anew."""
    rate = Rate(Measure.REQUESTS, limit, 60)
    slots: dict[int, int] = {}
    admitted: list[float] = []
    for at_s in sorted(moments):
        kept = {slot: count for slot, count in slots.items() if slot >= rate.slot_of(at_s) - RATE_SLOTS}
        flow = Flow(sum(kept.values()), 0, min(kept, default=None))
        if find_wait_s(rate, flow, at_s, tokens=0) is None:
            slots[rate.slot_of(at_s)] = slots.get(rate.slot_of(at_s), 0) + 1
            admitted.append(at_s)
    assert all(sum(first <= other < first + 60 for other in admitted) <= limit for first in admitted)


def test_a_hard_budget_is_found_wherever_it_stands() -> None:
    """A soft one is no wall; a user's or a tag's is one."""
    hard, soft = Budget(1, Period.DAY), Budget(1, Period.DAY, is_soft=True)
    walls = [Limits((hard,)), Limits(users=Limits((hard,))), Limits(tags=(("job", Limits((hard,))),))]
    assert all(limits.has_hard_budget for limits in walls)
    assert not any(limits.has_hard_budget for limits in (NO_LIMITS, Limits((soft,)), Limits(users=Limits((soft,)))))
