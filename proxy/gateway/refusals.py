"""What the ledger's refusals are to a client (part of the gateway, floor 4): status, words and figures."""

from __future__ import annotations

from datetime import UTC, datetime

from proxy.errors import Failure, FailureKind, PolicyRefusal, PriceUnknown, RateLimited, RequestError
from proxy.ledger.records import Limited, Refused, Unpriced
from proxy.money import format_usd
from proxy.policy.pools import Resting
from proxy.routing.steps import unusable
from proxy.routing.table import Target

HELD_RETRY_AFTER_S = 1.0
"""What a client is asked to wait when only holds stand in its way: they end with the requests that have them."""


POOL_RETRY_AFTER_S_MAX = 60.0
"""A client is never told to stay away longer: what a provider asks of a key is not what it asks of them."""


class Spent(PolicyRefusal):
    """A budget has no room and names a model to go to instead."""

    def __init__(self, refused: Refused) -> None:
        """Keep where to go; `scope` is the budget's."""
        assert refused.when_spent is not None, "there is somewhere to go"
        super().__init__(f"The budget {refused.scope} is spent.")
        self.instead = refused.when_spent
        self.scope = refused.scope


def over_ceiling(needed_nano_usd: int, left_nano_usd: int) -> PolicyRefusal:
    """Say that a request could cost more than its own ceiling leaves."""
    left = format_usd(left_nano_usd)
    return PolicyRefusal(
        f"The request could cost ${format_usd(needed_nano_usd)}, its ceiling leaves ${left}. "
        "Shorten the prompt or lower max_tokens.",
        code="max_cost_exceeded",
        metadata={"needed": format_usd(needed_nano_usd), "left": left, "resets_at": None},
    )


def over_budget(needed_nano_usd: int, refused: Refused) -> PolicyRefusal:
    """Say that a budget has no room, and when or whether it will."""
    anew_s = refused.resets_at_s
    resets_at = None if anew_s is None else f"{datetime.fromtimestamp(anew_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
    remedy = f"It starts anew at {resets_at}." if resets_at else "Ask the operator to raise it."
    if refused.held_nano_usd:
        remedy = f"${format_usd(refused.held_nano_usd)} of it is held by requests under way and may come back. {remedy}"
    is_temporary = refused.left_nano_usd + refused.held_nano_usd >= needed_nano_usd
    error = PolicyRefusal(
        f"The request could cost ${format_usd(needed_nano_usd)}, "
        f"the budget has ${format_usd(refused.left_nano_usd)} left. {remedy}",
        retry_after_s=HELD_RETRY_AFTER_S if is_temporary else None,
        code="budget_exceeded",
        metadata={
            "needed": format_usd(needed_nano_usd),
            "left": format_usd(refused.left_nano_usd),
            "limit": format_usd(refused.limit_nano_usd),
            "held": format_usd(refused.held_nano_usd),
            "resets_at": resets_at,
            "scope": refused.scope,
        },
    )
    if is_temporary:
        error.should_retry = None
    return error


def over_rate(limited: Limited) -> RateLimited:
    """Say which limit of ours is used up, and when there is room again."""
    if limited.measure is None:
        what = f"{limited.limit} requests at once"
        remedy = "Wait until one of them has ended."
    else:
        what = f"{limited.limit} {limited.measure.value} in {limited.window_s} s"
        remedy = f"There is room again in {limited.retry_after_s:.1f} s."
    return RateLimited(
        f"The limit of {what} ({limited.scope}) is reached. {remedy}",
        retry_after_s=limited.retry_after_s,
        metadata={
            "scope": limited.scope,
            "measure": "parallel" if limited.measure is None else limited.measure.value,
            "limit": limited.limit,
            "window_s": limited.window_s,
        },
    )


def limit_failure(answer: Limited | Refused) -> Failure:
    """Give the failure of a target that a limit of ours keeps from being called."""
    if isinstance(answer, Limited):
        error, kind = over_rate(answer), FailureKind.RATE_LIMITED
        return Failure(kind, error.message, retry_after_s=answer.retry_after_s)
    return Failure(FailureKind.CREDITS, f"The budget {answer.scope} of this gateway is spent.")


def pool_rests(resting: Resting, target: Target) -> RequestError:
    """Say that no key of a provider's pool can be used, where the request has nowhere else to go."""
    failure = resting_failure(resting, target)
    if failure.kind is not FailureKind.RATE_LIMITED:
        error: RequestError = unusable({failure.kind})
    else:
        error = RateLimited(failure.message, retry_after_s=failure.retry_after_s)
    error.metadata = {"scope": f"target:{target.name}"}
    return error


def resting_failure(resting: Resting, target: Target) -> Failure:
    """Give the failure of a target that is not called, because no key of its pool can be."""
    wait_s = shown_wait_s(resting)
    when = "" if wait_s is None else f" Try again in {wait_s:.1f} s."
    message = f"Every key of {target.provider.name} is at its provider's limit.{when}"
    return Failure(resting.kind, message, retry_after_s=wait_s)


def shown_wait_s(resting: Resting) -> float | None:
    """Give what a client is asked to wait; for a credential to be accepted again nobody waits."""
    if resting.kind is not FailureKind.RATE_LIMITED or resting.returns_in_s is None:
        return None
    return min(resting.returns_in_s, POOL_RETRY_AFTER_S_MAX)


def unpriced(refused: Unpriced) -> PriceUnknown:
    """Say that a limit in money cannot be kept."""
    return PriceUnknown(
        f"The price of this model is not known, so the budget {refused.scope} cannot be kept; "
        "give it a `price:` in routes.yaml.",
        param="model",
    )
