"""Several apps and one key, as a new user lives it: the real command, OpenAI's SDK where it stands, a webhook."""

from __future__ import annotations

import asyncio
import csv
import io
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.clients.process import CLIENTS, ClientProcess
from tests.faults.replies import ok
from tests.faults.serving import TurnpikeServer, environment, serve
from tests.faults.upstream import FaultUpstream
from tests.outbound.hooks import Hook, hooking

SDK = "openai3"
UPSTREAM_KEY = "sk-the-one-upstream-key"
TOKENS = 50
ALERT_S = 30.0
"""Two looks of the watch."""
# A question costs $0.005 and a little: web can pay for one, jobs for very many.
ROUTES = """
providers:
  up: {{dialect: openai, base_url: "{up}", api_key: "${{UPSTREAM_KEY}}", price: {{input: $1/M, output: $100/M}}}}
models: {{chat: up/chat}}
alerts:
  - {{webhook: "${{ALERT_URL}}", allow_private: true, when: [spend > 50%]}}
"""


@dataclass(frozen=True, slots=True)
class Heard:
    """What an app sees of a question: the answer's status, the error's members, and how many requests its SDK made."""

    status: int
    headers: dict[str, str]
    error: dict[str, Any]
    requests: int


@dataclass(frozen=True, slots=True)
class Street:
    """A gateway that serves, the provider behind it, who is told, and the SDK in front (None: it is not installed)."""

    server: TurnpikeServer
    up: FaultUpstream
    hook: Hook
    sdk: ClientProcess | None

    async def ask(self, key: str, *, title: str) -> Heard:
        """Ask as an app of this title, with the SDK's own retries left on."""
        messages = [{"role": "user", "content": "Hello!"}]
        question = {"model": "chat", "messages": messages, "max_tokens": TOKENS}
        if self.sdk is None:
            headers = {"authorization": f"Bearer {key}", "x-title": title}
            async with httpx.AsyncClient(timeout=10) as client:
                reply = await client.post(f"{self.server.base_url}/chat/completions", json=question, headers=headers)
            return Heard(reply.status_code, dict(reply.headers), reply.json().get("error", {}), 1)
        question["extra_headers"] = {"X-Title": title}
        facts = await self.sdk.run("raw", options={"api_key": key}, ask=question)
        raised = facts.get("raised")
        if raised is None:
            return Heard(facts["status"], facts["headers"], {}, facts["requests"])
        return Heard(raised["status_code"], raised["headers"], raised["body"], facts["requests"])

    async def turnpike(self, *arguments: str) -> str:
        """Run a command on the data of the server, beside it, and give what it prints."""
        files = ("--config", str(self.server.routes_file), "--data", str(self.server.data))
        env = environment({"UPSTREAM_KEY": UPSTREAM_KEY, "ALERT_URL": self.hook.url})
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "proxy", *arguments, *files)
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=env)
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode().strip()


@asynccontextmanager
async def open_street(folder: Path) -> AsyncIterator[Street]:
    """Start everything."""
    async with AsyncExitStack() as stack:
        up = await stack.enter_async_context(FaultUpstream([ok(TOKENS)]))
        hook = await stack.enter_async_context(hooking())
        env = {"UPSTREAM_KEY": UPSTREAM_KEY, "ALERT_URL": hook.url}
        server = await stack.enter_async_context(serve(ROUTES.format(up=up.base_url), folder, env=env))
        sdk = None
        if (CLIENTS / SDK).exists():
            known = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-every-question-has-its-own"}
            sdk = await stack.enter_async_context(ClientProcess(SDK, "openai_python.py", known))
        yield Street(server, up, hook, sdk)


async def test_one_app_runs_dry_and_the_others_go_on(tmp_path: Path) -> None:
    """Two keys on one upstream key, two apps on one of them; usage tells them apart, and an alert arrives once."""
    async with open_street(tmp_path) as street:
        web = await street.turnpike("keys", "create", "web", "--budget", "$0.008/day")
        jobs = await street.turnpike("keys", "create", "jobs", "--budget", "$5/day")

        assert (await street.ask(web, title="Shop")).status == 200
        dry = await street.ask(web, title="Shop")
        assert (dry.status, dry.error["code"], dry.requests) == (402, "budget_exceeded", 1)
        assert dry.headers["x-should-retry"] == "false"
        resets_at = dry.error["metadata"]["resets_at"]
        assert resets_at.endswith("T00:00:00Z")
        assert resets_at in dry.error["message"]
        assert [(await street.ask(jobs, title=app)).status for app in ("Invoices", "=Search", "Invoices")] == [200] * 3

        keys_upstream = [exchange.headers["authorization"] for exchange in street.up.exchanges]
        assert keys_upstream == [f"Bearer {UPSTREAM_KEY}"] * 4
        await check_usage(street)
        await check_alert(street)


async def check_usage(street: Street) -> None:
    """By key and app, as a table and as CSV: one price for all, so the requests are the shares of the cost."""
    table = await street.turnpike("usage", "--by", "key,app")
    words = [line.split()[:3] for line in table.splitlines()]
    assert words[1:4] == [["jobs", "=Search", "1"], ["jobs", "Invoices", "2"], ["web", "Shop", "1"]]
    rows = list(csv.DictReader(io.StringIO(await street.turnpike("usage", "--by", "key,app", "--csv"))))
    assert [(row["key"], row["app"], row["requests"]) for row in rows] == [
        ("jobs", "'=Search", "1"),
        ("jobs", "Invoices", "2"),
        ("web", "Shop", "1"),
    ]
    assert rows[1]["cost_usd"] == f"{2 * float(rows[0]['cost_usd']):.9f}"
    assert rows[2]["cost_usd"] == rows[0]["cost_usd"]


async def check_alert(street: Street) -> None:
    """It arrives at the next look, and neither a later look nor a restart tells it again."""
    async with asyncio.timeout(ALERT_S):
        while True:
            if street.hook.received:
                break
            await asyncio.sleep(0.05)
    await street.server.terminate()
    await street.server.restart()
    await asyncio.sleep(1)
    (message,) = street.hook.received
    assert message.json["text"].startswith("Alert: spend &gt; 50%: key web has spent $0.005")
    assert "last messages:" in await street.turnpike("alerts")
