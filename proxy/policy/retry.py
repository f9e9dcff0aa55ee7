"""What follows a failed attempt (floor 1a, pure; openrouter.md 3.4, design.md section 5).

Nothing has reached the client yet, or nobody would ask. Three answers: go on to another target, end the chain because
the request itself is at fault, or (the last target left) try the same one again after a wait.
"""

from __future__ import annotations

from enum import Enum

from proxy.errors import Failure, FailureKind

BACKOFF_FIRST_S = 0.5
BACKOFF_S_MAX = 8.0
DOUBLINGS_MAX = 10
RETRY_AFTER_S_MAX = 10.0
"""A longer Retry-After is not waited for: the client is told instead."""


class Verdict(Enum):
    """Where a failure leads."""

    NEXT = "another target may do better; this one may be tried again"
    NEXT_ONLY = "another target may do better; this one will say the same again"
    LARGER = "only a target with a larger context may do better"
    END = "every target would refuse: the request is at fault"


_VERDICTS = {
    FailureKind.CONNECT: Verdict.NEXT,
    FailureKind.TIMEOUT: Verdict.NEXT,
    FailureKind.RATE_LIMITED: Verdict.NEXT,
    FailureKind.SERVER_ERROR: Verdict.NEXT,
    FailureKind.INVALID_REPLY: Verdict.NEXT,
    FailureKind.BROKEN_STREAM: Verdict.NEXT,
    FailureKind.CREDENTIALS: Verdict.NEXT_ONLY,
    FailureKind.CREDITS: Verdict.NEXT_ONLY,
    FailureKind.NOT_FOUND: Verdict.NEXT_ONLY,
    FailureKind.CONTENT_POLICY: Verdict.NEXT_ONLY,
    FailureKind.CONTEXT_LENGTH: Verdict.LARGER,
    FailureKind.BAD_REQUEST: Verdict.END,
}


def judge(failure: Failure) -> Verdict:
    """Tell where a failure leads."""
    return _VERDICTS[failure.kind]


def backoff_s(tries: int, *, retry_after_s: float | None, jitter: float) -> float | None:
    """Tell how long to wait before trying the same target again; None: longer than is worth waiting.

    `tries` counts what was tried of this target, from 1; `jitter` is a random number from 0 to 1. Exponential from
    `BACKOFF_FIRST_S` with the upper half jittered, never less than a Retry-After up to `RETRY_AFTER_S_MAX`.
    """
    doublings = min(tries - 1, DOUBLINGS_MAX)
    wait_s = min(BACKOFF_FIRST_S * 2.0**doublings, BACKOFF_S_MAX) * (0.5 + jitter / 2)
    if retry_after_s is None:
        return wait_s
    return max(wait_s, retry_after_s) if retry_after_s <= RETRY_AFTER_S_MAX else None
