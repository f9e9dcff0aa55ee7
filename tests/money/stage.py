"""The stage on which other gateways' bugs are played: cheap and dear providers, rich and poor keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from proxy.ledger.records import AttemptRow, BudgetState
from tests.behaviours.gateway import Running
from tests.faults import client
from tests.faults.upstream import FaultUpstream

ROUTES = """
providers:
  up: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $10/M}}}}
  dear: {{dialect: openai, base_url: "{up}", price: {{input: $100/M, output: $1000/M}}}}
  free: {{dialect: openai, base_url: "{up}", price: {{input: $0/M, output: $0/M}}}}
models:
  m: {{targets: [{{target: up/one, context: 8k}}]}}
  mixed: {{targets: ["up/fault:choices_empty_billed", dear/one]}}
  sinking: {{targets: ["up/fault:status_502", up/one]}}
  refused: {{targets: ["up/fault:unprocessable", "dear/fault:unprocessable"]}}
  gratis: {{targets: [{{target: free/one, context: 8k}}, {{target: dear/one, context: 8k}}]}}
  "faulty/*": "up/fault:*"
defaults: {{retry: {{attempts: 1}}}}
keys:
  - {{name: app, key: "{{key}}", budget: $100/day}}
  - {{name: poor, key: sk-test-poor-key, budget: $0.02/day}}
  - {{name: rich, key: sk-test-rich-key, budget: $1000000/total}}
  - {{name: unlimited, key: sk-test-unlimited-key}}
"""
POOR = "sk-test-poor-key"
RICH = "sk-test-rich-key"
UNLIMITED = "sk-test-unlimited-key"
IN, OUT = 1_000, 10_000
"""Nano-USD a token at `up`; `dear` takes a hundred times as much."""


@dataclass
class Stage:
    """A gateway and the upstream behind all of its providers."""

    gateway: Running
    up: FaultUpstream

    async def ask(self, model: str, *, key: str | None = None, path: str = client.CHAT, **fields: Any) -> client.Answer:
        """Ask with the app's key unless told otherwise."""
        payload = client.chat(model, **fields)
        return await client.ask(self.gateway.url, payload, key=key or self.gateway.key, path=path)

    async def rows(self, answer: client.Answer) -> Sequence[AttemptRow]:
        """Give the rows of one request once they are settled."""
        await self.gateway.settled_rows()
        return await self.gateway.gateway.ledger.find_request(answer.headers["x-request-id"])

    async def budget(self, name: str) -> BudgetState:
        """Give how the one budget of a key stands."""
        ledger = self.gateway.gateway.ledger
        (state,) = await ledger.budgets(name, self.gateway.gateway.clock.now_s())
        return state
