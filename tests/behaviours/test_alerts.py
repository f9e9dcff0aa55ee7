"""Alerts as an operator meets them: a gateway that is used, and a webhook on the other side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from proxy.app import Gateway
from proxy.app.alerting import open_watch
from tests.behaviours.gateway import Running, running
from tests.outbound.hooks import Hook, hooking, status

EVERY_S = 0.05
SECRET = "0123456789abcdef"
ROUTES = """\
providers:
  sim: {dialect: simulated, first_token: 1ms, speed: 100000/s, price: {input: $1/M, output: $2/M}}
  broken: {dialect: simulated, fail: server_error, price: {input: $1/M, output: $2/M}}
models:
  chat: sim/echo
  bad: broken/x
defaults: {retry: {attempts: 1}}
keys:
  - {name: mobile, key: "{key}", budget: $0.001/day}
alerts:
  - {webhook: "${ALERT_URL}", allow_private: true, when: [WHEN]}
"""


async def keep_watch(gateway: Gateway) -> None:
    """Look and tell as the job does, more often."""
    async with open_watch(gateway) as watch:
        while True:
            await watch.run()
            await asyncio.sleep(EVERY_S)


@asynccontextmanager
async def watched(when: str, folder: Path, hook: Hook) -> AsyncIterator[Running]:
    """Serve and watch, as `serve` does but quicker."""
    async with (
        running(ROUTES.replace("WHEN", when), folder, environ={"ALERT_URL": hook.url}) as gateway,
        asyncio.TaskGroup() as group,
    ):
        watch = group.create_task(keep_watch(gateway.gateway))
        yield gateway
        watch.cancel()


async def ask(gateway: Running, model: str = "chat") -> int:
    """Send one short request."""
    body = {"model": model, "messages": [{"role": "user", "content": "x" * 40}], "max_tokens": 64}
    async with httpx.AsyncClient(timeout=10) as client:
        answer = await client.post(
            f"{gateway.url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {gateway.key}"}
        )
    return answer.status_code


async def messages(hook: Hook, count: int) -> list[str]:
    """Wait until so many have come, and a little longer for one too many."""
    async with asyncio.timeout(5):
        while True:
            if len(hook.received) >= count:
                break
            await asyncio.sleep(0.01)
    await asyncio.sleep(6 * EVERY_S)
    return [str(one.json["text"]) for one in hook.received]


async def test_a_spend_alert_arrives_at_a_local_webhook_once(tmp_path: Path) -> None:
    """Also when the gateway is stopped and started in the middle of it."""
    async with hooking() as hook:
        async with watched("spend > 1%", tmp_path, hook) as gateway:
            assert await ask(gateway) == 200
            (text,) = await messages(hook, 1)
            assert await ask(gateway) == 200
            assert len(await messages(hook, 1)) == 1
        async with watched("spend > 1%", tmp_path, hook) as gateway:
            assert await ask(gateway) == 200
            assert await messages(hook, 1) == [text]
    assert text.startswith("Alert: spend &gt; 1%: key mobile has spent $0.0000")
    assert " of $0.001 today (" in text
    assert "; raise the budget, or wait until " in text


async def test_a_provider_that_is_down_is_told_once_and_never_by_its_address(tmp_path: Path) -> None:
    """After five failures in a row."""
    async with hooking() as hook, watched("provider_down", tmp_path, hook) as gateway:
        for _ in range(5):
            assert await ask(gateway, "bad") == 502
        (text,) = await messages(hook, 1)
    assert "5 of the last 5 attempts at broken failed, since " in text


async def test_no_secret_of_a_webhook_reaches_the_log(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Neither its address nor the token in it, whatever goes wrong."""
    async with hooking() as hook:
        hook.replies = [status(500, body=hook.url)]
        async with watched("spend > 1%", tmp_path, hook) as gateway:
            assert await ask(gateway) == 200
            await messages(hook, 1)
            gateway.gateway.telemetry.fail("leak", None, url=hook.url, path="/hook/s3cret-token?x=1")
            gateway.gateway.telemetry.close()
            log = capfdbinary.readouterr().err
    assert b'"event":"leak"' in log
    assert b"s3cret-token" not in log
