"""Messages and streams as Anthropic writes them, read by the codec as the gateway reads them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from proxy.codecs.anthropic import AnthropicCodec
from proxy.codecs.intake import Batch, Intake
from proxy.codecs.wire import Call, Frame, JsonObject, Reading
from proxy.usage import Usage

CREATED_S = 1_700_000_000
CODEC = AnthropicCodec()
USAGE: JsonObject = {"input_tokens": 10, "output_tokens": 1}


def reading(*, schema_tool: str | None = None, is_stream: bool = True, parse_all: bool = True) -> Reading:
    """Make what a reply is read with."""
    return Reading(
        Call("/messages", b"{}", is_stream=is_stream, schema_tool=schema_tool), created_s=CREATED_S, parse_all=parse_all
    )


def sse(*events: JsonObject) -> bytes:
    """Write events as Anthropic does."""
    return b"".join(b"event: %s\ndata: %s\n\n" % (event["type"].encode(), orjson.dumps(event)) for event in events)


def begin(*content: JsonObject, usage: Any = None, **more: Any) -> JsonObject:
    """Make `message_start`."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": list(content)}
    return {"type": "message_start", "message": {**message, "usage": USAGE if usage is None else usage, **more}}


def block(index: int, *deltas: JsonObject, **opened: Any) -> list[JsonObject]:
    """Make a block's events, from its start to its stop."""
    number = {"index": index}
    return [
        {"type": "content_block_start", **number, "content_block": opened},
        *({"type": "content_block_delta", **number, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", **number},
    ]


def words(*pieces: str, index: int = 0, citations: Iterable[JsonObject] = ()) -> list[JsonObject]:
    """Make a text block."""
    cited = [{"type": "citations_delta", "citation": citation} for citation in citations]
    deltas: list[JsonObject] = [{"type": "text_delta", "text": piece} for piece in pieces]
    return block(index, *cited, *deltas, type="text", text="")


def use(*pieces: str, index: int = 0, name: str = "add", id_: str = "toolu_1", **more: Any) -> list[JsonObject]:
    """Make a tool call's block."""
    deltas: list[JsonObject] = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return block(index, *deltas, **{"type": "tool_use", "id": id_, "name": name, "input": {}, **more})


def thoughts(*pieces: str, signature: str = "sig", index: int = 0) -> list[JsonObject]:
    """Make a thinking block."""
    deltas: list[JsonObject] = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
    sealed = {"type": "signature_delta", "signature": signature}
    return block(index, *deltas, sealed, type="thinking", thinking="", signature="")


def stop(reason: str | None = "end_turn", *, usage: Any = None, **more: Any) -> JsonObject:
    """Make `message_delta`."""
    counts = {"output_tokens": 5} if usage is None else usage
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None, **more}, "usage": counts}


END: JsonObject = {"type": "message_stop"}
PING: JsonObject = {"type": "ping"}


@dataclass(slots=True)
class Told:
    """What a client of OpenAI's makes of chunks."""

    content: str | None = None
    reasoning: str = ""
    details: list[JsonObject] = field(default_factory=list)
    calls: list[JsonObject] = field(default_factory=list)
    annotations: list[JsonObject] = field(default_factory=list)
    refusal: str | None = None
    finish_reason: str | None = None
    native_finish_reason: str | None = None


def add_up(frames: Iterable[Frame]) -> Told:
    """Put chunks together as a client does, calls by their index."""
    told = Told()
    for frame in frames:
        for choice in (frame.chunk or {}).get("choices", ()):
            delta = choice["delta"]
            told.content = (told.content or "") + delta["content"] if delta.get("content") else told.content
            told.reasoning += delta.get("reasoning") or ""
            told.details += delta.get("reasoning_details") or []
            told.annotations += delta.get("annotations") or []
            told.refusal = delta.get("refusal") or told.refusal
            told.finish_reason = choice["finish_reason"] or told.finish_reason
            told.native_finish_reason = choice.get("native_finish_reason") or told.native_finish_reason
            for call in delta.get("tool_calls") or []:
                if call["index"] == len(told.calls):
                    told.calls.append({"id": call["id"], "name": call["function"]["name"], "arguments": ""})
                told.calls[call["index"]]["arguments"] += call["function"]["arguments"]
    return told


def take_in(pieces: Iterable[bytes], with_: Reading | None = None) -> tuple[Batch, Usage | None]:
    """Read a stream's pieces to its end, as the gateway does."""
    intake = Intake(CODEC, with_ or reading(), choices=1)
    frames: list[Frame] = []
    for piece in pieces:
        batch = intake.feed(piece)
        frames += batch.frames
        if batch.failure is not None or batch.is_end:
            return Batch(frames, batch.failure, batch.is_end), intake.usage
    batch = intake.end()
    return Batch([*frames, *batch.frames], batch.failure, batch.is_end), intake.usage


def streamed(*events: JsonObject, schema_tool: str | None = None) -> tuple[Told, Batch]:
    """Read a whole stream and add it up."""
    batch, _ = take_in([sse(*events)], reading(schema_tool=schema_tool))
    return add_up(batch.frames), batch


def replied(*content: Any, schema_tool: str | None = None, stop_reason: Any = "end_turn", **more: Any) -> JsonObject:
    """Read a whole message of these blocks."""
    message = {**begin(*content)["message"], "stop_reason": stop_reason, **more}
    return CODEC.read_reply(orjson.dumps(message), reading(schema_tool=schema_tool, is_stream=False))
