"""What the tests of all clients share: a server with a fault upstream behind it, and the clients at work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from proxy.app import open_ledger
from proxy.ledger.records import AttemptRow
from tests.clients.process import ClientProcess, Facts
from tests.faults.records import Exchange
from tests.faults.serving import TurnpikeServer, serve
from tests.faults.upstream import FaultUpstream

GENERATIONS: Final = ("openai2", "openai3")
PROGRAM: Final = "openai_python.py"
POOR: Final = "sk-test-poor"
NARROW: Final = "sk-test-narrow"
UPSTREAM_KEY: Final = "sk-upstream-secret"
SETTLE_S: Final = 5.0
# The upstream's modes are asked for by name; a target that fails is called once, as the SDK's own retries are counted.
ROUTES: Final = """
providers:
  sim: {{dialect: simulated, first_token: 0ms, speed: 5000/s, length: 24, price: {{input: $1/M, output: $2/M}}}}
  flood: {{dialect: simulated, first_token: 50ms, speed: 200/s, price: {{input: $1/M, output: $2/M}}}}
  broken: {{dialect: simulated, fail: server_error, price: {{input: $1/M, output: $2/M}}}}
  up: {{dialect: openai, base_url: "{up}", api_key: "${{UPSTREAM_KEY}}", price: {{input: $1/M, output: $2/M}}}}
models:
  prose: sim/prose
  echo: sim/echo
  json: sim/json
  crowd: flood/echo
  chain: [broken/echo, sim/echo]
  "vendor/with-a-slash:tag": sim/echo
  "up/*": ["up/fault:*"]
  "hasty/*": {{targets: ["up/fault:*"], timeouts: {{first_token: 300ms, idle: 300ms}}}}
  scripted: up/scripted
defaults: {{retry: {{attempts: 1}}}}
keys:
  - {{name: app, key: sk-test-application}}
  - {{name: poor, key: sk-test-poor, budget: $0.000000001/day}}
  - {{name: narrow, key: sk-test-narrow, models: [echo]}}
"""


class House:
    """A server, the upstream behind it, and the SDK processes in front of it, which start when they are needed."""

    def __init__(self, server: TurnpikeServer, up: FaultUpstream, stack: AsyncExitStack) -> None:
        self.server = server
        self.up = up
        self._stack = stack
        self._clients: dict[str, ClientProcess] = {}

    async def client(self, name: str) -> ClientProcess:
        """Give the SDK of an environment."""
        if name not in self._clients:
            self._clients[name] = await self._stack.enter_async_context(start_client(name, self.server))
        return self._clients[name]


def start_client(name: str, server: TurnpikeServer) -> ClientProcess:
    """Give an SDK that is told of the server as its users tell it: by the SDK's own variables."""
    return ClientProcess(name, PROGRAM, {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": server.key})


class Sdk:
    """One generation of the SDK, for one test."""

    def __init__(self, client: ClientProcess, house: House) -> None:
        self.client = client
        self.server = house.server
        self.up = house.up
        self._exchanges_before = len(house.up.exchanges)

    @property
    def exchanges(self) -> Sequence[Exchange]:
        """What the upstream was asked during this test."""
        return self.up.exchanges[self._exchanges_before :]

    async def run(self, check: str, options: Mapping[str, object] | None = None, /, **ask: object) -> Facts:
        """Have the SDK do something; what it raised is a fact like any other."""
        return await self.client.run(check, options=options or {}, ask=ask)

    async def give(self, check: str, /, **ask: object) -> Facts:
        """Have the SDK do something that must succeed."""
        facts = await self.run(check, **ask)
        assert "raised" not in facts, facts["raised"]
        return facts

    async def settled_rows(self, request_id: str | None = None) -> Sequence[AttemptRow]:
        """Wait until nothing is pending in the ledger, and give its rows, or those of one request."""
        ledger = await open_ledger(self.server.data)
        try:
            async with asyncio.timeout(SETTLE_S):
                while True:
                    rows = await ledger.export(since_s=None, after_seq=0, rows_max=100_000)
                    if all(row.state != "pending" for row in rows):
                        return [row for row in rows if request_id in (None, row.request_id)]
                    await asyncio.sleep(0.02)
        finally:
            await ledger.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """One server for all tests of a module."""
    folder: Path = tmp_path_factory.mktemp("clients")
    async with AsyncExitStack() as stack:
        up = await stack.enter_async_context(FaultUpstream())
        routes = ROUTES.format(up=up.base_url)
        server = await stack.enter_async_context(serve(routes, folder, env={"UPSTREAM_KEY": UPSTREAM_KEY}))
        yield House(server, up, stack)


@pytest_asyncio.fixture(loop_scope="module", params=GENERATIONS)
async def sdk(house: House, request: pytest.FixtureRequest) -> Sdk:
    """Each generation of the SDK in turn."""
    return Sdk(await house.client(request.param), house)


def user(text: str) -> list[dict[str, Any]]:
    """Give the messages of a first question."""
    return [{"role": "user", "content": text}]
