"""Plans, made anew or filled in (part of the gateway, floor 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.routing.outlines import Outline, fill_in, fits, make_outline, outline_key
from proxy.routing.plan import Plan, make_plan
from proxy.routing.principal import Principal
from proxy.routing.resolve import Facts
from proxy.routing.table import Table

TABLES_MAX = 64
"""Tables whose outlines are kept: the one in force, and tenants' views of it. They are then begun anew."""
OUTLINES_MAX = 4_096
"""Of one table; behind a glob a client chooses the names, so there must be an end. They are then begun anew."""


class Planner:
    """Makes plans, and remembers what of them depends on nothing but table, key and model."""

    def __init__(self, facts: Facts) -> None:
        """Plan with the catalogue's facts."""
        self._facts = facts
        self._outlines: dict[int, tuple[Table, dict[tuple[Any, ...], Outline]]] = {}
        """By the identity of the table, which is kept beside them: every tenant with accounts of its own has one."""

    def plan(self, body: Mapping[str, Any], principal: Principal, table: Table) -> Plan:
        """Plan a request; raises `RequestError` as `make_plan` does."""
        outlines = self._outlines_of(table)
        key = outline_key(body, principal)
        known = outlines.get(key)
        if known is not None and fits(known.telling, body):
            return fill_in(known.plan, body)
        plan = make_plan(body, principal=principal, table=table, facts=self._facts)
        if known is None and (outline := make_outline(plan, body, principal)) is not None:
            if len(outlines) >= OUTLINES_MAX:
                outlines.clear()
            outlines[key] = outline
        return plan

    def _outlines_of(self, table: Table) -> dict[tuple[Any, ...], Outline]:
        known = self._outlines.get(id(table))
        if known is None:
            if len(self._outlines) >= TABLES_MAX:
                self._outlines.clear()
            known = self._outlines[id(table)] = (table, {})
        return known[1]
