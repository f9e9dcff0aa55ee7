"""What a key may ask for (floor 5): aliases of the table, and what its globs let through as far as it is known.

An offer's context and price are those of the target that would be tried first. Which target that is, `routing` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from proxy.edge.services import Services
from proxy.errors import NotFound, PermissionRefused
from proxy.pricing import ModelFacts
from proxy.routing.principal import Principal, fill
from proxy.routing.resolve import near_names, near_text, resolve, shown
from proxy.routing.table import Provider, Route, Table, Target

LISTED_MAX = 5_000
"""Models in one list; the globs of an operator can let through more than any client can show."""

_UNKNOWN = ModelFacts()


@dataclass(frozen=True, slots=True)
class Offer:
    """One name a key may ask for."""

    name: str
    targets: tuple[Target, ...]
    """In the order to try; those that are not ready are among them."""

    @property
    def first(self) -> Target | None:
        """Give the target that would be tried first: the first ready one, else the first."""
        return next((target for target in self.targets if target.provider.not_ready is None), None) or next(
            iter(self.targets), None
        )

    @property
    def facts(self) -> ModelFacts:
        """Give what is known of that target."""
        first = self.first
        return _UNKNOWN if first is None else first.facts


def list_offers(principal: Principal, table: Table, services: Services) -> list[Offer]:
    """List what a key may ask for: aliases in the order of the file, then what globs let through."""
    names: dict[str, None] = dict.fromkeys(name for name in table.routes if principal.may_ask(name))
    for name in _let_through(table, services):
        if len(names) >= LISTED_MAX:
            break
        if principal.may_ask(name):
            names[name] = None
    return [_resolve(name, principal, table, services) for name in names]


def find_offer(name: str, principal: Principal, table: Table, services: Services) -> Offer:
    """Give one of them, also one that only a glob knows.

    Raises `NotFound` with the nearest names the key may ask for; a name it may not ask for is not there for it either.
    """
    try:
        return _resolve(name, principal, table, services)
    except PermissionRefused as refused:
        near = near_names(name, principal, table)
        msg = f"The model '{shown(name)}' does not exist.{near_text(near)}"
        raise NotFound(msg, param="model", metadata={"near": near}) from refused


def list_providers(principal: Principal, table: Table) -> list[Provider]:
    """List the providers that are ready and that something the key may ask for leads to, in the order of the table."""
    routes = [route for route in (*table.routes.values(), *table.globs) if _may_reach(principal, route)]
    reached = {target.provider.name for route in routes for target in route.targets}
    return [one for one in table.providers.values() if one.name in reached and one.not_ready is None]


def _resolve(name: str, principal: Principal, table: Table, services: Services) -> Offer:
    return Offer(name, resolve(name, principal=principal, table=table, facts=services.facts).targets)


def _let_through(table: Table, services: Services) -> Iterator[str]:
    """Give the names globs would pass on to models their provider is known to have."""
    for glob in table.globs:
        ready = [target for target in glob.targets if target.provider.not_ready is None and "*" in target.model]
        for target in ready:
            for model in services.known_models(target.provider.name):
                star = fill(target.model, model)
                if star is not None:
                    yield glob.name.replace("*", star, 1)


def _may_reach(principal: Principal, route: Route) -> bool:
    """Tell whether a key may ask for some name of a route; two globs may meet when one's beginning begins the other."""
    if not route.is_glob:
        return principal.may_ask(route.name)
    head = route.name.partition("*")[0]
    return all(any(_may_meet(pattern, route.name, head) for pattern in names) for names in principal.lists)


def _may_meet(pattern: str, glob: str, head: str) -> bool:
    beginning, star, _ = pattern.partition("*")
    if not star:
        return fill(glob, pattern) is not None
    return beginning.startswith(head) or head.startswith(beginning)
