"""Starts our server for tests: the real command, in a process group of its own, on a port of its own.

    async with serve(ROUTES, tmp_path) as server:
        answer = await ask(server.url, chat("simulated"), key=server.key)

`TurnpikeServer` can also be started, killed and started again on the same data folder.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Protocol, Self

import yaml

from tests.faults.ports import HOST, free_port

READY: Final = re.compile(r"^listening on (http://\S+)")
READY_S: Final = 15.0
"""How long a server may take to say that it listens."""
STOP_S: Final = 10.0
"""How long a server may take to end after SIGTERM before it is killed."""
LINE_BYTES_MAX: Final = 1024 * 1024
ROOT: Final = Path(__file__).resolve().parents[2]
# Nothing else is inherited: a provider key in the developer's environment must not reach a test.
INHERITED: Final = ("PATH", "HOME", "LANG", "TMPDIR", "TZ")
COVERAGE: Final = ("COVERAGE_", "COV_CORE_")


class Serving(Protocol):
    """What a test needs of a running server, be it a process or a server inside the test's own loop."""

    @property
    def url(self) -> str:
        """The address without a path."""

    @property
    def key(self) -> str:
        """The first client key of the routes file; empty when it declares none."""


class StartError(Exception):
    """The server ended, or said nothing, before it listened; the message holds what it printed."""


class TurnpikeServer:
    """One `turnpike serve` process on a routes file and a data folder."""

    def __init__(
        self, routes: str, folder: Path, *, env: Mapping[str, str] | None = None, arguments: Sequence[str] = ()
    ) -> None:
        self.routes_file = folder / "routes.yaml"
        self.data = folder / "data"
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.key = first_key(routes)
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self.process: asyncio.subprocess.Process | None = None
        self._env = dict(env or {})
        self._arguments = arguments
        self._readers: list[asyncio.Task[None]] = []
        folder.mkdir(parents=True, exist_ok=True)
        self.write_routes(routes)

    @property
    def base_url(self) -> str:
        """The address as an SDK's `base_url`."""
        return f"{self.url}/v1"

    @property
    def command(self) -> list[str]:
        """The command line."""
        turnpike = str(Path(sys.executable).with_name("turnpike"))
        files = ["--config", str(self.routes_file), "--data", str(self.data)]
        return [turnpike, "serve", *files, "--host", HOST, "--port", str(self.port), *self._arguments]

    @property
    def logs(self) -> str:
        """Everything printed so far, stdout first."""
        return "\n".join([*self.stdout, *self.stderr])

    def write_routes(self, routes: str) -> None:
        """Replace the routes file by rename, as an editor does."""
        draft = self.routes_file.with_suffix(".draft")
        draft.write_text(routes, encoding="utf-8")
        draft.replace(self.routes_file)

    async def start(self) -> Self:
        """Start the process and wait until it listens; StartError when it does not."""
        self.process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(self._env),
            cwd=ROOT,
            start_new_session=True,
            limit=LINE_BYTES_MAX,
        )
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        assert self.process.stdout
        assert self.process.stderr
        self._readers = [
            asyncio.create_task(_collect(self.process.stdout, self.stdout, ready)),
            asyncio.create_task(_collect(self.process.stderr, self.stderr, None)),
        ]
        try:
            async with asyncio.timeout(READY_S):
                self.url = await ready
        except (TimeoutError, StartError) as error:
            await self.kill()
            raise StartError(self.logs) from error
        return self

    async def terminate(self) -> int:
        """Ask it to end (SIGTERM), kill it when it does not within STOP_S, and give its exit code."""
        self._signal(signal.SIGTERM)
        return await self._ended()

    async def kill(self) -> int:
        """End the whole process group at once (SIGKILL)."""
        self._signal(signal.SIGKILL)
        return await self._ended()

    async def restart(self) -> Self:
        """Start again on the same port and data folder; call `kill` or `terminate` before."""
        return await self.start()

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    async def _ended(self) -> int:
        assert self.process is not None
        try:
            async with asyncio.timeout(STOP_S):
                code = await self.process.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            code = await self.process.wait()
        # A worker that outlived its parent would keep the pipes open.
        self._signal(signal.SIGKILL)
        await asyncio.gather(*self._readers)
        return code


@asynccontextmanager
async def serve(
    routes: str, folder: Path, *, env: Mapping[str, str] | None = None, arguments: Sequence[str] = ()
) -> AsyncIterator[TurnpikeServer]:
    """Run `turnpike serve` on a routes text with its data below `folder`; it is ended with SIGTERM on exit."""
    server = TurnpikeServer(routes, folder, env=env, arguments=arguments)
    await server.start()
    try:
        yield server
    finally:
        await server.terminate()


def first_key(routes: str) -> str:
    """Give the first client key a routes text declares in plain; empty when there is none."""
    keys = (yaml.safe_load(routes) or {}).get("keys") or [{}]
    return str(keys[0].get("key", ""))


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Give a server's environment: little of ours, what coverage needs, and `extra`."""
    kept = {name: value for name, value in os.environ.items() if name in INHERITED or name.startswith(COVERAGE)}
    return kept | {"PYTHONUNBUFFERED": "1"} | dict(extra)


async def _collect(stream: asyncio.StreamReader, lines: list[str], ready: asyncio.Future[str] | None) -> None:
    """Keep every line; resolve `ready` with the address of the ready line, or fail it at the end of the stream."""
    async for line in stream:
        lines.append(line.decode(errors="replace").rstrip("\n"))
        match = READY.match(lines[-1])
        if match and ready and not ready.done():
            ready.set_result(match[1])
    if ready and not ready.done():
        ready.set_exception(StartError("ended before it listened"))
