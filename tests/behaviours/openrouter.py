"""A gateway before OpenRouter and four others, asked in OpenRouter's own words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.ledger.records import AttemptRow
from tests.behaviours.gateway import Running
from tests.faults import chunks, client, makers
from tests.faults.replies import ok, ok_openrouter
from tests.faults.steps import Json, Mode
from tests.faults.upstream import FaultUpstream

ROUTES = """
providers:
  router: {{dialect: openrouter, base_url: "{router}", api_key: sk-or-test, price: {price}}}
  one: {{dialect: openai, base_url: "{one}", price: {price}}}
  two: {{dialect: openai, base_url: "{two}", price: {price}}}
  vault: {{dialect: openai, base_url: "{two}", zdr: true, price: {price}}}
  discreet: {{dialect: openai, base_url: "{two}", data_collection: deny, price: {price}}}
  groq: {{base_url: "{one}", api_key: gsk-test, price: {price}}}
  claude: {{dialect: anthropic, base_url: "{claude}", api_key: sk-ant-test, price: {price}}}
  gemini: {{dialect: google, base_url: "{gemini}", api_key: AIza-test, price: {price}}}
models:
  a: one/a
  b: two/b
  broken: "one/fault:status_502"
  cut-off: "one/fault:reset_before_headers"
  pair: [one/a, two/b]
  routed: router/vendor/model
  routed-then-direct: [router/vendor/model, two/b]
  open-then-vault: [one/a, vault/b]
  open-then-discreet: [one/a, discreet/b]
  picky: [groq/a]
  picky-then-b: [groq/a, two/b]
  sonnet: claude/sonnet
  flash: gemini/flash
  last: ["one/fault:status_502", "two/fault:rate_limited", {{static: {{content: "Please try again later."}}}}]
  static-behind-claude: [claude/sonnet, {{static: {{content: "Please try again later."}}}}]
  gratis: [router/vendor/model:free, two/b]
  "direct/*": one/*
  "*": [router/*, two/b]
defaults: {{retry: {{attempts: 1}}}}
keys:
  - {{name: app, key: "{{key}}", budget: $100/day}}
  - {{name: free, key: sk-test-free-key}}
  - {{name: listed, key: sk-test-listed-key, models: [a, broken, routed]}}
"""
PRICE = "{input: $1/M, output: $2/M}"
FREE, LISTED = "sk-test-free-key", "sk-test-listed-key"
TEXT = chunks.text(chunks.COMPLETION_TOKENS)
OPENROUTER_OWN = {"models", "route", "provider", "plugins", "transforms", "preset"}
SURFACES = ["/v1", "/api/v1"]
GOOD: Mapping[str, Mode] = {
    "router": ok_openrouter(),
    "one": ok(),
    "two": ok(),
    "claude": makers.ok_anthropic(),
    "gemini": makers.ok_gemini(),
}


@dataclass
class Stage:
    """A gateway before OpenRouter and four others."""

    gateway: Running
    ups: Mapping[str, FaultUpstream]

    async def ask(
        self,
        model: str | None,
        *,
        key: str | None = None,
        surface: str = "/v1",
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> client.Answer:
        """Ask with the budgeted key unless told otherwise."""
        payload = client.chat(model or "", **fields)
        if model is None:
            del payload["model"]
        path = f"{surface}/chat/completions"
        return await client.ask(self.gateway.url, payload, key=key or self.gateway.key, path=path, headers=headers)

    async def rows(self, answer: client.Answer) -> Sequence[AttemptRow]:
        """Look up the attempts of one request."""
        return await self.gateway.gateway.ledger.find_request(answer.headers["x-request-id"])

    def sent(self, name: str) -> Json:
        """Give the one body that an upstream got."""
        (exchange,) = self.ups[name].exchanges
        return exchange.body

    @property
    def calls(self) -> int:
        """Count what went out to anyone."""
        return sum(len(up.exchanges) for up in self.ups.values())


def text_of(answer: client.Answer) -> str:
    """Give the text of a JSON answer."""
    text: str = answer.json["choices"][0]["message"]["content"]
    return text


def events_of(answer: client.Answer) -> list[Json]:
    """Give the data of a stream, `[DONE]` left out."""
    data = (line[6:] for line in answer.body.decode().split("\n") if line.startswith("data: "))
    return [json.loads(item) for item in data if item != "[DONE]"]
