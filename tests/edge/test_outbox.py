"""A reply's head and its first bytes leave together, and neither is ever kept back."""

from __future__ import annotations

import asyncio

import pytest

from proxy.edge.outbox import Outbox


class Wire(asyncio.Transport):
    """A transport that keeps what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = 0

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.written.append(data)

    def is_closing(self) -> bool:
        return False


@pytest.fixture
async def wire() -> Wire:
    """Give a wire."""
    return Wire()


def an_outbox(wire: Wire) -> Outbox:
    """Make an outbox on a wire, ready for a reply."""

    def close() -> None:
        wire.closed += 1

    outbox = Outbox(wire, asyncio.get_running_loop(), close)
    outbox.begin()
    return outbox


async def test_head_and_first_bytes_leave_together(wire: Wire) -> None:
    """What follows is written as it comes."""
    outbox = an_outbox(wire)
    outbox.write(b"head ")
    assert wire.written == []
    outbox.write(b"first")
    outbox.write(b"second")
    await asyncio.sleep(0)
    assert wire.written == [b"head first", b"second"]


async def test_a_head_alone_waits_one_turn_of_the_loop(wire: Wire) -> None:
    """No longer, whatever the body does."""
    outbox = an_outbox(wire)
    outbox.write(b"head")
    await asyncio.sleep(0)
    outbox.write(b"body")
    assert wire.written == [b"head", b"body"]


async def test_every_reply_has_a_head(wire: Wire) -> None:
    """The next one is held like the first, and pushes out what still waits."""
    outbox = an_outbox(wire)
    outbox.write(b"1 head")
    outbox.begin()
    outbox.write(b"2 head, ")
    outbox.write(b"2 body")
    await asyncio.sleep(0)
    assert wire.written == [b"1 head", b"2 head, 2 body"]


async def test_closing_loses_nothing(wire: Wire) -> None:
    """A head without a body is sent before the connection ends."""
    outbox = an_outbox(wire)
    outbox.write(b"head")
    outbox.close()
    assert (wire.written, wire.closed) == ([b"head"], 1)
    await asyncio.sleep(0)
    assert wire.written == [b"head"]
