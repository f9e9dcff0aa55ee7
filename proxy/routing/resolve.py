"""From the name a client asks for to a route and its targets (floor 1b, pure; design.md section 5)."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from proxy.errors import ClientError, NotFound, PermissionRefused
from proxy.pricing import ModelFacts
from proxy.routing.principal import Principal, fill
from proxy.routing.table import Dialect, Provider, Route, Table, Target

SUFFIXES = ("free", "nitro", "floor", "exacto", "online", "extended", "thinking", "batch")
"""Known variants of OpenRouter ids; any other colon belongs to the name."""
DROPPED_SUFFIXES = frozenset({"nitro", "floor", "exacto"})
"""Only an order among OpenRouter's own endpoints: a direct target serves the same model without it."""
NEAR_NAMES_MAX = 3
NEAR_SEARCHED_MAX = 50
"""So many names are compared letter by letter, which is slow; of more, those that share most pairs of letters."""

Facts = Callable[[str, str], ModelFacts]
"""The catalogue's look-up: (provider, model) to facts."""


class Resolved(NamedTuple):
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
    named = asked.removeprefix("@preset/")
    if named is not asked and is_alias(named, table):
        asked = named  # any other preset is OpenRouter's, and goes there by its whole name
    route, suffix, star = _find(asked, table)
    if route is None:
        near = near_names(asked, principal, table)
        msg = f"The model '{shown(asked)}' does not exist.{near_text(near)}"
        raise NotFound(msg, param="model", metadata={"near": near})
    if model and not principal.may_ask(asked):
        near = near_names(asked, principal, table)
        msg = f"This key may not ask for the model '{shown(asked)}'.{near_text(near)}"
        raise PermissionRefused(msg, param="model")
    if not suffix and not route.is_glob:
        return Resolved(asked, route, route.targets)
    filled = _fill(route, star, table, facts) if route.is_glob else tuple((target, suffix) for target in route.targets)
    return _apply(asked, route, filled, suffix=suffix, facts=facts)


def with_backups(targets: Sequence[Target], providers: Mapping[str, Provider], facts: Facts) -> Iterator[Target]:
    """Give a chain, behind each target that wants one the same model at its maker, unless the chain names that too."""
    named = {target.name.lower() for target in targets}
    for target in targets:
        yield target
        backup = _find_backup(target, providers, facts) if target.wants_backup else None
        if backup is not None and backup.name.lower() not in named:
            named.add(backup.name.lower())
            yield backup


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


def is_alias(name: str, table: Table) -> bool:
    """Tell whether a name is one of the table's own, with or without a known suffix."""
    stem, colon, suffix = name.rpartition(":")
    return name in table.routes or (bool(colon) and suffix in SUFFIXES and stem in table.routes)


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


def _fill(route: Route, star: str, table: Table, facts: Facts) -> tuple[tuple[Target, str], ...]:
    """Put what the `*` stood for into a glob's targets; gives each with the suffix that came in with it."""
    filled = [_fill_star(target, star, facts) if "*" in target.model else target for target in route.targets]
    fixed = {id(target) for target in route.targets}
    pairs: list[tuple[Target, str]] = []
    carried = ""
    for target in with_backups(filled, table.providers, facts):
        if not target.is_backup:  # a backup carries what the target before it does
            carried = "" if id(target) in fixed else _suffix_of(star)
        pairs.append((target, carried))
    return tuple(pairs)


def _apply(asked: str, route: Route, filled: tuple[tuple[Target, str], ...], *, suffix: str, facts: Facts) -> Resolved:
    """Apply to each target the suffix it came with; `suffix` is one split off the alias."""
    targets: list[Target] = []
    skipped: list[tuple[Target, str]] = []
    for target, carried in filled:
        is_direct = target.provider.dialect is not Dialect.OPENROUTER and not target.provider.is_static
        if carried and is_direct and carried not in DROPPED_SUFFIXES:
            skipped.append((target, f"`:{carried}` exists only at OpenRouter"))
        else:
            targets.append(_with_suffix(target, suffix, carried, facts))
    return Resolved(asked, route, tuple(targets), tuple(skipped))


def _find_backup(target: Target, providers: Mapping[str, Provider], facts: Facts) -> Target | None:
    """Find the same model at its maker: of several who serve it the first that is ready, else the first."""
    direct = target.facts.capabilities.get("direct", ())
    assert isinstance(direct, tuple)
    named = [
        (providers[name], model) for name, _, model in (text.partition("/") for text in direct) if name in providers
    ]
    if not named:
        return None
    provider, model = next((pair for pair in named if pair[0].not_ready is None), named[0])
    found = _look_up(provider, model, facts)
    return replace(
        target,
        provider=provider,
        model=model,
        facts=replace(found, prices=provider.price or found.prices),
        wants_backup=False,
        is_backup=True,
    )


def _look_up(provider: Provider, model: str, facts: Facts) -> ModelFacts:
    return facts(provider.catalogue_name or provider.name, model)


def _suffix_of(name: str) -> str:
    _, colon, suffix = name.rpartition(":")
    return suffix if colon and suffix in SUFFIXES else ""


def _with_suffix(target: Target, suffix: str, carried: str, facts: Facts) -> Target:
    """Add the suffix split off the alias for OpenRouter; take one that came in through a `*` off for anyone else."""
    if target.provider.dialect is Dialect.OPENROUTER:
        model = f"{target.model}:{suffix}" if suffix and _suffix_of(target.model) != suffix else target.model
    else:
        model = target.model.removesuffix(f":{carried}") if carried and not suffix else target.model
    if model == target.model:
        return target
    priced_here = target.facts.prices is not None and target.facts.prices.is_declared
    found = _look_up(target.provider, model, facts)
    return replace(target, model=model, facts=target.facts if priced_here else merge_facts(found, target.facts))


def _fill_star(target: Target, star: str, facts: Facts) -> Target:
    """Put the matched text in the target's `*`; what the file says of it wins over the catalogue, field by field."""
    model = target.model.replace("*", star, 1)
    return replace(target, model=model, facts=merge_facts(target.facts, _look_up(target.provider, model, facts)))


def merge_facts(first: ModelFacts, then: ModelFacts) -> ModelFacts:
    """Take each field from `first`, and from `then` where `first` does not know it."""
    return ModelFacts(
        prices=first.prices or then.prices,
        context_tokens=first.context_tokens or then.context_tokens,
        output_tokens_max=first.output_tokens_max or then.output_tokens_max,
        capabilities={**then.capabilities, **first.capabilities},
    )
