"""Thought signatures between two turns (part of the Google codec, pure).

Gemini signs parts of its answers and wants the signatures back where they stood; Gemini 3 refuses a function call of
the current turn that has lost its own (openrouter.md 8.5). A client keeps them in `reasoning_details`, which it sends
back as they are (1.4): `reasoning.encrypted` holds one signature, and its `id` says what it belongs to: the id of a
tool call, `image_N` for the Nth picture, `server_N` for the Nth step of a tool that runs at Google, null for the text.
A thought streamed in pieces names its format in the first alone, and comes back in pieces or put together.
Google's own OpenAI-compatible clients keep a tool call's signature in `extra_content.google.thought_signature`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import orjson

from proxy.codecs.google.fields import object_of, objects_of, text_of
from proxy.codecs.wire import JsonObject

FORMAT = "google-gemini-v1"
SKIP_VALIDATION = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
"""Base64 of `skip_thought_signature_validator`, for calls that another vendor's model made; older Geminis take it."""
SERVER_CALLS = frozenset({"executableCode", "toolCall"})
SERVER_RESULTS = frozenset({"codeExecutionResult", "toolResponse"})
"""Parts about tools that Google runs itself: nobody here calls them, but they belong to the conversation."""
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")


@dataclass(frozen=True, slots=True)
class Kept:
    """What an assistant message brings back of the answer it was."""

    thoughts: list[JsonObject] = field(default_factory=list)
    """Signed thoughts, as parts; the unsigned are summaries for people and stay here."""
    server: list[JsonObject] = field(default_factory=list)
    """Steps of server tools, as parts, signed where they were."""
    by_id: dict[str, str] = field(default_factory=dict)
    """Signatures of tool calls and pictures."""
    of_text: list[str] = field(default_factory=list)


def read_details(details: object) -> Kept:
    """Read `reasoning_details` of our format; other vendors' entries mean nothing to Gemini."""
    kept = Kept()
    entries = _join(objects_of(details))
    for entry in entries:
        signature = _signature_of(entry.get("data"))
        if entry.get("type") == "reasoning.encrypted" and signature:
            _keep(kept, entry.get("id"), signature)
    for entry in entries:
        signature = _signature_of(entry.get("signature"))
        if entry.get("type") == "reasoning.text" and signature:
            thought = {"text": text_of(entry.get("text")), "thought": True, "thoughtSignature": signature}
            kept.thoughts.append(thought)
        elif entry.get("type") == "reasoning.server_tool_call" and (part := _read_server(entry)):
            kept.server.append(sign(part, kept.by_id.get(text_of(entry.get("id")))))
    return kept


def _join(details: list[JsonObject]) -> list[JsonObject]:
    """Give the details of our format; a piece without a format goes on from the thought before it, by its index.

    A format said several times over is one: OpenAI's SDK joins what is streamed twice.
    """
    joined: list[JsonObject] = []
    is_ours = False
    for detail in details:
        if named := text_of(detail.get("format")):
            is_ours = not named.replace(FORMAT, "")
            joined += [detail] if is_ours else []
        elif (
            is_ours and detail.get("type") == joined[-1].get("type") and detail.get("index") == joined[-1].get("index")
        ):
            text = text_of(joined[-1].get("text")) + text_of(detail.get("text"))
            joined[-1] = {**joined[-1], **detail, "text": text}
    return joined


def signature_beside(call: JsonObject) -> str | None:
    """Find the signature that Google's own compatible clients keep beside a tool call."""
    google = object_of(object_of(call.get("extra_content")).get("google"))
    return _signature_of(google.get("thought_signature")) or None


def sign(part: JsonObject, signature: str | None) -> JsonObject:
    """Give the part with its signature, when it has one."""
    return {**part, "thoughtSignature": signature} if signature else part


def write_server(part: JsonObject, identifier: str) -> JsonObject | None:
    """Write a step of a server tool as a detail that `read_details` turns back into the same part."""
    for name in (*SERVER_CALLS, *SERVER_RESULTS):
        if isinstance(part.get(name), dict):
            text = orjson.dumps(part[name]).decode()
            is_result = name in SERVER_RESULTS
            return {
                "type": "reasoning.server_tool_call",
                "tool_name": name,
                "arguments": "" if is_result else text,
                "result": text if is_result else None,
                "tool_call_id": text_of(part[name].get("id")) or None,
                "id": identifier,
            }
    return None


def _signature_of(value: object) -> str:
    """Give what can be a signature; Gemini refuses a request for one that is no base64."""
    text = text_of(value)
    return text if _BASE64.fullmatch(text) else ""


def _keep(kept: Kept, identifier: object, signature: str) -> None:
    if isinstance(identifier, str):
        kept.by_id.setdefault(identifier, signature)
    else:
        kept.of_text.append(signature)


def _read_server(entry: JsonObject) -> JsonObject:
    name = text_of(entry.get("tool_name"))
    if name not in SERVER_CALLS | SERVER_RESULTS:
        return {}
    try:
        value = orjson.loads(text_of(entry.get("result")) or text_of(entry.get("arguments")))
    except orjson.JSONDecodeError:
        return {}
    return {name: value} if isinstance(value, dict) else {}
