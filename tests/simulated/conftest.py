"""Ways to ask the simulated provider: fast by default, in OpenAI's own words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from proxy.codecs.wire import Call
from proxy.routing.table import Dialect, Provider, Simulation
from proxy.simulated import SimulatedUpstream

FAST = {"first_token_s": 0.0, "speed_per_s": 1e6, "length_tokens": 12}
HELLO = [{"role": "user", "content": "Hello there"}]
BYTES_MAX = 1 << 24


@pytest.fixture
async def upstream() -> AsyncIterator[SimulatedUpstream]:
    """Give a simulated upstream and close it."""
    simulated = SimulatedUpstream()
    yield simulated
    await simulated.close()


def provider_of(**knobs: Any) -> Provider:
    """Make a simulated provider that answers at once unless told otherwise."""
    return Provider("sim", Dialect.SIMULATED, simulation=Simulation(**{**FAST, **knobs}))


def call_of(**fields: Any) -> Call:
    """Make a call for chat completions."""
    body = {"model": "any", "messages": HELLO, **fields}
    return Call("/chat/completions", orjson.dumps(body), is_stream=body.get("stream") is True)


async def ask(upstream: SimulatedUpstream, provider: Provider, **fields: Any) -> dict[str, Any]:
    """Ask for a JSON reply and read it."""
    reply = await upstream.open(provider, call_of(**fields), connect_timeout_s=1.0)
    body = await reply.read_all(BYTES_MAX)
    await reply.close()
    parsed: dict[str, Any] = orjson.loads(body)
    return parsed


async def stream(upstream: SimulatedUpstream, provider: Provider, **fields: Any) -> list[Any]:
    """Ask for a stream and read its events; the last may be the text `[DONE]`."""
    reply = await upstream.open(provider, call_of(stream=True, **fields), connect_timeout_s=1.0)
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    body = await reply.read_all(BYTES_MAX)
    await reply.close()
    return events_of(body)


def events_of(body: bytes) -> list[Any]:
    """Take a stream apart."""
    assert body.endswith(b"\n\n")
    data = [event.removeprefix(b"data: ") for event in body.removesuffix(b"\n\n").split(b"\n\n")]
    return ["[DONE]" if item == b"[DONE]" else orjson.loads(item) for item in data]


def text_of(events: list[Any], index: int = 0) -> str:
    """Join what one choice said."""
    chosen = [choice for event in events[:-1] for choice in event["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content") or "" for choice in chosen)
