"""Why an answer ended (part of the Google codec, pure; openrouter.md 8.5)."""

from __future__ import annotations

from proxy.codecs.google.fields import text_of
from proxy.codecs.wire import JsonObject

_FILTERED = ("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR")
_BROKEN = (
    "MALFORMED_FUNCTION_CALL",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
    "MISSING_THOUGHT_SIGNATURE",
    "MALFORMED_RESPONSE",
)
_REASONS = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(_FILTERED, "content_filter"),
    **dict.fromkeys(_BROKEN, "error"),
}
_OF_PICTURES = "IMAGE_"
"""IMAGE_SAFETY, IMAGE_RECITATION and their kind: all of them filters."""


def finish_reason(native: str, *, has_calls: bool, has_content: bool) -> str:
    """Give OpenAI's word for a reason of Google's.

    A reason nobody knows (OTHER, and those to come) is a filter's when something came before it, else an error:
    there is nothing to show, and another target may do better.
    """
    reason = "content_filter" if native.startswith(_OF_PICTURES) else _REASONS.get(native)
    if reason == "stop" and has_calls:
        return "tool_calls"
    return reason or ("content_filter" if has_content else "error")


def error_of(candidate: JsonObject, native: str) -> JsonObject:
    """Say what broke an answer off: the choice's `error`, which makes the whole reply a failure."""
    said = text_of(candidate.get("finishMessage"))
    message = f"The model broke off its answer with {native}"
    return {"message": f"{message}: {said}" if said else f"{message}.", "code": native}
