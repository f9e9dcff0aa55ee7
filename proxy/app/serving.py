"""A gateway that serves (part of `app`, floor 6): the edge mounted on its parts, the jobs beside it."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial

import uvloop
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from proxy import __version__
from proxy.app.alerting import open_watch
from proxy.app.chores import list_jobs
from proxy.app.newcomers import introduce, mint_first_key
from proxy.app.parts import Gateway, Settings, open_gateway, put_in_force, put_in_force_at_last
from proxy.app.resolving import keep_checkpoints, make_lookups
from proxy.app.workers import KILLED, Seat, Workers, run_apart
from proxy.catalogue import load_catalogue
from proxy.clock import SystemClock
from proxy.edge.chat import ChatEndpoint
from proxy.edge.metrics import beside_metrics
from proxy.edge.routes import build_routes, handle_failure
from proxy.edge.server import Asgi, address_of, listen, serve
from proxy.edge.services import Services
from proxy.files import RoutesFile
from proxy.jobs import keep
from proxy.ledger.folder import find_jobs_lock
from proxy.routing.table import Table
from proxy.telemetry import Board, write_line
from proxy.tokens import warm

CHAT_PATHS = frozenset({"/v1/chat/completions", "/api/v1/chat/completions"})
"""The hot path: served before any router is asked."""
LOOPBACK = "127.0.0.1"
"""Where `/metrics` may be had without a key."""
GC_ALLOCATIONS = 10_000
"""Objects between two collections: requests leave next to no cycles, and Python's 700 cost a tenth of the CPU."""


def build_app(gateway: Gateway, *, started_at_s: float) -> Asgi:
    """Mount the edge: chat as a plain callable before any router, Starlette for the rest."""
    chat = ChatEndpoint(
        gateway.service,
        authenticator=gateway.authenticator,
        table=lambda: gateway.routes.current,
        telemetry=gateway.telemetry,
        meters=gateway.meters,
    )
    services = Services(
        ledger=gateway.ledger,
        routes=gateway.routes,
        authenticator=gateway.authenticator,
        clock=gateway.clock,
        health=gateway.service.health,
        guard=gateway.guard,
        vault=gateway.vault,
        started_at_s=started_at_s,
        version=__version__,
        facts=gateway.service.facts,
        known_models=gateway.catalogue.list_models,
        board=gateway.board,
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
    with listening(settings) as ports:
        async with open_gateway(settings) as gateway:
            await greet(gateway, ports.address, say)
            await _serve(gateway, ports.listeners, on_ready=lambda: say(f"listening on {ports.address}"))


def run_workers(settings: Settings, *, say: Callable[[str], None]) -> int:
    """Serve with several processes until a signal; gives this process's exit code, the parent's or a worker's.

    Port, routing table and ledger are tried before there is any worker. Raises what `run` raises.
    """
    with listening(settings) as ports:
        preload(settings)
        if code := run_apart(lambda: uvloop.run(_prepare(settings, ports.address, say))):
            return code if code > 0 else KILLED
        workers = Workers(
            ports.listeners[0],
            Board(settings.workers),
            on_ready=lambda: say(f"listening on {ports.address}"),
            on_death=partial(_tell_death, settings),
            shared=ports.listeners[1:],
        )
        seat = workers.run()
        if isinstance(seat, int):
            return seat
        uvloop.run(_work(settings, seat))
        return 0


async def _prepare(settings: Settings, address: str, say: Callable[[str], None]) -> None:
    """Do once what a start does: make the ledger, tell it the keys, greet."""
    async with open_gateway(settings) as gateway:
        await greet(gateway, address, say)


async def _work(settings: Settings, seat: Seat) -> None:
    """Serve as one of several workers, until the parent says so or is dead."""
    async with open_gateway(settings, board=seat.board, number=seat.number) as gateway:
        await put_in_force(gateway, gateway.routes.current)
        await _serve(gateway, seat.listeners, on_ready=seat.tell_ready, orders=seat.orders)


async def greet(gateway: Gateway, address: str, say: Callable[[str], None]) -> None:
    """Put the routing table in force and say what an operator has to know of it, a first key included."""
    await put_in_force(gateway, gateway.routes.current)
    for note in (*gateway.routes.current.notes, *unverified(gateway.routes.current)):
        say(note)
    first_key = await mint_first_key(gateway)
    if first_key is not None:
        say(introduce(first_key, address, gateway.routes.current))


async def _serve(
    gateway: Gateway,
    listeners: Sequence[socket.socket],
    *,
    on_ready: Callable[[], None],
    orders: socket.socket | None = None,
) -> None:
    """Serve an open gateway, its jobs beside it."""
    app = build_app(gateway, started_at_s=gateway.clock.now_s())
    if len(listeners) > 1:
        app = beside_metrics(app, gateway.board, port=listeners[1].getsockname()[1])
    spare_collections()

    def begin() -> None:
        gateway.meters.serving_begun()
        on_ready()

    async with _jobs(gateway):
        await serve(app, listeners=listeners, on_ready=begin, orders=orders)


def preload(settings: Settings) -> None:
    """Load before the fork what all workers need, so that they share it; raises `ConfigError` for a bad table."""
    clock = SystemClock()
    routes = RoutesFile(settings.config, environ=os.environ, catalogue=load_catalogue(), clock=clock)
    warm(_models_of(routes.current))
    spare_collections()


def _tell_death(settings: Settings, worker: int, cause: str, empty_s: float) -> None:
    write_line(
        "worker_died",
        log_format=settings.log_format,
        level="error",
        least=settings.log_level,
        worker=worker,
        cause=cause,
        started_again_in_s=empty_s,
    )


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a server listens."""

    listeners: tuple[socket.socket, ...]
    """Clients' one, and behind it that of `/metrics` if there is one."""
    address: str


@contextmanager
def listening(settings: Settings) -> Iterator[Ports]:
    """Bind the ports for the block, before anything else is done; raises `ListenError`."""
    with ExitStack() as stack:
        listeners = [listen(settings.host, settings.port)]
        stack.callback(listeners[0].close)
        if settings.metrics_port is not None:
            listeners.append(listen(LOOPBACK, settings.metrics_port))
            stack.callback(listeners[1].close)
        yield Ports(tuple(listeners), address_of(listeners[0], settings.host))


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
    await asyncio.to_thread(warm, _models_of(table))


def _models_of(table: Table) -> set[str]:
    """Give the upstream models that the aliases lead to and that can be called."""
    targets = (target for route in table.routes.values() for target in route.targets)
    return {target.model for target in targets if target.provider.not_ready is None}


@asynccontextmanager
async def _jobs(gateway: Gateway) -> AsyncIterator[None]:
    """Run the jobs while the block runs; one that dies is a bug and ends the server rather than staying silent."""

    async def on_change(routes: RoutesFile) -> None:
        gateway.meters.table_changed(is_stale=routes.is_stale)
        gateway.service.pools.keep_only(routes.current.providers.values())
        if routes.problem is None:
            await put_in_force_at_last(gateway)
            await warm_up(routes.current)
        else:
            gateway.telemetry.warn("routes_refused", problems=str(routes.problem))

    def on_failure(job: str, error: Exception) -> None:
        gateway.telemetry.fail("job_failed", error, job=job)

    async with open_watch(gateway) as watch, asyncio.TaskGroup() as group:
        jobs = list_jobs(gateway, watch, make_lookups(gateway))
        tasks = (
            group.create_task(warm_up(gateway.routes.current)),
            group.create_task(gateway.routes.watch(on_change)),
            group.create_task(keep(jobs, lock=find_jobs_lock(gateway.data), on_failure=on_failure)),
            group.create_task(keep_checkpoints(gateway)),
        )
        yield
        for task in tasks:
            task.cancel()
