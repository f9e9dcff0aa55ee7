"""A finished request is gone at once, and not only when the cycle collector comes by: its bodies can be megabytes."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from tests.behaviours.gateway import running
from tests.faults import client
from tests.faults.upstream import FaultUpstream

ROUTES = """
providers:
  up: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $2/M}}}}
models:
  "m/*": "up/fault:*"
defaults: {{retry: {{attempts: 1}}}}
keys:
  - {{name: app, key: "{{key}}", budget: $5/day}}
"""
OF_A_REQUEST = ("proxy.gateway", "proxy.relay", "proxy.codecs", "proxy.routing", "proxy.upstream")


@pytest.mark.parametrize("mode", ["ok", "status_500", "reset_mid_stream"])
@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
async def test_a_request_leaves_no_cycle_behind(tmp_path: Path, mode: str, *, is_stream: bool) -> None:
    """Nothing of the gateway's own waits for the collector, however the request ended."""
    async with FaultUpstream() as up, running(ROUTES.format(up=up.base_url), tmp_path) as gateway:
        payload = client.chat(f"m/{mode}", stream=is_stream)
        await client.ask(gateway.url, payload, key=gateway.key)
        gc.collect()
        gc.disable()
        try:
            gc.set_debug(gc.DEBUG_SAVEALL)
            await client.ask(gateway.url, payload, key=gateway.key)
            gc.collect()
            left = {type(found).__qualname__ for found in gc.garbage if type(found).__module__.startswith(OF_A_REQUEST)}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert left == set()
