"""Good answers, fast and slow, in the framings and splits of real servers: after which the client has its reply."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from typing import Any

from tests.faults import chunks
from tests.faults.framing import EVENT_STREAM, JSON, Framing, Headers, apart, framed, split_at, split_everywhere, torn
from tests.faults.steps import Ask, Mode, Outcome, Plan, Send, Step, Tokens, Wait

DRIP_S = 0.0005
"""Pause between the bytes of `slow_drip`."""
BILLED = 0.00042
"""What `ok_openrouter` says it costs, in USD."""


def streamed(pieces: Iterable[Step], framing: Framing = Framing.CHUNKED, headers: Headers = ()) -> Iterator[Step]:
    """Answer 200 with an event stream."""
    return framed(pieces, framing=framing, content_type=EVENT_STREAM, headers=headers)


def plain(
    value: object,
    *,
    status: int = 200,
    headers: Headers = (),
    reported: Tokens | None = None,
    framing: Framing = Framing.LENGTH,
) -> Iterator[Step]:
    """Answer with a JSON body; bytes go out as they are."""
    body = value if isinstance(value, bytes) else chunks.dumps(value)
    piece = Send(body, tokens=reported.completion if reported else 0, usage=reported)
    return framed([piece], framing=framing, content_type=JSON, status=status, headers=headers)


def answer_of(ask: Ask, tokens: Tokens, **extra: object) -> dict[str, Any]:
    """Write the good JSON answer that reports `tokens`."""
    return chunks.answer(ask.model, tokens.completion, usage=chunks.usage(tokens), **extra)


def good_pieces(ask: Ask, tokens: Tokens = chunks.DEFAULT_TOKENS) -> list[Send]:
    """Give the body of the good reply: all events of the stream, or one JSON answer."""
    if ask.is_stream:
        return chunks.whole(ask.model, tokens.completion, tokens if ask.wants_usage else None)
    return [Send(chunks.dumps(answer_of(ask, tokens)), tokens=tokens.completion, usage=tokens)]


def good(
    ask: Ask, tokens: Tokens = chunks.DEFAULT_TOKENS, *, framing: Framing | None = None, headers: Headers = ()
) -> Iterator[Step]:
    """Answer as a healthy server: usage in a stream only when it was asked for."""
    if ask.is_stream:
        return streamed(good_pieces(ask, tokens), framing or Framing.CHUNKED, headers)
    return framed(good_pieces(ask, tokens), framing=framing or Framing.LENGTH, content_type=JSON, headers=headers)


def answering(name: str, plan: Plan, *, tokens: Tokens | None = chunks.DEFAULT_TOKENS, is_slow: bool = False) -> Mode:
    """Name a mode whose reply is whole for both kinds of request."""
    return Mode(name, plan, stream=Outcome.ANSWER, json=Outcome.ANSWER, tokens=tokens, is_slow=is_slow)


def ok(events: int = chunks.COMPLETION_TOKENS, *, prompt_tokens: int = chunks.PROMPT_TOKENS) -> Mode:
    """A good answer of `events` words, each a chunk and a completion token."""
    tokens = Tokens(prompt_tokens, events)
    return answering("ok", lambda ask: good(ask, tokens), tokens=tokens)


def ok_paced(events: int, *, every_s: float, first_s: float = 0.0) -> Mode:
    """A good answer that waits `first_s` before its head and `every_s` before each event."""
    tokens = Tokens(chunks.PROMPT_TOKENS, events)

    def plan(ask: Ask) -> Iterator[Step]:
        yield Wait(first_s)
        if not ask.is_stream:
            yield Wait(every_s * events)
            yield from good(ask, tokens)
            return
        pieces: list[Step] = []
        for piece in good_pieces(ask, tokens):
            pieces += [piece, Wait(every_s)] if piece.tokens else [piece]
        yield from streamed(pieces)

    return answering("ok_paced", plan, tokens=tokens, is_slow=True)


def ok_late_end(seconds: float) -> Mode:
    """A good stream whose connection says only after `seconds` behind `[DONE]` that it is over."""

    def plan(ask: Ask) -> Iterator[Step]:
        return streamed([*good_pieces(ask), Wait(seconds)]) if ask.is_stream else good(ask)

    return answering("ok_late_end", plan)


def ok_openrouter(cost: float = BILLED) -> Mode:
    """A good answer as OpenRouter writes it: comments, `provider`, a generation id, usage with `cost` always."""
    tokens = chunks.DEFAULT_TOKENS

    def plan(ask: Ask) -> Iterator[Step]:
        headers = [("x-generation-id", "gen-made-up")]
        billed = chunks.usage(tokens, cost=cost, is_byok=False)
        marks = {"id": "gen-made-up", "provider": "Made Up"}
        if not ask.is_stream:
            value = chunks.answer(ask.model, tokens.completion, **marks, usage=billed)
            yield from plain(value, headers=headers, reported=tokens)
            return
        pieces = [Send(chunks.COMMENT)]
        pieces += [
            Send(chunks.event(chunks.content(ask.model, word, **marks)), tokens=1)
            for word in chunks.words(tokens.completion)
        ]
        pieces.append(Send(chunks.event(chunks.finish(ask.model, **marks))))
        pieces.append(Send(chunks.event(chunks.chunk_of(ask.model, [], **marks, usage=billed)), usage=tokens))
        yield from streamed([*pieces, Send(chunks.DONE)], headers=headers)

    return answering("ok_openrouter", plan)


def ok_unframed() -> Mode:
    """A good answer whose end is told by the close of the connection."""
    return answering("ok_unframed", lambda ask: good(ask, framing=Framing.CLOSE))


def ok_chunked() -> Mode:
    """A good answer in chunks, the JSON answer too."""
    return answering("ok_chunked", lambda ask: good(ask, framing=Framing.CHUNKED))


def ok_with_length() -> Mode:
    """A good answer whose length is told, that of the stream too."""
    return answering("ok_with_length", lambda ask: good(ask, framing=Framing.LENGTH))


def split_every_byte() -> Mode:
    """A good answer, each byte a chunk of its own: UTF-8 characters and line ends are torn."""
    return answering("split_every_byte", lambda ask: _torn(ask, split_everywhere(chunks.joined(good_pieces(ask)))))


def split_random(seed: int) -> Mode:
    """A good answer torn at random byte positions and inside characters, the same ones for the same seed."""
    return answering("split_random", lambda ask: _torn(ask, torn(chunks.joined(good_pieces(ask)), seed=seed)))


def split_given(*positions: int) -> Mode:
    """A good answer torn at the given byte positions of its body."""
    return answering("split_given", lambda ask: _torn(ask, split_at(chunks.joined(good_pieces(ask)), positions)))


def _torn(ask: Ask, parts: Iterable[bytes]) -> Iterator[Step]:
    """Answer with the good body in the given parts, billed with the last of them."""
    kind = EVENT_STREAM if ask.is_stream else JSON
    return framed([*apart(parts), _bill(ask)], framing=Framing.CHUNKED, content_type=kind)


def _bill(ask: Ask, tokens: Tokens = chunks.DEFAULT_TOKENS, body: bytes = b"") -> Send:
    """Book a whole reply at once: usage is reported as `good_pieces` reports it."""
    reported = tokens if ask.wants_usage or not ask.is_stream else None
    return Send(body, tokens=tokens.completion, usage=reported)


def slow_drip(every_s: float = DRIP_S) -> Mode:
    """A good answer of two words, one byte every `every_s`."""
    tokens = Tokens(chunks.PROMPT_TOKENS, 2)

    def plan(ask: Ask) -> Iterator[Step]:
        drops: list[Step] = []
        for part in split_everywhere(chunks.joined(good_pieces(ask, tokens))):
            drops += [Send(part), Wait(every_s)]
        kind = EVENT_STREAM if ask.is_stream else JSON
        return framed([*drops, _bill(ask, tokens)], framing=Framing.CHUNKED, content_type=kind)

    return answering("slow_drip", plan, tokens=tokens, is_slow=True)


def gzipped() -> Mode:
    """A good answer in gzip although identity was asked for."""

    def plan(ask: Ask) -> Iterator[Step]:
        body = gzip.compress(chunks.joined(good_pieces(ask)), mtime=0)
        kind = EVENT_STREAM if ask.is_stream else JSON
        return framed(
            [_bill(ask, body=body)], framing=Framing.LENGTH, content_type=kind, headers=[("content-encoding", "gzip")]
        )

    return answering("gzipped", plan)


def many_headers(count: int = 60) -> Mode:
    """A good answer with `count` extra headers."""
    headers = [(f"x-noise-{number}", "n" * 40) for number in range(count)]
    return answering("many_headers", lambda ask: good(ask, headers=headers))


def early_hints(count: int = 5) -> Mode:
    """A good answer after `count` interim 103 responses."""
    hint = b"HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n"
    return answering("early_hints", lambda ask: [Send(hint * count), *good(ask)])
