"""Where a failure leads, and how long to wait before the same target is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Failure, FailureKind
from proxy.policy.retry import BACKOFF_S_MAX, RETRY_AFTER_S_MAX, Verdict, backoff_s, judge

K = FailureKind


# openrouter.md 3.4 with design.md section 5.
@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        (K.CONNECT, Verdict.NEXT),
        (K.TIMEOUT, Verdict.NEXT),
        (K.RATE_LIMITED, Verdict.NEXT),
        (K.SERVER_ERROR, Verdict.NEXT),
        (K.INVALID_REPLY, Verdict.NEXT),
        (K.BROKEN_STREAM, Verdict.NEXT),
        (K.CREDENTIALS, Verdict.NEXT_ONLY),
        (K.CREDITS, Verdict.NEXT_ONLY),
        (K.NOT_FOUND, Verdict.NEXT_ONLY),
        (K.CONTENT_POLICY, Verdict.NEXT_ONLY),
        (K.CONTEXT_LENGTH, Verdict.LARGER),
        (K.BAD_REQUEST, Verdict.END),
    ],
)
def test_each_kind_has_its_verdict(kind: FailureKind, verdict: Verdict) -> None:
    """Trouble may pass, a refusal will not, an overflow needs more room, a bad request is bad everywhere."""
    assert judge(Failure(kind, "m")) is verdict


def test_every_kind_is_judged() -> None:
    """A new kind of failure must say where it leads."""
    assert {judge(Failure(kind, "m")) for kind in FailureKind} == set(Verdict)


@pytest.mark.parametrize(
    ("tries", "jitter", "wait_s"),
    [
        (1, 1, 0.5),
        (1, 0, 0.25),
        (1, 0.5, 0.375),
        (2, 1, 1),
        (3, 1, 2),
        (4, 1, 4),
        (5, 1, 8),
        (6, 1, 8),
        (10_000, 1, 8),
        (10_000, 0, 4),
    ],
)
def test_waits_double_and_have_an_end(tries: int, jitter: float, wait_s: float) -> None:
    """Half a second, doubling; the upper half is left to chance."""
    assert backoff_s(tries, retry_after_s=None, jitter=jitter) == wait_s


@pytest.mark.parametrize(
    ("retry_after_s", "wait_s"),
    [(0, 0.5), (0.4, 0.5), (0.6, 0.6), (7, 7), (10, 10), (10.01, None), (86_400, None)],
)
def test_a_retry_after_is_honoured_up_to_a_limit(retry_after_s: float, wait_s: float | None) -> None:
    """Never sooner than asked; a longer wait than ten seconds is not waited: the client is told instead."""
    assert backoff_s(1, retry_after_s=retry_after_s, jitter=1) == wait_s


@given(
    st.integers(min_value=1, max_value=10**6),
    st.none() | st.floats(min_value=0, max_value=1e9),
    st.floats(min_value=0, max_value=1),
)
def test_every_wait_is_bounded(tries: int, retry_after_s: float | None, jitter: float) -> None:
    """Whatever the count and the chance: never longer than the limits, never sooner than asked."""
    wait_s = backoff_s(tries, retry_after_s=retry_after_s, jitter=jitter)
    if wait_s is None:
        assert retry_after_s is not None
        assert retry_after_s > RETRY_AFTER_S_MAX
    else:
        assert (retry_after_s or 0) <= wait_s <= max(BACKOFF_S_MAX, RETRY_AFTER_S_MAX)
        assert wait_s >= 0.25
