"""What is remembered of each target, and that there is an end to it."""

from __future__ import annotations

from proxy.errors import FailureKind
from proxy.health import TARGETS_MAX, Health


def test_a_target_never_called_has_no_record() -> None:
    """Unknown is not healthy."""
    assert Health().find("one/m") is None


def test_successes_and_failures_are_counted_apart() -> None:
    """A success ends a row of failures, and the last failure stays to be looked at."""
    health = Health()
    health.record_failure("one/m", FailureKind.TIMEOUT, at_s=10.0)
    health.record_failure("one/m", FailureKind.CONNECT, at_s=11.0)
    found = health.find("one/m")
    assert found is not None
    assert (found.successes, found.failures, found.consecutive_failures) == (0, 2, 2)
    health.record_success("one/m", first_token_ms=120)
    assert (found.successes, found.failures, found.consecutive_failures) == (1, 2, 0)
    assert (found.last_failure, found.last_failure_at_s, found.last_first_token_ms) == (FailureKind.CONNECT, 11.0, 120)
    assert health.find("two/m") is None


def test_the_oldest_target_is_forgotten_for_a_new_one() -> None:
    """Behind a glob clients choose the names: memory may not grow with their fancy."""
    health = Health()
    for number in range(TARGETS_MAX):
        health.record_success(f"one/{number}", first_token_ms=None)
    assert health.find("one/0") is not None
    health.record_success(f"one/{TARGETS_MAX}", first_token_ms=None)
    assert health.find("one/0") is None
    assert health.find("one/1") is not None
    health.record_success("one/1", first_token_ms=None)
    assert health.find("one/2") is not None


def test_who_wants_to_know_is_told_each_outcome() -> None:
    """The target, and what came of it."""
    told: list[tuple[str, str]] = []
    health = Health(lambda target, outcome: told.append((target, outcome)))
    health.record_success("one/m", first_token_ms=5)
    health.record_failure("two/m", FailureKind.TIMEOUT, at_s=1.0)
    assert told == [("one/m", "ok"), ("two/m", "timeout")]
