"""The plan of one request (floor 1b, pure): which targets, in which order, under which clocks and ceilings.

A plan is made of values only: the request's facts, who asks, the table. It calls nobody and reserves nothing; `holds`
adds the money, `steps` walks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxy.errors import ClientError, NotFound, UpstreamUnusable
from proxy.policy.timeouts import TOTAL_S, Clocks, clocks
from proxy.pricing import Prices
from proxy.routing.principal import Principal, lay_over
from proxy.routing.resolve import Facts, Resolved, near_names, near_text, resolve, shown
from proxy.routing.table import Route, Table, Target, Timeouts

TARGETS_MAX = 8
PRICED_TIERS = (None, "auto", "default", "flex")
"""Service tiers that cost no more than the prices known here (openrouter.md 7.3); others have prices of their own."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One target of a plan, with everything an attempt needs."""

    target: Target
    body: Mapping[str, Any]
    """The request with this target's default params filled in; the request's own always win."""
    clocks: Clocks
    input_tokens_max: int = 0
    """Upper bound of what the request can be for this model; 0 until `holds` is told."""
    output_tokens_max: int | None = None
    """A cap of ours, told to the client; None when the client's own (or none) is sent."""
    worst_case_nano_usd: int = 0

    @property
    def prices(self) -> Prices | None:
        """Give the price this attempt is booked at."""
        return self.target.facts.prices

    def sized(
        self, *, input_tokens_max: int, output_tokens_max: int | None = None, worst_case_nano_usd: int = 0
    ) -> Candidate:
        """Give it with its bounds; spelled out because it is on the way of every request, where `replace` is slow."""
        return Candidate(self.target, self.body, self.clocks, input_tokens_max, output_tokens_max, worst_case_nano_usd)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A target left out, and why: shown by `explain`."""

    target: Target
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be tried for one request."""

    alias: str
    """As asked for."""
    route: Route
    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]
    retries: int
    """Tries of the last target."""
    total_s: float
    max_cost_nano_usd: int | None
    has_budget: bool

    @property
    def is_limited(self) -> bool:
        """Tell whether a limit in money holds for it."""
        return self.has_budget or self.max_cost_nano_usd is not None

    def narrowed(self, candidates: tuple[Candidate, ...], skipped: tuple[Skipped, ...]) -> Plan:
        """Give it with these candidates; spelled out as `Candidate.sized` is."""
        return Plan(
            self.alias,
            self.route,
            candidates,
            skipped,
            self.retries,
            self.total_s,
            self.max_cost_nano_usd,
            self.has_budget,
        )


def make_plan(body: Mapping[str, Any], *, principal: Principal, table: Table, facts: Facts) -> Plan:
    """Plan a parsed request; raises `RequestError` when it may not be planned. The plan may have no candidate."""
    resolved = resolve(body.get("model"), principal=principal, table=table, facts=facts)
    _refuse_unready_fields(body, principal)
    ready, skipped = _split_ready(resolved)
    is_stream = body.get("stream") is True
    candidates = tuple(_candidate(target, body, principal, table.timeouts, is_stream=is_stream) for target in ready)
    return Plan(
        alias=resolved.asked,
        route=resolved.route,
        candidates=candidates,
        skipped=tuple(skipped),
        retries=table.retry.attempts,
        total_s=min((candidate.clocks.total_s for candidate in candidates), default=TOTAL_S),
        max_cost_nano_usd=resolved.route.max_cost_nano_usd,
        has_budget=principal.has_budget,
    )


def require_candidate(plan: Plan, *, principal: Principal, table: Table) -> None:
    """Refuse a plan without any candidate, in the words that fit.

    A model of the operator's own whose providers are not ready is theirs to mend: 503. A name that only a glob let
    through is most likely a slip of the client's, and a suffix nobody serves is one: 404, with the nearest names.
    """
    if plan.candidates:
        return
    reasons = "; ".join(f"{skip.target.name}: {skip.reason}" for skip in plan.skipped)
    if not plan.route.is_glob and any(skip.target.provider.not_ready for skip in plan.skipped):
        msg = f"No target of the model '{plan.route.name}' is ready: {reasons}. Tell the gateway's operator."
        raise UpstreamUnusable(msg)
    near = near_names(plan.alias, principal, table)
    msg = f"The model '{shown(plan.alias)}' cannot be served: {reasons}.{near_text(near)}"
    raise NotFound(msg, param="model", metadata={"near": near})


def _refuse_unready_fields(body: Mapping[str, Any], principal: Principal) -> None:
    """Refuse what could pick a model past the key's list or spend past its budget inside OpenRouter."""
    if principal.models is None and not principal.has_budget:
        return
    for name in ("models", "plugins", "preset"):
        if body.get(name) not in (None, []):
            msg = f"`{name}` is not available yet for a key that has a budget or a list of models; leave it out."
            raise ClientError(msg, code="invalid_value", param=name)
    if principal.has_budget and body.get("service_tier") not in PRICED_TIERS:
        msg = "The price of this `service_tier` is not known here; with a budget send auto, default or flex."
        raise ClientError(msg, code="price_unknown", param="service_tier")


def _split_ready(resolved: Resolved) -> tuple[list[Target], list[Skipped]]:
    skipped = [Skipped(target, reason) for target, reason in resolved.skipped]
    ready: list[Target] = []
    for target in resolved.targets:
        if target.provider.not_ready is not None:
            skipped.append(Skipped(target, target.provider.not_ready))
        elif len(ready) == TARGETS_MAX:
            skipped.append(Skipped(target, f"{TARGETS_MAX} targets are the most one request tries"))
        else:
            ready.append(target)
    return ready, skipped


def _candidate(
    target: Target, body: Mapping[str, Any], principal: Principal, defaults: Timeouts, *, is_stream: bool
) -> Candidate:
    given = target.timeouts
    return Candidate(
        target=target,
        body=_with_params(body, principal, target),
        clocks=clocks(
            connect_s=given.connect_s or defaults.connect_s,
            first_token_s=given.first_token_s or defaults.first_token_s,
            idle_s=given.idle_s or defaults.idle_s,
            total_s=given.total_s or defaults.total_s,
            is_stream=is_stream,
        ),
    )


def _with_params(body: Mapping[str, Any], principal: Principal, target: Target) -> Mapping[str, Any]:
    """Fill in defaults: request > key > tenant > model."""
    if not principal.params and not target.params:
        return body
    return lay_over(lay_over(target.params, principal.params), body)
