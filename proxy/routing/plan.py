"""The plan of one request (floor 1b, pure): which targets, in which order, under which clocks and ceilings.

A plan is made of values only: the request's facts, who asks, the table. It calls nobody and reserves nothing; `fitting`
sees to prompts that are too long, `holds` adds the money, `steps` walks it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.errors import ClientError
from proxy.policy.timeouts import TOTAL_S, Clocks, clocks
from proxy.pricing import Prices
from proxy.routing.bodies import MiddleOut, hold_to_price, write_body
from proxy.routing.eligibility import Reason, Skipped, judge_target, sort_direct
from proxy.routing.extras import NO_EXTRAS, Extras, read_extras
from proxy.routing.needs import needs_of
from proxy.routing.principal import Principal
from proxy.routing.resolve import Facts, Resolved, resolve
from proxy.routing.restrictions import refuse_unpriced
from proxy.routing.table import Dialect, Route, Table, Target, Timeouts

TARGETS_MAX = 8
"""Upstream targets, and models of a request, that are tried for it."""
MIDDLE_OUT = "middle-out"
BY_OPENROUTER = "middle-out; by=openrouter"
"""The header's word when OpenRouter may cut and does not say whether it did."""


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
    dropped: tuple[str, ...] = ()
    """Fields of the request this target does not take."""
    middle_out: MiddleOut = "off"
    transforms: str | None = None
    """What was done to the prompt, for the header."""

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
    requires_parameters: bool = False
    """A target that would leave out a field of the request is none (`provider.require_parameters`)."""

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
            self.requires_parameters,
        )


def make_plan(body: Mapping[str, Any], *, principal: Principal, table: Table, facts: Facts) -> Plan:
    """Plan a parsed request; raises `RequestError` when it may not be planned. The plan may have no candidate."""
    extras = read_extras(body)
    preset = extras.preset
    if preset is not None and preset in table.routes:
        body, extras = _as_alias(body, extras, preset)
    legs = _resolve_legs(body, extras, principal=principal, table=table, facts=facts)
    refuse_unpriced(body, extras, principal, legs)
    ready, skipped = _choose(legs, body, extras)
    wanted = extras.preferences
    max_cost = legs[0].route.max_cost_nano_usd
    if len(legs) > 1:
        limits = [leg.route.max_cost_nano_usd for leg in legs if leg.route.max_cost_nano_usd is not None]
        max_cost = min(limits, default=None)
    request = _Request(body, principal, extras, table.timeouts, is_limited=principal.has_budget or max_cost is not None)
    candidates: list[Candidate] = []
    for target, route in ready:
        candidate = _candidate(target, route, request)
        if candidate.dropped and wanted.require_parameters:
            lost = f"it does not take {', '.join(candidate.dropped)}, and `provider.require_parameters` is set"
            skipped.append(Skipped(target, lost, Reason.CONDITION))
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
        has_budget=principal.has_budget,
        requires_parameters=wanted.require_parameters,
    )


def _as_alias(body: Mapping[str, Any], extras: Extras, preset: str) -> tuple[Mapping[str, Any], Extras]:
    """Take a preset that is one of our aliases for that alias; a model of the request's own stays in front of it."""
    models = extras.models if body.get("model") is None else (preset, *extras.models)
    named = body.get("model") or preset
    return {**body, "model": named}, Extras(
        models=models, preferences=extras.preferences, plugins=extras.plugins, middle_out=extras.middle_out
    )


def _resolve_legs(
    body: Mapping[str, Any], extras: Extras, *, principal: Principal, table: Table, facts: Facts
) -> list[Resolved]:
    """Resolve `model` and then each of `models`: what the client adds is checked as if it were asked for."""
    if not extras.models:
        return [resolve(body.get("model"), principal=principal, table=table, facts=facts)]
    first = resolve(body.get("model"), principal=principal, table=table, facts=facts) if body.get("model") else None
    names = [name for name in extras.models if name != body.get("model")]
    if len(names) + (first is not None) > TARGETS_MAX:
        raise ClientError(f"`models` may name {TARGETS_MAX} models together with `model`.", param="models")
    legs = [resolve(name, principal=principal, table=table, facts=facts) for name in names]
    return [*([first] if first is not None else []), *legs]


def _choose(
    legs: Sequence[Resolved], body: Mapping[str, Any], extras: Extras
) -> tuple[list[tuple[Target, Route]], list[Skipped]]:
    """Give the targets that may serve, each with the route that names it, in the order to try."""
    needs = needs_of(body)
    chosen: list[tuple[Target, Route]] = []
    skipped: list[Skipped] = []
    named: set[str] = set()
    for leg in legs:
        skipped += [Skipped(target, reason, Reason.SUFFIX) for target, reason in leg.skipped]
        fit: list[Target] = []
        for target in leg.targets:
            verdict = judge_target(target, body, extras, needs)
            if verdict is not None:
                skipped.append(verdict)
            elif extras is NO_EXTRAS or target.name not in named:
                named.add(target.name)
                fit.append(target)
        if extras is not NO_EXTRAS:
            fit = _heed(fit, extras, skipped)
        chosen += [(target, leg.route) for target in fit]
    for target, _ in chosen[TARGETS_MAX:]:
        skipped.append(Skipped(target, f"{TARGETS_MAX} targets are the most one request tries", Reason.LIMIT))
    return chosen[:TARGETS_MAX], skipped


def _heed(fit: list[Target], extras: Extras, skipped: list[Skipped]) -> list[Target]:
    """Order one model's targets as the client wishes; without fallbacks, and no order, only its first one is used."""
    wanted = extras.preferences
    ordered = sort_direct(fit, wanted)
    if wanted.allow_fallbacks or wanted.order:
        return ordered
    skipped += [Skipped(target, "`provider.allow_fallbacks` is false", Reason.CONDITION) for target in ordered[1:]]
    return ordered[:1]


@dataclass(frozen=True, slots=True)
class _Request:
    """What all candidates of a plan share."""

    body: Mapping[str, Any]
    principal: Principal
    extras: Extras
    defaults: Timeouts
    is_limited: bool


def _candidate(target: Target, route: Route, request: _Request) -> Candidate:
    given, defaults, extras = target.timeouts, request.defaults, request.extras
    middle_out = _who_cuts(target, route, extras)
    written = write_body(request.body, target, request.principal, extras, middle_out=middle_out)
    return Candidate(
        target=target,
        body=hold_to_price(written.body, target, extras) if request.is_limited else written.body,
        clocks=clocks(
            connect_s=given.connect_s or defaults.connect_s,
            first_token_s=given.first_token_s or defaults.first_token_s,
            idle_s=given.idle_s or defaults.idle_s,
            total_s=given.total_s or defaults.total_s,
            is_stream=request.body.get("stream") is True,
        ),
        dropped=written.dropped,
        middle_out=middle_out,
        transforms=BY_OPENROUTER if middle_out == "theirs" else None,
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
