"""Time enters in one place: the machine's clocks, and one that moves only when told."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from proxy.clock import Clock, ManualClock, SystemClock


def test_the_system_clock_reads_both_clocks_of_the_machine() -> None:
    """The wall clock gives dates; the monotonic one never goes back."""
    clock: Clock = SystemClock()
    before_s, before_monotonic_s = time.time(), time.monotonic()
    assert before_s <= clock.now_s() <= time.time()
    first, second = clock.monotonic_s(), clock.monotonic_s()
    assert before_monotonic_s <= first <= second <= time.monotonic()


def test_a_manual_clock_stands_still() -> None:
    """Without being told it does not move; durations begin at 0."""
    clock: Clock = ManualClock(1_000.5)
    assert [clock.now_s(), clock.monotonic_s()] == [clock.now_s(), clock.monotonic_s()] == [1_000.5, 0.0]
    assert ManualClock().now_s() > 1_700_000_000


@given(st.lists(st.integers(min_value=0, max_value=10**6), max_size=20))
def test_a_manual_clock_moves_both_readings_alike(steps: list[int]) -> None:
    """A duration measured on either reading is the same."""
    clock = ManualClock(1_000.0)
    for seconds in steps:
        clock.advance(seconds)
    assert clock.monotonic_s() == clock.now_s() - 1_000.0 == sum(steps)
