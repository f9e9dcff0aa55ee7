"""A gateway that serves (part of `app`, floor 6): the edge mounted on its parts, the jobs beside it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from proxy import __version__
from proxy.app.alerting import keep_watch
from proxy.app.newcomers import introduce, mint_first_key
from proxy.app.parts import Gateway, Settings, open_gateway, put_in_force, put_in_force_at_last
from proxy.app.prices import PriceRefresher, refresh_forever
from proxy.catalogue import REFRESHED_FILE
from proxy.edge.chat import ChatEndpoint
from proxy.edge.routes import build_routes, handle_failure
from proxy.edge.server import Asgi, address_of, listen, serve
from proxy.edge.services import Services
from proxy.files import RoutesFile
from proxy.jobs import prune, sweep
from proxy.outbound.listing import fetch_listing
from proxy.routing.table import Table
from proxy.tokens import warm

CHAT_PATHS = frozenset({"/v1/chat/completions", "/api/v1/chat/completions"})
"""The hot path: served before any router is asked."""
GC_ALLOCATIONS = 10_000
"""Objects between two collections: requests leave next to no cycles, and Python's 700 cost a tenth of the CPU."""


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
        health=gateway.service.health,
        started_at_s=started_at_s,
        version=__version__,
        facts=gateway.service.facts,
        known_models=gateway.catalogue.list_models,
        pools=gateway.service.pools,
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
        async with open_gateway(settings) as gateway:
            await put_in_force(gateway, gateway.routes.current)
            for note in (*gateway.routes.current.notes, *unverified(gateway.routes.current)):
                say(note)
            first_key = await mint_first_key(gateway)
            if first_key is not None:
                say(introduce(first_key, address, gateway.routes.current))
            app = build_app(gateway, started_at_s=gateway.clock.now_s())
            spare_collections()
            async with _jobs(gateway):
                await serve(app, listener=listener, on_ready=lambda: say(f"listening on {address}"))
    finally:
        listener.close()


def unverified(table: Table) -> list[str]:
    """Name the providers whose certificates nobody checks, for the operator to see at every start."""
    names = [provider.name for provider in table.providers.values() if not provider.verify]
    return [f"{name}: its TLS certificate is not checked (verify: false)" for name in names]


def spare_collections() -> None:
    """Keep the cycle collector from looking at what was made at the start, and from looking too often at all."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 50)


async def warm_up(table: Table) -> None:
    """Load what the models in use are counted with, in a thread and before a request would have to wait for it."""
    targets = (target for route in table.routes.values() for target in route.targets)
    await asyncio.to_thread(warm, {target.model for target in targets if target.provider.not_ready is None})


@asynccontextmanager
async def _jobs(gateway: Gateway) -> AsyncIterator[None]:
    """Run the jobs while the block runs; one that dies is a bug and ends the server rather than staying silent."""

    async def on_change(routes: RoutesFile) -> None:
        if routes.problem is None:
            await put_in_force_at_last(gateway)
            await warm_up(routes.current)
        else:
            gateway.telemetry.warn("routes_refused", problems=str(routes.problem))

    def on_resolved(attempts: int) -> None:
        gateway.telemetry.warn(
            "holds_resolved", attempts=attempts, remedy="a process died; its holds are booked in full"
        )

    replies = gateway.service.replies
    refresher = PriceRefresher(
        path=gateway.data / REFRESHED_FILE,
        table=lambda: gateway.routes.current,
        catalogue=gateway.catalogue,
        fetch=lambda provider: fetch_listing(provider.base_url, verify=provider.verify),
        telemetry=gateway.telemetry,
        clock=gateway.clock,
    )
    async with asyncio.TaskGroup() as group:
        tasks = (
            group.create_task(refresh_forever(refresher)),
            group.create_task(warm_up(gateway.routes.current)),
            group.create_task(gateway.routes.watch(on_change)),
            group.create_task(sweep(gateway.ledger, clock=gateway.clock, on_resolved=on_resolved)),
            *([] if replies is None else [group.create_task(prune(replies))]),
            group.create_task(keep_watch(gateway)),
        )
        yield
        for task in tasks:
            task.cancel()
