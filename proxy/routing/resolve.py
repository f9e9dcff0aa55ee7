"""From the name a client asks for to a route and its targets (floor 1b, pure; design.md section 5)."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from proxy.errors import ClientError, NotFound, PermissionRefused
from proxy.pricing import ModelFacts
from proxy.routing.principal import Principal, fill
from proxy.routing.table import Dialect, Route, Table, Target

SUFFIXES = ("free", "nitro", "floor", "exacto", "online", "extended", "thinking", "batch")
"""Known variants of OpenRouter ids; any other colon belongs to the name."""
DROPPED_SUFFIXES = frozenset({"nitro", "floor", "exacto"})
"""Only an order among OpenRouter's own endpoints: a direct target serves the same model without it."""
NEAR_NAMES_MAX = 3
NEAR_SEARCHED_MAX = 50
"""So many names are compared letter by letter, which is slow; of more, those that share most pairs of letters."""

Facts = Callable[[str, str], ModelFacts]
"""The catalogue's look-up: (provider, model) to facts."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A client's `model`, understood."""

    asked: str
    """As asked for, `@preset/` taken off."""
    route: Route
    targets: tuple[Target, ...]
    """With the glob's `*` filled in and the suffix applied."""
    skipped: tuple[tuple[Target, str], ...] = ()
    """Targets that cannot serve the suffix, and why."""


def resolve(model: str | None, *, principal: Principal, table: Table, facts: Facts) -> Resolved:
    """Find the route for a client's `model`.

    Raises `ClientError` without any model, `PermissionRefused` for a name the key may not ask for, `NotFound` with the
    nearest names it may ask for.
    """
    asked = model or principal.default_model or table.default_model
    if asked is None:
        msg = "No `model` was sent and no default_model is set; name one of the models of GET /v1/models."
        raise ClientError(msg, param="model")
    asked = asked.removeprefix("@preset/")
    route, suffix, star = _find(asked, table)
    if route is None:
        near = near_names(asked, principal, table)
        msg = f"The model '{shown(asked)}' does not exist.{near_text(near)}"
        raise NotFound(msg, param="model", metadata={"near": near})
    if model and not principal.may_ask(asked):
        near = near_names(asked, principal, table)
        msg = f"This key may not ask for the model '{shown(asked)}'.{near_text(near)}"
        raise PermissionRefused(msg, param="model")
    return _apply(asked, route, suffix=suffix, star=star, facts=facts)


def near_names(asked: str, principal: Principal, table: Table) -> list[str]:
    """Give the aliases most like `asked` among those the key may ask for."""
    asked = asked[:200]
    names = [name for name in table.routes if principal.may_ask(name)]
    if len(names) > NEAR_SEARCHED_MAX:
        pairs = _pairs(asked)
        names = heapq.nlargest(NEAR_SEARCHED_MAX, names, key=lambda name: len(pairs & _pairs(name)))
    return difflib.get_close_matches(asked, names, n=NEAR_NAMES_MAX, cutoff=0.5)


def shown(name: str) -> str:
    """Make a client's text fit for a message: printable and short."""
    return "".join(char if char.isprintable() else "?" for char in name[:100])


def _pairs(name: str) -> set[str]:
    """Give the pairs of neighbouring characters: names alike share many of them."""
    return {first + second for first, second in pairwise(name)}


def near_text(near: list[str]) -> str:
    """Put the nearest names into a question; empty without any."""
    return f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""


def _find(asked: str, table: Table) -> tuple[Route | None, str, str]:
    """Look up exact, then without a known suffix, then globs; gives the route, the suffix split off, the `*`."""
    if (route := table.routes.get(asked)) is not None:
        return route, "", ""
    stem, colon, suffix = asked.rpartition(":")
    if colon and suffix in SUFFIXES and (route := table.routes.get(stem)) is not None:
        return route, suffix, ""
    for glob in table.globs:
        if (star := fill(glob.name, asked)) is not None:
            return glob, "", star
    return None, "", ""


def _apply(asked: str, route: Route, *, suffix: str, star: str, facts: Facts) -> Resolved:
    if not suffix and not route.is_glob:
        return Resolved(asked, route, route.targets)
    targets: list[Target] = []
    skipped: list[tuple[Target, str]] = []
    for target in route.targets:
        filled = _fill_star(target, star, facts) if "*" in target.model else target
        carried = suffix or (_suffix_of(star) if filled is not target else "")
        if carried and filled.provider.dialect is not Dialect.OPENROUTER and carried not in DROPPED_SUFFIXES:
            skipped.append((filled, f"`:{carried}` exists only at OpenRouter"))
        else:
            targets.append(_with_suffix(filled, suffix, carried, facts))
    return Resolved(asked, route, tuple(targets), tuple(skipped))


def _suffix_of(name: str) -> str:
    _, colon, suffix = name.rpartition(":")
    return suffix if colon and suffix in SUFFIXES else ""


def _with_suffix(target: Target, suffix: str, carried: str, facts: Facts) -> Target:
    """Add the suffix split off the alias for OpenRouter; take one that came in through a `*` off for anyone else."""
    if target.provider.dialect is Dialect.OPENROUTER:
        model = f"{target.model}:{suffix}" if suffix else target.model
    else:
        model = target.model.removesuffix(f":{carried}") if carried and not suffix else target.model
    if model == target.model:
        return target
    priced_here = target.facts.prices is not None and target.facts.prices.source == "routes.yaml"
    found = facts(target.provider.name, model)
    return replace(target, model=model, facts=target.facts if priced_here else merge_facts(found, target.facts))


def _fill_star(target: Target, star: str, facts: Facts) -> Target:
    """Put the matched text in the target's `*`; what the file says of it wins over the catalogue, field by field."""
    model = target.model.replace("*", star, 1)
    return replace(target, model=model, facts=merge_facts(target.facts, facts(target.provider.name, model)))


def merge_facts(first: ModelFacts, then: ModelFacts) -> ModelFacts:
    """Take each field from `first`, and from `then` where `first` does not know it."""
    return ModelFacts(
        prices=first.prices or then.prices,
        context_tokens=first.context_tokens or then.context_tokens,
        output_tokens_max=first.output_tokens_max or then.output_tokens_max,
        capabilities={**then.capabilities, **first.capabilities},
    )
