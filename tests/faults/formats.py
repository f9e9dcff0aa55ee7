"""Event streams that are right but oddly written: line ends, comments, several data lines, a BOM, foreign lines.

A plain request meets the good JSON answer: these modes differ for streams only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from tests.faults import chunks
from tests.faults.replies import answering, good, good_pieces, streamed
from tests.faults.steps import Ask, Mode, Outcome, Send, Step, Tokens, Wait

BOM: Final = b"\xef\xbb\xbf"


def _rewritten(name: str, rewrite: Callable[[Send], Send]) -> Mode:
    """Name a mode that rewrites every event of the good stream."""

    def plan(ask: Ask) -> Iterator[Step]:
        return streamed(rewrite(piece) for piece in good_pieces(ask)) if ask.is_stream else good(ask)

    return answering(name, plan)


def _with_data(piece: Send, data: bytes) -> Send:
    return Send(data, tokens=piece.tokens, usage=piece.usage)


def crlf() -> Mode:
    """Lines end in CR LF."""
    return _rewritten("crlf", lambda piece: _with_data(piece, piece.data.replace(b"\n", b"\r\n")))


def bare_cr() -> Mode:
    """Lines end in CR alone."""
    return _rewritten("bare_cr", lambda piece: _with_data(piece, piece.data.replace(b"\n", b"\r")))


def mixed_line_ends() -> Mode:
    """CR LF, CR and LF by turns."""
    turns = {0: b"\r\n", 1: b"\r", 2: b"\n"}

    def rewrite(piece: Send) -> Send:
        return _with_data(piece, piece.data.replace(b"\n", turns[len(piece.data) % 3]))

    return _rewritten("mixed_line_ends", rewrite)


def no_space_after_colon() -> Mode:
    """`data:` without the blank that most servers write."""
    return _rewritten(
        "no_space_after_colon", lambda piece: _with_data(piece, piece.data.replace(b"data: ", b"data:", 1))
    )


def multi_line_data() -> Mode:
    """Each event's JSON is indented and spread over several `data:` lines."""

    def rewrite(piece: Send) -> Send:
        payload = piece.data.removeprefix(b"data: ").strip()
        if payload == b"[DONE]":
            return piece
        lines = json.dumps(json.loads(payload), ensure_ascii=False, indent=1).encode().split(b"\n")
        return _with_data(piece, b"".join(b"data: " + line + b"\n" for line in lines) + b"\n")

    return _rewritten("multi_line_data", rewrite)


def commented() -> Mode:
    """A comment before every event, the first one included."""
    return _rewritten("commented", lambda piece: _with_data(piece, chunks.COMMENT + piece.data))


def labelled() -> Mode:
    """Each event carries `event:`, `id:` and `retry:` lines."""
    return _rewritten("labelled", lambda piece: _with_data(piece, b"event: message\nid: 7\nretry: 3000\n" + piece.data))


def foreign_lines() -> Mode:
    """Lines that the event stream grammar tells a reader to ignore, between and inside events."""
    noise = b"\xff\xfe noise\nnot-a-field: x\n\n:\n\n"
    return _rewritten("foreign_lines", lambda piece: _with_data(piece, b"bogus: 1\n" + piece.data + noise))


def byte_order_mark() -> Mode:
    """A BOM before the first byte."""

    def plan(ask: Ask) -> Iterator[Step]:
        return streamed([Send(BOM), *good_pieces(ask)]) if ask.is_stream else good(ask)

    return answering("byte_order_mark", plan)


def no_last_blank_line() -> Mode:
    """[DONE] without the blank line that ends an event."""

    def plan(ask: Ask) -> Iterator[Step]:
        return streamed([*good_pieces(ask)[:-1], Send(b"data: [DONE]")]) if ask.is_stream else good(ask)

    return answering("no_last_blank_line", plan)


def comments_then_answer(count: int = 5, *, every_s: float = 0.02) -> Mode:
    """Keep-alive comments for a while, then the good answer."""

    def plan(ask: Ask) -> Iterator[Step]:
        if not ask.is_stream:
            return iter([Wait(every_s * count), *good(ask)])
        beats: list[Step] = [Send(chunks.COMMENT), Wait(every_s)] * count
        return streamed([*beats, *good_pieces(ask)])

    return answering("comments_then_answer", plan, is_slow=True)


def all_at_once() -> Mode:
    """Every event in one write."""

    def plan(ask: Ask) -> Iterator[Step]:
        if not ask.is_stream:
            return good(ask)
        reported = chunks.DEFAULT_TOKENS if ask.wants_usage else None
        return streamed([Send(chunks.joined(good_pieces(ask)), tokens=chunks.COMPLETION_TOKENS, usage=reported)])

    return answering("all_at_once", plan)


def broken_json_event() -> Mode:
    """An event whose data is no JSON, in the middle of a stream that goes on."""
    return _with_middle(
        "broken_json_event", Send(b'data: {"choices": [{"delta": {"content": "x"\n\n'), outcome=Outcome.CUT
    )


def invalid_utf8() -> Mode:
    """An event whose text has bytes that are no UTF-8, in the middle of a stream that goes on."""

    def plan(ask: Ask) -> Iterator[Step]:
        if not ask.is_stream:
            return good(ask)
        bad = chunks.event(chunks.content(ask.model, "MARK")).replace(b"MARK", b"\xc3\x28\xff")
        return streamed(_in_the_middle(ask, Send(bad, tokens=0)))

    return answering("invalid_utf8", plan)


def tool_calls() -> Mode:
    """A reply of one tool call, its arguments in pieces, no text at all."""
    tokens = Tokens(chunks.PROMPT_TOKENS, 3)
    parts = ('{"city"', ':"Zürich"', "}")

    def call(arguments: str, **rest: object) -> dict[str, Any]:
        return {"index": 0, **rest, "function": {**({"name": "weather"} if rest else {}), "arguments": arguments}}

    def plan(ask: Ask) -> Iterator[Step]:
        first = {"role": "assistant", "content": None, "tool_calls": [call("", id="call_1", type="function")]}
        pieces = [Send(chunks.event(chunks.chunk_of(ask.model, chunks.choice(first))))]
        deltas = ({"tool_calls": [call(part)]} for part in parts)
        pieces += [Send(chunks.event(chunks.chunk_of(ask.model, chunks.choice(delta))), tokens=1) for delta in deltas]
        pieces.append(Send(chunks.event(chunks.finish(ask.model, "tool_calls"))))
        counted = chunks.chunk_of(ask.model, [], usage=chunks.usage(tokens))
        pieces.append(Send(chunks.event(counted), usage=tokens))
        return streamed([*pieces, Send(chunks.DONE)]) if ask.is_stream else good(ask, tokens)

    return answering("tool_calls", plan, tokens=tokens)


def _in_the_middle(ask: Ask, piece: Send) -> list[Step]:
    """Give the good stream's events with one more after the first words."""
    pieces = good_pieces(ask)
    return [*pieces[:3], piece, *pieces[3:]]


def _with_middle(name: str, piece: Send, *, outcome: Outcome) -> Mode:
    def plan(ask: Ask) -> Iterator[Step]:
        return streamed(_in_the_middle(ask, piece)) if ask.is_stream else good(ask)

    return Mode(name, plan, stream=outcome, json=Outcome.ANSWER, tokens=chunks.DEFAULT_TOKENS)


FORMAT_MODES: Final[Sequence[Callable[[], Mode]]] = (
    crlf,
    bare_cr,
    mixed_line_ends,
    no_space_after_colon,
    multi_line_data,
    commented,
    labelled,
    foreign_lines,
    byte_order_mark,
    no_last_blank_line,
    comments_then_answer,
    all_at_once,
    broken_json_event,
    invalid_utf8,
    tool_calls,
)
