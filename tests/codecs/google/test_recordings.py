"""Recorded answers of Gemini through the codec, beside a plain reading of the same bytes that knows nothing of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from proxy.codecs.failures import find_fault
from proxy.codecs.google import GoogleCodec
from proxy.codecs.intake import Batch, Intake
from proxy.codecs.wire import Call, JsonObject, Reading
from proxy.errors import FailureKind
from proxy.usage import Usage
from tests.faults.framing import split_at, split_everywhere, torn
from tests.faults.replay import Recording, recordings

RECORDINGS = recordings({"google"})
STREAMS = [recording for recording in RECORDINGS if recording.is_stream]
REPLIES = [recording for recording in RECORDINGS if not recording.is_stream and recording.status == 200]
REFUSALS = [recording for recording in RECORDINGS if recording.status != 200]
SEEDS = range(12)
EVERYWHERE_BYTES_MAX = 20_000
CODEC = GoogleCodec()
READING = Reading(
    Call("/models/asked:generateContent", b'{"contents":[]}', is_stream=True), 1_700_000_000, parse_all=True
)
ENDINGS = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter", "UNEXPECTED_TOOL_CALL": "error"}

pytestmark = pytest.mark.skipif(not RECORDINGS, reason="the folder of recordings is not beside this checkout")


@dataclass
class Said:
    """What an answer says, however it was read."""

    text: str = ""
    thoughts: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    steps: list[Any] = field(default_factory=list)
    """What tools did that ran at Google."""
    signatures: list[str] = field(default_factory=list)
    signed_calls: list[str | None] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    finish: str | None = None
    native_finish: str | None = None
    tokens: dict[str, int] = field(default_factory=dict)


def replies_of(recording: Recording) -> list[dict[str, Any]]:
    """Give the vendor's own JSON: one reply, or one for each event."""
    if not recording.is_stream:
        return [json.loads(recording.body)]
    lines = recording.body.decode().replace("\r\n", "\n").split("\n")
    return [json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:")]


def read_plainly(recording: Recording) -> Said:
    """Read what Gemini said, without the codec."""
    said, is_search = Said(), False
    meta: dict[str, Any] = {}
    for reply in replies_of(recording):
        meta = reply.get("usageMetadata", meta)
        for candidate in reply.get("candidates", []):
            is_search |= "groundingMetadata" in candidate
            for page in candidate.get("groundingMetadata", {}).get("groundingChunks", []):
                said.pages += [page["web"]["uri"]] if page["web"]["uri"] not in said.pages else []
            said.native_finish = candidate.get("finishReason", said.native_finish)
            for part in candidate.get("content", {}).get("parts", []):
                if part.get("thought"):
                    said.thoughts += part["text"]
                elif "text" in part:
                    said.text += part["text"]
                elif "functionCall" in part:
                    said.calls.append((part["functionCall"]["name"], part["functionCall"]["args"]))
                    said.signed_calls.append(part.get("thoughtSignature"))
                else:
                    said.steps.append({name: value for name, value in part.items() if name != "thoughtSignature"})
                if "thoughtSignature" in part:
                    said.signatures.append(part["thoughtSignature"])
    said.finish = "tool_calls" if said.calls and said.native_finish == "STOP" else ENDINGS[str(said.native_finish)]
    tools = 0 if is_search else meta.get("toolUsePromptTokenCount", 0)
    said.tokens = {
        "input_tokens": meta["promptTokenCount"] + tools,
        "output_tokens": meta.get("candidatesTokenCount", 0) + meta.get("thoughtsTokenCount", 0),
        "cached_tokens": meta.get("cachedContentTokenCount", 0),
        "reasoning_tokens": meta.get("thoughtsTokenCount", 0),
    }
    return said


def add_message(said: Said, message: JsonObject) -> None:
    """Read a message or delta in OpenAI's shape."""
    said.text += message.get("content") or ""
    said.thoughts += message.get("reasoning") or ""
    said.pages += [note["url_citation"]["url"] for note in message.get("annotations", [])]
    for call in message.get("tool_calls", []):
        said.calls.append((call["function"]["name"], json.loads(call["function"]["arguments"])))
        said.signed_calls.append(call.get("extra_content", {}).get("google", {}).get("thought_signature"))
    for detail in message.get("reasoning_details", []):
        assert detail["format"] == "google-gemini-v1" if "format" in detail else detail["type"] == "reasoning.text"
        if detail["type"] == "reasoning.encrypted":
            said.signatures.append(detail["data"])
        elif detail["type"] == "reasoning.server_tool_call":
            said.steps.append({detail["tool_name"]: json.loads(detail["result"] or detail["arguments"])})


def add_usage(said: Said, usage: Usage | None) -> None:
    """Take the figures the plain reader compares."""
    assert usage is not None
    assert usage.anomalies == ()
    names = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
    said.tokens = {name: getattr(usage, name) for name in names}


def read_translated(reply: JsonObject) -> Said:
    """Read what the codec made of a whole reply."""
    said = Said()
    (choice,) = reply["choices"]
    add_message(said, choice["message"])
    said.finish, said.native_finish = choice["finish_reason"], choice["native_finish_reason"]
    add_usage(said, CODEC.read_usage(reply))
    return said


def take_in(pieces: list[bytes]) -> tuple[Said, Batch, list[JsonObject]]:
    """Read a stream in pieces to its end."""
    intake, said, chunks = Intake(CODEC, READING, choices=1), Said(), []
    batches = [intake.feed(piece) for piece in pieces]
    batches.append(intake.end())
    for frame in [frame for batch in batches for frame in batch.frames if frame.chunk is not None]:
        chunk = json.loads(frame.raw.removeprefix(b"data: "))
        assert chunk == frame.chunk
        chunks.append(chunk)
        for choice in chunk["choices"]:
            add_message(said, choice["delta"])
            said.finish = choice["finish_reason"] or said.finish
            said.native_finish = choice.get("native_finish_reason") or said.native_finish
    if intake.usage is not None:
        add_usage(said, intake.usage)
    return said, batches[-1], chunks


@pytest.mark.parametrize("recording", REPLIES, ids=lambda recording: recording.id)
def test_a_recorded_reply_is_translated_whole(recording: Recording) -> None:
    """Text, thoughts, calls, signatures, steps of server tools, pages, ending and counts are the recording's."""
    reply = CODEC.read_reply(recording.body, READING)
    plain = read_plainly(recording)
    assert read_translated(reply) == plain
    vendor = replies_of(recording)[0]
    assert (reply["id"], reply["model"], reply["created"]) == (
        vendor["responseId"],
        vendor["modelVersion"],
        1_700_000_000,
    )
    failure = find_fault(reply)
    assert (failure is not None) is (plain.finish == "error")
    if failure is not None:
        assert failure.kind is FailureKind.INVALID_REPLY
        assert failure.code == plain.native_finish


@pytest.mark.parametrize("recording", STREAMS, ids=lambda recording: recording.id)
def test_a_recorded_stream_is_translated_whole_however_it_is_torn(recording: Recording) -> None:
    """The same as of whole replies, cut anywhere, inside characters too; usage comes once, in the last chunk."""
    plain = read_plainly(recording)
    said, batch, chunks = take_in([recording.body])
    assert said == plain
    assert batch.is_end
    assert batch.failure is None
    assert [bool(chunk.get("usage")) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1]["choices"] == []
    assert len({(chunk["id"], chunk["model"], chunk["object"]) for chunk in chunks}) == 1
    for seed in SEEDS:
        assert take_in(torn(recording.body, seed=seed)) == (said, batch, chunks)
    if len(recording.body) <= EVERYWHERE_BYTES_MAX:
        assert take_in(split_everywhere(recording.body)) == (said, batch, chunks)


@pytest.mark.parametrize("recording", STREAMS, ids=lambda recording: recording.id)
def test_a_recorded_stream_cut_before_its_finish_is_broken(recording: Recording) -> None:
    """Wherever the connection ends before the finish reason is in: a failure, never an end."""
    body = recording.body
    last = max(body.rfind(b'"finishReason"'), 0)
    for place in {*range(0, last, max(1, last // 100)), last}:
        _, batch, _ = take_in([split_at(body, [place])[0] if place else b""])
        assert batch.failure is not None
        assert not batch.is_end


@pytest.mark.parametrize("recording", REFUSALS, ids=lambda recording: recording.id)
def test_a_recorded_refusal_is_a_failure(recording: Recording) -> None:
    """Its status, code and words are the recording's."""
    failure = CODEC.read_failure(recording.status, {}, recording.body, asked=b"")
    error = json.loads(recording.body)["error"]
    assert (failure.kind, failure.status, failure.code) == (FailureKind.BAD_REQUEST, error["code"], error["status"])
    assert failure.message == error["message"]


@pytest.mark.parametrize("recording", [*REPLIES, *STREAMS], ids=lambda recording: recording.id)
def test_a_recorded_answer_sent_back_is_what_gemini_said(recording: Recording) -> None:
    """The client returns the message unmodified: upstream gets the same signatures at the same calls and steps."""
    if recording.is_stream:
        message: JsonObject = {"role": "assistant", "content": ""}
        for chunk in take_in([recording.body])[2]:
            for choice in chunk["choices"]:
                delta = choice["delta"]
                message["content"] += delta.get("content", "")
                for name in ("tool_calls", "reasoning_details"):
                    message.setdefault(name, []).extend(delta.get(name, []))
    else:
        message = CODEC.read_reply(recording.body, READING)["choices"][0]["message"]
    body = {"messages": [{"role": "user", "content": "Hi"}, message]}
    contents = orjson.loads(CODEC.encode(body, model="m", output_tokens_max=None).body)["contents"]
    sent = contents[1]["parts"] if len(contents) > 1 else []
    plain = read_plainly(recording)
    signed = [part["thoughtSignature"] for part in sent if "thoughtSignature" in part]
    skipped = ["c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="] if plain.calls and not plain.signatures else []
    assert signed in (plain.signatures, skipped)
    calls = [part for part in sent if "functionCall" in part]
    assert [(part["functionCall"]["name"], part["functionCall"]["args"]) for part in calls] == plain.calls
    if not skipped:
        assert [part.get("thoughtSignature") for part in calls] == plain.signed_calls
    bare = [{name: value for name, value in part.items() if name != "thoughtSignature"} for part in sent]
    assert [part for part in bare if not {"text", "functionCall"} & set(part)] == plain.steps
    assert "".join(part["text"] for part in sent if "text" in part) == plain.text
