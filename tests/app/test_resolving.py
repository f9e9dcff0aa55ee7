"""What a serving gateway does beside requests: look-ups that are due, word of what is open, both in the log."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.app import Settings, open_gateway, put_in_force, resolving
from proxy.app.parts import Gateway
from proxy.errors import LedgerUnavailable
from proxy.ledger.resolution import Progress
from proxy.telemetry import Telemetry
from tests.faults.router import RouterUpstream, bill
from tests.ledger.entries import ask, over, posted, start
from tests.torture.waiting import wait_until

ROUTES = """
providers:
  router: {{dialect: openrouter, base_url: "{up}", api_key: sk-or-test, price: {{input: $1/M, output: $2/M}}}}
models: {{"*": router/*}}
keys: [{{name: app, key: sk-test-resolving, budget: $1}}]
"""
WAIT_S = 5.0


class Stage:
    """An open gateway whose log can be read."""

    def __init__(self, gateway: Gateway, log: io.BytesIO) -> None:
        """Keep both."""
        self.gateway = gateway
        self._log = log

    async def estimate(self, cost: int = 6, *, hold: int = 10) -> None:
        """Book an estimate that was due to be asked about an hour ago."""
        before_s = self.gateway.clock.now_s() - 3_600
        await self.gateway.ledger.admit(
            ask("r", at_s=before_s, attempts=[start(1, hold, provider="router")])._replace(tenant=None)
        )
        end = posted(1, cost)._replace(is_lookup_due=True)
        await self.gateway.ledger.settle(over("r", end, at_s=before_s))

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Give the log lines of one kind."""
        return [line for line in map(orjson.loads, self._log.getvalue().splitlines()) if line["event"] == event]

    async def ask(self) -> None:
        """Make the look-ups that are due, as the job does."""
        await resolving.make_lookups(self.gateway).run()
        await asyncio.Event().wait()

    async def work(self, job: Awaitable[None], event: str) -> dict[str, Any]:
        """Let a job run until the log has a line of this kind."""
        task = asyncio.ensure_future(job)
        try:
            assert await wait_until(lambda: task.done() or bool(self.lines(event)), limit_s=WAIT_S) is not None
        finally:
            task.cancel()
            await asyncio.wait({task})
        return self.lines(event)[0]


async def run(tmp_path: Path, up: RouterUpstream, monkeypatch: pytest.MonkeyPatch, story: Any) -> None:
    """Open a gateway before an upstream and play a story."""
    log = io.BytesIO()
    monkeypatch.setattr("proxy.app.parts.Telemetry", lambda **_fields: Telemetry(stream=log))
    (tmp_path / "routes.yaml").write_text(ROUTES.format(up=up.base_url))
    async with open_gateway(Settings(config=tmp_path / "routes.yaml", data=tmp_path / "data"), {}) as gateway:
        await put_in_force(gateway, gateway.routes.current)
        await story(Stage(gateway, log))


@pytest.mark.parametrize(("cost", "delta", "is_overrun"), [(4e-9, "-0.000000002", False), (2e-8, "0.000000014", True)])
async def test_a_look_up_that_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cost: float, delta: str, *, is_overrun: bool
) -> None:
    """Booked, and told: the cost, by how much what was booked is changed, and whether it is more than was held."""

    async def story(stage: Stage) -> None:
        await stage.estimate()
        line = await stage.work(stage.ask(), "lookup_booked")
        assert (line["request_id"], line["attempt"], line["provider"]) == ("r", 1, "router")
        assert (line["corrected_by_usd"], line["overrun"]) == (delta, is_overrun)
        (row,) = await stage.gateway.ledger.find_request("r")
        assert (row.cost_source, row.is_overrun) == ("reported", is_overrun)

    async with RouterUpstream() as up:
        up.bills["gen-1"] = bill(cost)
        await run(tmp_path, up, monkeypatch, story)


async def test_a_look_up_that_is_never_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last try the operator is told why, once; the estimate stays."""
    monkeypatch.setattr("proxy.lookups.TRIES_MAX", 1)

    async def story(stage: Stage) -> None:
        await stage.estimate()
        line = await stage.work(stage.ask(), "lookup_failed")
        assert (line["request_id"], line["reason"], line["level"]) == ("r", "HTTP 404", "warning")

    async with RouterUpstream() as up:
        await run(tmp_path, up, monkeypatch, story)


async def test_word_is_left_from_time_to_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass after another; a store that takes none is told of, and asked again."""
    monkeypatch.setattr(resolving, "CHECKPOINT_S", 0.01)
    notes: list[object] = []

    async def note(progress: list[Progress]) -> None:
        notes.append(progress)
        if len(notes) == 2:
            raise LedgerUnavailable("no room")

    async def story(stage: Stage) -> None:
        monkeypatch.setattr(stage.gateway.ledger.resolution, "note_progress", note)
        task = asyncio.ensure_future(resolving.keep_checkpoints(stage.gateway))
        assert await wait_until(lambda: len(notes) > 2, limit_s=WAIT_S) is not None
        task.cancel()
        await asyncio.wait({task})
        assert await wait_until(lambda: bool(stage.lines("checkpoint_failed")), limit_s=WAIT_S) is not None
        assert stage.lines("checkpoint_failed")[0]["reason"] == "no room"

    async with RouterUpstream() as up:
        await run(tmp_path, up, monkeypatch, story)
