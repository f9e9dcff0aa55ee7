"""What the quiet endpoints draw on (floor 5): everything but chat, which has the gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from starlette.requests import Request

from proxy.clock import Clock
from proxy.edge.auth import Authenticator
from proxy.edge.guard import Guard
from proxy.errors import Unauthenticated
from proxy.health import Health
from proxy.ledger.protocol import Ledger
from proxy.routing.principal import Principal
from proxy.routing.resolve import Facts
from proxy.routing.table import Table
from proxy.telemetry import Board
from proxy.vault import Vault


class Routes(Protocol):
    """The holder of the routing table in force; `files.RoutesFile` is one."""

    @property
    def current(self) -> Table:
        """Give the table in force."""
        ...

    @property
    def is_stale(self) -> bool:
        """Tell whether the file says something else than the table in force."""
        ...

    @property
    def loaded_at_s(self) -> float:
        """Tell since when it is in force, seconds since the epoch."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """The collaborators of the endpoints, made once by `app`."""

    ledger: Ledger
    routes: Routes
    authenticator: Authenticator
    clock: Clock
    health: Health
    """How each target has been doing in this process."""
    started_at_s: float
    """Seconds since the epoch."""
    version: str
    facts: Facts
    """The catalogue's look-up."""
    guard: Guard
    """Knows the admin key."""
    vault: Vault
    """Encrypts credentials that are stored."""
    known_models: Callable[[str], Iterable[str]]
    """Ids the catalogue knows of a provider, to show what a glob lets through."""
    board: Board = field(default_factory=Board)
    """What the workers of this server know of each other."""

    async def identify(self, headers: list[tuple[bytes, bytes]]) -> Principal:
        """Tell who asks, from the ledger; raises `Unauthenticated`, `ClientError` or `LedgerUnavailable`."""
        return await self.authenticator.authenticate(headers, self.routes.current)

    async def find_whose(self, request: Request) -> str | None:
        """Tell whose figures a request may see: its own key's by name; None, which is everybody's, for the admin key.

        Raises as `identify`, and `RateLimited` for an address that guesses.
        """
        if self.guard.holds(request):
            return None
        self.guard.refuse_guessers(request)
        try:
            return (await self.identify(request.scope["headers"])).name
        except Unauthenticated as error:
            if error.code == Unauthenticated.code:
                self.guard.count_failure(request)
            raise

    def table_for(self, principal: Principal) -> Table:
        """Give the table as the principal's tenant sees it."""
        return principal.view or self.routes.current
