"""Whether the gateway is well (floor 5), told without a key: no names, no error text, and no upstream is called."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from proxy.edge.answers import iso_time, json_response
from proxy.edge.services import Services
from proxy.errors import LedgerUnavailable
from proxy.routing.table import Table

LEDGER_WAIT_S = 1.0
"""A ledger that takes longer to answer one look-up is down."""
NOBODY = "0" * 64
"""A digest no key has: the cheapest question to the ledger."""


class Health:
    """The endpoints."""

    def __init__(self, services: Services) -> None:
        """Answer from these."""
        self._services = services

    async def show(self, _request: Request) -> Response:
        """`GET /health`, `/health/ready`: 503 when nothing can be served, 200 otherwise."""
        status = await self._status()
        return json_response(self._body(status), status=503 if status == "down" else 200)

    async def show_live(self, _request: Request) -> Response:
        """`GET /health/live`: this process answers; restarting it would not help a ledger that is away."""
        return json_response(self._body("ok"))

    def _body(self, status: str) -> dict[str, object]:
        routes = self._services.routes
        config = {"id": routes.current.id, "loaded_at": iso_time(routes.loaded_at_s), "stale": routes.is_stale}
        return {"status": status, "version": self._services.version, "config": config}

    async def _status(self) -> str:
        try:
            async with asyncio.timeout(LEDGER_WAIT_S):
                await self._services.ledger.find_key(NOBODY)
        except (LedgerUnavailable, TimeoutError):
            return "down"
        if not self._services.ledger.is_writable:
            return "down"
        routes = self._services.routes
        return "degraded" if routes.is_stale or _has_unready(routes.current) else "ok"


def _has_unready(table: Table) -> bool:
    """Tell whether a provider that some model would use cannot be called."""
    routes = (*table.routes.values(), *table.globs)
    return any(target.provider.not_ready for route in routes for target in route.targets)
