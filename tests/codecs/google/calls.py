"""What the tests of this dialect share: a plain request, encoded and read back, and a reading."""

from __future__ import annotations

from typing import Any

import orjson

from proxy.codecs.google import GoogleCodec
from proxy.codecs.wire import UNKNOWN_ABILITIES, Abilities, Call, JsonObject, Reading

CODEC = GoogleCodec()
ASKED = Call("/models/asked%2Fmodel:generateContent", b'{"contents":[]}', is_stream=False)
READING = Reading(ASKED, created_s=1_700_000_000, parse_all=True)
SKIP = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
HI: JsonObject = {"role": "user", "content": "Hi"}
HI_TURN: JsonObject = {"role": "user", "parts": [{"text": "Hi"}]}


def encode(
    *messages: Any, cap: int | None = None, abilities: Abilities = UNKNOWN_ABILITIES, **fields: Any
) -> tuple[Call, JsonObject]:
    """Encode a request for model `m`, of one greeting when no messages are given; the call and its body."""
    body = {"model": "chat", "messages": list(messages) or [HI], **fields}
    call = CODEC.encode(body, model="m", output_tokens_max=cap, abilities=abilities)
    written = orjson.loads(call.body)
    assert isinstance(written, dict)
    return call, written


def contents(*messages: Any) -> list[JsonObject]:
    """Give the turns that messages become."""
    turns = encode(*messages)[1]["contents"]
    assert isinstance(turns, list)
    return turns


def config(*, cap: int | None = None, abilities: Abilities = UNKNOWN_ABILITIES, **fields: Any) -> JsonObject:
    """Give the settings that fields become."""
    settings = encode(cap=cap, abilities=abilities, **fields)[1].get("generationConfig", {})
    assert isinstance(settings, dict)
    return settings


def call_of(identifier: str, name: str = "f", arguments: str = "{}", **more: Any) -> JsonObject:
    """Write one tool call of a client's."""
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def encrypted(data: str, identifier: str | None) -> JsonObject:
    """Write one kept signature."""
    return {"type": "reasoning.encrypted", "data": data, "id": identifier, "format": "google-gemini-v1", "index": 0}
