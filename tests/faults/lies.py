"""Answers that lie about their length or are none at all: garbage, pages, floods of headers, bombs, giant events."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from tests.faults import chunks
from tests.faults.cuts import SETTLE_S, early, started
from tests.faults.framing import EVENT_STREAM, HTML, JSON, Framing, framed, head
from tests.faults.replies import answering, good, good_pieces, plain, streamed
from tests.faults.steps import Ask, Close, Mode, Outcome, Send, Step, Tokens, Wait

BOMB_BYTES: Final = 80 * 1024 * 1024
"""What the gzip bomb decodes to; about a thousandth of it goes over the wire."""
LARGE_EVENT_BYTES: Final = 4 * 1024 * 1024 + 1
HEADER_FLOOD: Final = 20_000


def length_too_long() -> Mode:
    """Content-Length promises far more than comes before the FIN, and the reply itself breaks off."""

    def plan(ask: Ask) -> Iterator[Step]:
        body = chunks.joined(good_pieces(ask))
        return _misstated(ask, len(body) + 1000, [body[: len(body) // 2]])

    return Mode("length_too_long", plan, stream=Outcome.CUT, json=Outcome.FALLBACK)


def length_too_short() -> Mode:
    """Content-Length covers half of the reply; what comes behind it is no reply and must not be read as one."""

    def plan(ask: Ask) -> Iterator[Step]:
        body = chunks.joined(good_pieces(ask))
        half = len(body) // 2
        return _misstated(ask, half, [body[:half], body[half:]])

    return Mode("length_too_short", plan, stream=Outcome.CUT, json=Outcome.FALLBACK)


def _misstated(ask: Ask, length: int, parts: Sequence[bytes]) -> Iterator[Step]:
    """Send parts of a reply, a pause after each, under a head that tells this length."""
    kind = EVENT_STREAM if ask.is_stream else JSON
    yield Send(head(200, [("content-type", kind), ("content-length", str(length))]), tokens=chunks.COMPLETION_TOKENS)
    for part in parts:
        yield Send(part)
        yield Wait(SETTLE_S)
    yield Close()


POISON: Final = b"".join(step.data for step in plain({"poison": True}) if isinstance(step, Send))


def surplus_response() -> Mode:
    """A good reply with an unasked one in the same write: it must never reach another request."""
    return answering("surplus_response", lambda ask: [*good(ask), Send(POISON)])


def surplus_later() -> Mode:
    """A good reply with an unasked one a moment later, when the connection lies in a pool.

    Not in the catalogue: ask again only after twice SETTLE_S, else no client can tell it from the next answer.
    """
    return answering("surplus_later", lambda ask: [*good(ask), Wait(SETTLE_S), Send(POISON)])


def garbage() -> Mode:
    """Bytes that are no HTTP: the start of a TLS alert and noise."""
    return early("garbage", lambda _ask: [Send(b"\x15\x03\x03\x00\x02\x02\x46" + bytes(range(256))), Close()])


def html_page() -> Mode:
    """200 with an HTML page, as a captive portal or a wrong base URL gives."""
    page = Send(b"<!doctype html><html><body>Welcome to nginx!</body></html>")
    return early("html_page", lambda _ask: framed([page], framing=Framing.LENGTH, content_type=HTML))


def empty_body() -> Mode:
    """200 and a body of no bytes."""
    return early("empty_body", lambda ask: _head_with_length(ask, 0))


def _head_with_length(ask: Ask, length: int) -> Iterator[Step]:
    """Send a head with a content length and nothing else."""
    kind = EVENT_STREAM if ask.is_stream else JSON
    yield Send(head(200, [("content-type", kind), ("content-length", str(length))]))


def header_flood() -> Mode:
    """Far more headers than any client has to take."""
    headers = [(f"x-flood-{number}", "f" * 40) for number in range(HEADER_FLOOD)]
    return early("header_flood", lambda ask: good(ask, headers=headers))


def nul_in_header() -> Mode:
    """A NUL byte in a header value."""
    return early("nul_in_header", lambda ask: good(ask, headers=[("x-bad", "a\x00b")]))


@functools.cache
def _bomb(before: bytes, filling: bytes, after: bytes) -> bytes:
    """Compress `before`, BOMB_BYTES of filling, and `after`."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    block = filling * (1024 * 1024 // len(filling))
    parts = [packer.compress(before)]
    parts += [packer.compress(block) for _ in range(BOMB_BYTES // len(block))]
    return b"".join([*parts, packer.compress(after), packer.flush()])


def gzip_bomb() -> Mode:
    """A good answer hidden in 80 MiB of padding that gzip makes small."""

    def plan(ask: Ask) -> Iterator[Step]:
        if ask.is_stream:
            body = _bomb(b"", b": padding padding padding padding\n", chunks.joined(good_pieces(ask)))
        else:
            body = _bomb(b"", b" ", chunks.joined(good_pieces(ask)))
        kind = EVENT_STREAM if ask.is_stream else JSON
        return framed([Send(body)], framing=Framing.LENGTH, content_type=kind, headers=[("content-encoding", "gzip")])

    return early("gzip_bomb", plan, is_slow=True)


def large_event() -> Mode:
    """An event of more than 4 MiB after some text; a JSON answer of that size is an ordinary one."""
    tokens = Tokens(chunks.PROMPT_TOKENS, LARGE_EVENT_BYTES // 4)

    def plan(ask: Ask) -> Iterator[Step]:
        word = "x" * LARGE_EVENT_BYTES
        if ask.is_stream:
            return started(
                ask, [Send(chunks.event(chunks.content(ask.model, word))), *chunks.ending(ask.model, tokens)]
            )
        message = {"role": "assistant", "content": word}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return plain(chunks.answer(ask.model, choices=choices, usage=chunks.usage(tokens)), reported=tokens)

    return Mode("large_event", plan, stream=Outcome.CUT, json=Outcome.ANSWER, tokens=tokens)


def large_first_event() -> Mode:
    """The very first event is more than 4 MiB; a JSON answer of that size is an ordinary one."""

    def plan(ask: Ask) -> Iterable[Step]:
        if not ask.is_stream:
            return large_event().plan(ask)
        word = "x" * LARGE_EVENT_BYTES
        return streamed([Send(chunks.event(chunks.content(ask.model, word))), *chunks.ending(ask.model, None)])

    return Mode("large_first_event", plan, stream=Outcome.FALLBACK, json=Outcome.ANSWER, tokens=large_event().tokens)


LIE_MODES: Final[Sequence[Callable[[], Mode]]] = (
    length_too_long,
    length_too_short,
    surplus_response,
    garbage,
    html_page,
    empty_body,
    header_flood,
    nul_in_header,
    gzip_bomb,
    large_event,
    large_first_event,
)
