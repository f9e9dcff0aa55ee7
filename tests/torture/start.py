"""Starting servers under the watch: how long until one is ready, and several on one data folder."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from tests.faults.client import get
from tests.faults.serving import TurnpikeServer, serve

LOOK_S: Final = 0.01
READY: Final = "/health/ready"


async def start_timed(server: TurnpikeServer) -> float:
    """Start a server and give the seconds from the command to the first 200 of its readiness."""
    begun_s = time.monotonic()
    starting = asyncio.create_task(server.start())
    while not starting.done() or not await _is_ready(server):
        await asyncio.sleep(LOOK_S)
        if starting.done():
            await starting
    return time.monotonic() - begun_s


@asynccontextmanager
async def serve_together(routes: str, folder: Path, count: int) -> AsyncIterator[list[TurnpikeServer]]:
    """Run so many servers, each on a port of its own, all on one routes file and one data folder."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(serve(routes, folder)) for _ in range(count)]


async def _is_ready(server: TurnpikeServer) -> bool:
    with suppress(ConnectionError):
        return (await get(server.url, READY)).status == 200
    return False
