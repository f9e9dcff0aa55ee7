"""When a provider is asked: late enough to know, often enough to tell soon, for a day at most."""

from __future__ import annotations

from itertools import accumulate

from proxy.policy.lookups import HELD_TRIES, LOOKUP_AFTER_S, TRIES_MAX, find_delay_s


def test_delays_lead_to_the_moments() -> None:
    """From one try to the next, and none behind the last."""
    delays = [find_delay_s(tries) for tries in range(TRIES_MAX)]
    assert list(accumulate(delay or 0.0 for delay in delays)) == list(LOOKUP_AFTER_S)
    assert find_delay_s(TRIES_MAX) is None


def test_a_hold_waits_for_the_first_minute() -> None:
    """The tries of openrouter.md 4.7; what comes later corrects."""
    assert LOOKUP_AFTER_S[:HELD_TRIES] == (1, 2, 5, 15, 60)
    assert LOOKUP_AFTER_S[-1] == 86_400
