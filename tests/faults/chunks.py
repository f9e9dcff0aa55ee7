"""The chat completions dialect as an upstream writes it: chunks, JSON answers, usage. Pure values and bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tests.faults.steps import Send, Step, Tokens

# Every length of UTF-8 character is in here: splitting tests need them.
WORDS: Sequence[str] = ("Hé", "llo", " wörld", " ,", " 日本", "語", " €5", " 🙂", " and", " on")
CREATED_S = 1_760_000_000
PROMPT_TOKENS = 7
COMPLETION_TOKENS = 5
DEFAULT_TOKENS = Tokens(PROMPT_TOKENS, COMPLETION_TOKENS)

Chunk = dict[str, Any]


def words(count: int) -> list[str]:
    """Give `count` words of an answer, one token each."""
    return [WORDS[position % len(WORDS)] for position in range(count)]


def text(count: int) -> str:
    """Give the whole text of an answer of `count` words."""
    return "".join(words(count))


def dumps(value: object) -> bytes:
    """Write compact JSON in UTF-8; NaN and infinities are written as Python spells them, as careless servers do."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def usage(tokens: Tokens, **extra: object) -> dict[str, Any]:
    """Write a usage object; `extra` adds or overrides members."""
    counts = {"prompt_tokens": tokens.prompt, "completion_tokens": tokens.completion}
    return counts | {"total_tokens": tokens.prompt + tokens.completion} | extra


def chunk_of(model: str, choices: object, **extra: object) -> Chunk:
    """Write a streaming chunk around a `choices` member."""
    fixed = {"id": "chatcmpl-made-up", "object": "chat.completion.chunk", "created": CREATED_S, "model": model}
    return fixed | {"choices": choices} | extra


def choice(delta: dict[str, Any], finish_reason: str | None = None) -> list[dict[str, Any]]:
    """Write the `choices` of a chunk that has one."""
    return [{"index": 0, "delta": delta, "finish_reason": finish_reason}]


def opening(model: str) -> Chunk:
    """Write the first chunk of a stream: the role and no text."""
    return chunk_of(model, choice({"role": "assistant", "content": ""}))


def content(model: str, word: str, **extra: object) -> Chunk:
    """Write a chunk with text."""
    return chunk_of(model, choice({"content": word}), **extra)


def finish(model: str, reason: str = "stop", **extra: object) -> Chunk:
    """Write the chunk that carries the finish reason."""
    return chunk_of(model, choice({}, reason), **extra)


def answer(model: str, words_count: int = COMPLETION_TOKENS, **extra: object) -> dict[str, Any]:
    """Write a JSON answer without usage; `extra` adds or overrides members, usage among them."""
    message = {"role": "assistant", "content": text(words_count)}
    fixed = {"id": "chatcmpl-made-up", "object": "chat.completion", "created": CREATED_S, "model": model}
    return fixed | {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]} | extra


def event(payload: object, *, name: str | None = None) -> bytes:
    """Write one server-sent event with a JSON payload."""
    label = f"event: {name}\n".encode() if name else b""
    return label + b"data: " + dumps(payload) + b"\n\n"


DONE = b"data: [DONE]\n\n"
COMMENT = b": OPENROUTER PROCESSING\n\n"


def word_events(model: str, count: int) -> Iterator[Send]:
    """Give the role chunk and `count` chunks of text, one token each."""
    yield Send(event(opening(model)))
    yield from (Send(event(content(model, word)), tokens=1) for word in words(count))


def ending(model: str, reported: Tokens | None) -> Iterator[Send]:
    """Give the finish chunk, the usage chunk when something is reported, and [DONE]."""
    yield Send(event(finish(model)))
    if reported is not None:
        yield Send(event(chunk_of(model, [], usage=usage(reported))), usage=reported)
    yield Send(DONE)


def whole(model: str, count: int, reported: Tokens | None) -> list[Send]:
    """Give all events of a good stream."""
    return [*word_events(model, count), *ending(model, reported)]


def joined(steps: Iterable[Step]) -> bytes:
    """Give the body bytes of a plan's pieces."""
    return b"".join(step.data for step in steps if isinstance(step, Send))
