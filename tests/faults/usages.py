"""Usage in odd places and with odd values; each mode's `tokens` is what a right reading gives (None: nothing to trust).

A plain request meets the same odd values on its one `usage` member, where the oddity is not about the place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from tests.faults import chunks
from tests.faults.replies import plain, streamed
from tests.faults.steps import Ask, Json, Mode, Outcome, Send, Step, Tokens

Usage = dict[str, Any]

TOKENS: Final = chunks.DEFAULT_TOKENS
COUNTED: Final = chunks.usage(TOKENS)


def _usage_mode(
    name: str, stream: Callable[[str], list[Send]], *, body: Mapping[str, Any], tokens: Tokens | None
) -> Mode:
    """Name a mode from the events after the role chunk, and from the extra members of the JSON answer."""

    def plan(ask: Ask) -> Iterator[Step]:
        if not ask.is_stream:
            return plain(chunks.answer(ask.model, **body), reported=tokens)
        events = [Send(chunks.event(chunks.opening(ask.model))), *stream(ask.model), Send(chunks.DONE)]
        return streamed(events)

    return Mode(name, plan, stream=Outcome.ANSWER, json=Outcome.ANSWER, tokens=tokens)


def _words(model: str, usage_at: Callable[[int], Usage | None]) -> list[Send]:
    """Give the text chunks; `usage_at` says which usage, if any, the chunk of that number carries."""
    sends = []
    for number, word in enumerate(chunks.words(TOKENS.completion), start=1):
        counted = usage_at(number)
        extra = {"usage": counted} if counted is not None else {}
        sends.append(Send(chunks.event(chunks.content(model, word, **extra)), tokens=1))
    return sends


def _finish(model: str, *, reported: Tokens | None = None, **extra: Json) -> Send:
    return Send(chunks.event(chunks.finish(model, **extra)), usage=reported)


def _alone(model: str, counted: object, *, choices: object = (), reported: Tokens | None = None) -> Send:
    """Give a chunk with usage and no choice in it."""
    shown = list(choices) if isinstance(choices, tuple) else choices
    return Send(chunks.event(chunks.chunk_of(model, shown, usage=counted)), usage=reported)


def _no_usage(_number: int) -> None:
    return None


def usage_on_finish() -> Mode:
    """Usage on the chunk with the finish reason."""
    return _usage_mode(
        "usage_on_finish",
        lambda model: [*_words(model, _no_usage), _finish(model, usage=COUNTED, reported=TOKENS)],
        body={"usage": COUNTED},
        tokens=TOKENS,
    )


def usage_alone() -> Mode:
    """Usage in a chunk of its own, whether asked for or not."""
    return _usage_mode(
        "usage_alone",
        lambda model: [*_words(model, _no_usage), _finish(model), _alone(model, COUNTED, reported=TOKENS)],
        body={"usage": COUNTED},
        tokens=TOKENS,
    )


def usage_cumulative() -> Mode:
    """Usage on every chunk, growing: the last one counts, never the sum."""

    def growing(number: int) -> Usage:
        return chunks.usage(Tokens(TOKENS.prompt, number))

    return _usage_mode(
        "usage_cumulative",
        lambda model: [*_words(model, growing), _finish(model, usage=COUNTED, reported=TOKENS)],
        body={"usage": COUNTED},
        tokens=TOKENS,
    )


def usage_twice() -> Mode:
    """The same usage on the finish chunk and again alone: counted once."""
    return _usage_mode(
        "usage_twice",
        lambda model: [
            *_words(model, _no_usage),
            _finish(model, usage=COUNTED),
            _alone(model, COUNTED, reported=TOKENS),
        ],
        body={"usage": COUNTED},
        tokens=TOKENS,
    )


def usage_null_choices() -> Mode:
    """Usage in a chunk whose `choices` is null."""
    return _usage_mode(
        "usage_null_choices",
        lambda model: [
            *_words(model, _no_usage),
            _finish(model),
            _alone(model, COUNTED, choices=None, reported=TOKENS),
        ],
        body={"usage": COUNTED},
        tokens=TOKENS,
    )


def usage_x_groq() -> Mode:
    """Usage inside `x_groq`, on the finish chunk."""
    return _usage_mode(
        "usage_x_groq",
        lambda model: [
            *_words(model, _no_usage),
            _finish(model, x_groq={"id": "req_1", "usage": COUNTED}, reported=TOKENS),
        ],
        body={"usage": COUNTED, "x_groq": {"id": "req_1"}},
        tokens=TOKENS,
    )


def usage_early() -> Mode:
    """Usage alone before any text, final already."""
    return _usage_mode(
        "usage_early",
        lambda model: [_alone(model, COUNTED, reported=TOKENS), *_words(model, _no_usage), _finish(model)],
        body={"usage": COUNTED},
        tokens=TOKENS,
    )


def usage_after_done() -> Mode:
    """Usage in a chunk behind [DONE], where nobody has to look; a plain answer has none."""
    return _usage_mode(
        "usage_after_done",
        lambda model: [*_words(model, _no_usage), _finish(model), Send(chunks.DONE), _alone(model, COUNTED)],
        body={},
        tokens=None,
    )


def usage_missing() -> Mode:
    """No usage, though asked for."""
    return _usage_mode("usage_missing", lambda model: [*_words(model, _no_usage), _finish(model)], body={}, tokens=None)


def _odd_value(name: str, counted: object, tokens: Tokens | None = None) -> Mode:
    """Name a mode whose one usage, alone in the stream, has odd values."""
    return _usage_mode(
        name,
        lambda model: [*_words(model, _no_usage), _finish(model), _alone(model, counted, reported=tokens)],
        body={"usage": counted},
        tokens=tokens,
    )


def usage_null() -> Mode:
    """`usage: null` where the usage should be."""
    return _odd_value("usage_null", None)


def usage_negative() -> Mode:
    """Negative counts."""
    return _odd_value("usage_negative", chunks.usage(Tokens(-TOKENS.prompt, -TOKENS.completion)))


def usage_nan() -> Mode:
    """NaN counts and an infinite cost, which strict JSON does not even know."""
    return _odd_value("usage_nan", {"prompt_tokens": math.nan, "completion_tokens": math.nan, "cost": math.inf})


def usage_zero() -> Mode:
    """All counts zero although there is text: to be treated as missing."""
    return _odd_value("usage_zero", chunks.usage(Tokens(0, 0)))


def usage_text() -> Mode:
    """Counts as strings and booleans."""
    return _odd_value("usage_text", {"prompt_tokens": "7", "completion_tokens": True, "total_tokens": []})


def usage_huge() -> Mode:
    """Counts that no reply can have."""
    return _odd_value("usage_huge", chunks.usage(Tokens(10**30, 10**30)))


def usage_bad_total() -> Mode:
    """A total that is not the sum: the components count."""
    return _odd_value("usage_bad_total", chunks.usage(TOKENS, total_tokens=999_999), TOKENS)


def usage_cached_above_prompt() -> Mode:
    """More cached tokens than prompt tokens: to be clamped."""
    return _odd_value(
        "usage_cached_above_prompt", chunks.usage(TOKENS, prompt_tokens_details={"cached_tokens": 1000}), TOKENS
    )


def usage_bad_cost() -> Mode:
    """Good counts beside a cost that is negative: the counts are priced instead."""
    return _odd_value("usage_bad_cost", chunks.usage(TOKENS, cost=-1.0), TOKENS)


USAGE_MODES: Final[Sequence[Callable[[], Mode]]] = (
    usage_on_finish,
    usage_alone,
    usage_cumulative,
    usage_twice,
    usage_null_choices,
    usage_x_groq,
    usage_early,
    usage_after_done,
    usage_missing,
    usage_null,
    usage_negative,
    usage_nan,
    usage_zero,
    usage_text,
    usage_huge,
    usage_bad_total,
    usage_cached_above_prompt,
    usage_bad_cost,
)
