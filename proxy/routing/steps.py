"""The walk through a plan (floor 1b, pure): outcomes so far in, the next step out.

A chain calls one target after another. Only when all have failed once is the last one worth it tried again. In the end
the attempts become one error, by the rules of design.md section 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from proxy.errors import (
    ContextLengthExceeded,
    Failure,
    FailureKind,
    NotFound,
    PermissionRefused,
    RateLimited,
    RequestError,
    UpstreamFailed,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnusable,
)
from proxy.policy.retry import Verdict, backoff_s, judge
from proxy.routing.plan import Plan


@dataclass(frozen=True, slots=True)
class Outcome:
    """One attempt that failed before anything was sent."""

    index: int
    """Of the candidate in the plan."""
    failure: Failure
    elapsed_ms: int
    is_passed_on: bool = False
    """It was about one key of a pool, and the target is asked again at once: in the end that attempt speaks for it."""


@dataclass(frozen=True, slots=True)
class Call:
    """Call this candidate, after a wait."""

    index: int
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nothing is left to try; this is what the client is told."""

    error: RequestError


def next_step(plan: Plan, outcomes: tuple[Outcome, ...], *, jitter: float) -> Call | GiveUp:
    """Decide what to do after these outcomes; `jitter` is a random number from 0 to 1."""
    if not outcomes:
        return Call(0)
    if outcomes[-1].is_passed_on:
        return Call(outcomes[-1].index)
    if judge(outcomes[-1].failure) is Verdict.END:
        return GiveUp(error_of(plan, outcomes))
    untried = _next_untried(plan, outcomes)
    if untried is not None:
        return Call(untried)
    again = _retry(plan, outcomes, jitter)
    return again or GiveUp(error_of(plan, outcomes))


def _next_untried(plan: Plan, outcomes: tuple[Outcome, ...]) -> int | None:
    """Find the first target not tried yet; after an overflow only one whose context is not known to be too small."""
    tried = {outcome.index for outcome in outcomes}
    large = _large_enough(plan, outcomes)
    return next((index for index in large if index not in tried), None)


def _large_enough(plan: Plan, outcomes: tuple[Outcome, ...]) -> list[int]:
    """Give the targets whose context is larger than any that was too small, or not known."""
    too_small = max((_overflowed(plan, outcome) for outcome in outcomes), default=0)
    contexts = [candidate.target.facts.context_tokens for candidate in plan.candidates]
    return [index for index, context in enumerate(contexts) if context is None or context > too_small]


def _overflowed(plan: Plan, outcome: Outcome) -> int:
    """Give the context that was too small, 0 when this was no overflow or it is not known."""
    if outcome.failure.kind is not FailureKind.CONTEXT_LENGTH:
        return 0
    return plan.candidates[outcome.index].target.facts.context_tokens or 0


def _retry(plan: Plan, outcomes: tuple[Outcome, ...], jitter: float) -> Call | None:
    """Try the last target again that may answer otherwise next time, `plan.retries` times in all."""
    outcomes = _final(outcomes)
    if len(outcomes) >= len(plan.candidates) + plan.retries - 1:
        return None
    latest = {outcome.index: outcome for outcome in outcomes}
    large = _large_enough(plan, outcomes)
    usable = [index for index in large if index in latest and judge(latest[index].failure) is Verdict.NEXT]
    if not usable:
        return None
    index = max(usable)
    tries = sum(outcome.index == index for outcome in outcomes)
    if tries >= plan.retries:
        return None
    wait_s = backoff_s(tries, retry_after_s=latest[index].failure.retry_after_s, jitter=jitter)
    return None if wait_s is None else Call(index, wait_s)


def _final(outcomes: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
    """Leave out those that were only about one key of a pool."""
    return tuple(outcome for outcome in outcomes if not outcome.is_passed_on)


def attempts_of(plan: Plan, outcomes: tuple[Outcome, ...]) -> list[dict[str, Any]]:
    """Give `error.metadata.attempts`: what was tried and how it ended, fit for a client."""
    return [
        {
            "provider": plan.candidates[outcome.index].target.provider.name,
            "model": plan.candidates[outcome.index].target.model,
            "reason": outcome.failure.kind.value,
            "status": outcome.failure.status,
            "ms": outcome.elapsed_ms,
        }
        for outcome in outcomes
    ]


def error_of(plan: Plan, outcomes: tuple[Outcome, ...]) -> RequestError:
    """Turn the attempts into the one error the client gets."""
    failures = [outcome.failure for outcome in _final(outcomes) or outcomes]
    error = _shared_error(failures) or _mixed_error(failures)
    if isinstance(error, UpstreamUnusable) and _is_tenants_own(plan, outcomes):
        error = UpstreamUnusable(_TENANTS_OWN, code=error.code)
    error.metadata = {**error.metadata, "attempts": attempts_of(plan, outcomes)}
    return error


_TENANTS_OWN = (
    "Your organisation's own account at the provider refused its credential or is out of credit; "
    "this is not about your key here. Tell whoever manages that account."
)
_CREDENTIAL_KINDS = {FailureKind.CREDENTIALS, FailureKind.CREDITS}


def _is_tenants_own(plan: Plan, outcomes: tuple[Outcome, ...]) -> bool:
    """Tell whether it was never the operator's credential that was refused."""
    return all(plan.candidates[outcome.index].target.provider.account is not None for outcome in outcomes)


def _shared_error(failures: list[Failure]) -> RequestError | None:
    """Find the words for attempts that all ended alike, or for one that ended the chain."""
    last, kinds = failures[-1], {failure.kind for failure in failures}
    if last.kind is FailureKind.BAD_REQUEST:
        return _rejected(last)
    if kinds == {FailureKind.CONTEXT_LENGTH}:
        return ContextLengthExceeded(last.message, param="messages", metadata=dict(last.metadata))
    if kinds == {FailureKind.CONTENT_POLICY}:
        return PermissionRefused(last.message, code="content_policy", metadata=dict(last.metadata))
    if kinds == {FailureKind.RATE_LIMITED}:
        waits = [failure.retry_after_s for failure in failures if failure.retry_after_s is not None]
        return RateLimited(f"Every target is rate limited: {last.message}", retry_after_s=min(waits, default=None))
    if kinds == {FailureKind.NOT_FOUND}:
        return NotFound(f"No target has this model: {last.message}", param="model")
    if kinds == {FailureKind.TIMEOUT}:
        return UpstreamTimeout("Every target took too long; see metadata.attempts.")
    if kinds <= _CREDENTIAL_KINDS:
        return unusable(kinds)
    return None


def _rejected(failure: Failure) -> RequestError:
    status = failure.status or 400
    code = failure.code or {413: "payload_too_large"}.get(status, "invalid_value")
    return UpstreamRejected(
        failure.message, status=status, code=code, param=failure.param, metadata=dict(failure.metadata)
    )


def unusable(kinds: set[FailureKind]) -> RequestError:
    """Say that our own credential, or its credit, is refused."""
    if FailureKind.CREDITS in kinds:
        msg = "The gateway's own credit at its provider is used up; this is not about your key. Tell its operator."
        return UpstreamUnusable(msg, code="upstream_credits")
    msg = "The gateway's own credential was refused by its provider; this is not about your key. Tell its operator."
    return UpstreamUnusable(msg, code="upstream_credentials")


def _mixed_error(failures: list[Failure]) -> RequestError:
    """Find the words for attempts that ended in different ways.

    What the client can change comes first: the prompt, then its length.
    """
    by_kind = {failure.kind: failure for failure in failures}
    if (moderated := by_kind.get(FailureKind.CONTENT_POLICY)) is not None:
        return PermissionRefused(moderated.message, code="content_policy", metadata=dict(moderated.metadata))
    if (overflow := by_kind.get(FailureKind.CONTEXT_LENGTH)) is not None and failures[-1] is overflow:
        return ContextLengthExceeded(overflow.message, param="messages", metadata=dict(overflow.metadata))
    # What is said of our own credential would read like a word about the client's.
    last = [failure for failure in failures if failure.kind not in _CREDENTIAL_KINDS][-1]
    waits = [failure.retry_after_s for failure in failures if failure.retry_after_s is not None]
    message = f"No target could answer; one said: {last.message}"
    return UpstreamFailed(message, retry_after_s=min(waits, default=None), metadata=dict(last.metadata))
