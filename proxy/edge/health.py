"""Whether the gateway is well (floor 5), told without a key: no names, no error text, and no upstream is called.

Any worker answers for all of them. The table shown is its own; it is stale when any worker's is.
With the admin key it names the providers and says how each target has been doing.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from proxy.edge.answers import iso_time, json_response
from proxy.edge.services import Services
from proxy.errors import LedgerUnavailable
from proxy.health import TargetHealth
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

    async def show(self, request: Request) -> Response:
        """`GET /health`, `/health/ready`: 503 when nothing can be served, 200 otherwise; more with the admin key."""
        status = await self._status()
        more = {"providers": self._providers()} if self._services.guard.holds(request) else {}
        return json_response({**self._body(status), **more}, status=503 if status == "down" else 200)

    async def show_live(self, _request: Request) -> Response:
        """`GET /health/live`: this process answers; restarting it would not help a ledger that is away."""
        return json_response(self._body("ok"))

    def _body(self, status: str) -> dict[str, object]:
        routes = self._services.routes
        config = {"id": routes.current.id, "loaded_at": iso_time(routes.loaded_at_s), "stale": self._is_stale()}
        return {"status": status, "version": self._services.version, "config": config}

    def _providers(self) -> dict[str, dict[str, object]]:
        """Tell of every provider whether it is ready, and how its targets have been doing in this process."""
        table, health = self._services.routes.current, self._services.health
        shown: dict[str, dict[str, object]] = {}
        for route in (*table.routes.values(), *table.globs):
            for target in route.targets:
                provider = target.provider
                entry = shown.setdefault(
                    provider.name, {"ready": provider.not_ready is None, "reason": provider.not_ready, "targets": {}}
                )
                known = health.find(target.account_name)
                targets = entry["targets"]
                assert isinstance(targets, dict), "made above"
                if known is not None:
                    targets[target.model] = _target_object(known)
        return shown

    async def _status(self) -> str:
        try:
            async with asyncio.timeout(LEDGER_WAIT_S):
                await self._services.ledger.find_key(NOBODY)
        except (LedgerUnavailable, TimeoutError):
            return "down"
        if not self._services.ledger.is_writable:
            return "down"
        board = self._services.board
        is_whole = board.is_complete and not board.has_refused_keys and not _has_unready(self._services.routes.current)
        return "ok" if is_whole and not self._is_stale() else "degraded"

    def _is_stale(self) -> bool:
        return self._services.routes.is_stale or self._services.board.is_stale


def _target_object(known: TargetHealth) -> dict[str, object]:
    return {
        "successes": known.successes,
        "failures": known.failures,
        "consecutive_failures": known.consecutive_failures,
        "last_failure": known.last_failure,
        "last_failure_at": iso_time(known.last_failure_at_s),
        "last_first_token_ms": known.last_first_token_ms,
    }


def _has_unready(table: Table) -> bool:
    """Tell whether a provider that some model would use cannot be called."""
    routes = (*table.routes.values(), *table.globs)
    return any(target.provider.not_ready for route in routes for target in route.targets)
