"""The quiet endpoints over the in-memory ledger, with a few keys, models and bookings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal

import httpx
from starlette.applications import Starlette

from proxy.clock import ManualClock
from proxy.edge.auth import Authenticator
from proxy.edge.guard import Guard
from proxy.edge.routes import build_routes, handle_failure
from proxy.edge.services import Services
from proxy.edge.tenancy import Tenancy
from proxy.health import Health
from proxy.ledger.folder import digest_key
from proxy.ledger.memory import MemoryLedger
from proxy.ledger.records import Admission, Admitted, AttemptEnd, AttemptStart, AttemptState, KeyRecord, Settlement
from proxy.pricing import ModelFacts, Prices
from proxy.routing.table import Catalogue, Dialect, Provider, Route, Table, Target
from proxy.telemetry import Board
from proxy.usage import CostSource, Usage
from proxy.vault import Vault

PEPPER = b"p" * 32
ADMIN_KEY = "sk-tp-admin-of-the-desk"
SECRET_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
NOW_S = 1_795_000_000.0
"""2026-11-18T11:06:40Z, a Wednesday."""

CHEAP = Prices(Decimal("0.15"), Decimal("0.6"), cache_read=Decimal("0.075"), source="test", as_of="2026-11-01")
SIM = Provider("sim", Dialect.SIMULATED)
ROUTER = Provider("openrouter", Dialect.OPENROUTER, base_url="https://openrouter.ai/api/v1")
UNREADY = Provider("openai", Dialect.OPENAI, not_ready="OPENAI_API_KEY is not set")


def a_table() -> Table:
    """Three aliases and a glob."""
    chat = Route("chat", (Target(UNREADY, "gpt"), Target(SIM, "echo", ModelFacts(CHEAP, 128_000, 16_384))))
    return Table(
        id="0123456789ab",
        providers={"sim": SIM, "openrouter": ROUTER, "openai": UNREADY},
        routes={
            "chat": chat,
            "free": Route("free", (Target(SIM, "echo"),)),
            "direct": Route("direct", (Target(UNREADY, "gpt"),)),
        },
        globs=(Route("or/*", (Target(ROUTER, "*"),)),),
    )


def an_authenticator(ledger: MemoryLedger, clock: ManualClock) -> Authenticator:
    """Make one that can read stored credentials."""
    return Authenticator(ledger, pepper=PEPPER, clock=clock, tenancy=Tenancy(Vault(SECRET_KEY)))


@dataclass
class Holder:
    """What `files.RoutesFile` is to the endpoints."""

    current: Table = field(default_factory=a_table)
    is_stale: bool = False
    loaded_at_s: float = NOW_S - 60


class Desk:
    """A server without a port."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW_S)
        self.ledger = MemoryLedger(clock=self.clock)
        self.holder = Holder()
        catalogue = Catalogue({"openrouter": {"meta/llama": ModelFacts(CHEAP, 8_192), "x/y:free": ModelFacts()}})
        self.services = Services(
            ledger=self.ledger,
            routes=self.holder,
            authenticator=an_authenticator(self.ledger, self.clock),
            clock=self.clock,
            health=Health(),
            started_at_s=NOW_S - 3600,
            version="0.1.0",
            guard=Guard(ADMIN_KEY, registry=self.ledger.registry, clock=self.clock),
            vault=Vault(SECRET_KEY),
            facts=catalogue.find,
            known_models=catalogue.list_models,
        )
        self._serve()

    def reopen(self, ledger: MemoryLedger) -> None:
        """Serve from another owner's view of the books."""
        self.ledger = ledger
        guard = Guard(ADMIN_KEY, registry=ledger.registry, clock=self.clock)
        authenticator = an_authenticator(ledger, self.clock)
        self.services = replace(self.services, ledger=ledger, authenticator=authenticator, guard=guard)
        self._serve()

    def share(self, board: Board) -> None:
        """Serve as one of several workers."""
        self.services = replace(self.services, board=board)
        self._serve()

    def _serve(self) -> None:
        app = Starlette(routes=build_routes(self.services), exception_handlers={Exception: handle_failure})
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://gateway")

    async def add_key(self, name: str = "mobile", **fields: object) -> str:
        """Make a key; gives it."""
        key = f"sk-tp-{name}"
        record = KeyRecord(name=name, digest=digest_key(PEPPER, key), created_at_s=NOW_S)
        assert await self.ledger.create_key(replace(record, **fields))  # type: ignore[arg-type]
        return key

    async def book(
        self,
        key: str = "mobile",
        *,
        cost: int | None = 1_500_000,
        provider: str = "sim",
        error: str | None = None,
        ago_s: float = 0.0,
        app: str | None = None,
    ) -> None:
        """Write one request of one attempt."""
        at_s = self.clock.now_s() - ago_s
        request_id = await self.hold(key, provider=provider, at_s=at_s, app=app)
        end = AttemptEnd(
            number=1,
            state=AttemptState.POSTED,
            cost_nano_usd=cost,
            cost_source=CostSource.UNKNOWN if cost is None else CostSource.COMPUTED,
            usage=Usage(input_tokens=100, output_tokens=20, cached_tokens=40, reasoning_tokens=5),
            status=200,
            error=error,
            latency_ms=900,
            first_token_ms=150,
        )
        assert await self.ledger.settle(Settlement(request_id, (end,), at_s))

    async def hold(self, key: str, *, provider: str, at_s: float, app: str | None = None) -> str:
        """Begin one, held at 0.01 USD; gives its id."""
        start = AttemptStart(1, provider, "echo", 10_000_000)
        admitted = await self.ledger.admit(
            Admission("req", key, 1, tenant=None, route="chat", app=app, is_stream=True, at_s=at_s, attempts=(start,))
        )
        assert isinstance(admitted, Admitted)
        return admitted.request_id

    async def get(self, path: str, key: str | None = "sk-tp-mobile", **headers: str) -> httpx.Response:
        """Ask with a key."""
        given = {"authorization": f"Bearer {key}", **headers} if key else headers
        return await self.http.get(path, headers=given)
