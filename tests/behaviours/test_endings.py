"""How a stream ends: with the figures of the books, one `[DONE]`, and no word that is not the client's to read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.errors import LedgerUnavailable
from proxy.gateway import attempt
from tests.behaviours.gateway import Running, running
from tests.faults import chunks, client
from tests.faults.chunks import DONE, event
from tests.faults.client import Ended
from tests.faults.replies import streamed
from tests.faults.steps import Mode, Outcome, Send, Tokens
from tests.faults.upstream import FaultUpstream

ROUTES = """
providers:
  up:
    dialect: openai
    base_url: "{up}"
    api_key: canary.of/the:key
    headers: {{api-key: "canary.of/the:header"}}
    price: {{input: $1/M, output: $2/M}}
  router: {{dialect: openrouter, base_url: "{up}", api_key: canary.of/the:key, price: {{input: $1/M, output: $2/M}}}}
models: {{m: up/one, routed: router/one}}
defaults: {{retry: {{attempts: 1}}}}
keys: [{{name: app, key: "{{key}}", budget: $100/day}}]
"""
TOKENS = Tokens(7, 1)
WORD = event(chunks.content("m", "Hi"))
FINISH = event(chunks.finish("m"))
USAGE = event(chunks.chunk_of("m", [], usage=chunks.usage(TOKENS)))
WANTED: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
SURFACES = ["/v1", "/api/v1"]


class Stage:
    """A gateway before an upstream that says what it is told."""

    def __init__(self, gateway: Running, up: FaultUpstream) -> None:
        """Keep both."""
        self.gateway = gateway
        self.up = up

    async def stream(self, *events: bytes, model: str = "m", surface: str = "/v1") -> tuple[Ended | None, list[bytes]]:
        """Have these events streamed; gives how the stream ended for the client, and the data it got."""
        self.up.replace_script([saying(*events)])
        path = f"{surface}/chat/completions"
        payload = client.chat(model, **WANTED)
        async with client.call(self.gateway.url, payload, key=self.gateway.key, path=path) as reply:
            data = [event.data async for event in reply.events() if event.data]
            return reply.end, data


def saying(*events: bytes) -> Mode:
    """Make a mode of the events of one stream."""
    return Mode("saying", lambda _: streamed(map(Send, events)), stream=Outcome.ANSWER, json=Outcome.ANSWER)


def broken_off(error: dict[str, Any]) -> bytes:
    """Write OpenRouter's frame of a stream that broke."""
    choices = [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]
    return event(chunks.chunk_of("m", choices, error=error))


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Serve one model of each dialect."""
    async with FaultUpstream() as up, running(ROUTES.format(up=up.base_url), tmp_path) as gateway:
        yield Stage(gateway, up)


@pytest.mark.parametrize("done", [b"data:[DONE]\n\n", b"data: [DONE] \n\n", b"event: end\ndata: [DONE]\n\n", b""])
async def test_there_is_one_done_however_it_is_spelt(stage: Stage, done: bytes) -> None:
    """A provider without the blank, or without any `[DONE]`: the client gets one."""
    end, data = await stage.stream(WORD, FINISH, USAGE, done)
    assert end is Ended.COMPLETE
    assert [item.strip() for item in data].count(b"[DONE]") == 1


@pytest.mark.parametrize("surface", SURFACES)
async def test_the_cost_shown_is_the_cost_booked(stage: Stage, surface: str) -> None:
    """A usage that leaves out what was delivered is counted here: the client reads the figure of its row."""
    silent = event(chunks.chunk_of("m", [], usage=chunks.usage(Tokens(7, 0))))
    _, data = await stage.stream(WORD, FINISH, silent, DONE, surface=surface)
    shown = json.loads(data[-2])["usage"]
    (row,) = await stage.gateway.settled_rows()
    assert row.cost_source == "estimated"
    assert shown["cost_source"] == "estimated"
    assert round(shown["cost"] * 1e9) == row.cost_nano_usd


async def test_a_whole_answer_ends_clean_while_the_books_are_shut(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settlement waits in the ledger; the client's answer was whole, so its connection is not cut."""

    async def settle(_settlement: object) -> bool:
        msg = "the ledger does not answer"
        raise LedgerUnavailable(msg)

    monkeypatch.setattr(stage.gateway.gateway.ledger, "settle", settle)
    end, data = await stage.stream(WORD, FINISH, USAGE, DONE)
    assert (end, data[-1]) == (Ended.COMPLETE, b"[DONE]")


@pytest.mark.parametrize("surface", SURFACES)
async def test_a_first_word_that_is_nearly_json_is_not_lost(stage: Stage, surface: str) -> None:
    """Half of an emoji or a NaN beside the first word: it is mended and passed on, at once."""
    half = WORD.replace(b"Hi", b"\\ud83d")
    odd = WORD.replace(b'"Hi"', b'"Ho","logprob":NaN')
    end, data = await stage.stream(half, odd, FINISH, USAGE, DONE, surface=surface)
    assert end is Ended.COMPLETE
    said = [choice["delta"].get("content") for item in data[:2] for choice in json.loads(item)["choices"]]
    assert said[0] == "\ufffd"


async def test_data_that_is_no_json_is_no_first_word(stage: Stage) -> None:
    """Rubbish before anything meaningful is a failure of this target: another one could still be asked."""
    stage.up.replace_script([saying(b"data: {rubbish}\n\n", WORD, FINISH, DONE)])
    answer = await client.ask(stage.gateway.url, client.chat("m", **WANTED), key=stage.gateway.key)
    assert answer.status == 502
    (row,) = await stage.gateway.settled_rows()
    assert row.error == "invalid_reply"


@pytest.mark.parametrize("code", [401, 402])
@pytest.mark.parametrize("surface", SURFACES)
async def test_a_broken_stream_never_blames_the_client_s_key(stage: Stage, surface: str, code: int) -> None:
    """The provider dropped our credential in the middle: on either surface that is a 502, not the client's 401."""
    frame = broken_off({"code": code, "message": "User not found"})
    end, data = await stage.stream(WORD, frame, model="routed", surface=surface)
    assert end is not Ended.COMPLETE
    assert json.loads(data[-1])["error"]["code"] == ("upstream_error" if surface == "/v1" else 502)


@pytest.mark.parametrize("surface", SURFACES)
async def test_no_field_of_an_error_holds_our_credentials(stage: Stage, surface: str) -> None:
    """Keys that look like no key are known by their value: in every text of an error, a header's key too."""
    said = "canary.of/the:key, canary.of/the:header"
    error = {"message": said, "code": said, "param": said, "metadata": {"provider_name": said, "reasons": [said]}}
    _, data = await stage.stream(WORD, broken_off(error), surface=surface)
    assert b"canary" not in b"".join(data)
    assert b"key removed" in data[-1]


async def test_a_hold_ends_though_its_cost_cannot_be_worked_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer that fails is a bug of ours: the stream is cut, and the hold is posted in full, not left open."""

    def count(*_arguments: object) -> int:
        msg = "a bug"
        raise RuntimeError(msg)

    monkeypatch.setattr(attempt, "count", count)
    end, _ = await stage.stream(WORD, FINISH, DONE)
    assert end is not Ended.COMPLETE
    (row,) = await stage.gateway.settled_rows()
    assert (row.cost_source, row.error) == ("held", "unsettled")
    assert row.cost_nano_usd == row.hold_nano_usd
