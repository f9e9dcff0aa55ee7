"""200 but failed: error bodies, error events, empty streams, choices that are not there (specs: the four shapes)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from tests.faults import chunks
from tests.faults.cuts import WORDS_BEFORE_CUT
from tests.faults.replies import plain, streamed
from tests.faults.statuses import SECRET_HOST, SECRET_KEY, SECRET_USER, openai_error, openrouter_error
from tests.faults.steps import Ask, Mode, Outcome, Send, Step, Tokens

Shape = Callable[[Ask], bytes]
"""Gives the bytes of an error event."""

ERROR_TEXT: Final = f"Provider at https://{SECRET_HOST}:8443/v1 refused key {SECRET_KEY}"


def _openai_shape(_ask: Ask) -> bytes:
    return chunks.event(openai_error("The server had an error while processing your request.", kind="server_error"))


def _openrouter_shape(ask: Ask) -> bytes:
    error = {"code": 502, "message": "Provider disconnected", "metadata": {"error_type": "provider_unavailable"}}
    return chunks.event(
        chunks.chunk_of(ask.model, chunks.choice({"content": ""}, "error"), provider="Made Up", error=error)
    )


def _groq_shape(_ask: Ask) -> bytes:
    error = {
        "message": "Tool choice is required",
        "type": "invalid_request_error",
        "code": "tool_use_failed",
        "status_code": 400,
    }
    return chunks.event({"error": error}, name="error")


def _string_code_shape(_ask: Ask) -> bytes:
    return chunks.event({"error": {"code": "server_error", "message": "Internal error"}})


def _leaky_shape(ask: Ask) -> bytes:
    error = {"code": 502, "message": ERROR_TEXT, "metadata": {"raw": ERROR_TEXT, "provider_name": "Made Up"}}
    return chunks.event(chunks.chunk_of(ask.model, [], error=error, user_id=SECRET_USER))


def _text_shape(_ask: Ask) -> bytes:
    return chunks.event({"error": "overloaded"})


SHAPES: Final[dict[str, Shape]] = {
    "openai": _openai_shape,
    "openrouter": _openrouter_shape,
    "groq": _groq_shape,
    "string_code": _string_code_shape,
    "leaky": _leaky_shape,
    "text": _text_shape,
}


def _error_body() -> dict[str, Any]:
    """Write a JSON error body that names a host, a key and an account."""
    return openrouter_error(ERROR_TEXT, 502, provider_name="Made Up")


def error_event(shape: str) -> Mode:
    """An error event of `SHAPES` after some text, then the end; a plain request gets an error in a 200."""

    def plan(ask: Ask) -> Iterator[Step]:
        if not ask.is_stream:
            return plain(_error_body())
        return streamed([*chunks.word_events(ask.model, WORDS_BEFORE_CUT), Send(SHAPES[shape](ask))])

    return Mode(f"error_event_{shape}", plan, stream=Outcome.CUT, json=Outcome.FALLBACK)


def error_event_then_done() -> Mode:
    """An error event after some text, and [DONE] behind it as if all were well."""

    def plan(ask: Ask) -> Iterator[Step]:
        if not ask.is_stream:
            return plain(_error_body())
        return streamed(
            [*chunks.word_events(ask.model, WORDS_BEFORE_CUT), Send(_openrouter_shape(ask)), Send(chunks.DONE)]
        )

    return Mode("error_event_then_done", plan, stream=Outcome.CUT, json=Outcome.FALLBACK)


def error_first(shape: str) -> Mode:
    """An error event of `SHAPES` as the first and only event, a comment before it."""

    def plan(ask: Ask) -> Iterator[Step]:
        return streamed([Send(chunks.COMMENT), Send(SHAPES[shape](ask))]) if ask.is_stream else plain(_error_body())

    return Mode(f"error_first_{shape}", plan, stream=Outcome.FALLBACK, json=Outcome.FALLBACK)


def error_in_200() -> Mode:
    """200 with a JSON error body, for streaming requests too."""
    return Mode("error_in_200", lambda _ask: plain(_error_body()), stream=Outcome.FALLBACK, json=Outcome.FALLBACK)


def error_in_200_as_stream() -> Mode:
    """200, told to be an event stream, with a bare JSON error body."""

    def plan(_ask: Ask) -> Iterator[Step]:
        return streamed([Send(chunks.dumps(_error_body()))])

    return Mode("error_in_200_as_stream", plan, stream=Outcome.FALLBACK, json=Outcome.FALLBACK)


def only_done() -> Mode:
    """A stream of nothing but [DONE]; a plain request gets `{}`."""
    return _empty("only_done", [Send(chunks.DONE)], {})


def only_comments() -> Mode:
    """A stream of nothing but comments, properly ended; a plain request gets `null`."""
    return _empty("only_comments", [Send(chunks.COMMENT)] * 3, None)


def only_role() -> Mode:
    """A stream of the role chunk and [DONE]; a plain request gets an answer without choices."""
    return Mode(
        "only_role",
        lambda ask: (
            streamed([Send(chunks.event(chunks.opening(ask.model))), Send(chunks.DONE)])
            if ask.is_stream
            else plain(chunks.answer(ask.model, choices=[]))
        ),
        stream=Outcome.FALLBACK,
        json=Outcome.FALLBACK,
    )


def _empty(name: str, pieces: Iterable[Step], value: object) -> Mode:
    return Mode(
        name,
        lambda ask: streamed(pieces) if ask.is_stream else plain(value),
        stream=Outcome.FALLBACK,
        json=Outcome.FALLBACK,
    )


_ABSENT: Final = object()


def _without_choices(name: str, choices: object) -> Mode:
    """Name a mode whose every chunk, or JSON answer, has this `choices`, then [DONE]."""

    def shaped(value: dict[str, Any]) -> dict[str, Any]:
        rest = {key: member for key, member in value.items() if key != "choices"}
        return rest if choices is _ABSENT else rest | {"choices": choices}

    def plan(ask: Ask) -> Iterator[Step]:
        if not ask.is_stream:
            return plain(shaped(chunks.answer(ask.model)))
        return streamed([Send(chunks.event(shaped(chunks.opening(ask.model)))), Send(chunks.DONE)])

    return Mode(name, plan, stream=Outcome.FALLBACK, json=Outcome.FALLBACK)


def choices_empty() -> Mode:
    """`choices` is an empty list throughout."""
    return _without_choices("choices_empty", [])


def choices_null() -> Mode:
    """`choices` is null throughout."""
    return _without_choices("choices_null", None)


def choices_missing() -> Mode:
    """There is no `choices` at all."""
    return _without_choices("choices_missing", _ABSENT)


def choices_empty_billed() -> Mode:
    """No choices, but usage that bills the prompt: a failure that costs."""
    tokens = Tokens(chunks.PROMPT_TOKENS, 0)

    def plan(ask: Ask) -> Iterator[Step]:
        counted = chunks.usage(tokens)
        if not ask.is_stream:
            return plain(chunks.answer(ask.model, choices=[], usage=counted), reported=tokens)
        billed = Send(chunks.event(chunks.chunk_of(ask.model, [], usage=counted)), usage=tokens)
        return streamed([billed, Send(chunks.DONE)])

    return Mode("choices_empty_billed", plan, stream=Outcome.FALLBACK, json=Outcome.FALLBACK, tokens=tokens)


def choice_error() -> Mode:
    """The error is inside `choices[0]`, with `finish_reason` error, after some text."""
    error = {"code": 502, "message": "Provider disconnected", "metadata": {"provider_name": "Made Up"}}

    def plan(ask: Ask) -> Iterator[Step]:
        if not ask.is_stream:
            message = {"role": "assistant", "content": chunks.text(WORDS_BEFORE_CUT)}
            choices = [{"index": 0, "message": message, "finish_reason": "error", "error": error}]
            return plain(chunks.answer(ask.model, choices=choices))
        broken = [{"index": 0, "delta": {"content": ""}, "finish_reason": "error", "error": error}]
        last = Send(chunks.event(chunks.chunk_of(ask.model, broken)))
        return streamed([*chunks.word_events(ask.model, WORDS_BEFORE_CUT), last, Send(chunks.DONE)])

    return Mode("choice_error", plan, stream=Outcome.CUT, json=Outcome.FALLBACK)


FAILURE_MODES: Final[Sequence[Callable[[], Mode]]] = (
    error_event_then_done,
    error_in_200,
    error_in_200_as_stream,
    only_done,
    only_comments,
    only_role,
    choices_empty,
    choices_null,
    choices_missing,
    choices_empty_billed,
    choice_error,
)
