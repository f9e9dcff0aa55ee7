"""Chains of a file to the routes of a table: facts from the catalogue, defaults, direct backups (part of `files`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile

from proxy.files.chains import TARGETS_MAX, Chain, Leg
from proxy.files.document import Node
from proxy.files.problems import Problems
from proxy.files.schema import DefaultOptions
from proxy.files.values import CONTENT_CHARACTERS_MAX
from proxy.pricing import ModelFacts
from proxy.routing.resolve import with_backups
from proxy.routing.table import Catalogue, Dialect, Provider, Route, Target


@dataclass(frozen=True, slots=True)
class Setting:
    """What the routes of one file share."""

    catalogue: Catalogue
    providers: Mapping[str, Provider]
    defaults: DefaultOptions


def build_routes(
    chains: Mapping[str, Chain], setting: Setting, *, node: Node, problems: Problems
) -> tuple[dict[str, Route], tuple[Route, ...]]:
    """Freeze chains as exact routes and globs, globs with the longest literal prefix first; findings are noted.

    Direct backups are put into exact routes here; those of a glob are found once a request fills its `*`.
    """
    routes = {name: _build_route(name, chain, setting) for name, chain in chains.items()}
    for name, route in routes.items():
        if len(route.targets) > TARGETS_MAX and not chains[name].is_broken:
            message = f"`{name}` comes to more than {TARGETS_MAX} targets with its direct backups; shorten the list"
            problems.add(node.at(name), message)
    globs = [route for route in routes.values() if route.is_glob]
    globs.sort(key=lambda route: (len(route.name.partition("*")[0]), len(route.name)), reverse=True)
    return {name: route for name, route in routes.items() if not route.is_glob}, tuple(globs)


def find_without_maker(routes: Sequence[Route]) -> list[str]:
    """Give the targets that want a direct backup and whose maker's own name for the model nobody knows."""
    wanting = [target for route in routes for target in route.targets if target.wants_backup]
    return [target.name for target in wanting if "*" not in target.model and "direct" not in target.facts.capabilities]


def find_without_openrouter(routes: Sequence[Route], wanting: Iterable[str]) -> list[str]:
    """Give of the models that want direct backups by their own word those without a target at OpenRouter."""
    names = set(wanting)
    return [
        route.name
        for route in routes
        if route.name in names and not any(target.provider.dialect is Dialect.OPENROUTER for target in route.targets)
    ]


def find_unreached(routes: Sequence[Route]) -> dict[str, list[str]]:
    """Give by model the targets behind a fixed answer; a search for a larger context puts that last of all."""
    found: dict[str, list[str]] = {}
    for route in routes:
        behind = dropwhile(lambda target: not target.provider.is_static, route.targets)
        if not route.prefers_larger and (names := [target.name for target in behind][1:]):
            found[route.name] = names
    return found


def _build_route(name: str, chain: Chain, setting: Setting) -> Route:
    defaults = setting.defaults
    targets = tuple(_build_target(leg, setting) for leg in chain.legs)
    transforms = defaults.transforms if chain.transforms is None else chain.transforms.words
    return Route(
        name=name,
        targets=targets if "*" in name else tuple(with_backups(targets, setting.providers, setting.catalogue.find)),
        max_cost_nano_usd=chain.max_cost_nano_usd,
        transforms=None if transforms is None else tuple(dict.fromkeys(transforms)),
        prefers_larger=chain.prefers_larger,
        cache=chain.cache,
    )


def _build_target(leg: Leg, setting: Setting) -> Target:
    provider = leg.provider
    params = {**(setting.defaults.params or {}), **leg.params}
    if provider.is_static:  # free, whatever price the models around it name
        facts = ModelFacts(provider.price, output_tokens_max=CONTENT_CHARACTERS_MAX)
        return Target(provider, leg.model, facts, leg.timeouts, params)
    known = ModelFacts()
    if "*" not in leg.model:
        known = setting.catalogue.find(provider.catalogue_name or provider.name, leg.model)
    facts = replace(
        known,
        prices=leg.prices or provider.price or known.prices,
        context_tokens=leg.context_tokens or known.context_tokens,
    )
    wants_backup = setting.defaults.direct_backup if leg.direct_backup is None else leg.direct_backup
    is_openrouter = provider.dialect is Dialect.OPENROUTER
    return Target(provider, leg.model, facts, leg.timeouts, params, wants_backup=wants_backup and is_openrouter)
