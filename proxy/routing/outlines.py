"""Plans without their request (floor 1b, pure): most requests of a key for a model differ in their body alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from proxy.routing.extras import FIELDS
from proxy.routing.needs import needs_of
from proxy.routing.plan import Plan
from proxy.routing.principal import Principal, asked_output_tokens

_TELLING = FIELDS | {"reasoning", "tools", "service_tier", "web_search_options", "google", "extra_body"}
"""Fields of a request that a plan may depend on."""


class Outline(NamedTuple):
    """A plan that holds for every request which has none of these fields, and nothing but text in its messages."""

    plan: Plan
    telling: frozenset[str]


def outline_key(body: Mapping[str, Any], principal: Principal) -> tuple[Any, ...]:
    """Name what an outline is made for, within one table."""
    return (
        body.get("model"),
        body.get("stream") is True,
        principal.name,
        principal.revision,
        principal.models,
        principal.default_model,
        principal.has_budget,
        principal.tenant_models,
        principal.maker_models,
        principal.max_cost_nano_usd,
    )


def make_outline(plan: Plan, body: Mapping[str, Any], principal: Principal) -> Outline | None:
    """Make the outline of a plan, None when this request had something in it that the plan depends on."""
    if principal.params or any(candidate.body is not body for candidate in plan.candidates):
        return None
    targets = [candidate.target for candidate in plan.candidates]
    telling = _TELLING.union(*(target.unsupported for target in targets), *(target.renamed for target in targets))
    if not fits(telling, body):
        return None
    bare = tuple(candidate._replace(body={}) for candidate in plan.candidates)
    return Outline(plan._replace(candidates=bare), telling)


def fits(telling: frozenset[str], body: Mapping[str, Any]) -> bool:
    """Tell whether a request has nothing in it that a plan depends on."""
    return telling.isdisjoint(body) and not needs_of(body)


def fill_in(plan: Plan, body: Mapping[str, Any]) -> Plan:
    """Give the plan of a request that fits."""
    filled = [candidate._replace(body=body) for candidate in plan.candidates]
    return plan._replace(candidates=tuple(filled), asked_output_tokens=asked_output_tokens(body))
