"""From the models a request names to the targets that may serve it (floor 1b, pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from proxy.errors import ClientError, RequestError
from proxy.routing.eligibility import Reason, Skipped, judge_target, sort_direct
from proxy.routing.extras import FIELDS, IN_NAME, NO_EXTRAS, Extras, read_extras
from proxy.routing.needs import needs_of
from proxy.routing.principal import Principal, lay_over
from proxy.routing.resolve import Facts, Resolved, resolve
from proxy.routing.table import Dialect, Route, Table, Target

TARGETS_MAX = 8
"""Upstream targets, and models of a request, that are tried for it."""


class Choice(NamedTuple):
    """One target that may serve, with what it is asked."""

    target: Target
    route: Route
    """The one of several models' routes that names it."""
    body: Mapping[str, Any]
    """The request over the defaults on the way to this target."""
    extras: Extras
    """As this body says them: defaults of the operator's count like the client's own words."""


def resolve_legs(
    body: Mapping[str, Any], extras: Extras, *, principal: Principal, table: Table, facts: Facts
) -> list[Resolved]:
    """Resolve `model` and then each of `models`: what the client adds is checked as if it were asked for."""
    model = body.get("model")
    if not extras.models:
        return [resolve(model, principal=principal, table=table, facts=facts)]
    legs = [resolve(model, principal=principal, table=table, facts=facts)] if model else []
    names = [name for name in extras.models if name != model]
    if len(names) + len(legs) > TARGETS_MAX:
        raise ClientError(f"`models` may name {TARGETS_MAX} models together with `model`.", param="models")
    for name in names:
        try:
            legs.append(resolve(name, principal=principal, table=table, facts=facts))
        except RequestError as error:
            error.param = "models"
            raise
    return legs


def choose(legs: Sequence[Resolved], body: Mapping[str, Any], extras: Extras) -> tuple[list[Choice], list[Skipped]]:
    """Give the targets that may serve, in the order to try, and those left out."""
    needs = needs_of(body)
    chosen: list[Choice] = []
    skipped: list[Skipped] = []
    named: set[str] = set()
    for leg in legs:
        skipped += [Skipped(target, reason, Reason.SUFFIX) for target, reason in leg.skipped]
        fit: list[Choice] = []
        for target in leg.targets:
            choice = _fill(target, leg.route, body, extras)
            verdict = _judge_preset(leg, target) or judge_target(target, choice.body, choice.extras, needs)
            if verdict is not None:
                skipped.append(verdict)
            elif len(legs) == 1 or target.name not in named:
                named.add(target.name)
                fit.append(choice)
        chosen += _heed(fit, skipped)
    for choice in chosen[TARGETS_MAX:]:
        told = f"{TARGETS_MAX} targets are the most one request tries"
        skipped.append(Skipped(choice.target, told, Reason.LIMIT))
    return chosen[:TARGETS_MAX], skipped


def _judge_preset(leg: Resolved, target: Target) -> Skipped | None:
    """Leave out who cannot know a preset that stands in a model's name."""
    if IN_NAME not in leg.asked or target.provider.dialect is Dialect.OPENROUTER or target.provider.is_static:
        return None
    return Skipped(target, "a preset kept at OpenRouter exists only there", Reason.ONLY_OPENROUTER)


def _fill(target: Target, route: Route, body: Mapping[str, Any], extras: Extras) -> Choice:
    """Lay the request over the target's defaults, and read conditions anew when these hold some."""
    if not target.params:
        return Choice(target, route, body, extras)
    filled = lay_over(target.params, body)
    if FIELDS.isdisjoint(target.params):
        return Choice(target, route, filled, extras)
    own = read_extras({name: value for name, value in filled.items() if name != "models"})
    return Choice(target, route, filled, own._replace(models=extras.models))


def _heed(fit: list[Choice], skipped: list[Skipped]) -> list[Choice]:
    """Order one model's targets as is wished; without fallbacks, and no order, only its first one is used."""
    if not fit or fit[0].extras is NO_EXTRAS:
        return fit
    wanted = fit[0].extras.preferences
    by_name = {choice.target.name: choice for choice in fit}
    ordered = [by_name[target.name] for target in sort_direct([choice.target for choice in fit], wanted)]
    if wanted.allow_fallbacks or wanted.order:
        return ordered
    told = "`provider.allow_fallbacks` is false"
    skipped += [Skipped(choice.target, told, Reason.CONDITION) for choice in ordered[1:]]
    return ordered[:1]
