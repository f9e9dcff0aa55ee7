"""An outage of OpenRouter is nobody's outage when a maker stands behind it, nor the other way round."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.ledger.records import AttemptRow
from tests.behaviours.gateway import Running, running
from tests.faults import chunks, client, makers
from tests.faults.client import Ended
from tests.faults.cuts import hang_after_headers, hang_before_headers, reset_before_headers
from tests.faults.failures import error_first
from tests.faults.handshakes import resetting
from tests.faults.makers import refusing_anthropic, refusing_gemini
from tests.faults.ports import blackhole_port, closed_port
from tests.faults.replies import ok, ok_openrouter
from tests.faults.statuses import (
    payment_required,
    quota_exhausted,
    rate_limited,
    server_fault,
    unauthorized,
    unauthorized_openai,
)
from tests.faults.steps import Mode
from tests.faults.upstream import FaultUpstream

ROUTES = """
providers:
  openrouter: {{base_url: "{openrouter}", api_key: sk-or-outage-key}}
  openai: {{base_url: "{openai}", api_key: sk-outage-openai}}
  anthropic: {{base_url: "{anthropic}", api_key: sk-ant-outage}}
  google: {{base_url: "{google}", api_key: AIza-outage}}
models:
  written-openai: [openrouter/openai/gpt-4o-mini, openai/gpt-4o-mini]
  written-anthropic: [openrouter/anthropic/claude-sonnet-4.5, anthropic/claude-sonnet-4-5]
  written-google: [openrouter/google/gemini-2.5-flash, google/gemini-2.5-flash]
  backup-openai: {{targets: [openrouter/openai/gpt-4o-mini], direct_backup: true}}
  backup-anthropic: {{targets: [openrouter/anthropic/claude-sonnet-4.5], direct_backup: true}}
  backup-google: {{targets: [openrouter/google/gemini-2.5-flash], direct_backup: true}}
  reverse-openai: [openai/gpt-4o-mini, openrouter/openai/gpt-4o-mini]
  reverse-anthropic: [anthropic/claude-sonnet-4-5, openrouter/anthropic/claude-sonnet-4.5]
  reverse-google: [google/gemini-2.5-flash, openrouter/google/gemini-2.5-flash]
defaults: {{timeouts: {timeouts}}}
keys:
  - {{name: app, key: "{{key}}", budget: $1000/day}}
"""
PATIENT = "{connect: 10s, first_token: 30s}"
HASTY = "{connect: 1s, first_token: 1500ms}"
MAKERS: Mapping[str, Mode] = {"openai": ok(), "anthropic": makers.ok_anthropic(), "google": makers.ok_gemini()}
MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-sonnet-4-5", "google": "gemini-2.5-flash"}
TEXTS = {"openai": chunks.text(chunks.COMPLETION_TOKENS), "anthropic": makers.TEXT, "google": makers.TEXT}
SURFACES = {"written": "/v1", "backup": "/api/v1", "reverse": "/v1"}
CROWD = 20

RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "30s"}
MAKER_FAULTS: Mapping[str, Sequence[Mode]] = {
    "openai": [unauthorized_openai(), quota_exhausted(), server_fault(500), reset_before_headers()],
    "anthropic": [
        refusing_anthropic(401, "authentication_error", "invalid x-api-key"),
        refusing_anthropic(402, "billing_error", "Your credit balance is too low."),
        refusing_anthropic(429, "rate_limit_error", "This request would exceed your rate limit."),
        refusing_anthropic(529, "overloaded_error", "Overloaded"),
        makers.error_first_anthropic(),
    ],
    "google": [
        refusing_gemini(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"
        }),
        refusing_gemini(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", RETRY_INFO),
        refusing_gemini(503, "UNAVAILABLE", "The model is overloaded."),
        makers.error_first_gemini(),
    ],
}  # fmt: skip
FAULTS_OF_MAKERS = [(maker, mode) for maker, modes in MAKER_FAULTS.items() for mode in modes]


@dataclass(frozen=True)
class Outage:
    """One way for OpenRouter to be away, and what the books say of the attempt."""

    name: str
    error: str
    mode: Mode | None = None
    """None: it is not even reached."""
    status: int | None = None
    state: str = "voided"
    """Nobody can tell whether a call that was sent and never answered is charged for: that is booked as an estimate."""
    is_slow: bool = False


OUTAGES = [
    Outage("user_not_found", "credentials", unauthorized(), 401),
    Outage("no_credit", "credits", payment_required(), 402),
    Outage("rate_limited", "rate_limited", rate_limited(), 429),
    Outage("bad_gateway", "server_error", server_fault(502), 502),
    Outage("error_event_first", "invalid_reply", error_first("openrouter"), 200),
    Outage("reset_after_request", "broken_stream", reset_before_headers()),
    Outage("reset_at_connect", "broken_stream"),
    Outage("reset_mid_handshake", "connect_error"),
    Outage("refused", "connect_error"),
    Outage("no_answer", "timeout", hang_before_headers(), state="posted", is_slow=True),
    Outage("no_first_token", "timeout", hang_after_headers(), 200, state="posted", is_slow=True),
    Outage("no_connection", "timeout", is_slow=True),
]


@dataclass
class Stage:
    """A gateway before OpenRouter and three makers."""

    gateway: Running
    upstreams: Mapping[str, FaultUpstream]


@dataclass
class Seen:
    """What one client got."""

    status: int
    headers: Mapping[str, str]
    end: Ended | None
    text: str
    data: list[bytes]


@asynccontextmanager
async def served(folder: Path, outage: Outage | None = None) -> AsyncIterator[Stage]:
    """Serve with good makers and an OpenRouter that suffers the outage, a good one without."""
    mode = outage.mode if outage is not None and outage.mode is not None else ok_openrouter()
    async with (
        FaultUpstream([mode]) as openrouter,
        FaultUpstream([MAKERS["openai"]]) as openai,
        FaultUpstream([MAKERS["anthropic"]]) as anthropic,
        FaultUpstream([MAKERS["google"]]) as google,
        address(outage, openrouter) as url,
    ):
        ups = {"openrouter": openrouter, "openai": openai, "anthropic": anthropic, "google": google}
        urls = {name: up.base_url for name, up in ups.items()} | {"openrouter": url}
        timeouts = HASTY if outage is not None and outage.is_slow else PATIENT
        async with running(ROUTES.format(**urls, timeouts=timeouts), folder) as gateway:
            yield Stage(gateway, ups)


@asynccontextmanager
async def address(outage: Outage | None, openrouter: FaultUpstream) -> AsyncIterator[str]:
    """Give OpenRouter's base URL: its own, unless it is not to be reached."""
    match outage.name if outage is not None else "":
        case "reset_at_connect":
            async with resetting(mid_handshake=False) as url:
                yield url
        case "reset_mid_handshake":
            async with resetting(mid_handshake=True) as url:
                yield url
        case "refused":
            with closed_port() as url:
                yield url
        case "no_connection":
            with blackhole_port() as url:
                yield url
        case _:
            yield openrouter.base_url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def healthy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One gateway whose OpenRouter is well."""
    async with served(tmp_path_factory.mktemp("healthy")) as stage:
        yield stage


async def see(stage: Stage, form: str, maker: str, *, is_stream: bool) -> Seen:
    """Ask for one alias and read to the end."""
    payload = client.chat(f"{form}-{maker}", stream=is_stream, max_tokens=50)
    path = f"{SURFACES[form]}/chat/completions"
    async with client.call(stage.gateway.url, payload, key=stage.gateway.key, path=path) as reply:
        await reply.head()
        if not is_stream or reply.status != 200:
            body = await reply.read()
            message = json.loads(body).get("choices", [{}])[0].get("message", {})
            return Seen(reply.status, reply.headers, reply.end, message.get("content", ""), [body])
        events = [event async for event in reply.events() if event.data]
        text = "".join(event.text for event in events)
        return Seen(reply.status, reply.headers, reply.end, text, [event.data or b"" for event in events])


async def crowd(stage: Stage, form: str, maker: str, *, is_stream: bool) -> list[tuple[Seen, Sequence[AttemptRow]]]:
    """Have twenty clients ask at once, and look up the rows of each."""
    seen = await asyncio.gather(*(see(stage, form, maker, is_stream=is_stream) for _ in range(CROWD)))
    find = stage.gateway.gateway.ledger.find_request
    return [(one, await find(one.headers["x-request-id"])) for one in seen]


def expect_answer(seen: Seen, provider: str, text: str, *, is_stream: bool) -> None:
    """Hold one client's reply to a whole answer of the second target."""
    assert seen.status == 200, seen.data
    assert seen.end is Ended.COMPLETE
    assert seen.text == text
    assert seen.headers["x-turnpike-provider"] == provider
    assert seen.headers["x-turnpike-attempts"] == "2"
    assert not any(b'"error"' in item for item in seen.data)
    assert (seen.data[-1] == b"[DONE]") is is_stream


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
@pytest.mark.parametrize("outage", OUTAGES, ids=lambda outage: outage.name)
async def test_makers_answer_while_openrouter_is_away(tmp_path: Path, outage: Outage, *, is_stream: bool) -> None:
    """Twenty clients each, of every maker, the backup written out or added: all are answered, none sees a fault."""
    async with served(tmp_path, outage) as stage:
        pairs = [(form, maker) for form in ("written", "backup") for maker in MAKERS]
        results = await asyncio.gather(*(crowd(stage, form, maker, is_stream=is_stream) for form, maker in pairs))
        for (_, maker), group in zip(pairs, results, strict=True):
            assert len(group) == CROWD
            for seen, rows in group:
                expect_answer(seen, maker, TEXTS[maker], is_stream=is_stream)
                assert seen.headers["x-turnpike-model"] == MODELS[maker]
                expect_rows(rows, outage, maker)
        assert all(len(stage.upstreams[maker].exchanges) == 2 * CROWD for maker in MAKERS)


def expect_rows(rows: Sequence[AttemptRow], outage: Outage, maker: str) -> None:
    """Hold the books of one request: what failed at OpenRouter, and what the maker is paid for."""
    first, second = rows
    assert (first.provider, first.error, first.status) == ("openrouter", outage.error, outage.status)
    assert first.state == outage.state
    assert (first.cost_source, bool(first.cost_nano_usd)) == (
        (None, False) if outage.state == "voided" else ("estimated", True)
    )
    assert (second.provider, second.model, second.error) == (maker, MODELS[maker], None)
    assert (second.state, second.status) == ("posted", 200)
    assert second.cost_source == "computed"
    assert second.cost_nano_usd


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
@pytest.mark.parametrize(
    ("maker", "mode"), FAULTS_OF_MAKERS, ids=[f"{maker}-{mode.name}" for maker, mode in FAULTS_OF_MAKERS]
)
@pytest.mark.asyncio(loop_scope="module")
async def test_openrouter_answers_while_a_maker_is_away(
    healthy: Stage, maker: str, mode: Mode, *, is_stream: bool
) -> None:
    """The other direction, each maker failing in its own words."""
    healthy.upstreams[maker].replace_script([mode])
    text = chunks.text(chunks.COMPLETION_TOKENS)
    for seen, rows in await crowd(healthy, "reverse", maker, is_stream=is_stream):
        expect_answer(seen, "openrouter", text, is_stream=is_stream)
        assert [row.provider for row in rows] == [maker, "openrouter"]
        assert [row.error is None for row in rows] == [False, True]
        assert (rows[1].state, rows[1].cost_source, rows[1].cost_nano_usd) == ("posted", "reported", 420_000)


EVERYTHING: dict[str, Any] = {
    "temperature": 1.5, "top_p": 0.9, "top_k": 4, "min_p": 0.1, "top_a": 0.1, "repetition_penalty": 1.1,
    "frequency_penalty": 0.5, "presence_penalty": 0.5, "seed": 3, "logprobs": True, "top_logprobs": 2,
    "logit_bias": {"1": 2}, "n": 1, "stop": ["x", " "], "user": "someone@example.org", "parallel_tool_calls": False,
    "tools": [{"type": "function", "function": {"name": "wind", "parameters": {"type": "object", "properties": {}}}}],
    "tool_choice": "required", "reasoning": {"effort": "high"}, "include_reasoning": True, "max_tokens": 5000,
    "session_id": "s", "trace": {"trace_id": "t"}, "usage": {"include": True},
    "provider": {"order": ["x"]}, "plugins": [{"id": "response-healing"}], "transforms": [], "route": "fallback",
    "debug": {"echo_upstream_body": True},
}  # fmt: skip
OPENROUTER_OWN = {
    "reasoning", "include_reasoning", "session_id", "trace", "usage", "models", "provider", "plugins", "transforms",
    "route", "debug", "top_a", "min_p", "repetition_penalty",
}  # fmt: skip


@pytest.mark.parametrize("maker", MAKERS)
async def test_a_backup_is_a_real_backup(tmp_path: Path, maker: str) -> None:
    """Of all that OpenRouter takes and drops in silence the maker is sent what it knows; OpenRouter was sent it all."""
    async with served(tmp_path, OUTAGES[0]) as stage:
        payload = client.chat(f"backup-{maker}", **{**EVERYTHING, "models": [f"written-{maker}"]})
        answer = await client.ask(stage.gateway.url, payload, key=stage.gateway.key)
        assert (answer.status, answer.headers["x-turnpike-provider"]) == (200, maker)
        (sent,) = stage.upstreams[maker].exchanges
        assert not OPENROUTER_OWN & set(sent.body)
        assert b"someone@example.org" not in sent.raw or maker == "openai"
        asked = stage.upstreams["openrouter"].exchanges[0].body
        kept = EVERYTHING.keys() - {"route", "provider"}
        assert {name: asked[name] for name in kept} == {name: EVERYTHING[name] for name in kept}


@pytest.mark.parametrize("maker", ["openai", "anthropic", "google"])
async def test_a_backup_says_what_it_left_out(tmp_path: Path, maker: str) -> None:
    """The header names every parameter the maker was not sent."""
    async with served(tmp_path, OUTAGES[0]) as stage:
        payload = client.chat(f"backup-{maker}", min_p=0.1, top_a=0.1, repetition_penalty=1.1)
        answer = await client.ask(stage.gateway.url, payload, key=stage.gateway.key)
        assert set(answer.headers["x-turnpike-dropped"].split(", ")) == {"min_p", "top_a", "repetition_penalty"}


@pytest.mark.parametrize("wanted", [{"zdr": True}, {"data_collection": "deny"}, {"only": ["openrouter"]}])
async def test_a_backup_is_added_under_the_client_s_conditions(tmp_path: Path, wanted: dict[str, Any]) -> None:
    """A maker that routes.yaml does not vouch for stays unasked, outage or not; the error blames nobody's key."""
    async with served(tmp_path, OUTAGES[0]) as stage:
        payload = client.chat("backup-anthropic", provider=wanted)
        answer = await client.ask(stage.gateway.url, payload, key=stage.gateway.key)
        assert answer.status == 503
        assert not stage.upstreams["anthropic"].exchanges


@pytest.mark.parametrize("form", ["written", "backup"])
@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
async def test_refused_credentials_everywhere_are_not_the_client_s(
    tmp_path: Path, form: str, *, is_stream: bool
) -> None:
    """OpenRouter's 401 and the maker's: 503 on `/v1`, 402 on `/api/v1`, said to be the gateway's own trouble."""
    refusals: dict[str, Any] = {
        "openai": MAKER_FAULTS["openai"][0],
        "anthropic": MAKER_FAULTS["anthropic"][0],
        "google": MAKER_FAULTS["google"][0],
    }
    async with served(tmp_path, OUTAGES[0]) as stage:
        for maker, mode in refusals.items():
            stage.upstreams[maker].replace_script([mode])
            seen = await see(stage, form, maker, is_stream=is_stream)
            assert seen.status == (503 if SURFACES[form] == "/v1" else 402)
            error = json.loads(seen.data[0])["error"]
            assert "not about your key" in error["message"]
            assert seen.headers["x-should-retry"] == "false"
            assert [attempt["provider"] for attempt in error["metadata"]["attempts"]] == ["openrouter", maker]
