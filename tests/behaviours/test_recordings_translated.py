"""Recorded answers of Anthropic and Gemini through the gateway: what a client reads is what the vendor said.

What the vendor said is read by the plain readers of `tests/codecs`, which know nothing of our codecs.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.usage import Usage
from tests.behaviours.gateway import Running, running
from tests.codecs.anthropic.reading import Told
from tests.codecs.anthropic.test_recordings import assert_same
from tests.codecs.anthropic.test_recordings import read_plainly as read_anthropic
from tests.codecs.google.test_recordings import Said, add_message
from tests.codecs.google.test_recordings import read_plainly as read_google
from tests.faults import client
from tests.faults.client import Ended
from tests.faults.framing import Framing
from tests.faults.replay import Recording, recordings, replay
from tests.faults.upstream import FaultUpstream

ROUTES = """
providers:
  anthropic: {{dialect: anthropic, base_url: "{up}", api_key: sk-ant-test, price: {price}}}
  google: {{dialect: google, base_url: "{up}", api_key: AIza-test, price: {price}}}
models:
  from-anthropic: anthropic/recorded
  from-google: google/recorded
defaults: {{retry: {{attempts: 1}}}}
keys:
  - {{name: app, key: "{{key}}", budget: $1000/day}}
"""
PRICE = "{input: $1/M, output: $2/M, cache_read: $0.1/M, cache_write: $1.25/M, cache_write_1h: $3/M, audio_input: $1/M}"
RECORDINGS = recordings({"anthropic", "google"})
SEEDS = (1, 2, 3)
SURFACES = ("/v1", "/api/v1")
BROKEN = "a:stop=UNEXPECTED_TOOL_CALL"
ANSWERS = [recording for recording in RECORDINGS if recording.status == 200 and BROKEN not in recording.features]
FAILURES = [recording for recording in RECORDINGS if recording not in ANSWERS]
BOOKED = [pytest.param(one, id=one.id) for one in ANSWERS]
SKIP = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
"""What stands for a signature nobody has (openrouter.md 8.5)."""

pytestmark = [
    pytest.mark.skipif(not RECORDINGS, reason="the folder of recordings is not beside this checkout"),
    pytest.mark.asyncio(loop_scope="module"),
]


@dataclass
class Stage:
    """A gateway in front of a replaying vendor."""

    gateway: Running
    upstream: FaultUpstream


@dataclass
class Heard:
    """What a client makes of a reply, streamed or not."""

    status: int
    headers: dict[str, str]
    end: Ended | None
    message: dict[str, Any] = field(default_factory=dict)
    finish: str | None = None
    native_finish: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    chunks: list[dict[str, Any]] = field(default_factory=list)
    """A whole reply is one."""
    is_done: bool = False

    @property
    def error(self) -> dict[str, Any]:
        """Give the error of a reply that is one."""
        error: dict[str, Any] = self.chunks[0]["error"]
        return error


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One gateway for all recordings."""
    folder: Path = tmp_path_factory.mktemp("translated")
    async with FaultUpstream() as up, running(ROUTES.format(up=up.base_url, price=PRICE), folder) as gateway:
        yield Stage(gateway, up)


async def hear(stage: Stage, recording: Recording, *, seed: int, surface: str, messages: list[Any]) -> Heard:
    """Have a recording served, torn by a seed, and read what comes out."""
    framing = Framing.LENGTH if seed == SEEDS[-1] and not recording.is_stream else Framing.CHUNKED
    stage.upstream.replace_script([replay(recording, seed=seed, framing=framing)])
    payload: dict[str, Any] = {
        "model": f"from-{recording.dialect}",
        "messages": messages,
        "stream": is_asked(recording),
    }
    if is_asked(recording) and surface == "/v1":
        payload["stream_options"] = {"include_usage": True}
    path = f"{surface}/chat/completions"
    async with client.call(stage.gateway.url, payload, key=stage.gateway.key, path=path) as reply:
        await reply.head()
        if not recording.is_stream or reply.status != 200:
            whole = json.loads(await reply.read())
            return read_reply(Heard(reply.status, reply.headers, reply.end, chunks=[whole]), whole)
        data = [event.data async for event in reply.events() if event.data]
        return read_chunks(Heard(reply.status, reply.headers, reply.end, is_done=b"[DONE]" in data[-1:]), data)


def is_asked(recording: Recording) -> bool:
    """Tell whether the recorded client asked for a stream: an error comes as JSON then, too."""
    return recording.is_stream or "stream" in recording.path or recording.request.get("stream") is True


def read_reply(heard: Heard, whole: dict[str, Any]) -> Heard:
    """Read a JSON reply."""
    if heard.status == 200:
        (choice,) = whole["choices"]
        heard.message, heard.usage = choice["message"], whole["usage"]
        heard.finish, heard.native_finish = choice["finish_reason"], choice["native_finish_reason"]
    return heard


def read_chunks(heard: Heard, data: list[bytes]) -> Heard:
    """Put a stream together as OpenRouter's clients do: texts and arguments joined, details in the order they came."""
    heard.chunks = [json.loads(item) for item in data if item != b"[DONE]"]
    heard.message = {"role": "assistant", "content": "", "reasoning": ""}
    for chunk in heard.chunks:
        heard.usage = chunk.get("usage") or heard.usage
        for choice in chunk["choices"]:
            heard.finish = choice["finish_reason"] or heard.finish
            heard.native_finish = choice.get("native_finish_reason") or heard.native_finish
            add_delta(heard.message, choice["delta"])
    return heard


def add_delta(message: dict[str, Any], delta: dict[str, Any]) -> None:
    """Add what one chunk says."""
    for name in ("content", "reasoning"):
        message[name] += delta.get(name) or ""
    for name in ("reasoning_details", "annotations"):
        message.setdefault(name, []).extend(delta.get(name) or [])
    calls = message.setdefault("tool_calls", [])
    for call in delta.get("tool_calls") or []:
        if call["index"] == len(calls):
            calls.append({**call, "function": dict(call["function"])})
        else:
            calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]


def without(message: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is empty, and the index calls have in a stream: so a client sends a message back."""
    kept = {name: value for name, value in message.items() if value or name in ("role", "content")}
    for call in kept.get("tool_calls", []):
        call.pop("index", None)
    return kept


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("recording", BOOKED)
async def test_a_translated_answer_says_what_the_vendor_said(stage: Stage, recording: Recording, seed: int) -> None:
    """However the bytes are torn: text, thoughts, calls, signatures, ending, usage with its cost, the books as well."""
    heard = await hear(stage, recording, seed=seed, surface="/v1", messages=[hello()])
    await expect_answer(stage, recording, heard)


@pytest.mark.parametrize("recording", BOOKED)
async def test_openrouter_s_clients_get_it_in_their_form(stage: Stage, recording: Recording) -> None:
    """On `/api/v1`: the same, the provider named, every key that their SDKs demand, usage without asking."""
    heard = await hear(stage, recording, seed=SEEDS[0], surface="/api/v1", messages=[hello()])
    await expect_answer(stage, recording, heard)
    assert heard.chunks[0]["provider"] == recording.dialect
    for chunk in heard.chunks:
        assert chunk.get("system_fingerprint", "") is None or recording.is_stream
        assert "system_fingerprint" not in chunk or not recording.is_stream
        assert all("finish_reason" in choice for choice in chunk["choices"])


@pytest.mark.parametrize("recording", ANSWERS, ids=lambda recording: recording.id)
async def test_an_answer_sent_back_reaches_the_vendor_as_it_said_it(stage: Stage, recording: Recording) -> None:
    """The next turn of a conversation: thinking, signatures and calls come out as they went in."""
    heard = await hear(stage, recording, seed=SEEDS[0], surface="/v1", messages=[hello()])
    message = without(heard.message)
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "42"} for call in message.get("tool_calls", [])]
    messages = [hello(), message, *results, {"role": "user", "content": "Go on."}]
    await hear(stage, recording, seed=SEEDS[1], surface="/v1", messages=messages)
    body = stage.upstream.exchanges[-1].body
    if recording.dialect == "anthropic":
        expect_anthropic_turns(recording, body["messages"])
    else:
        expect_google_turns(recording, body["contents"])


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("recording", FAILURES, ids=lambda recording: recording.id)
async def test_a_recorded_error_is_an_error(stage: Stage, recording: Recording, surface: str) -> None:
    """A refusal keeps its status and words; an answer that ended in an error is none, and what it used is booked."""
    heard = await hear(stage, recording, seed=SEEDS[0], surface=surface, messages=[hello()])
    (row,) = await stage.gateway.gateway.ledger.find_request(heard.headers["x-request-id"])
    code = heard.error["code"]
    assert isinstance(code, str if surface == "/v1" else int)
    if recording.status == 200:
        assert heard.status == 502
        assert row.state == "posted"
        assert row.usage.output_tokens == read_google(recording).tokens["output_tokens"]
        return
    assert heard.status == recording.status
    assert json.loads(recording.body)["error"]["message"] in heard.error["message"]
    assert (row.state, row.cost_nano_usd, row.status) == ("voided", 0, recording.status)


def hello() -> dict[str, Any]:
    """Begin a conversation."""
    return {"role": "user", "content": "Grüße, replay."}


async def expect_answer(stage: Stage, recording: Recording, heard: Heard) -> None:
    """Hold what a client read, and the row, against the recording."""
    assert (heard.status, heard.end) == (200, Ended.COMPLETE)
    assert heard.is_done is recording.is_stream
    used = expect_words(recording, heard)
    cost_nano_usd = cost_of(used)
    assert usage_of(heard.usage) == used
    assert heard.usage["total_tokens"] == used.input_tokens + used.output_tokens
    assert (round(heard.usage["cost"] * 1e9), heard.usage["cost_source"]) == (cost_nano_usd, "computed")
    if recording.is_stream:
        assert [bool(chunk.get("usage")) for chunk in heard.chunks].count(True) == 1
        assert heard.chunks[-1]["choices"] == []
    else:
        assert heard.headers["x-turnpike-cost"] == f"{cost_nano_usd / 1e9:.9f}"
    (row,) = await stage.gateway.gateway.ledger.find_request(heard.headers["x-request-id"])
    assert (row.state, row.cost_nano_usd, row.cost_source) == ("posted", cost_nano_usd, "computed")
    assert plain_of(row.usage) == used


def expect_words(recording: Recording, heard: Heard) -> Usage:
    """Compare everything said; gives what the vendor counted."""
    if recording.dialect == "anthropic":
        plain, message = read_anthropic(recording), heard.message
        calls = [{"id": call["id"], **call["function"]} for call in message.get("tool_calls") or []]
        details, notes = message.get("reasoning_details") or [], message.get("annotations") or []
        told = Told(message["content"], message.get("reasoning") or "", details, calls, notes)
        told.finish_reason, told.native_finish_reason = heard.finish, heard.native_finish
        assert_same(told, plain.bill(), plain)
        return plain.bill()
    said, vendor = Said(finish=heard.finish, native_finish=heard.native_finish), read_google(recording)
    add_message(said, without(heard.message))
    said.tokens = vendor.tokens
    assert said == vendor
    tokens = vendor.tokens
    return Usage(
        input_tokens=tokens["input_tokens"],
        output_tokens=tokens["output_tokens"],
        cached_tokens=tokens["cached_tokens"],
        reasoning_tokens=tokens["reasoning_tokens"],
        web_searches=len(queries_of(recording)),
    )


def usage_of(usage: dict[str, Any]) -> Usage:
    """Read a client's usage by OpenRouter's documentation (openrouter.md 4.2)."""
    into, out = usage["prompt_tokens_details"], usage["completion_tokens_details"]
    hour = into.get("cache_write_1h_tokens", 0)
    return Usage(
        input_tokens=usage["prompt_tokens"],
        output_tokens=usage["completion_tokens"],
        cached_tokens=into["cached_tokens"],
        cache_write_tokens=into.get("cache_write_tokens", 0) - hour,
        cache_write_1h_tokens=hour,
        reasoning_tokens=out["reasoning_tokens"],
        web_searches=usage.get("server_tool_use_details", {}).get("web_search_requests", 0),
    )


def queries_of(recording: Recording) -> set[str]:
    """Find what Gemini searched for, however often it says so."""
    lists = re.findall(r'"webSearchQueries"\s*:\s*(\[[^\]]*\])', recording.body.decode())
    return {query for found in lists for query in json.loads(found)}


def plain_of(usage: Usage) -> Usage:
    """Leave out what the plain readers do not tell; odd figures are for the log."""
    return Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        web_searches=usage.web_searches,
    )


def cost_of(used: Usage) -> int:
    """Multiply by `PRICE`: whole nano-USD for each kind of token."""
    written, hour = used.cache_write_tokens, used.cache_write_1h_tokens
    fresh = used.input_tokens - used.cached_tokens - written - hour
    into = fresh * 1_000 + used.cached_tokens * 100 + written * 1_250 + hour * 3_000
    return into + used.output_tokens * 2_000


def expect_anthropic_turns(recording: Recording, turns: list[dict[str, Any]]) -> None:
    """Find the assistant's blocks, and each call's result behind it."""
    plain = read_anthropic(recording)
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    blocks = turns[1]["content"]
    thinking = [block for block in blocks if block["type"] in ("thinking", "redacted_thinking")]
    assert thinking == plain.thoughts() == blocks[: len(thinking)]
    calls = [(block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"]
    # What was cut off in the middle of its arguments is no object, and Anthropic takes no other input.
    said = [
        (id_, name, {"arguments": given} if isinstance(given, str) else given) for id_, name, given in plain.calls()
    ]
    assert calls == said
    results = [block["tool_use_id"] for block in turns[2]["content"] if block["type"] == "tool_result"]
    assert results == [call[0] for call in calls]


def expect_google_turns(recording: Recording, contents: list[dict[str, Any]]) -> None:
    """Find the model's parts, and each call's result behind it."""
    vendor = read_google(recording)
    has_spoken = bool(vendor.text or vendor.calls or vendor.steps or vendor.signatures)
    assert [turn["role"] for turn in contents] == (["user", "model", "user"] if has_spoken else ["user"])
    parts = contents[1]["parts"] if has_spoken else []
    signed = [part["thoughtSignature"] for part in parts if "thoughtSignature" in part]
    assert signed in (vendor.signatures, [SKIP] if vendor.calls and not vendor.signatures else [])
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    assert [(call["name"], call["args"]) for call in calls] == vendor.calls
    replies = [part for turn in contents[2:] for part in turn["parts"]]
    assert [part["functionResponse"]["name"] for part in replies if "functionResponse" in part] == [
        name for name, _ in vendor.calls
    ]
