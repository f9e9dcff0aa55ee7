"""Requests written for Anthropic, and read back."""

from __future__ import annotations

from typing import Any

import orjson

from proxy.codecs.anthropic import AnthropicCodec
from proxy.codecs.wire import UNKNOWN_ABILITIES, Abilities, Call, JsonObject

USER: JsonObject = {"role": "user", "content": "Hi"}
MODEL = "claude-sonnet-4-5"


def text(words: str) -> JsonObject:
    """Make a text block."""
    return {"type": "text", "text": words}


def called(*ids: str, name: str = "add", arguments: Any = '{"a":1}') -> JsonObject:
    """Make an assistant's message that calls a tool once for each id."""
    calls = [{"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}} for id_ in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def answered(id_: str, content: Any = "2", **more: Any) -> JsonObject:
    """Make a tool's result."""
    return {"role": "tool", "tool_call_id": id_, "content": content, **more}


def function(name: str = "add", **more: Any) -> JsonObject:
    """Make a tool."""
    return {"type": "function", "function": {"name": name, **more}}


def encode(
    *messages: JsonObject, cap: int | None = None, abilities: Abilities = UNKNOWN_ABILITIES, **fields: Any
) -> Call:
    """Encode a request of these messages (one of the user's when there are none) and fields."""
    body = {"model": "chat", "messages": list(messages) or [USER], **fields}
    before = orjson.dumps(body)
    call = AnthropicCodec().encode(body, model=MODEL, output_tokens_max=cap, abilities=abilities)
    assert orjson.dumps(body) == before, "the caller's body is not touched"
    return call


def written(
    *messages: JsonObject, cap: int | None = None, abilities: Abilities = UNKNOWN_ABILITIES, **fields: Any
) -> JsonObject:
    """Give the body that goes out."""
    result = orjson.loads(encode(*messages, cap=cap, abilities=abilities, **fields).body)
    assert isinstance(result, dict)
    return result


def turns(*messages: JsonObject, abilities: Abilities = UNKNOWN_ABILITIES, **fields: Any) -> list[tuple[str, Any]]:
    """Give the messages that go out, as pairs of role and content."""
    body = written(*messages, abilities=abilities, **fields)
    return [(turn["role"], turn["content"]) for turn in body["messages"]]
