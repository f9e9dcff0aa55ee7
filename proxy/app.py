"""The composition root (floor 6): the only place that names concrete backends and joins them into a gateway.

Opening order is closing order reversed: ledger, upstreams, routing table, jobs; so nothing is used after it is closed.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from proxy import __version__
from proxy.catalogue import load_catalogue
from proxy.clock import Clock, SystemClock
from proxy.codecs.openai import OpenAICodec
from proxy.codecs.wire import Surface, Upstream
from proxy.edge.auth import Authenticator, build_principal, mint_key
from proxy.edge.chat import ChatEndpoint, new_id
from proxy.edge.routes import build_routes, handle_failure
from proxy.edge.server import Asgi, address_of, listen, serve
from proxy.edge.services import Services
from proxy.errors import LedgerUnavailable, RequestError
from proxy.files import RoutesFile, load_table
from proxy.gateway import Asked, Exchange, Line, Service, bound_cheaply
from proxy.health import Health
from proxy.jobs import sweep
from proxy.ledger.folder import digest_key, digest_key_sha256, load_pepper
from proxy.ledger.records import KeyRecord, Ledger
from proxy.ledger.sqlite import SqliteLedger
from proxy.routing.explain import as_json
from proxy.routing.holds import size
from proxy.routing.plan import make_plan
from proxy.routing.principal import Principal
from proxy.routing.table import DeclaredKey, Dialect, Provider, Table
from proxy.simulated import SimulatedUpstream
from proxy.telemetry import Telemetry
from proxy.tokens import warm
from proxy.upstream import AiohttpUpstream

CHAT_PATHS = frozenset({"/v1/chat/completions", "/api/v1/chat/completions"})
"""The hot path: served before any router is asked."""
FIRST_KEY = "first"
"""Name of the key a first start mints."""
OPERATOR_KEY = "turnpike-operator"
"""Name of the key under which `turnpike test` books what it spends; nobody can sign in with it."""
DECLARE_AGAIN_S = 1.0
"""Time between two tries to tell the ledger a new table's keys."""
GC_ALLOCATIONS = 10_000
"""Objects between two collections: requests leave next to no cycles, and Python's 700 cost a tenth of the CPU."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How `turnpike serve` was started."""

    config: Path | None
    """None: routes.yaml of the working folder, if there is one."""
    data: Path
    host: str = "127.0.0.1"
    port: int = 4000
    log_format: str = "json"
    log_level: str = "info"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that is open: its parts, for the edge and the command line."""

    service: Service
    routes: RoutesFile
    ledger: Ledger
    authenticator: Authenticator
    telemetry: Telemetry
    pepper: bytes
    clock: Clock
    known_models: Callable[[str], Iterable[str]]
    """Ids the catalogue knows of a provider."""


class Lines:
    """Finds how a provider is reached; a codec is made once per provider of a table."""

    def __init__(self, *, http: Upstream[Provider], simulated: Upstream[Provider]) -> None:
        """Call over `http`, or nobody at all."""
        self._http = http
        self._simulated = simulated
        self._lines: dict[str, tuple[Provider, Line]] = {}

    def find(self, provider: Provider) -> Line:
        """Give the upstream and the codec of a provider."""
        known = self._lines.get(provider.name)
        if known is not None and known[0] is provider:
            return known[1]
        flags = provider.flags
        codec = OpenAICodec(
            is_openrouter=provider.dialect is Dialect.OPENROUTER,
            asks_usage=flags.stream_usage,
            cap_field=flags.max_tokens_field,
        )
        line = Line(self._simulated if provider.dialect is Dialect.SIMULATED else self._http, codec)
        self._lines[provider.name] = (provider, line)
        return line


@asynccontextmanager
async def open_gateway(settings: Settings, environ: Mapping[str, str] | None = None) -> AsyncIterator[Gateway]:
    """Open everything a gateway needs, and close it in reverse.

    Raises `ConfigError` for a routes.yaml that cannot be used and `LedgerUnavailable` for a data folder that cannot.
    """
    clock = SystemClock()
    catalogue = load_catalogue()
    environ = os.environ if environ is None else environ
    routes = RoutesFile(settings.config, environ=environ, catalogue=catalogue, clock=clock)
    async with AsyncExitStack() as stack:
        telemetry = Telemetry(log_format=settings.log_format, level=settings.log_level)
        telemetry.capture_logging()
        stack.callback(telemetry.close)
        ledger = await SqliteLedger.open(settings.data, clock=clock)
        stack.push_async_callback(ledger.close)
        http, simulated = AiohttpUpstream(), SimulatedUpstream()
        stack.push_async_callback(http.close)
        stack.push_async_callback(simulated.close)
        service = Service(
            ledger=ledger,
            health=Health(),
            clock=clock,
            facts=catalogue.find,
            line=Lines(http=http, simulated=simulated).find,
            jitter=random.random,
        )
        stack.push_async_callback(service.drain)
        pepper = await asyncio.to_thread(load_pepper, settings.data)
        authenticator = Authenticator(ledger, pepper=pepper, clock=clock)
        gateway = Gateway(
            service, routes, ledger, authenticator, telemetry, pepper, clock, known_models=catalogue.list_models
        )
        await put_in_force(gateway, routes.current)
        yield gateway


async def put_in_force_at_last(gateway: Gateway) -> None:
    """Put the table in use in force, however long the ledger is busy: nobody but new keys waits for it."""
    while True:
        try:
            return await put_in_force(gateway, gateway.routes.current)
        except LedgerUnavailable as error:
            gateway.telemetry.warn("keys_wait_for_ledger", reason=error.message)
        await asyncio.sleep(DECLARE_AGAIN_S)


async def open_ledger(data: Path) -> Ledger:
    """Open the books alone, for a command that asks them something; the caller closes them."""
    return await SqliteLedger.open(data, clock=SystemClock())


async def put_in_force(gateway: Gateway, table: Table) -> None:
    """Make the ledger's declared keys those of a table, and hide its secrets from the log."""
    hide_secrets(gateway.telemetry, table)
    await gateway.ledger.declare_keys([_record(key, gateway) for key in table.keys])
    gateway.telemetry.info("routes_loaded", config=table.id, notes=list(table.notes))


def hide_secrets(telemetry: Telemetry, table: Table) -> None:
    """Tell the log which values must never stand in it."""
    for provider in table.providers.values():
        for secret in provider.secrets:
            telemetry.register_secret(secret)


def _record(key: DeclaredKey, gateway: Gateway) -> KeyRecord:
    return KeyRecord(
        name=key.name,
        digest=digest_key_sha256(gateway.pepper, key.sha256_hex),
        tenant=key.tenant,
        budget=key.budget,
        models=key.models,
        default_model=key.default_model,
        params=key.params,
        is_declared=True,
        created_at_s=gateway.clock.now_s(),
    )


def build_app(gateway: Gateway, *, started_at_s: float) -> Asgi:
    """Mount the edge: chat as a plain callable before any router, Starlette for the rest."""
    chat = ChatEndpoint(
        gateway.service,
        authenticator=gateway.authenticator,
        table=lambda: gateway.routes.current,
        telemetry=gateway.telemetry,
    )
    services = Services(
        ledger=gateway.ledger,
        routes=gateway.routes,
        authenticator=gateway.authenticator,
        clock=gateway.clock,
        started_at_s=started_at_s,
        version=__version__,
        facts=gateway.service.facts,
        known_models=gateway.known_models,
    )
    rest = Starlette(routes=build_routes(services), exception_handlers={Exception: handle_failure})

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in CHAT_PATHS and scope["method"] == "POST":
            await chat(scope, receive, send)
        else:
            await rest(scope, receive, send)

    return app


async def run(settings: Settings, *, say: Callable[[str], None]) -> None:
    """Serve until a signal; `say` is given the ready line, and before it a first key when there was none.

    The port is taken first, so that one in use is found before anything is opened. Raises `ListenError`, `ConfigError`
    or `LedgerUnavailable`.
    """
    listener = listen(settings.host, settings.port)
    try:
        address = address_of(listener, settings.host)
        async with open_gateway(settings) as gateway, _jobs(gateway):
            app = build_app(gateway, started_at_s=gateway.clock.now_s())
            for note in gateway.routes.current.notes:
                say(note)
            first_key = await mint_first_key(gateway)
            if first_key is not None:
                say(introduce(first_key, address, gateway.routes.current))
            spare_collections()
            await serve(app, listener=listener, on_ready=lambda: say(f"listening on {address}"))
    finally:
        listener.close()


async def mint_first_key(gateway: Gateway) -> str | None:
    """Mint a key when there is none at all, or a newcomer would be locked out; gives it, to be shown once."""
    if any(key.is_enabled for key in await gateway.ledger.list_keys() if key.name != OPERATOR_KEY):
        return None
    key = mint_key()
    record = KeyRecord(
        name=FIRST_KEY,
        digest=digest_key(gateway.pepper, key),
        created_at_s=gateway.clock.now_s(),
    )
    return key if await gateway.ledger.create_key(record) else None


def introduce(key: str, address: str, table: Table) -> str:
    """Write what a newcomer needs: the first key, and two ways to use it that can be pasted."""
    model = table.default_model or next(iter(table.routes), "simulated")
    messages = '[{"role": "user", "content": "Hello!"}]'
    return (
        f"No client key yet, so here is one. It is shown only this once: {key}\n\n"
        f"  curl {address}/v1/chat/completions -H 'Authorization: Bearer {key}' \\\n"
        f"    -H 'Content-Type: application/json' \\\n"
        f'    -d \'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}\'\n\n'
        f"  from openai import OpenAI\n"
        f'  client = OpenAI(base_url="{address}/v1", api_key="{key}")\n'
        f'  reply = client.chat.completions.create(model="{model}", messages={messages})\n'
        f"  print(reply.choices[0].message.content)\n"
    )


def spare_collections() -> None:
    """Keep the cycle collector from looking at what was made at the start, and from looking too often at all."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 50)


@asynccontextmanager
async def _jobs(gateway: Gateway) -> AsyncIterator[None]:
    """Run the jobs while the block runs; one that dies is a bug and ends the server rather than staying silent."""

    async def on_change(routes: RoutesFile) -> None:
        if routes.problem is None:
            await put_in_force_at_last(gateway)
        else:
            gateway.telemetry.warn("routes_refused", problems=str(routes.problem))

    def on_resolved(attempts: int) -> None:
        gateway.telemetry.warn(
            "holds_resolved", attempts=attempts, remedy="a process died; its holds are booked in full"
        )

    targets = (target for route in gateway.routes.current.routes.values() for target in route.targets)
    models = {target.model for target in targets if target.provider.not_ready is None}
    async with asyncio.TaskGroup() as group:
        tasks = (
            group.create_task(asyncio.to_thread(warm, models)),
            group.create_task(gateway.routes.watch(on_change)),
            group.create_task(sweep(gateway.ledger, clock=gateway.clock, on_resolved=on_resolved)),
        )
        yield
        for task in tasks:
            task.cancel()


def explain(settings: Settings, model: str, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Think a short request for a model through, calling nobody; raises `RequestError` when nobody may ask for it."""
    catalogue = load_catalogue()
    table = load_table(settings.config, environ=os.environ if environ is None else environ, catalogue=catalogue)
    body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}]}
    plan = make_plan(body, principal=Principal(OPERATOR_KEY), table=table, facts=catalogue.find)
    return as_json(size(plan, bound_cheaply(plan, len(orjson.dumps(body))), room_nano_usd=None))


async def test_model(settings: Settings, model: str) -> dict[str, Any]:
    """Send one short request through the real chain and book it under a key of the operator's own."""
    async with open_gateway(settings) as gateway:
        record = await _operator_key(gateway)
        asked = Asked(
            body={"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 64},
            body_bytes=256,
            surface=Surface.OPENAI,
            principal=build_principal(record, gateway.routes.current),
            table=gateway.routes.current,
            request_id=new_id(),
            app="turnpike test",
            received_s=gateway.clock.monotonic_s(),
        )
        exchange = Exchange(asked, gateway.service)
        found: dict[str, Any] = {"model": model, "ok": False}
        try:
            async with exchange:
                answer = await exchange.answer()
        except RequestError as error:
            found |= {"error": error.message, "code": error.code, "attempts": error.metadata.get("attempts", [])}
        else:
            headers = answer.headers
            target = f"{headers['x-turnpike-provider']}/{headers['x-turnpike-model']}"
            found |= {"ok": True, "target": target, "cost_usd": headers.get("x-turnpike-cost")}
            found |= {"cost_source": headers["x-turnpike-cost-source"], "attempts": exchange.attempts}
        latency_s = gateway.clock.monotonic_s() - asked.received_s
        return found | {"request_id": exchange.request_id, "latency_ms": round(latency_s * 1000)}


async def _operator_key(gateway: Gateway) -> KeyRecord:
    """Find or make the key of the operator's trials; its digest is that of a key nobody has."""
    record = KeyRecord(
        name=OPERATOR_KEY, digest=digest_key(gateway.pepper, mint_key()), created_at_s=gateway.clock.now_s()
    )
    await gateway.ledger.create_key(record)
    known = {key.name: key for key in await gateway.ledger.list_keys()}
    return known[OPERATOR_KEY]
