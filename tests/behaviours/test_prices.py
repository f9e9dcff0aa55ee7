"""Prices that change while requests run: each is held, capped and booked at the price it was admitted under."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from proxy.catalogue import REFRESHED_FILE, write_refreshed
from tests.behaviours.gateway import Running, running
from tests.faults import client
from tests.faults.upstream import FaultUpstream

SLOW = """
providers:
  sim:
    {{dialect: simulated, first_token: 0ms, speed: 100/s, length: 30,
      price: {{input: ${dollars}/M, output: ${dollars}/M}}}}
models: {{m: sim/x}}
keys: [{{name: app, key: "{key}", budget: $100/day}}]
"""
OPENROUTER = """
prices: {{refresh: 24h}}
providers:
  openrouter: {{base_url: "{up}", api_key: sk-test-upstream}}
models: {{"*": openrouter/*}}
keys: [{{name: app, key: "{key}", budget: $100/day}}]
"""


async def cost_of(gateway: Running, *, dollars: int) -> None:
    """See that the newest row is priced so much a million tokens, in and out."""
    row = (await gateway.settled_rows())[-1]
    assert row.cost_nano_usd == (row.usage.input_tokens + row.usage.output_tokens) * dollars * 1_000 > 0
    assert row.hold_nano_usd % (dollars * 1_000) == 0


async def test_a_stream_keeps_its_price_over_a_reload(tmp_path: Path) -> None:
    """The table is replaced in the midst of it; the next request has the new price."""
    key = "{key}"
    async with running(SLOW.format(dollars=3, key=key), tmp_path) as gateway:
        payload = client.chat("m", stream=True)
        async with client.call(gateway.url, payload, key=gateway.key) as reply:
            events = reply.events()
            await anext(events)
            (tmp_path / "routes.yaml").write_text(SLOW.format(dollars=7, key=gateway.key))
            assert gateway.gateway.routes.reload()
            async for _ in events:
                pass
        await cost_of(gateway, dollars=3)
        await client.ask(gateway.url, client.chat("m"), key=gateway.key)
        await gateway.settled_rows(2)
        await cost_of(gateway, dollars=7)


async def test_a_fetched_price_holds_from_the_next_request_on(tmp_path: Path) -> None:
    """What is held, what OpenRouter is told to keep to, and what is booked: all three."""
    day = datetime.now(UTC).date()
    async with FaultUpstream() as up, running(OPENROUTER.format(up=up.base_url, key="{key}"), tmp_path) as gateway:
        before = gateway.gateway.catalogue.find("openrouter", "openai/gpt-4o").prices
        assert before is not None
        for dollars in (None, 9):
            if dollars is not None:
                row = {"input": "9", "output": "9", "source": "https://openrouter.ai/api/v1/models", "as_of": f"{day}"}
                write_refreshed(gateway.gateway.data / REFRESHED_FILE, {"openai/gpt-4o": row}, day=day)
                assert gateway.gateway.routes.reload()
            answer = await client.ask(gateway.url, client.chat("openai/gpt-4o"), key=gateway.key)
            assert answer.status == 200
        first, second = await gateway.settled_rows(2)
        tokens = (second.usage.input_tokens, second.usage.output_tokens)
        assert (first.usage.input_tokens, first.usage.output_tokens) == tokens
        assert first.cost_nano_usd == tokens[0] * int(before.input * 1_000) + tokens[1] * int(before.output * 1_000)
        assert second.cost_nano_usd == sum(tokens) * 9_000
        sent = [(await up.received(number)).body["provider"]["max_price"] for number in (1, 2)]
        assert sent == [{"prompt": 2.5, "completion": 10.0}, {"prompt": 9.0, "completion": 9.0}]
