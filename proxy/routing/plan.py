"""The plan of one request (floor 1b, pure): which targets, in which order, under which clocks and ceilings.

A plan is made of values only: the request's facts, who asks, the table. It calls nobody and reserves nothing; `fitting`
sees to prompts that are too long, `holds` adds the money, `steps` walks it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from proxy.codecs.plainness import check_effort
from proxy.policy.timeouts import TOTAL_S, Clocks, clocks
from proxy.pricing import Prices
from proxy.routing.bodies import MiddleOut, hold_to_price, write_body
from proxy.routing.choice import Choice, choose, resolve_legs
from proxy.routing.eligibility import Reason, Skipped
from proxy.routing.extras import IN_NAME, Extras, read_extras, take_preset
from proxy.routing.principal import Principal, asked_output_tokens, lay_over
from proxy.routing.resolve import Facts, Resolved, is_alias
from proxy.routing.restrictions import refuse_unpriced
from proxy.routing.services import hold_to_service
from proxy.routing.table import Dialect, Route, Table, Target, Timeouts

MIDDLE_OUT = "middle-out"
BY_OPENROUTER = "middle-out; by=openrouter"
"""The header's word when OpenRouter may cut and does not say whether it did."""


class Candidate(NamedTuple):
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
    images: int = 0
    """Pictures in the prompt, where they are charged by the piece."""
    dropped: tuple[str, ...] = ()
    """Fields of the request this target does not take."""
    middle_out: MiddleOut = "off"
    transforms: str | None = None
    """What was done to the prompt, for the header."""
    alias: str | None = None
    """The key of `models` whose target it is, where the request asks for several; its limits hold."""

    @property
    def prices(self) -> Prices | None:
        """Give the price this attempt is booked at."""
        return self.target.facts.prices


class Plan(NamedTuple):
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
    requires_parameters: bool = False
    """A target that would leave out a field of the request is none (`provider.require_parameters`)."""
    asked_output_tokens: int | None = None
    """The output cap of the client's own (or its key's); a model's default may be lowered, this may not."""

    @property
    def is_limited(self) -> bool:
        """Tell whether a limit in money holds for it."""
        return self.has_budget or self.max_cost_nano_usd is not None


def make_plan(body: Mapping[str, Any], *, principal: Principal, table: Table, facts: Facts) -> Plan:
    """Plan a parsed request; raises `RequestError` when it may not be planned. The plan may have no candidate."""
    if principal.params:
        body = lay_over(principal.params, body)
    body = take_preset(body)
    extras = read_extras(body)
    if "reasoning" in body:
        check_effort(dict(body))
    if extras.preset is not None and is_alias(extras.preset, table):
        body, extras = _as_alias(body, extras, extras.preset)
    legs = resolve_legs(body, extras, principal=principal, table=table, facts=facts)
    max_cost = legs[0].route.max_cost_nano_usd
    if len(legs) > 1 or principal.max_cost_nano_usd is not None:
        ceilings = [principal.max_cost_nano_usd, *(leg.route.max_cost_nano_usd for leg in legs)]
        max_cost = min((ceiling for ceiling in ceilings if ceiling is not None), default=None)
    has_budget = principal.has_budget or (bool(table.walls) and _is_walled(legs, table))
    is_limited = has_budget or max_cost is not None
    if is_limited or principal.lists:
        refuse_unpriced(body, extras, legs, principal=principal, is_limited=is_limited)
    choices, skipped = choose(legs, body, extras)
    candidates: list[Candidate] = []
    for choice in choices:
        candidate = _candidate(choice, table.timeouts, is_limited=is_limited)
        if candidate.dropped and choice.extras.preferences.require_parameters:
            lost = f"it does not take {', '.join(candidate.dropped)}, and `provider.require_parameters` is set"
            skipped.append(Skipped(choice.target, lost, Reason.CONDITION))
        else:
            candidates.append(candidate)
    return Plan(
        alias=legs[0].asked,
        route=legs[0].route,
        candidates=tuple(candidates),
        skipped=tuple(skipped),
        retries=table.retry.attempts,
        total_s=min([candidate.clocks.total_s for candidate in candidates], default=TOTAL_S),
        max_cost_nano_usd=max_cost,
        has_budget=has_budget,
        requires_parameters=any(choice.extras.preferences.require_parameters for choice in choices),
        asked_output_tokens=asked_output_tokens(body),
    )


def _is_walled(legs: Sequence[Resolved], table: Table) -> bool:
    """Tell whether a model or a provider on the way has a hard budget of its own."""
    routes = [leg.route for leg in legs]
    places = {f"model:{route.name}" for route in routes}
    providers = [target.provider for route in routes for target in route.targets]
    places |= {f"provider:{provider.name}" for provider in providers if provider.account is None}
    return not table.walls.isdisjoint(places)


def _as_alias(body: Mapping[str, Any], extras: Extras, preset: str) -> tuple[Mapping[str, Any], Extras]:
    """Take a preset that is one of our aliases for that alias; a model of the request's own stays in front of it."""
    model = body.get("model")
    has_own = isinstance(model, str) and not model.startswith(IN_NAME)
    models = (preset, *extras.models) if has_own else extras.models
    return {**body, "model": model if has_own else preset}, extras._replace(models=models, preset=None)


def _candidate(choice: Choice, defaults: Timeouts, *, is_limited: bool) -> Candidate:
    target, extras = choice.target, choice.extras
    given = target.timeouts
    middle_out = _who_cuts(target, choice.route, extras)
    written = write_body(choice.body, target, extras, middle_out=middle_out)
    return Candidate(
        target=target,
        body=hold_to_service(hold_to_price(written.body, target), target) if is_limited else written.body,
        clocks=clocks(
            connect_s=given.connect_s or defaults.connect_s,
            first_token_s=given.first_token_s or defaults.first_token_s,
            idle_s=given.idle_s or defaults.idle_s,
            total_s=given.total_s or defaults.total_s,
            is_stream=choice.body.get("stream") is True,
        ),
        dropped=written.dropped,
        middle_out=middle_out,
        transforms=BY_OPENROUTER if middle_out == "theirs" else None,
        alias=choice.route.name,
    )


def _who_cuts(target: Target, route: Route, extras: Extras) -> MiddleOut:
    """Tell who may cut an overlong prompt: the request's word, else the alias's; nobody unless asked."""
    asked = extras.middle_out
    if asked is None:
        asked = route.transforms is not None and MIDDLE_OUT in route.transforms
    if not asked:
        return "off"
    if target.facts.context_tokens is not None:
        return "ours"
    return "theirs" if target.provider.dialect is Dialect.OPENROUTER else "off"
