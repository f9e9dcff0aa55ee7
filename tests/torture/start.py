"""Starting servers under the watch: how long until one is ready, and several on one data folder."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
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
async def serve_together(
    routes: str, folder: Path, count: int, *, arguments: Sequence[str] = ()
) -> AsyncIterator[list[TurnpikeServer]]:
    """Run so many servers, each on a port of its own, all on one routes file and one data folder."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(serve(routes, folder, arguments=arguments)) for _ in range(count)]


def workers_of(server: TurnpikeServer) -> list[int]:
    """List the processes that a server of several workers has forked."""
    assert server.process is not None
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def is_whole(server: TurnpikeServer) -> bool:
    """Tell whether all workers of a server serve."""
    with suppress(ConnectionError):
        return bool((await get(server.url, READY)).json["status"] == "ok")
    return False


async def _is_ready(server: TurnpikeServer) -> bool:
    with suppress(ConnectionError):
        return (await get(server.url, READY)).status == 200
    return False
