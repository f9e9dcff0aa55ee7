"""Hand-written HTTP/1.1: heads, chunks, and ways to split a body. Pure bytes, no I/O."""

from __future__ import annotations

import enum
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from http import HTTPStatus

from tests.faults.steps import Close, Send, Step, Wait

Headers = Sequence[tuple[str, str]]

LAST_CHUNK = b"0\r\n\r\n"
CUTS = 40
"""Random cuts of a torn body, and again as many inside its characters."""
EVENT_STREAM = "text/event-stream; charset=utf-8"
JSON = "application/json"
HTML = "text/html; charset=utf-8"


class Framing(enum.Enum):
    """How the end of a reply body is told."""

    CHUNKED = "chunked"
    LENGTH = "length"
    CLOSE = "close"


def head(status: int, headers: Headers = ()) -> bytes:
    """Write a status line and header block; nothing is added, nothing is checked."""
    reason = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unassigned"
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Write one chunk of a chunked body; empty data writes nothing, since an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def framed(
    pieces: Iterable[Step], *, framing: Framing, content_type: str, status: int = 200, headers: Headers = ()
) -> Iterator[Step]:
    """Put a head before body pieces and frame each; a plan that closes early never reaches the terminal bytes."""
    steps = list(pieces)
    fields = [("content-type", content_type), *headers]
    match framing:
        case Framing.CHUNKED:
            yield Send(head(status, [*fields, ("transfer-encoding", "chunked")]))
            yield from (replace(step, data=chunk(step.data)) if isinstance(step, Send) else step for step in steps)
            yield Send(LAST_CHUNK)
        case Framing.LENGTH:
            length = sum(len(step.data) for step in steps if isinstance(step, Send))
            yield Send(head(status, [*fields, ("content-length", str(length))]))
            yield from steps
        case Framing.CLOSE:
            yield Send(head(status, [*fields, ("connection", "close")]))
            yield from steps
            yield Close()


def split_at(body: bytes, positions: Iterable[int]) -> list[bytes]:
    """Cut a body at the given byte positions; positions outside it are ignored, the parts join to the body."""
    cuts = [0, *sorted({position for position in positions if 0 < position < len(body)}), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(cuts)]


def split_everywhere(body: bytes) -> list[bytes]:
    """Cut a body after every byte."""
    return split_at(body, range(len(body)))


def inside_characters(body: bytes) -> list[int]:
    """List the positions that lie inside a multi-byte UTF-8 character."""
    return [position for position, byte in enumerate(body) if byte & 0b11000000 == 0b10000000]


def torn(body: bytes, *, seed: int, cuts: int = CUTS) -> list[bytes]:
    """Cut a body at `cuts` random positions and inside up to `cuts` of its multi-byte characters."""
    chance = random.Random(seed)
    anywhere = [chance.randrange(max(len(body), 1)) for _ in range(cuts)]
    inside = inside_characters(body)
    return split_at(body, [*anywhere, *chance.sample(inside, min(cuts, len(inside)))])


def apart(parts: Iterable[bytes]) -> Iterator[Step]:
    """Send parts one by one, yielding to the event loop after each, so that a peer may read them apart."""
    for part in parts:
        yield Send(part)
        yield Wait(0)
