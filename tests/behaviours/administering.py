"""A gateway with its admin key, and two upstreams behind it that tenants have accounts at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.behaviours.gateway import Running, running
from tests.faults.replies import ok
from tests.faults.upstream import FaultUpstream

ADMIN = "sk-tp-admin-of-the-test"
SECRET_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
ROUTES = """
providers:
  one:
    dialect: openai
    base_url: "{one}"
    api_key: sk-operator-one
    budget: $100/day
    headers: {{OpenAI-Organization: org-operator, X-Api-Token: token-of-the-operator, X-Plain: kept}}
    price: {{input: $1/M, output: $10/M}}
  two: {{dialect: openai, base_url: "{two}", api_key: sk-operator-two, price: {{input: $1/M, output: $10/M}}}}
models:
  m: one/m
  other: two/m
  chain: [one/m, two/m]
tenants:
  acme: {{provider_keys: {{one: "${{ACME_ONE}}"}}, models: [m, chain, other]}}
  beta: {{provider_keys: {{one: "${{BETA_ONE}}"}}}}
  broke: {{provider_keys: {{one: "${{NOT_SET}}"}}}}
defaults: {{retry: {{attempts: 1}}}}
keys:
  - {{name: app, key: "{{key}}"}}
  - {{name: a, key: sk-test-acme, tenant: acme, budget: $5/day}}
  - {{name: b, key: sk-test-beta, tenant: beta}}
  - {{name: c, key: sk-test-broke, tenant: broke}}
"""
ENVIRON = {
    "TURNPIKE_ADMIN_KEY": ADMIN,
    "TURNPIKE_SECRET_KEY": SECRET_KEY,
    "ACME_ONE": "sk-acme-at-one",
    "BETA_ONE": "sk-beta-at-one",
}
ACME, BETA, BROKE = "sk-test-acme", "sk-test-beta", "sk-test-broke"


@dataclass
class Office:
    """The gateway, its upstreams, and a way to talk to it."""

    gateway: Running
    one: FaultUpstream
    two: FaultUpstream
    http: httpx.AsyncClient
    _minted: dict[str, str] = field(default_factory=dict)

    async def call(
        self, method: str, path: str, content: Any = None, *, key: str | None = ADMIN, **headers: str
    ) -> httpx.Response:
        """Ask for anything, as the administrator unless told otherwise."""
        given = {"authorization": f"Bearer {key}", **headers} if key else headers
        return await self.http.request(method, path, json=content, headers=given)

    async def chat(self, model: str = "m", *, key: str, **headers: str) -> httpx.Response:
        """Ask a model."""
        body = {"model": model, "messages": [{"role": "user", "content": "Say hello."}]}
        return await self.call("POST", "/v1/chat/completions", body, key=key, **headers)

    async def mint(self, name: str, **fields: Any) -> str:
        """Make a key; gives it."""
        made = await self.call("POST", "/admin/keys", {"name": name, **fields})
        assert made.status_code == 201, made.text
        value: str = made.json()["key"]
        return value

    @property
    def credentials(self) -> list[tuple[str, str]]:
        """Give who was called with which credential, in order, and forget it."""
        calls = [("one", call) for call in self.one.exchanges] + [("two", call) for call in self.two.exchanges]
        self.one.exchanges.clear()
        self.two.exchanges.clear()
        return [(name, call.headers["authorization"].removeprefix("Bearer ")) for name, call in calls]


@asynccontextmanager
async def opened(folder: Path, environ: Mapping[str, str] = ENVIRON, routes: str = ROUTES) -> AsyncIterator[Office]:
    """Open a gateway before two upstreams."""
    async with FaultUpstream([ok()]) as one, FaultUpstream([ok()]) as two:
        table = routes.format(one=one.base_url, two=two.base_url)
        async with running(table, folder, environ=environ) as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
            yield Office(gateway, one, two, http)
