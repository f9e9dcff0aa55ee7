"""How a message ends, and what its text refers to (floor 1a, pure; openrouter.md 8.4)."""

from __future__ import annotations

import orjson

from proxy.codecs.anthropic.values import object_of, text_of
from proxy.codecs.wire import JsonObject

_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_TIERS = {"standard": "default", "priority": "priority"}


def finish_of(stop_reason: str, *, is_answer: bool) -> str:
    """Name a stop reason as OpenAI does, an unknown one `stop`; `is_answer`: only the answer's own tool was called."""
    if stop_reason == "tool_use" and is_answer:
        return "stop"
    return _REASONS.get(stop_reason, "stop")


def refusal_of(fields: JsonObject) -> str | None:
    """Give the words of a refusal, from the `stop_details` beside a stop reason."""
    details = object_of(fields.get("stop_details"))
    return text_of(details.get("explanation")) or text_of(details.get("category")) or None


def tier_of(message: JsonObject) -> JsonObject:
    """Give the service tier a message was served by, where OpenAI has a name for it."""
    tier = _TIERS.get(text_of(object_of(message.get("usage")).get("service_tier")))
    return {"service_tier": tier} if tier else {}


def arguments_of(block: JsonObject) -> str:
    """Write a call's input as the compact JSON a client expects."""
    return orjson.dumps(object_of(block.get("input"))).decode()


def annotate(citation: object, *, start: int, end: int) -> JsonObject:
    """Write a citation as the one kind of annotation OpenAI's clients know, for the text from `start` to `end`.

    What cites a document of the request has no address: its `url` is empty.
    """
    fields = object_of(citation)
    cited: JsonObject = {
        "url": text_of(fields.get("url")) or text_of(fields.get("source")),
        "title": text_of(fields.get("title")) or text_of(fields.get("document_title")),
        "start_index": start,
        "end_index": end,
    }
    if content := text_of(fields.get("cited_text")):
        cited["content"] = content
    return {"type": "url_citation", "url_citation": cited}
