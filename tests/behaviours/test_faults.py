"""Every fault an upstream can have, streamed and not, with and without a healthy target behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.behaviours.gateway import Running, running
from tests.faults import client
from tests.faults.client import Ended
from tests.faults.modes import MODES
from tests.faults.steps import Mode, Outcome
from tests.faults.upstream import FaultUpstream

ROUTES = """
providers:
  bad: {{dialect: openai, base_url: "{bad}", price: {{input: $1/M, output: $2/M}}}}
  good: {{dialect: openai, base_url: "{good}", price: {{input: $1/M, output: $2/M}}}}
models:
  "pair/*": {{targets: ["bad/fault:*", good/healthy]}}
  "alone/*": {{targets: ["bad/fault:*"]}}
  "hasty-pair/*": {{targets: ["bad/fault:*", good/healthy], timeouts: {{first_token: 400ms, idle: 400ms}}}}
  "hasty-alone/*": {{targets: ["bad/fault:*"], timeouts: {{first_token: 400ms, idle: 400ms}}}}
defaults: {{retry: {{attempts: 1}}}}
keys:
  - {{name: app, key: "{{key}}", budget: $100/day}}
"""
FAULTS = sorted(MODES)
SURPLUS_S = 0.15


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """One gateway between a faulty and a healthy upstream."""
    folder: Path = tmp_path_factory.mktemp("faults")
    async with FaultUpstream() as bad, FaultUpstream() as good:
        routes = ROUTES.format(bad=bad.base_url, good=good.base_url)
        async with running(routes, folder) as gateway:
            yield gateway


class Seen:
    """What a client saw of one reply."""

    def __init__(self, status: int, headers: dict[str, str], end: Ended | None, events: list[bytes]) -> None:
        """Keep the data of all events; a JSON reply is one."""
        self.status = status
        self.headers = headers
        self.end = end
        self.events = events

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """Parse every event but the terminal one."""
        return [json.loads(data) for data in self.events if data != b"[DONE]"]

    @property
    def is_done(self) -> bool:
        """Tell whether `[DONE]` came."""
        return b"[DONE]" in self.events

    @property
    def error(self) -> dict[str, Any] | None:
        """Give the last error, if any."""
        return next((chunk["error"] for chunk in reversed(self.chunks) if "error" in chunk), None)


async def see(gateway: Running, model: str, *, is_stream: bool) -> Seen:
    """Ask and read to the end."""
    fields: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if is_stream else {}
    async with client.call(gateway.url, client.chat(model, **fields), key=gateway.key) as reply:
        await reply.head()
        if not is_stream or reply.status != 200:
            body = await reply.read()
            return Seen(reply.status, reply.headers, reply.end, [body])
        events = [event.data async for event in reply.events() if event.data]
        return Seen(reply.status, reply.headers, reply.end, events)


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def aftermath(name: str) -> AsyncIterator[None]:
    """Let bytes that come unasked behind a reply arrive before another request uses the connection."""
    yield
    if "surplus" in name or "length" in name:
        await asyncio.sleep(SURPLUS_S)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_on_the_first_target_ends_as_promised(gateway: Running, name: str, *, is_stream: bool) -> None:
    """With a healthy target behind it only content already sent, or the request's own fault, reaches the client."""
    mode = MODES[name]
    seen = await see(gateway, f"{haste(mode)}pair/{name}", is_stream=is_stream)
    outcome = mode.outcome(is_stream=is_stream)
    rows = await rows_of(gateway, seen)
    if outcome in (Outcome.FALLBACK, Outcome.CONTEXT, Outcome.CONTENT):
        expect_answer(seen, is_stream=is_stream)
        assert seen.headers["x-turnpike-provider"] == "good"
        assert seen.headers["x-turnpike-attempts"] == "2"
        assert [row.provider for row in rows] == ["bad", "good"]
        assert rows[0].error is not None
        assert rows[1].error is None
    else:
        expect_ending(seen, mode, is_stream=is_stream)
        assert [row.provider for row in rows] == ["bad"]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_on_the_only_target_ends_as_promised(gateway: Running, name: str, *, is_stream: bool) -> None:
    """Without another target the client gets a well-formed error, never its own key blamed, never half an answer."""
    mode = MODES[name]
    seen = await see(gateway, f"{haste(mode)}alone/{name}", is_stream=is_stream)
    await rows_of(gateway, seen)
    expect_ending(seen, mode, is_stream=is_stream)


def haste(mode: Mode) -> str:
    """Give short clocks only to faults that show by a timeout: elsewhere a busy machine could be taken for one."""
    return "hasty-" if mode.is_slow and mode.stream is not Outcome.ANSWER else ""


def expect_answer(seen: Seen, *, is_stream: bool) -> None:
    """Hold a whole answer to its form."""
    assert seen.status == 200, seen.events
    assert seen.end is Ended.COMPLETE
    assert seen.error is None
    assert seen.is_done == is_stream


def expect_ending(seen: Seen, mode: Mode, *, is_stream: bool) -> None:
    """Hold the end of a request that met `mode` last to what the promises say."""
    outcome = mode.outcome(is_stream=is_stream)
    if outcome is Outcome.ANSWER:
        expect_answer(seen, is_stream=is_stream)
        return
    assert seen.error is not None
    assert seen.error["message"]
    if outcome is Outcome.CUT:
        assert seen.end is not Ended.COMPLETE
        assert not seen.is_done
        assert seen.chunks[-1].keys() == {"error"}
        return
    assert seen.end is Ended.COMPLETE
    expected = {Outcome.REFUSED: {mode.status}, Outcome.CONTEXT: {400}, Outcome.CONTENT: {403}}
    assert seen.status in expected.get(outcome, {404, 429, 502, 503, 504})
    assert seen.error["metadata"]["attempts"]


async def rows_of(gateway: Running, seen: Seen) -> list[Any]:
    """Give the settled rows of a request: each attempt has one, none is pending, costs are within their holds."""
    rows = list(await gateway.gateway.ledger.find_request(seen.headers["x-request-id"]))
    assert rows
    assert [row.attempt for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:
        assert row.state in ("posted", "voided")
        assert row.cost_nano_usd is not None
        assert row.cost_nano_usd <= row.hold_nano_usd or row.is_overrun
    return rows
