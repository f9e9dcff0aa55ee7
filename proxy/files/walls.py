"""Named targets whose price must be known, because a limit in money stands before them (part of `files`, floor 2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from proxy.files.chains import Chain
from proxy.files.problems import Problems
from proxy.policy.limits import NO_LIMITS
from proxy.policy.scopes import GLOBAL
from proxy.routing.principal import matches
from proxy.routing.table import DeclaredKey, Table, Target, Tenant

Allowed = tuple[str, ...] | None
"""Names and globs that may be asked for; None is all."""


class _Wall(NamedTuple):
    """A limit in money, and the models it may stand before."""

    said: str
    """`the budget of key mobile`."""
    names: Allowed
    tenants: Allowed = None
    """What its tenant lets it ask for: both must."""


def check_prices(table: Table, chains: Mapping[str, Chain], problems: Problems) -> None:
    """Note named targets without a price that a wall may stand before; a glob's are a matter of the request."""
    walls = _Walls(table)
    for name, route in table.routes.items():
        wall = walls.find(name)
        written = [target for target in route.targets if not target.is_backup]
        for leg, target in zip(chains[name].legs, written, strict=True):
            if target.facts.prices is None and "*" not in target.model:
                said = wall or _of_place(table, f"provider:{target.provider.name}")
                if said is not None:
                    problems.add(leg.place, _say_no_price(target, said))


class _Walls:
    """The walls of a table, by what is asked for."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._everything: str | None = None
        self._exact: dict[str, str] = {}
        self._patterns: dict[tuple[str, Allowed], str] = {}
        for wall in _list_walls(table):
            if wall.names is None:
                self._everything = self._everything or wall.said
            for name in wall.names or ():
                self._add(name, wall)

    def find(self, model: str) -> str | None:
        """Say which wall stands before a model of the file, None when none does."""
        return (
            self._everything
            or self._exact.get(model)
            or _of_place(self._table, f"model:{model}")
            or next((said for (glob, also), said in self._patterns.items() if _may_ask(model, (glob,), also)), None)
        )

    def _add(self, name: str, wall: _Wall) -> None:
        if "*" in name:
            self._patterns.setdefault((name, wall.tenants), wall.said)
        elif _may_ask(name, wall.tenants):
            self._exact.setdefault(name, wall.said)


def _list_walls(table: Table) -> Iterator[_Wall]:
    if table.limits.get(GLOBAL, NO_LIMITS).has_hard_budget:
        yield _Wall("the budget of the whole gateway", None)
    for group in table.tenants.values():
        if said := _of_holder(table, f"tenant:{group.name}", group):
            yield _Wall(said, group.models)
    for key in table.keys:
        if said := _of_holder(table, f"key:{key.name}", key):
            tenant = table.tenants.get(key.tenant or "")
            of_tenant = tenant.models if tenant is not None else None
            yield _Wall(said, of_tenant) if key.models is None else _Wall(said, key.models, of_tenant)


def _of_holder(table: Table, place: str, holder: Tenant | DeclaredKey) -> str | None:
    said = _of_place(table, place)
    if said is None and holder.max_cost_nano_usd is not None:
        return f"the max_cost of {_spell(place)}"
    return said


def _of_place(table: Table, place: str) -> str | None:
    limits = table.limits.get(place)
    return f"the budget of {_spell(place)}" if limits is not None and limits.has_hard_budget else None


def _spell(place: str) -> str:
    kind, _, name = place.partition(":")
    return f"{kind} `{name}`"


def _may_ask(model: str, *lists: Allowed) -> bool:
    return all(names is None or any(matches(pattern, model) for pattern in names) for names in lists)


def _say_no_price(target: Target, said: str) -> str:
    free = "`price: {input: $0/M, output: $0/M}` when it is free"
    return (
        f"the price of `{target.name}` is not known, and {said} cannot be kept without it;"
        f" give it one: `price: {{input: $1/M, output: $2/M}}`, {free}"
    )
