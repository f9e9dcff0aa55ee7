"""The hold (part of the gateway, floor 4): how a plan gets past the budgets and into the ledger.

First a cheap bound. Only when that does not fit the money is the prompt tokenized, in a thread; only when that does not
fit either is the output clamped; and what is left below a useful answer is refused with the figures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from proxy.errors import PolicyRefusal, PriceUnknown, RequestError, Unauthenticated
from proxy.ledger.records import Admitted, KeyGone, Refused
from proxy.money import format_usd
from proxy.routing.holds import hold_of, least_of, size
from proxy.routing.plan import Plan
from proxy.tokens import bound_input, input_bound

ADMISSION_TRIES_MAX = 3
"""How often a clamped request asks again while others change what is left."""

HELD_RETRY_AFTER_S = 1.0
"""What a client is asked to wait when only holds stand in its way: they end with the requests that have them."""

Ask = Callable[[Plan], Awaitable[Admitted | Refused | KeyGone]]


class KeyChanged(Unauthenticated):
    """The key's record was changed or disabled since it was looked up: look the key up again and plan anew.

    Again even when that record may do nothing any more: a key renamed in routes.yaml lives on under another one.
    """


async def admit(plan: Plan, ask: Ask, *, input_bounds: Sequence[int]) -> tuple[Plan, Admitted]:
    """Get the plan admitted; gives it as admitted, with its caps and worst cases.

    `ask` puts a sized plan to the ledger; `input_bounds` are those of `bound_cheaply`. Raises `PolicyRefusal`,
    `PriceUnknown` or `KeyChanged`.
    """
    room = plan.max_cost_nano_usd
    sized = size(plan, cap_bounds(plan, input_bounds), room_nano_usd=None)
    _refuse_unpriced(sized)
    refused: Refused | None = None
    if room is None or hold_of(sized) <= room:
        answer = await _ask(ask, sized)
        if isinstance(answer, Admitted):
            return sized, answer
        refused = answer
        room = _smaller(room, answer.left_nano_usd)
    tight = await _bound_tightly(sized)
    for _ in range(ADMISSION_TRIES_MAX):
        fitted = size(sized, tight, room_nano_usd=room)
        if not fitted.candidates:
            break
        answer = await _ask(ask, fitted)
        if isinstance(answer, Admitted):
            return fitted, answer
        refused = answer
        room = _smaller(room, answer.left_nano_usd)
    raise refusal(least_of(size(sized, tight, room_nano_usd=None)), plan.max_cost_nano_usd, refused)


def refusal(needed_nano_usd: int, ceiling_left_nano_usd: int | None, refused: Refused | None) -> RequestError:
    """Put a refusal into words and figures: the budget's when one refused, else that of the request's own ceiling."""
    if refused is None:
        left = format_usd(ceiling_left_nano_usd or 0)
        return PolicyRefusal(
            f"The request could cost ${format_usd(needed_nano_usd)}, its ceiling leaves ${left}. "
            "Shorten the prompt or lower max_tokens.",
            code="max_cost_exceeded",
            metadata={"needed": format_usd(needed_nano_usd), "left": left, "resets_at": None},
        )
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


async def _ask(ask: Ask, plan: Plan) -> Admitted | Refused:
    answer = await ask(plan)
    if isinstance(answer, KeyGone):
        msg = "The client key is not valid here; ask the operator of this gateway for one."
        raise KeyChanged(msg)
    return answer


def bound_cheaply(plan: Plan, body_bytes: int) -> list[int]:
    """Bound the input of each candidate by the bytes of the body."""
    return [
        input_bound(dict(candidate.body), body_bytes, model=candidate.target.model) for candidate in plan.candidates
    ]


def cap_bounds(plan: Plan, input_bounds: Sequence[int]) -> list[int]:
    """Cap bounds at what each model can read: beyond that it would refuse."""
    return [
        min(bound, candidate.target.facts.context_tokens or bound)
        for candidate, bound in zip(plan.candidates, input_bounds, strict=True)
    ]


async def _bound_tightly(sized: Plan) -> list[int]:
    """Bound the input with a tokenizer where that is lower than the bytes."""
    bodies = {candidate.target.model: dict(candidate.body) for candidate in sized.candidates}
    found = await asyncio.to_thread(lambda: {model: bound_input(body, model) for model, body in bodies.items()})
    return [min(candidate.input_tokens_max, found[candidate.target.model]) for candidate in sized.candidates]


def _refuse_unpriced(sized: Plan) -> None:
    if sized.candidates:
        return
    names = ", ".join(skip.target.name for skip in sized.skipped if skip.target.facts.prices is None)
    msg = f"The price of {names} is not known, so a limit in money cannot be kept; give it a `price:` in routes.yaml."
    raise PriceUnknown(msg, param="model")


def _smaller(room: int | None, left: int) -> int:
    return left if room is None else min(room, left)
