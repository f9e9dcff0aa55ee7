"""`turnpike serve --workers N` seen from outside: its processes, its locks, its metrics."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.client import Answer, ask, chat, get
from tests.faults.ports import HOST, free_port
from tests.faults.serving import TurnpikeServer

KEY: Final = "sk-test-workers"
ROUTES: Final = f"""
providers: {{sim: {{dialect: simulated, first_token: 1ms, speed: 10000/s, price: {{input: $1/M, output: $2/M}}}}}}
models: {{chat: sim/echo}}
keys: [{{name: app, key: {KEY}}}]
"""
PATIENCE_S: Final = 10.0

_SAMPLE = re.compile(r"^turnpike_(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Team:
    """A server of several workers that runs."""

    server: TurnpikeServer
    metrics_url: str

    @property
    def parent(self) -> int:
        """The process that was started."""
        assert self.server.process is not None
        return self.server.process.pid

    def workers(self) -> set[int]:
        """Find the living workers."""
        children = Path(f"/proc/{self.parent}/task/{self.parent}/children")
        return {pid for pid in map(int, children.read_text().split()) if is_alive(pid)}

    async def ask(self) -> Answer:
        """Ask once, over a connection of its own: any worker may get it."""
        return await ask(self.server.url, chat("chat"), key=KEY)

    async def health(self) -> Answer:
        """Ask some worker how the gateway is."""
        return await get(self.server.url, "/health")

    async def until_serving(self, count: int) -> None:
        """Wait until so many workers serve."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.metric("workers_serving") != count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def metric(self, name: str, **labels: str) -> float:
        """Add up a metric's samples that have these labels, as some worker tells it; 0 when there is none."""
        answer = await get(self.metrics_url, "/metrics")
        assert answer.status == 200
        found = samples(answer.body.decode())
        return sum(value for seen, has, value in found if seen == name and labels.items() <= has.items())


@asynccontextmanager
async def team(folder: Path, workers: int, routes: str = ROUTES) -> AsyncIterator[Team]:
    """Run a server of so many workers."""
    port = free_port()
    server = TurnpikeServer(routes, folder, arguments=["--workers", str(workers), "--metrics-port", str(port)])
    await server.start()
    try:
        yield Team(server, f"http://{HOST}:{port}")
    finally:
        await server.terminate()


def samples(text: str) -> list[tuple[str, dict[str, str], float]]:
    """Read Prometheus' text format."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found = [_SAMPLE.fullmatch(line) for line in lines]
    assert all(found), lines
    return [(match[1], dict(_LABEL.findall(match[2] or "")), float(match[3])) for match in found if match]


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended and was not waited for does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def holders(lock: Path) -> list[int]:
    """List the processes that hold a file's lock."""
    inode = str(lock.stat().st_ino)
    fields = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return [int(line[4]) for line in fields if line[1] == "FLOCK" and line[5].rpartition(":")[2] == inode]
