"""Upstream modes that wait until they are let go, so that a test decides how long requests stay under way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from tests.faults import chunks
from tests.faults.framing import EVENT_STREAM, Framing, chunk, framed
from tests.faults.replies import answering, good
from tests.faults.steps import Ask, Mode, Send, Step, Tokens, Wait

LOOK_S: Final = 0.01
WORDS_BEFORE: Final = 3
"""What a stream says before it waits."""


class Gate:
    """Open or closed; closed at first unless told otherwise."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.is_open = is_open

    def wait(self) -> Iterator[Step]:
        """Give the steps of waiting for it."""
        while not self.is_open:
            yield Wait(LOOK_S)


def held_back(gate: Gate, tokens: Callable[[Ask], Tokens]) -> Mode:
    """A good reply of so many tokens, not one byte of it before the gate is open."""

    def plan(ask: Ask) -> Iterable[Step]:
        yield from gate.wait()
        yield from good(ask, tokens(ask))

    return answering("held_back", plan, is_slow=True)


def held_midway(gate: Gate) -> Mode:
    """A stream that stops after a few words and goes on to its proper end when the gate opens."""
    reported = Tokens(chunks.PROMPT_TOKENS, WORDS_BEFORE)

    def plan(ask: Ask) -> Iterable[Step]:
        *begun, last = framed(
            chunks.word_events(ask.model, WORDS_BEFORE), framing=Framing.CHUNKED, content_type=EVENT_STREAM
        )
        yield from begun
        yield from gate.wait()
        for piece in chunks.ending(ask.model, reported if ask.wants_usage else None):
            yield Send(chunk(piece.data), usage=piece.usage)
        yield last

    return answering("held_midway", plan, tokens=reported, is_slow=True)
