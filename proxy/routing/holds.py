"""How much money a plan can cost, and how it is made to fit (floor 1b, pure; design.md section 7).

A hold is the dearest alternative of the chain. When the money left is less, each target's output is capped at what the
money buys; a target that would get less than a useful answer is left out, and the request is refused when none remains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from proxy.pricing import Bounds, output_tokens_for, worst_case
from proxy.routing.eligibility import Skipped
from proxy.routing.needs import count_images
from proxy.routing.plan import Candidate, Plan
from proxy.routing.principal import asked_output_tokens
from proxy.routing.services import asked_service, is_priced
from proxy.routing.table import Dialect

OUTPUT_TOKENS_FLOOR = 64
"""Less output than this is no useful answer: the target is refused rather than clamped."""
IMAGE = "image"
PAINTERS = (Dialect.OPENROUTER, Dialect.GOOGLE)
"""Whose chat models paint (openrouter.md 1.1 and 8.5)."""
OUTPUT_TOKENS_UNKNOWN = 4_096
"""The cap where neither the client nor the catalogue names one: every model in use can write this much."""


def size(plan: Plan, input_tokens_max: Sequence[int], *, room_nano_usd: int | None) -> Plan:
    """Work out each candidate's worst case, and cap or leave out what does not fit into the room.

    `input_tokens_max` bounds the input of each candidate, in their order. Without a room nothing is capped for lack of
    money. Candidates without a price stay only when no limit holds.
    """
    kept: list[Candidate] = []
    skipped = list(plan.skipped)
    for candidate, bound in zip(plan.candidates, input_tokens_max, strict=True):
        fitted = _fit(candidate, plan, input_tokens_max=bound, room_nano_usd=room_nano_usd)
        if isinstance(fitted, str):
            skipped.append(Skipped(candidate.target, fitted))
        else:
            kept.append(fitted)
    return plan._replace(candidates=tuple(kept), skipped=tuple(skipped))


def hold_of(plan: Plan) -> int:
    """Give the amount to hold: the dearest candidate, since any of them may be the one that answers."""
    return max((candidate.worst_case_nano_usd for candidate in plan.candidates), default=0)


def least_of(plan: Plan) -> int:
    """Give what the cheapest candidate needs: the `needed` of a refusal."""
    return min((candidate.worst_case_nano_usd for candidate in plan.candidates), default=0)


def _fit(candidate: Candidate, plan: Plan, *, input_tokens_max: int, room_nano_usd: int | None) -> Candidate | str:
    """Give the candidate as it may run, or the reason why it may not."""
    prices = candidate.prices
    is_limited = plan.is_limited or room_nano_usd is not None
    if prices is None:
        if is_limited:
            return "its price is not known, and a limit in money holds"
        return candidate._replace(input_tokens_max=input_tokens_max)
    if is_limited and _paints(candidate):
        return "it may answer with images, which are priced apart, and a limit in money holds"
    service = asked_service(candidate.body)
    if is_limited and service is not None and not is_priced(service, prices):
        return f"the price of its service tier `{service}` is not known, and a limit in money holds"
    cap, bound = _output_bound(candidate, is_limited=is_limited)
    cap = candidate.output_tokens_max if cap is None else cap
    choices = _choices(candidate.body)
    images = count_images(candidate.body) if prices.scale.charges_images else 0
    bounds = Bounds(input_tokens_max, bound * choices, images=images, service_tier=service)
    cost = worst_case(bounds, prices)
    if room_nano_usd is not None and cost > room_nano_usd:
        bought = output_tokens_for(room_nano_usd, bounds, prices) // choices
        if bought < min(OUTPUT_TOKENS_FLOOR, bound):
            return "the money left does not buy a useful answer"
        cap = min(bought, _injectable(candidate, bound))
        cost = worst_case(bounds._replace(output_tokens=cap * choices), prices)
    return candidate._replace(
        input_tokens_max=input_tokens_max, output_tokens_max=cap, worst_case_nano_usd=cost, images=images
    )


def _output_bound(candidate: Candidate, *, is_limited: bool) -> tuple[int | None, int]:
    """Give the cap to send, if any, and what bounds one answer: the client's word, the model's ceiling, its context."""
    asked = asked_output_tokens(candidate.body)
    facts = candidate.target.facts
    ceiling = facts.output_tokens_max or facts.context_tokens
    if asked is None:
        if ceiling is not None:
            return None, ceiling
        return (OUTPUT_TOKENS_UNKNOWN if is_limited else None), OUTPUT_TOKENS_UNKNOWN
    if ceiling is not None and asked > ceiling and is_limited:
        return ceiling, ceiling
    return None, asked


def _injectable(candidate: Candidate, bound: int) -> int:
    """Give the highest cap this model is sure to accept: a cap above its ceiling would be refused upstream."""
    if asked_output_tokens(candidate.body) is not None or candidate.target.facts.output_tokens_max is not None:
        return bound
    return min(bound, OUTPUT_TOKENS_UNKNOWN)


def _paints(candidate: Candidate) -> bool:
    """Tell whether pictures of unknown price may come: most rows of a catalogue name that of text (openrouter.md 5)."""
    target, prices = candidate.target, candidate.prices
    if target.provider.dialect not in PAINTERS or prices is None or prices.is_declared:
        return False
    if prices.image_output is not None:
        return False
    output, wished = target.facts.capabilities.get("output"), candidate.body.get("modalities")
    is_painter = (isinstance(output, tuple) and IMAGE in output) or IMAGE in target.model
    return is_painter or (isinstance(wished, list) and IMAGE in wished)


def _choices(body: Mapping[str, Any]) -> int:
    """Give `n`: every choice is paid for."""
    n = body.get("n")
    return n if isinstance(n, int) and n > 1 else 1
