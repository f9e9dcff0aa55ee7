"""Turnpike in this process, on a real socket: quick to start and seen by the coverage, otherwise as `serve` runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from proxy.app import Gateway, Settings, build_app, open_gateway, put_in_force
from proxy.edge.protocol import EdgeProtocol
from proxy.ledger.records import AttemptRow

KEY = "sk-test-behaviour"
STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that serves."""

    url: str
    gateway: Gateway
    key: str = KEY

    async def rows(self) -> Sequence[AttemptRow]:
        """Read the whole ledger."""
        return await self.gateway.ledger.export(since_s=None, after_seq=0, rows_max=100_000)

    async def settled_rows(self, count: int = 1) -> Sequence[AttemptRow]:
        """Wait until there are `count` rows and none of them is pending."""
        async with asyncio.timeout(STOP_S):
            while True:
                rows = await self.rows()
                if len(rows) >= count and all(row.state != "pending" for row in rows):
                    return rows
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(routes: str, folder: Path, *, environ: Mapping[str, str] | None = None) -> AsyncIterator[Running]:
    """Serve a routes.yaml; `{key}` in it stands for the client key of `Running.key`."""
    file = folder / "routes.yaml"
    file.write_text(routes.replace("{key}", KEY))
    settings = Settings(config=file, data=folder / "data", log_level="error")
    async with open_gateway(settings, environ or {}) as gateway:
        await put_in_force(gateway, gateway.routes.current)
        app = build_app(gateway, started_at_s=gateway.clock.now_s())
        async with listening(app) as url:
            yield Running(url, gateway)


@asynccontextmanager
async def listening(app: object) -> AsyncIterator[str]:
    """Serve an ASGI app with the connection handling of `serve`, on a port of its own."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]  # uvicorn's own type is narrower than ASGI
        host="127.0.0.1",
        port=0,
        http=EdgeProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2,
    )
    server = _Server(config)
    task = asyncio.get_running_loop().create_task(server.serve())
    try:
        await server.ready.wait()
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, STOP_S)


class _Server(uvicorn.Server):
    """Uvicorn's server, without signal handlers, telling when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def serve(self, sockets: object = None) -> None:
        await self._serve(None)

    async def startup(self, sockets: object = None) -> None:
        await super().startup(None)
        self.ready.set()
