"""Recorded answers of Anthropic's through the codec, held against a plain reading of the same bytes.

The reader here follows Anthropic's documentation event by event and knows nothing of the codec.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from proxy.codecs.intake import Batch
from proxy.codecs.wire import JsonObject
from proxy.errors import FailureKind
from proxy.usage import Usage
from tests.codecs.accumulation import accumulate
from tests.codecs.anthropic.asking import USER, turns
from tests.codecs.anthropic.reading import CODEC, Told, add_up, reading, take_in
from tests.faults.framing import split_at, split_everywhere, torn
from tests.faults.replay import Recording, recordings

RECORDINGS = recordings({"anthropic"})
ERRORS = [recording for recording in RECORDINGS if recording.status != 200]
STREAMS = [recording for recording in RECORDINGS if recording.is_stream]
REPLIES = [recording for recording in RECORDINGS if not recording.is_stream and recording.status == 200]
SEEDS = range(8)
EVERYWHERE_BYTES_MAX = 20_000
"""Longer streams are torn at random places only."""
FINISHES = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls"}
FINISHES |= {"refusal": "content_filter", "pause_turn": "length", "model_context_window_exceeded": "length"}
KINDS = {400: FailureKind.BAD_REQUEST, 404: FailureKind.NOT_FOUND}

pytestmark = pytest.mark.skipif(not RECORDINGS, reason="the folder of recordings is not beside this checkout")


@dataclass
class Plain:
    """What a recording says, read without the codec."""

    blocks: list[JsonObject] = field(default_factory=list)
    inputs: dict[int, str] = field(default_factory=dict)
    """Text of the arguments streamed for the block at this place in `blocks`."""
    stop: str | None = None
    usage: JsonObject = field(default_factory=dict)
    id: str = ""
    model: str = ""

    def add_start(self, message: JsonObject) -> None:
        """Take a message, whole or only begun."""
        self.id, self.model = self.id or message["id"], self.model or message["model"]
        self.blocks += message["content"]
        self.stop = message["stop_reason"] or self.stop
        self.usage |= message["usage"]

    def texts(self, kind: str, name: str) -> str:
        """Join what the blocks of a kind hold under a name."""
        return "".join(block[name] for block in self.blocks if block["type"] == kind)

    def thoughts(self) -> list[JsonObject]:
        """Give the thinking blocks as they must be sent back."""
        names = ("type", "thinking", "signature", "data")
        thinking = [block for block in self.blocks if block["type"] in ("thinking", "redacted_thinking")]
        return [{name: block[name] for name in names if name in block} for block in thinking]

    def calls(self) -> list[tuple[str, str, Any]]:
        """Give each call's id, name and arguments; those that are no JSON as they came."""
        found = []
        for place, block in enumerate(self.blocks):
            if block["type"] == "tool_use":
                streamed = self.inputs.get(place)
                found.append((block["id"], block["name"], read_json(streamed) if streamed else block["input"]))
        return found

    def bill(self) -> Usage:
        """Add up the counts."""
        usage = self.usage
        if usage.get("iterations"):
            names = {name for step in usage["iterations"] for name in step if name.endswith("_tokens")}
            usage = {**usage, **{name: sum(step.get(name, 0) for step in usage["iterations"]) for name in names}}
        written, read = usage.get("cache_creation_input_tokens") or 0, usage.get("cache_read_input_tokens") or 0
        hour = (usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens", 0)
        return Usage(
            input_tokens=usage["input_tokens"] + written + read,
            output_tokens=usage["output_tokens"],
            cached_tokens=read,
            cache_write_tokens=written - hour,
            cache_write_1h_tokens=hour,
            reasoning_tokens=(usage.get("output_tokens_details") or {}).get("thinking_tokens", 0),
            web_searches=(usage.get("server_tool_use") or {}).get("web_search_requests", 0),
        )


def read_json(text: str) -> Any:
    """Parse JSON, or give the text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def read_plainly(recording: Recording) -> Plain:
    """Read a recorded answer, streamed or whole."""
    plain = Plain()
    if not recording.is_stream:
        plain.add_start(json.loads(recording.body))
        return plain
    places: dict[int, int] = {}
    for line in recording.body.decode().replace("\r\n", "\n").split("\n"):
        if line.startswith("data:"):
            read_event(json.loads(line[5:]), plain, places)
    return plain


def read_event(event: JsonObject, plain: Plain, places: dict[int, int]) -> None:
    """Apply one event; `places` tells where the block of an index stands."""
    match event["type"]:
        case "message_start":
            plain.add_start(event["message"])
        case "message_delta":
            plain.stop = event["delta"]["stop_reason"] or plain.stop
            plain.usage |= event["usage"]
        case "content_block_start":
            places[event["index"]] = len(plain.blocks)
            plain.blocks.append(dict(event["content_block"]))
        case "content_block_delta":
            place, delta = places[event["index"]], event["delta"]
            block = plain.blocks[place]
            match delta["type"]:
                case "text_delta":
                    block["text"] += delta["text"]
                case "thinking_delta":
                    block["thinking"] += delta["thinking"]
                case "signature_delta":
                    block["signature"] = delta["signature"]
                case "input_json_delta":
                    plain.inputs[place] = plain.inputs.get(place, "") + delta["partial_json"]
                case "citations_delta":
                    block["citations"].append(delta["citation"])


def assert_same(told: Told, usage: Usage | None, plain: Plain) -> None:
    """Hold what a client was told against the plain reading."""
    assert (told.content or "") == plain.texts("text", "text")
    assert told.reasoning == plain.texts("thinking", "thinking")
    assert [(call["id"], call["name"], read_json(call["arguments"])) for call in told.calls] == plain.calls()
    assert told.native_finish_reason == plain.stop
    assert told.finish_reason == FINISHES[plain.stop or ""]
    assert usage == plain.bill()
    assert len(told.annotations) == sum(len(block.get("citations") or ()) for block in plain.blocks)
    # What a client keeps is what it sends back: the blocks must come out as Anthropic wrote them.
    back = {"role": "assistant", "content": "A", "reasoning_details": told.details}
    assert turns(USER, back, USER)[1][1][:-1] == plain.thoughts()


def read_stream(recording: Recording, pieces: list[bytes]) -> tuple[Batch, Usage | None]:
    """Read a stream's pieces, and see it end well."""
    batch, usage = take_in(pieces)
    assert (batch.failure, batch.is_end) == (None, True)
    return batch, usage


@pytest.mark.parametrize("recording", STREAMS, ids=lambda recording: recording.id)
def test_a_recorded_stream_says_what_it_said(recording: Recording) -> None:
    """Text, thinking, signatures, calls, finish reason and usage; ids too."""
    plain = read_plainly(recording)
    batch, usage = read_stream(recording, [recording.body])
    assert_same(add_up(batch.frames), usage, plain)
    heads = {(frame.chunk["id"], frame.chunk["model"]) for frame in batch.frames if frame.chunk}
    assert heads == {(plain.id, plain.model)}
    assert all(frame.raw == b"data: " + orjson.dumps(frame.chunk) + b"\n\n" for frame in batch.frames if frame.chunk)


@pytest.mark.parametrize("recording", STREAMS, ids=lambda recording: recording.id)
def test_recorded_thinking_put_together_by_openai_s_sdk_goes_back(recording: Recording) -> None:
    """The blocks come out as Anthropic wrote them."""
    batch, _ = read_stream(recording, [recording.body])
    deltas = [choice["delta"] for frame in batch.frames if frame.chunk for choice in frame.chunk["choices"]]
    thinking = [{"reasoning_details": delta["reasoning_details"]} for delta in deltas if "reasoning_details" in delta]
    back = {"role": "assistant", "content": "A", **accumulate(thinking)}
    assert turns(USER, back, USER)[1][1][:-1] == read_plainly(recording).thoughts()


@pytest.mark.parametrize("recording", STREAMS, ids=lambda recording: recording.id)
def test_a_torn_recording_is_the_same_stream(recording: Recording) -> None:
    """Cut anywhere, inside characters too: the same frames and usage."""
    whole = read_stream(recording, [recording.body])
    for seed in SEEDS:
        assert read_stream(recording, torn(recording.body, seed=seed)) == whole
    if len(recording.body) <= EVERYWHERE_BYTES_MAX:
        assert read_stream(recording, split_everywhere(recording.body)) == whole


@pytest.mark.parametrize("recording", STREAMS, ids=lambda recording: recording.id)
def test_a_recording_cut_before_its_stop_reason_is_broken(recording: Recording) -> None:
    """Wherever it ends: a failure, and the input is known as soon as anything is."""
    last = recording.body.rfind(b"message_delta")
    for place in {*range(0, last, max(1, last // 100)), last}:
        batch, usage = take_in(split_at(recording.body, [place])[:1] if place else [])
        assert batch.failure is not None
        assert not batch.is_end
        if any(frame.chunk for frame in batch.frames):
            assert usage is not None
            assert (usage.input_tokens > 0, usage.output_tokens) == (True, 0)


@pytest.mark.parametrize("recording", REPLIES, ids=lambda recording: recording.id)
def test_a_recorded_reply_says_what_it_said(recording: Recording) -> None:
    """As a stream does."""
    plain = read_plainly(recording)
    reply = CODEC.read_reply(recording.body, reading(is_stream=False))
    (choice,) = reply["choices"]
    message = choice["message"]
    told = Told(
        content=message["content"],
        reasoning=message.get("reasoning", ""),
        details=message.get("reasoning_details", []),
        calls=[{"id": call["id"], **call["function"]} for call in message.get("tool_calls", [])],
        annotations=message.get("annotations", []),
        finish_reason=choice["finish_reason"],
        native_finish_reason=choice["native_finish_reason"],
    )
    assert_same(told, CODEC.read_usage(reply), plain)
    assert (reply["id"], reply["model"]) == (plain.id, plain.model)


@pytest.mark.parametrize("recording", ERRORS, ids=lambda recording: recording.id)
def test_a_recorded_error_is_an_error(recording: Recording) -> None:
    """Of its status's kind, in the provider's own words."""
    failure = CODEC.read_failure(recording.status, dict(recording.headers), recording.body, asked=b"")
    assert (failure.kind, failure.status) == (KINDS[recording.status], recording.status)
    assert failure.message == json.loads(recording.body)["error"]["message"]
