"""The chat endpoint and OpenRouter's surface: headers that go on, routing told, overlong prompts refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxy.codecs.wire import Call
from proxy.edge.body import parse_chat
from proxy.errors import ClientError
from proxy.gateway import VALUE_CHARS_MAX, Line
from proxy.pricing import ModelFacts
from proxy.routing.table import Dialect, Provider, Table
from tests.edge.site import HELLO, KEY, PATH, ROUTER_PATH, Receiver, Sender, Site, a_scope, a_site_stage, site
from tests.gateway.stage import PRICES, FakeReply, FakeUpstream, Script, a_provider, a_table, a_target, refused, whole


def a_router_table() -> Table:
    """Make a table whose `chat` is at OpenRouter."""
    return a_table(replace(a_target("or/m"), provider=a_provider("or", dialect=Dialect.OPENROUTER)))


class Listening(FakeUpstream):
    """Keeps the headers it was called with."""

    def __init__(self, *scripts: Script) -> None:
        super().__init__(*scripts)
        self.heard: list[dict[str, str]] = []

    async def open(self, provider: Provider, call: Call, **more: Any) -> FakeReply:
        self.heard.append(dict(call.headers))
        return await super().open(provider, call, **more)


@pytest.mark.parametrize(
    ("sent", "heard"),
    [
        ((b"x-session-id", b"s-1"), {"x-session-id": "s-1"}),
        ((b"x-anthropic-beta", b"a,b"), {"x-anthropic-beta": "a,b"}),
        ((b"x-session-id", b"x" * VALUE_CHARS_MAX), {"x-session-id": "x" * VALUE_CHARS_MAX}),
        ((b"x-session-id", b"x" * (VALUE_CHARS_MAX + 1)), {}),
        ((b"x-session-id", b"caf\xe9"), {}),
        ((b"x-session-id", b"a\tb"), {}),
        ((b"x-session-id", f"is {KEY}".encode()), {}),
        ((b"cookie", b"c=1"), {}),
        ((b"authorization-2", b"k"), {}),
    ],
)
async def test_few_headers_go_on(sent: tuple[bytes, bytes], heard: dict[str, str]) -> None:
    """Those OpenRouter understands, printable and short, and never one that holds the key."""
    stage = await a_site_stage(whole(), table=a_router_table())
    upstream = Listening(whole())
    line = stage.service.line(a_provider("or", dialect=Dialect.OPENROUTER))
    service = replace(stage.service, line=lambda _: Line(upstream, line.codec))
    made = Site(replace(stage, service=service))
    await made.endpoint(a_scope(sent), Receiver(HELLO), Sender())
    await made.http.aclose()
    assert upstream.heard == [heard]


@pytest.mark.parametrize("path", [PATH, ROUTER_PATH])
async def test_routing_is_told_beside_answers_and_errors_to_who_asks(path: str) -> None:
    """In OpenRouter's shape; nobody else gets it."""
    stage = await a_site_stage(whole(), refused(500))
    async with site(stage) as made:
        answered = await made.ask(path=path, x_openrouter_metadata="enabled")
        failed = await made.ask(path=path, x_openrouter_metadata="enabled")
        quiet = await made.ask(path=path)
    assert answered.json()["openrouter_metadata"]["attempt"] == 1
    assert (failed.status_code, failed.json()["openrouter_metadata"]["attempts"][0]["status"]) == (502, 500)
    assert "openrouter_metadata" not in quiet.json()


async def test_an_overlong_request_is_refused_in_openrouters_words() -> None:
    """400 with its tag, before any call."""
    small = a_target("one/m", facts=ModelFacts(PRICES, context_tokens=100))
    stage = await a_site_stage(whole(), table=a_table(small))
    async with site(stage) as made:
        reply = await made.ask(
            {**HELLO, "messages": [{"role": "user", "content": "far away " * 300}]}, path=ROUTER_PATH
        )
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["metadata"]["error_type"]) == (400, 400, "context_length_exceeded")
    assert error["message"].startswith("This endpoint's maximum context length is 100 tokens. However, you requested")
    assert stage.upstream.calls == []


@pytest.mark.parametrize("name", ["provider", "preset", "transforms", "route", "reasoning", "service_tier", "tools"])
def test_a_field_of_openrouters_stands_once(name: str) -> None:
    """Whatever we act on may not be said twice (design.md 4)."""
    with pytest.raises(ClientError, match="more than once"):
        parse_chat(f'{{"{name}":null,"{name}":null,"model":"chat","messages":[{{"role":"user"}}]}}'.encode())
