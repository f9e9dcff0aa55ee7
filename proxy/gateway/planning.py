"""Plans, made anew or filled in (part of the gateway, floor 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.routing.outlines import Outline, fill_in, fits, make_outline, outline_key
from proxy.routing.plan import Plan, make_plan
from proxy.routing.principal import Principal
from proxy.routing.resolve import Facts
from proxy.routing.table import Table

OUTLINES_MAX = 4_096
"""Of one table; behind a glob a client chooses the names, so there must be an end. They are then begun anew."""


class Planner:
    """Makes plans, and remembers what of them depends on nothing but table, key and model."""

    def __init__(self, facts: Facts) -> None:
        """Plan with the catalogue's facts."""
        self._facts = facts
        self._table: Table | None = None
        self._outlines: dict[tuple[Any, ...], Outline] = {}

    def plan(self, body: Mapping[str, Any], principal: Principal, table: Table) -> Plan:
        """Plan a request; raises `RequestError` as `make_plan` does."""
        if table is not self._table:
            self._table = table
            self._outlines.clear()
        key = outline_key(body, principal)
        known = self._outlines.get(key)
        if known is not None and fits(known.telling, body):
            return fill_in(known.plan, body)
        plan = make_plan(body, principal=principal, table=table, facts=self._facts)
        if known is None and (outline := make_outline(plan, body, principal)) is not None:
            if len(self._outlines) >= OUTLINES_MAX:
                self._outlines.clear()
            self._outlines[key] = outline
        return plan
