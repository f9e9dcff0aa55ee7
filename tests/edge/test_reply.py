"""One reply written on its connection: the head as uvicorn would, a body as long as promised, nothing out of turn."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from proxy.edge.outbox import Outbox
from proxy.edge.reply import Reply
from tests.edge.test_outbox import Wire

LENGTH_5 = [(b"content-length", b"5")]


class Line(Wire):
    """A transport that can be paused."""

    def pause_reading(self) -> None:
        """Obey uvicorn's flow control."""

    def resume_reading(self) -> None:
        """Obey uvicorn's flow control."""

    @property
    def text(self) -> bytes:
        """All that was written."""
        return b"".join(self.written)


class Stand:
    """A reply, its cycle, and what they did."""

    def __init__(self, *, keep_alive: bool = True, version: str = "1.1", more_body: bool = False) -> None:
        self.line = Line()
        self.flow = FlowControl(self.line)
        self.answered = 0
        self.cycle = RequestResponseCycle(
            scope={"type": "http", "method": "POST", "http_version": version},  # type: ignore[typeddict-item]
            transport=self.line,
            flow=self.flow,
            logger=logging.getLogger(__name__),
            access_logger=logging.getLogger(__name__),
            access_log=False,
            default_headers=[(b"server", b"turnpike")],
            message_event=asyncio.Event(),
            expect_100_continue=True,
            keep_alive=keep_alive,
            on_response=self._note,
        )
        self.cycle.more_body = more_body
        outbox = Outbox(self.line, asyncio.get_running_loop(), self._close)
        outbox.begin()
        self.reply = Reply(self.cycle, outbox)

    def _note(self) -> None:
        self.answered += 1

    def _close(self) -> None:
        self.line.closed += 1

    async def head(self, *headers: tuple[bytes, bytes], status: int = 200) -> None:
        """Send the head."""
        await self.reply.send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def body(self, data: bytes = b"", *, more: bool = False) -> None:
        """Send a piece of the body."""
        await self.reply.send({"type": "http.response.body", "body": data, "more_body": more})


async def test_a_body_of_known_length_goes_out_as_it_is() -> None:
    """The default headers first; then the cycle is done."""
    stand = Stand()
    await stand.head(*LENGTH_5, (b"x-a", b"1"), status=201)
    assert (stand.cycle.response_started, stand.cycle.waiting_for_100_continue) == (True, False)
    await stand.body(b"ab", more=True)
    assert not stand.cycle.response_complete
    await stand.body(b"cde")
    assert stand.line.text == b"HTTP/1.1 201 Created\r\nserver: turnpike\r\ncontent-length: 5\r\nx-a: 1\r\n\r\nabcde"
    assert (stand.cycle.response_complete, stand.cycle.message_event.is_set()) == (True, True)
    assert (stand.answered, stand.line.closed) == (1, 0)


async def test_a_body_of_unknown_length_goes_out_in_chunks() -> None:
    """An empty piece is no chunk, for an empty one would be the last."""
    stand = Stand()
    await stand.head()
    await stand.body(b"a" * 17, more=True)
    await stand.body(b"", more=True)
    await stand.body(b"b")
    head, _, body = stand.line.text.partition(b"\r\n\r\n")
    assert head.endswith(b"\r\ntransfer-encoding: chunked")
    assert body == b"11\r\n" + b"a" * 17 + b"\r\n1\r\nb\r\n0\r\n\r\n"


@pytest.mark.parametrize(("keep_alive", "headers"), [(True, [(b"connection", b"close")]), (False, [])])
async def test_a_connection_that_is_to_end_says_so_once(headers: Any, *, keep_alive: bool) -> None:
    """Whoever wants it: the client or the application."""
    stand = Stand(keep_alive=keep_alive)
    await stand.head(*LENGTH_5, *headers)
    await stand.body(b"abcde")
    assert stand.line.text.count(b"connection: close\r\n") == 1
    assert (stand.cycle.keep_alive, stand.line.closed, stand.answered) == (False, 1, 1)


@pytest.mark.parametrize(
    "header",
    [(b"x-a", b"1\r\nx-b: 2"), (b"x-a", b"1\n"), (b"x-a", b"1\r"), (b"x\r\n", b"1"), (b"x-a", b"\0")],
)
async def test_no_header_begins_another(header: tuple[bytes, bytes]) -> None:
    """Nothing of such a head is written."""
    stand = Stand()
    with pytest.raises(RuntimeError, match="line end"):
        await stand.head(header)
    await asyncio.sleep(0)
    assert stand.line.text == b""


async def test_nothing_goes_out_of_turn() -> None:
    """No second head, no body in front of it, nothing behind the end."""
    stand = Stand()
    with pytest.raises(RuntimeError, match="behind its head"):
        await stand.body(b"a")
    await stand.head(*LENGTH_5)
    with pytest.raises(RuntimeError, match="begun already"):
        await stand.head()
    await stand.body(b"abcde")
    with pytest.raises(RuntimeError, match="nothing behind its end"):
        await stand.body(b"f")


@pytest.mark.parametrize(("data", "more"), [(b"abcdef", False), (b"abcdef", True), (b"abcd", False)])
async def test_a_body_is_as_long_as_its_head_says(data: bytes, *, more: bool) -> None:
    """A longer one would begin the next reply, a shorter one keep the client waiting."""
    stand = Stand()
    await stand.head(*LENGTH_5)
    with pytest.raises(RuntimeError, match="not as long"):
        await stand.body(data, more=more)
    assert data not in stand.line.text


async def test_a_client_that_left_is_written_nothing() -> None:
    """Nor is anything said to be wrong."""
    stand = Stand()
    await stand.head()
    stand.cycle.disconnected = True
    stand.flow.pause_writing()
    before = stand.line.text
    await stand.body(b"abc")
    assert stand.line.text == before
    assert not stand.cycle.response_complete


async def test_a_client_that_does_not_read_is_waited_for() -> None:
    """And one that leaves meanwhile gets nothing more."""
    for leaves in (False, True):
        stand = Stand()
        await stand.head()
        stand.flow.pause_writing()
        sending = asyncio.create_task(stand.body(b"abc"))
        await asyncio.sleep(0)
        assert not sending.done()
        stand.cycle.disconnected = leaves
        stand.flow.resume_writing()
        await sending
        assert (b"abc" in stand.line.text) is not leaves


async def test_http_1_0_knows_no_chunks() -> None:
    """There the end of the connection is the end of the body."""
    stand = Stand(keep_alive=False, version="1.0")
    await stand.head()
    await stand.body(b"ab", more=True)
    await stand.body(b"c")
    head, _, body = stand.line.text.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert (body, stand.line.closed) == (b"abc", 1)


@pytest.mark.parametrize(("waits", "closed"), [(True, 1), (False, 0)])
async def test_an_answer_instead_of_100_continue_ends_the_connection(closed: int, *, waits: bool) -> None:
    """The body may never be sent then, and the next request be taken for it (RFC 9110 10.1.1)."""
    stand = Stand(more_body=True)
    stand.cycle.waiting_for_100_continue = waits
    await stand.head(*LENGTH_5)
    await stand.body(b"abcde")
    assert (b"\r\nconnection: close\r\n" in stand.line.text) is waits
    assert stand.line.closed == closed
