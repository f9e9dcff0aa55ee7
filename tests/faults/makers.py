"""Makers in their own dialects: Anthropic's Messages and Gemini's contents, answers and refusals.

The shapes are those of openrouter.md 8.4 and 8.5; names and texts are made up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from tests.faults import chunks
from tests.faults.replies import answering, plain, streamed
from tests.faults.statuses import refusing
from tests.faults.steps import Ask, Mode, Outcome, Send, Step, Tokens

TOKENS: Final = Tokens(11, 4)
WORDS: Final[Sequence[str]] = ("Hé", "llo", " 日本", " 🙂")
TEXT: Final = "".join(WORDS)
_BEGUN: Final = {"input_tokens": TOKENS.prompt, "output_tokens": 1}
_ENDED: Final = {"input_tokens": TOKENS.prompt, "output_tokens": TOKENS.completion}


# ---------------------------------------------------------------- Anthropic


def _message(content: list[Any], stop_reason: str | None, usage: object) -> dict[str, Any]:
    fixed = {"id": "msg_made_up", "type": "message", "role": "assistant", "model": "claude-made-up"}
    return fixed | {"content": content, "stop_reason": stop_reason, "stop_sequence": None, "usage": usage}


def _named(payload: dict[str, Any]) -> bytes:
    return chunks.event(payload, name=payload["type"])


def _anthropic_words() -> list[Step]:
    """Give the events of a message up to its last word."""
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    begun = {"type": "message_start", "message": _message([], None, _BEGUN)}
    opening: list[dict[str, Any]] = [begun, start, {"type": "ping"}]
    deltas = (
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in WORDS
    )
    return [*(Send(_named(event)) for event in opening), *(Send(_named(delta), tokens=1) for delta in deltas)]


def anthropic_error(kind: str, message: str) -> dict[str, Any]:
    """Write Anthropic's error body, which is also its error event."""
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_made_up"}


def ok_anthropic() -> Mode:
    """A good answer of Anthropic's."""

    def plan(ask: Ask) -> Iterator[Step]:
        if not ask.is_stream:
            return plain(_message([{"type": "text", "text": TEXT}], "end_turn", _ENDED), reported=TOKENS)
        delta = {"stop_reason": "end_turn", "stop_sequence": None}
        ending: list[dict[str, Any]] = [
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": delta, "usage": {"output_tokens": TOKENS.completion}},
            {"type": "message_stop"},
        ]
        return streamed([*_anthropic_words(), *(Send(_named(event)) for event in ending)])

    return answering("ok_anthropic", plan, tokens=TOKENS)


def refusing_anthropic(status: int, kind: str, message: str, *, outcome: Outcome = Outcome.FALLBACK) -> Mode:
    """A refusal of Anthropic's."""
    return refusing(f"anthropic_{status}", status, anthropic_error(kind, message), outcome=outcome)


def error_first_anthropic() -> Mode:
    """A stream that is refused before its first word: `overloaded_error` behind `message_start` and a ping."""
    error = anthropic_error("overloaded_error", "Overloaded")

    def plan(ask: Ask) -> Iterator[Step]:
        if not ask.is_stream:
            return plain(error, status=529)
        opening = {"type": "message_start", "message": _message([], None, _BEGUN)}
        return streamed([Send(_named(opening)), Send(_named({"type": "ping"})), Send(_named(error))])

    return Mode("error_first_anthropic", plan, stream=Outcome.FALLBACK, json=Outcome.FALLBACK)


def error_event_anthropic() -> Mode:
    """A stream that breaks after some words, as Anthropic says it; nothing follows."""

    def plan(ask: Ask) -> Iterator[Step]:
        error = anthropic_error("overloaded_error", "Overloaded")
        return streamed([*_anthropic_words(), Send(_named(error))]) if ask.is_stream else plain(error, status=529)

    return Mode("error_event_anthropic", plan, stream=Outcome.CUT, json=Outcome.FALLBACK)


# ---------------------------------------------------------------- Gemini


def _gemini(text: str, *, finish: str | None = None, completion: int = 0) -> dict[str, Any]:
    counts = {"promptTokenCount": TOKENS.prompt, "candidatesTokenCount": completion}
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    usage = counts | {"totalTokenCount": TOKENS.prompt + completion}
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": "gemini-made-up",
        "responseId": "made-up",
    }


def gemini_error(status: int, word: str, message: str, *details: dict[str, Any]) -> dict[str, Any]:
    """Write Google's error body; it stands in streams as well."""
    return {"error": {"code": status, "message": message, "status": word, "details": list(details)}}


def ok_gemini() -> Mode:
    """A good answer of Gemini's; a stream has no `[DONE]`."""

    def plan(ask: Ask) -> Iterator[Step]:
        if not ask.is_stream:
            return plain(_gemini(TEXT, finish="STOP", completion=TOKENS.completion), reported=TOKENS)
        last = _gemini(WORDS[-1], finish="STOP", completion=TOKENS.completion)
        pieces = [*(_gemini(word, completion=1) for word in WORDS[:-1]), last]
        return streamed([Send(chunks.event(piece), tokens=1) for piece in pieces])

    return answering("ok_gemini", plan, tokens=TOKENS)


def refusing_gemini(status: int, word: str, message: str, *details: dict[str, Any]) -> Mode:
    """A refusal of Google's."""
    return refusing(f"gemini_{status}", status, gemini_error(status, word, message, *details))


def error_first_gemini() -> Mode:
    """A stream whose first event is an error; a plain request gets its status."""
    error = gemini_error(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")

    def plan(ask: Ask) -> Iterator[Step]:
        return streamed([Send(chunks.event(error))]) if ask.is_stream else plain(error, status=503)

    return Mode("error_first_gemini", plan, stream=Outcome.FALLBACK, json=Outcome.FALLBACK)


def error_event_gemini() -> Mode:
    """A stream that ends with an error object where a candidate should be."""
    error = gemini_error(500, "INTERNAL", "An internal error has occurred.")

    def plan(ask: Ask) -> Iterator[Step]:
        words = [Send(chunks.event(_gemini(word, completion=1)), tokens=1) for word in WORDS]
        return streamed([*words, Send(chunks.event(error))]) if ask.is_stream else plain(error, status=500)

    return Mode("error_event_gemini", plan, stream=Outcome.CUT, json=Outcome.FALLBACK)
