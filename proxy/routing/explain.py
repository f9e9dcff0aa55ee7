"""What would happen to a request (floor 1b, pure): the real planner's answer, put into words and figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from proxy.money import format_usd
from proxy.pricing import Prices
from proxy.routing.plan import Plan
from proxy.routing.table import Target


@dataclass(frozen=True, slots=True)
class Explained:
    """One target and what becomes of it."""

    target: str
    included: bool
    reason: str
    price: Prices | None = None
    worst_case_nano_usd: int | None = None
    context_tokens: int | None = None


def explain(plan: Plan) -> tuple[Explained, ...]:
    """Give every target of a sized plan, those to be tried first and in their order."""
    tried = tuple(
        Explained(
            target=candidate.target.name,
            included=True,
            reason=_say_when(plan, index),
            price=candidate.prices,
            worst_case_nano_usd=candidate.worst_case_nano_usd if candidate.prices is not None else None,
            context_tokens=candidate.target.facts.context_tokens,
        )
        for index, candidate in enumerate(plan.candidates)
    )
    left_out = tuple(
        Explained(
            target=skip.target.name,
            included=False,
            reason=_mark(skip.target, skip.reason),
            price=skip.target.facts.prices,
        )
        for skip in plan.skipped
    )
    return tried + left_out


def _say_when(plan: Plan, index: int) -> str:
    if index == 0:
        return _mark(plan.candidates[index].target, "tried first")
    return _mark(plan.candidates[index].target, f"tried when {plan.candidates[index - 1].target.name} fails")


def _mark(target: Target, reason: str) -> str:
    """Tell a target that `direct_backup` added from those of the table."""
    return f"direct backup, {reason}" if target.is_backup else reason


def as_json(plan: Plan) -> dict[str, Any]:
    """Give the explanation in the shape of `turnpike explain --json`."""
    rows = explain(plan)
    worst = max((row.worst_case_nano_usd for row in rows if row.worst_case_nano_usd is not None), default=None)
    return {
        "model": plan.alias,
        "route": plan.route.name,
        "candidates": [
            {
                "target": row.target,
                "included": row.included,
                "reason": row.reason,
                "context_tokens": row.context_tokens,
                "price": None if row.price is None else price_json(row.price),
                "worst_case_usd": None if row.worst_case_nano_usd is None else format_usd(row.worst_case_nano_usd),
            }
            for row in rows
        ],
        "worst_case_usd": None if worst is None else format_usd(worst),
    }


def price_json(prices: Prices) -> dict[str, str]:
    """Give a price as decimal strings, USD per million tokens, with where it comes from."""
    return {
        "input": f"{prices.input:f}",
        "output": f"{prices.output:f}",
        "source": prices.source,
        "as_of": prices.as_of,
    }
