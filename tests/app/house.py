"""A folder with a routing table, and the gateway opened on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from proxy.app import Gateway, Settings, open_gateway, put_in_force

KEY = "sk-test-declared"
ROUTES = f"""
providers:
  sim: {{dialect: simulated, first_token: 0ms, speed: 100000/s, length: 5, price: {{input: $1/M, output: $2/M}}}}
  down: {{dialect: simulated, fail: server_error, price: {{input: $1/M, output: $2/M}}}}
models:
  chat: sim/echo
  pair: [down/echo, sim/echo]
  gone: down/echo
defaults: {{retry: {{attempts: 1}}}}
keys:
  - {{name: app, key: {KEY}, budget: $5/day}}
"""


def settle_in(folder: Path, routes: str = ROUTES) -> Settings:
    """Write a routing table; gives the settings of a server on it."""
    file = folder / "routes.yaml"
    file.write_text(routes)
    return Settings(config=file, data=folder / "data", port=0, log_level="critical")


@asynccontextmanager
async def opened(
    folder: Path, routes: str = ROUTES, *, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Gateway]:
    """Open a gateway as a server does, with its table in force; no variable of this machine is seen unless given."""
    async with open_gateway(settle_in(folder, routes), environ or {}) as gateway:
        await put_in_force(gateway, gateway.routes.current)
        yield gateway
