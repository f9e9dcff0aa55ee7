"""Other gateways' bugs of rates and of requests at once: places never given back, failures that did not count."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.behaviours.gateway import running
from tests.faults import client
from tests.faults.modes import mode
from tests.faults.upstream import FaultUpstream

ROUTES = """
providers:
  up: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $2/M}}}}
models:
  kept: {{targets: [up/m], cache: {{ttl: 10m}}}}
  m: up/m
keys:
  - {{name: one, key: "{{key}}", parallel: 1, rate: 3/min}}
  - {{name: alone, key: sk-test-alone-1, parallel: 1}}
defaults: {{retry: {{attempts: 1}}}}
"""
ALONE = "sk-test-alone-1"
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


async def test_a_place_is_free_again_after_a_hit_of_the_cache(tmp_path: Path) -> None:
    """27955: a hit takes a place and gives it back, as any answer does."""
    async with FaultUpstream() as up, running(ROUTES.format(up=up.base_url), tmp_path) as gateway:
        answers = [await client.ask(gateway.url, client.chat("kept", max_tokens=10), key=ALONE) for _ in range(4)]
    assert [answer.status for answer in answers] == [200] * 4
    assert [answer.headers["x-turnpike-cache"] for answer in answers] == ["miss", "hit", "hit", "hit"]


async def test_a_place_is_free_again_after_calls_of_tools(tmp_path: Path) -> None:
    """34535: what the answer holds makes no difference."""
    async with FaultUpstream() as up, running(ROUTES.format(up=up.base_url), tmp_path) as gateway:
        payloads = [client.chat("m", max_tokens=10, tools=TOOLS, stream=stream) for stream in (True, False, True)]
        answers = [await client.ask(gateway.url, payload, key=ALONE) for payload in payloads]
    assert [answer.status for answer in answers] == [200] * 3


@pytest.mark.parametrize("fault", ["status_502", "reset_mid_stream"])
async def test_a_request_that_failed_counts_in_its_rate(tmp_path: Path, fault: str) -> None:
    """21312: it was let in, and whoever fails all the time is slowed down as well."""
    async with FaultUpstream([mode(fault)]) as up, running(ROUTES.format(up=up.base_url), tmp_path) as gateway:
        answers = [await client.ask(gateway.url, client.chat("m"), key=gateway.key) for _ in range(4)]
    assert answers[-1].status == 429
    assert all(answer.status >= 500 for answer in answers[:3])
