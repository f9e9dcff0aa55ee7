"""How a request was routed, in the shape of OpenRouter's `openrouter_metadata` (floor 1b, pure; openrouter.md 4.9)."""

from __future__ import annotations

from typing import Any

from proxy.routing.plan import Plan
from proxy.routing.steps import Outcome

OK = 200


def describe_routing(plan: Plan, outcomes: tuple[Outcome, ...], served: int | None) -> dict[str, Any]:
    """Tell what was asked for, who could have served it, and who did: the candidate `served`, None for nobody."""
    tried = [(outcome.index, outcome.failure.status) for outcome in outcomes]
    if served is not None:
        tried.append((served, OK))
    chosen = plan.candidates[served].target.name if served is not None else "nobody"
    return {
        "requested": plan.alias,
        "strategy": "fallback" if len(plan.candidates) > 1 else "direct",
        "region": None,
        "summary": f"{len(plan.candidates)} targets, {len(tried)} tried, served by {chosen}",
        "attempt": len(tried),
        "is_byok": False,
        "endpoints": {
            "total": len(plan.candidates) + len(plan.skipped),
            "available": [
                {
                    "provider": candidate.target.provider.name,
                    "model": candidate.target.model,
                    "selected": index == served,
                }
                for index, candidate in enumerate(plan.candidates)
            ],
        },
        "attempts": [
            {
                "provider": plan.candidates[index].target.provider.name,
                "model": plan.candidates[index].target.model,
                "status": status,
            }
            for index, status in tried
        ],
    }
