"""Relays of a short question, to upstreams that play scripts."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.codecs.openai import OpenAICodec
from proxy.codecs.wire import Frame
from proxy.errors import Failure, UpstreamError
from proxy.policy.timeouts import Clocks
from proxy.relay import Errand, Relay
from tests.faults import chunks
from tests.gateway.stage import (
    FakeUpstream,
    Script,
    a_provider,
    in_time,
)

CODEC = OpenAICodec(is_openrouter=False)
CLOCKS = Clocks(connect_s=1.0, first_token_s=5.0, idle_s=5.0, total_s=5.0)
QUICK = CLOCKS._replace(first_token_s=0.05, idle_s=0.05)
ROLE = chunks.event(chunks.opening("m"))
WORD = chunks.event(chunks.content("m", "Hé"))
FINISH = chunks.event(chunks.finish("m"))
TOTAL_S = 5.0


def a_relay(
    upstream: Any, *, clocks: Clocks = CLOCKS, is_stream: bool = True, parse_all: bool = False, **fields: Any
) -> Relay:
    """Make a relay for a short question."""
    body = {"messages": [{"role": "user", "content": "Hello!"}], "stream": is_stream, **fields}
    call = CODEC.encode(body, model="m", output_tokens_max=None)
    provider = getattr(upstream, "provider", None) or a_provider("one")
    errand = Errand(provider, call, clocks, choices=fields.get("n", 1), parse_all=parse_all)
    return Relay(errand, upstream=upstream, codec=CODEC)


async def opened(*scripts: Script, **fields: Any) -> Relay:
    """Open a relay to scripts."""
    relay = a_relay(FakeUpstream(*scripts), **fields)
    await relay.open(total_left_s=TOTAL_S)
    return relay


async def frames_of(relay: Relay, *, total_left_s: float = TOTAL_S) -> list[Frame]:
    """Read all frames."""
    relay.start(total_left_s=total_left_s)
    taken: list[Frame] = []
    async with in_time():
        while (frames := await relay.take()) is not None:
            taken += frames
    return taken


async def failure_of_open(*scripts: Script | UpstreamError | str, clocks: Clocks = CLOCKS, **fields: Any) -> Failure:
    """Open a relay that fails."""
    relay = a_relay(FakeUpstream(*scripts), clocks=clocks, **fields)
    with pytest.raises(UpstreamError) as caught:
        await relay.open(total_left_s=TOTAL_S)
    await relay.close()
    return caught.value.failure


def data_of(frames: list[Frame]) -> bytes:
    """Join what a client would be sent."""
    return b"".join(frame.raw for frame in frames)
