"""The hold (part of the gateway, floor 4): how a plan gets past the budgets and into the ledger.

First a cheap bound. Only when that does not fit the money is the prompt tokenized, in a thread; only when that does not
fit either is the output clamped; and what is left below a useful answer is refused with the figures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from proxy.errors import PolicyRefusal, PriceUnknown, RateLimited, Unauthenticated, UpstreamUnusable
from proxy.gateway.refusals import Spent, over_budget, over_ceiling, over_rate, pool_rests, unpriced
from proxy.ledger.records import Admitted, KeyGone, Limited, Outcome, Refused, Unpriced
from proxy.policy.pools import Resting
from proxy.policy.scopes import is_upstream
from proxy.routing.eligibility import Skipped
from proxy.routing.holds import hold_of, least_of, size
from proxy.routing.plan import Candidate, Plan
from proxy.routing.principal import matches
from proxy.tokens import bound_input, input_bound

ADMISSION_TRIES_MAX = 3
"""How often a clamped request asks again while others change what is left."""

Asking = Outcome | Resting
"""What comes of asking for a call: the ledger's word, or that no key of the pool can be used."""
Ask = Callable[[Plan], Awaitable[Asking]]


class KeyChanged(Unauthenticated):
    """The key's record was changed or disabled since it was looked up: look the key up again and plan anew.

    Again even when that record may do nothing any more: a key renamed in routes.yaml lives on under another one.
    """


async def admit(plan: Plan, ask: Ask, *, input_bounds: Sequence[int]) -> tuple[Plan, Admitted]:
    """Get the plan admitted; gives it as admitted, with its caps and worst cases.

    `ask` puts a sized plan to the ledger; `input_bounds` are those of `bound_cheaply`. Targets whose own limits have no
    room are left out as long as there are others. Raises `PolicyRefusal`, `Spent`, `RateLimited`, `PriceUnknown` or
    `KeyChanged`.
    """
    bounds = cap_bounds(plan, input_bounds)
    while True:
        try:
            return await _admit(plan, ask, bounds)
        except (PolicyRefusal, RateLimited, UpstreamUnusable) as error:
            scope = error.metadata.get("scope", "")
            kept = [index for index, one in enumerate(plan.candidates) if not counts_in(one, scope)]
            if not kept or len(kept) == len(plan.candidates):
                raise
            gone = [Skipped(one.target, error.message) for one in plan.candidates if counts_in(one, scope)]
        candidates = tuple(plan.candidates[index] for index in kept)
        plan = plan._replace(candidates=candidates, skipped=(*plan.skipped, *gone))
        bounds = [bounds[index] for index in kept]


def counts_in(candidate: Candidate, scope: str) -> bool:
    """Tell whether calls of a candidate count in the scope of a model, a provider, a target or a credential."""
    if candidate.alias is not None and scope == f"model:{candidate.alias}":
        return True
    if not is_upstream(scope) or candidate.target.provider.account is not None:
        return False
    kind, _, name = scope.partition(":")
    target = candidate.target
    return matches(name, target.name) if kind == "target" else name.partition("/")[0] == target.provider.name


def is_passable(plan: Plan, candidate: Candidate, scope: str) -> bool:
    """Tell whether a limit without room stands only before this candidate, so that another of the plan may do."""
    if not counts_in(candidate, scope):
        return False
    return is_upstream(scope) or not all(counts_in(one, scope) for one in plan.candidates)


async def _admit(plan: Plan, ask: Ask, bounds: Sequence[int]) -> tuple[Plan, Admitted]:
    room = plan.max_cost_nano_usd
    sized = size(plan, bounds, room_nano_usd=None)
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


def refusal(needed_nano_usd: int, ceiling_left_nano_usd: int | None, refused: Refused | None) -> PolicyRefusal:
    """Put a refusal into words and figures: the budget's when one refused, else that of the request's own ceiling."""
    if refused is None:
        return over_ceiling(needed_nano_usd, ceiling_left_nano_usd or 0)
    if refused.when_spent is not None:
        return Spent(refused)
    return over_budget(needed_nano_usd, refused)


async def _ask(ask: Ask, plan: Plan) -> Admitted | Refused:
    answer = await ask(plan)
    if isinstance(answer, Resting):
        raise pool_rests(answer, plan.candidates[0].target)
    return heed(answer)


def heed(answer: Outcome) -> Admitted | Refused:
    """Raise what the ledger's answer comes to, but for a hard budget's refusal, which less may still fit."""
    if isinstance(answer, KeyGone):
        msg = "The client key is not valid here; ask the operator of this gateway for one."
        raise KeyChanged(msg)
    if isinstance(answer, Limited):
        raise over_rate(answer)
    if isinstance(answer, Unpriced):
        raise unpriced(answer)
    if isinstance(answer, Refused) and answer.is_soft:
        raise Spent(answer)
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
