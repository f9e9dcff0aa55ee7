"""Connections that hang, break or lie about their length, at every phase of a reply."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from tests.faults import chunks
from tests.faults.framing import EVENT_STREAM, JSON, Framing, framed, head
from tests.faults.replies import answering, good, good_pieces, streamed
from tests.faults.steps import Ask, Close, Hang, Mode, Outcome, Plan, Reset, Send, Step, Wait

SETTLE_S: Final = 0.02
"""Pause before a break in mid-reply, so that the peer has read what came before it."""
WORDS_BEFORE_CUT: Final = 3


def early(name: str, plan: Plan, *, is_slow: bool = False, status: int = 200) -> Mode:
    """Name a mode that breaks before anything meaningful, for both kinds of request."""
    return Mode(name, plan, stream=Outcome.FALLBACK, json=Outcome.FALLBACK, is_slow=is_slow, status=status)


def _head_only(ask: Ask, *tail: Step) -> Iterator[Step]:
    """Send a good head, then the given steps."""
    kind = EVENT_STREAM if ask.is_stream else JSON
    yield Send(head(200, [("content-type", kind), ("transfer-encoding", "chunked")]))
    yield Wait(SETTLE_S)
    yield from tail


def started(ask: Ask, tail: Sequence[Step], *, framing: Framing | None = None) -> Iterator[Step]:
    """Send the first words of a stream or the first half of a JSON answer, then the given steps."""
    if ask.is_stream:
        pieces = [*chunks.word_events(ask.model, WORDS_BEFORE_CUT), *tail]
        return streamed(pieces, framing or Framing.CHUNKED)
    body = chunks.joined(good_pieces(ask))
    steps = [Send(body[: len(body) // 2], tokens=chunks.COMPLETION_TOKENS), *tail]
    return framed(steps, framing=framing or Framing.CHUNKED, content_type=JSON)


def _midway(name: str, *tail: Step, framing: Framing | None = None, is_slow: bool = False) -> Mode:
    """Name a mode that breaks in the middle of the reply."""
    return Mode(
        name,
        lambda ask: started(ask, tail, framing=framing),
        stream=Outcome.CUT,
        json=Outcome.FALLBACK,
        is_slow=is_slow,
    )


def hang_before_headers() -> Mode:
    """Take the request and say nothing."""
    return early("hang_before_headers", lambda _ask: [Hang()], is_slow=True)


def hang_after_headers() -> Mode:
    """Send a good head, then nothing."""
    return early("hang_after_headers", lambda ask: _head_only(ask, Hang()), is_slow=True)


def hang_mid_stream() -> Mode:
    """Send a part of the reply, then nothing."""
    return _midway("hang_mid_stream", Hang(), is_slow=True)


def comments_forever(every_s: float = 0.05, *, limit: int = 100_000) -> Mode:
    """Send keep-alive comments and never an event; a JSON answer's blank padding alike."""

    def plan(ask: Ask) -> Iterator[Step]:
        beat = chunks.COMMENT if ask.is_stream else b" "
        kind = EVENT_STREAM if ask.is_stream else JSON
        yield Send(head(200, [("content-type", kind), ("connection", "close")]))
        for _ in range(limit):
            yield Send(beat)
            yield Wait(every_s)
        yield Close()

    return early("comments_forever", plan, is_slow=True)


def reset_before_headers() -> Mode:
    """RST once the request is read."""
    return early("reset_before_headers", lambda _ask: [Reset()])


def close_before_headers() -> Mode:
    """FIN once the request is read."""
    return early("close_before_headers", lambda _ask: [Close()])


def close_inside_headers() -> Mode:
    """FIN in the middle of the header block."""
    return early("close_inside_headers", lambda _ask: [Send(b"HTTP/1.1 200 OK\r\ncontent-ty"), Close()])


def reset_after_headers() -> Mode:
    """RST after a good head."""
    return early("reset_after_headers", lambda ask: _head_only(ask, Reset()))


def close_after_headers() -> Mode:
    """FIN after a good head, no chunk sent."""
    return early("close_after_headers", lambda ask: _head_only(ask, Close()))


def close_after_role() -> Mode:
    """A stream breaks after the chunk that has only a role; nothing meaningful was sent."""

    def plan(ask: Ask) -> Iterator[Step]:
        role = Send(chunks.event(chunks.opening(ask.model)))
        return streamed([role, Wait(SETTLE_S), Close()]) if ask.is_stream else _head_only(ask, Close())

    return early("close_after_role", plan)


def reset_mid_stream() -> Mode:
    """RST in the middle of the reply."""
    return _midway("reset_mid_stream", Wait(SETTLE_S), Reset())


def close_mid_stream() -> Mode:
    """FIN between two events, the chunked body not ended."""
    return _midway("close_mid_stream", Wait(SETTLE_S), Close())


def _half_event(name: str, framing: Framing) -> Mode:
    """Name a mode that closes inside an event, or inside the JSON answer."""

    def plan(ask: Ask) -> Iterator[Step]:
        torn_event = chunks.event(chunks.content(ask.model, "never whole"))
        half = [Send(torn_event[: len(torn_event) // 2])] if ask.is_stream else []
        return started(ask, [*half, Wait(SETTLE_S), Close()], framing=framing)

    return Mode(name, plan, stream=Outcome.CUT, json=Outcome.FALLBACK)


def close_mid_event() -> Mode:
    """FIN inside an event, the chunked body not ended."""
    return _half_event("close_mid_event", Framing.CHUNKED)


def close_mid_event_unframed() -> Mode:
    """FIN inside an event of a body whose end is the close: to a careless reader it looks complete."""
    return _half_event("close_mid_event_unframed", Framing.CLOSE)


def clean_end_without_finish() -> Mode:
    """The chunked body ends properly, but no finish reason came."""
    return _midway("clean_end_without_finish")


def unframed_end_without_finish() -> Mode:
    """The body ends with the connection, and no finish reason came."""
    return _midway("unframed_end_without_finish", framing=Framing.CLOSE)


def done_without_finish() -> Mode:
    """A stream says [DONE] though no finish reason came; a JSON answer ends in its middle."""

    def plan(ask: Ask) -> Iterator[Step]:
        return started(ask, [Send(chunks.DONE)] if ask.is_stream else [])

    return Mode("done_without_finish", plan, stream=Outcome.CUT, json=Outcome.FALLBACK)


def finish_without_done() -> Mode:
    """A whole reply, but the stream ends without [DONE]."""

    def plan(ask: Ask) -> Iterator[Step]:
        return streamed(good_pieces(ask)[:-1]) if ask.is_stream else good(ask)

    return answering("finish_without_done", plan)


def finish_then_reset() -> Mode:
    """A stream breaks by RST after its finish reason and usage: the text is whole."""

    def plan(ask: Ask) -> Iterator[Step]:
        return streamed([*good_pieces(ask)[:-1], Wait(SETTLE_S), Reset()]) if ask.is_stream else good(ask)

    return answering("finish_then_reset", plan)


CUT_MODES: Final[Sequence[Callable[[], Mode]]] = (
    hang_before_headers,
    hang_after_headers,
    hang_mid_stream,
    comments_forever,
    reset_before_headers,
    close_before_headers,
    close_inside_headers,
    reset_after_headers,
    close_after_headers,
    close_after_role,
    reset_mid_stream,
    close_mid_stream,
    close_mid_event,
    close_mid_event_unframed,
    clean_end_without_finish,
    unframed_end_without_finish,
    done_without_finish,
    finish_without_done,
    finish_then_reset,
)
