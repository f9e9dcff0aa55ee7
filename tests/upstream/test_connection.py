"""Framing by table: what llhttp and we make of an answer's bytes, however they are split and however they end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from proxy.errors import Failure
from proxy.upstream import connection as module
from proxy.upstream.connection import HEADER_BYTES_MAX, HEADERS_MAX, READ_BUFFER_BYTES, Connection
from proxy.upstream.faults import CUT, NO_ANSWER, NOT_HTTP
from proxy.upstream.request import Origin

ORIGIN = Origin(is_tls=False, host="127.0.0.1", port=80, verify=True)
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class FakeTransport:
    """Notes what a connection asks of its transport."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.is_paused = self.is_aborted = self.is_reset = False

    def write(self, data: bytes | memoryview) -> None:
        self.written += data

    def pause_reading(self) -> None:
        assert not self.is_paused
        self.is_paused = True

    def resume_reading(self) -> None:
        assert self.is_paused
        self.is_paused = False

    def is_closing(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True

    def get_extra_info(self, name: str) -> FakeTransport:
        assert name == "socket"
        return self

    def setsockopt(self, _level: int, option: int, _value: bytes) -> None:
        assert option == socket.SO_LINGER
        self.is_reset = True


def connected() -> tuple[Connection, FakeTransport]:
    """Make a connection in the middle of an exchange."""
    transport = FakeTransport()
    made = Connection(ORIGIN, lambda _connection: None)
    made.connection_made(cast("asyncio.Transport", transport))
    made.begin()
    return made, transport


@dataclass(frozen=True, slots=True)
class Case:
    """Bytes of an answer, and what they are."""

    name: str
    wire: bytes
    body: bytes = b""
    status: int = 200
    ends: bool = False
    """The provider closes behind the bytes."""
    is_kept: bool = True
    """The connection may serve again."""
    failure: Failure | None = None


ANSWERS = (
    Case("length", OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
    Case("empty body", OK + b"Content-Length: 0\r\n\r\n"),
    Case("no reason phrase", b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\na", b"a"),
    Case("bare line feeds in the head", b"HTTP/1.1 200 OK\nContent-Length: 1\n\na", b"a"),
    Case("chunks", CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello"),
    Case("chunk extension", CHUNKED + b"2;name=value\r\nhe\r\n0\r\n\r\n", b"he"),
    Case("blanks behind a chunk's size", CHUNKED + b"2 \r\nhe\r\n0\r\n\r\n", b"he"),
    Case("trailers", CHUNKED + b"2\r\nhe\r\n0\r\nx-ratelimit-late: 1\r\n\r\n", b"he"),
    Case("oddly spelled chunked", OK + b"tRaNsfer-enCoding: Chunked\r\n\r\n2\r\nhe\r\n0\r\n\r\n", b"he"),
    Case(
        "interim",
        b"HTTP/1.1 103 Early Hints\r\nx-request-id: no\r\n\r\n" * 2 + OK + b"Content-Length: 1\r\n\r\na",
        b"a",
    ),
    Case("continue", b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na", b"a"),
    Case("no content in spite of a length", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", status=204),
    Case("not modified", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", status=304),
    Case("no length", OK + b"\r\nhello", b"hello", ends=True, is_kept=False),
    Case("no length and nothing", OK + b"\r\n", ends=True, is_kept=False),
    Case("no encoding", OK + b"Transfer-Encoding: identity\r\n\r\nhello", b"hello", ends=True, is_kept=False),
    Case("old protocol", b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", b"a", is_kept=False),
    Case("old, no length", b"HTTP/1.0 200 OK\r\n\r\na", b"a", ends=True, is_kept=False),
    Case("close", OK + b"Connection: close\r\nContent-Length: 1\r\n\r\na", b"a", is_kept=False),
    Case(
        "closed behind the end", OK + b"Connection: close\r\nContent-Length: 1\r\n\r\na", b"a", ends=True, is_kept=False
    ),
    Case("an offer to upgrade", OK + b"Upgrade: h2\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\na", b"a"),
)
SURPLUS = (
    Case("another answer", OK + b"Content-Length: 1\r\n\r\na" + OK + b"Content-Length: 6\r\n\r\npoison", b"a"),
    Case("garbage", OK + b"Content-Length: 1\r\n\r\na\x00garbage", b"a"),
    Case("behind chunks", CHUNKED + b"1\r\na\r\n0\r\n\r\npoison", b"a"),
    Case("behind a close", OK + b"Connection: close\r\nContent-Length: 1\r\n\r\naHTTP", b"a"),
    Case("behind no content", b"HTTP/1.1 204 No Content\r\n\r\npoison", status=204),
)
BROKEN = (
    Case("nothing", b"", ends=True, failure=NO_ANSWER),
    Case("half a head", OK + b"Content-Le", ends=True, failure=NO_ANSWER),
    Case("interim only", b"HTTP/1.1 103 Early Hints\r\n\r\n", ends=True, failure=NO_ANSWER),
    Case("short body", OK + b"Content-Length: 5\r\n\r\nhell", b"hell", ends=True, failure=CUT),
    Case("no last chunk", CHUNKED + b"2\r\nhe\r\n", b"he", ends=True, failure=CUT),
    Case("half a chunk", CHUNKED + b"5\r\nhe", b"he", ends=True, failure=CUT),
    Case("no end of trailers", CHUNKED + b"2\r\nhe\r\n0\r\nx: 1\r\n", b"he", ends=True, failure=CUT),
    Case("bad chunk size", CHUNKED + b"2\r\nhe\r\nzz\r\n", b"he", failure=CUT),
    Case("bad chunk end", CHUNKED + b"2\r\nhexx", b"he", failure=CUT),
    Case(
        "length and chunks", OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", status=0, failure=NOT_HTTP
    ),
    Case(
        "chunks and length", OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", status=0, failure=NOT_HTTP
    ),
    Case(
        "two transfer encodings",
        OK + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        status=0,
        failure=NOT_HTTP,
    ),
    Case("two lengths", OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", status=0, failure=NOT_HTTP),
    Case("negative length", OK + b"Content-Length: -1\r\n\r\n", status=0, failure=NOT_HTTP),
    Case("endless length", OK + b"Content-Length: 99999999999999999999999\r\n\r\n", status=0, failure=NOT_HTTP),
    Case("packed for transfer", OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", status=0, failure=NOT_HTTP),
    Case(
        "packed in two lines",
        OK + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
        status=0,
        failure=NOT_HTTP,
    ),
    Case("unknown transfer encoding", OK + b"Transfer-Encoding: gzip\r\n\r\nabc", status=0, failure=NOT_HTTP),
    Case(
        "switch of protocols",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        status=0,
        failure=NOT_HTTP,
    ),
    Case("bare switch", b"HTTP/1.1 101 Switching\r\n\r\n", status=0, failure=NOT_HTTP),
    Case("no status", b"HTTP/1.1 099 What\r\n\r\n", status=0, failure=NOT_HTTP),
    Case("short status", b"HTTP/1.1 20 OK\r\n\r\n", status=0, failure=NOT_HTTP),
    Case("newer protocol", b"HTTP/2 200 OK\r\n\r\n", status=0, failure=NOT_HTTP),
    Case("no HTTP", b"\x15\x03\x03\x00\x02\x02\x46", status=0, failure=NOT_HTTP),
    Case("a request", b"GET / HTTP/1.1\r\n\r\n", status=0, failure=NOT_HTTP),
    Case("nameless header", OK + b": 1\r\n\r\n", status=0, failure=NOT_HTTP),
    Case("blank in a name", OK + b"a b: 1\r\n\r\n", status=0, failure=NOT_HTTP),
    Case("folded header", OK + b"x: a\r\n b\r\n\r\n", status=0, failure=NOT_HTTP),
    Case("NUL", OK + b"x: a\x00b\r\n\r\n", status=0, failure=NOT_HTTP),
)


def named(case: Case) -> str:
    """Name a case."""
    return case.name


def splits(wire: bytes) -> Iterator[list[bytes]]:
    """Give the bytes whole, in two at every place, and one by one."""
    yield [wire]
    for place in range(1, len(wire)):
        yield [wire[:place], wire[place:]]
    yield [wire[place : place + 1] for place in range(len(wire))]


def feed(case: Case, parts: list[bytes]) -> tuple[Connection, FakeTransport, bytes]:
    """Let a connection receive an answer, taking each piece as a quick reader would; give all of its body."""
    made, transport = connected()
    body = b""
    for part in parts:
        if part and not transport.is_aborted:
            made.data_received(part)
            body += made.take()
    if case.ends and not transport.is_aborted:
        made.eof_received()
    return made, transport, body


@pytest.mark.parametrize("case", ANSWERS, ids=named)
async def test_an_answer_is_read_whole_however_it_is_split(case: Case) -> None:
    """Status and body are the same at every split, and so is whether the connection may serve again."""
    for parts in splits(case.wire):
        made, transport, body = feed(case, parts)
        assert (made.status, body, made.is_complete, made.failure) == (case.status, case.body, True, None)
        assert made.fields == {}
        assert made.rest(1.0) is case.is_kept
        assert made.is_fit(0.5) is case.is_kept
        assert not transport.is_aborted


@pytest.mark.parametrize("case", SURPLUS, ids=named)
async def test_what_comes_behind_an_answer_spoils_nothing_but_the_connection(case: Case) -> None:
    """In the same read or in a later one: the answer is whole, and nobody gets the rest."""
    for parts in splits(case.wire):
        made, transport, body = feed(case, parts)
        assert (made.status, body, made.is_complete, made.failure) == (case.status, case.body, True, None)
        assert not made.rest(1.0)
        made.cut()
        assert transport.is_aborted
        assert not transport.is_reset


@pytest.mark.parametrize("case", BROKEN, ids=named)
async def test_a_broken_answer_is_never_a_clean_end(case: Case) -> None:
    """What had come of the body is there; the fault says in which phase it broke."""
    for parts in splits(case.wire):
        made, _, body = feed(case, parts)
        assert (body, made.is_complete, made.failure) == (case.body, False, case.failure)
        assert (made.status == 0) is (case.failure is not CUT)
        assert not made.rest(1.0)


async def test_a_reset_ends_no_body() -> None:
    """Where only the close tells the end, only a clean one does."""
    made, _ = connected()
    made.data_received(OK + b"\r\nhello")
    made.connection_lost(ConnectionResetError())
    assert (made.take(), made.is_complete, made.failure) == (b"hello", False, CUT)
    assert isinstance(made.cause, ConnectionResetError)


@pytest.mark.parametrize("count", [HEADERS_MAX, HEADERS_MAX + 1])
async def test_so_many_headers_and_no_more(count: int) -> None:
    """Those of interim answers and trailers count too."""
    interim = b"HTTP/1.1 103 Early Hints\r\nx: 1\r\n\r\n"
    made, _ = connected()
    made.data_received(interim + OK + b"x: 1\r\n" * (count - 3) + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
    made.data_received(b"x-ratelimit-late: 1\r\n\r\n")
    assert made.is_complete is (count == HEADERS_MAX)
    assert "x-ratelimit-late" not in made.fields


@pytest.mark.parametrize("size", [HEADER_BYTES_MAX, HEADER_BYTES_MAX + 1])
async def test_a_header_may_be_so_long_and_no_longer(size: int) -> None:
    """Name and value together."""
    made, _ = connected()
    made.data_received(OK + b"x-long: " + b"a" * (size - 6) + b"\r\nContent-Length: 0\r\n\r\n")
    assert (made.status, made.failure) == ((200, None) if size == HEADER_BYTES_MAX else (0, NOT_HTTP))


@pytest.mark.parametrize(
    ("before", "endless"),
    [
        (b"HTTP/1.1 200 ", b"O" * 1000),
        (OK + b"x-endless: ", b"a" * 1000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 40),
        (CHUNKED + b"2\r\nhe\r\n0\r\nx-endless: ", b"a" * 1000),
        (CHUNKED + b"2;", b"a" * 1000),
    ],
    ids=["status line", "header", "interim answers", "trailer", "chunk extension"],
)
async def test_what_adds_up_to_nothing_ends_soon(before: bytes, endless: bytes) -> None:
    """Memory and patience have the limit of one header."""
    made, transport = connected()
    made.data_received(before) if before else None
    made.take()
    fed = 0
    while made.failure is None:
        made.data_received(endless)
        fed += len(endless)
        assert fed <= HEADER_BYTES_MAX + 2 * len(endless)
    assert made.failure == (CUT if made.status else NOT_HTTP)
    assert transport.is_aborted


async def test_headers_that_matter_are_kept() -> None:
    """The first of a repeated one counts; blanks around a value and odd bytes in it harm nobody."""
    made, _ = connected()
    made.data_received(
        OK + b"Date:  today \r\nDATE: later\r\nX-RateLimit-Limit: 5\r\nx-request-id: \xff\r\nServer: x\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    assert made.fields == {"date": "today", "x-ratelimit-limit": "5", "x-request-id": "ÿ"}


async def test_bytes_on_a_waiting_connection_end_it() -> None:
    """They would be read as the next answer."""
    made, transport = connected()
    made.data_received(OK + b"Content-Length: 0\r\n\r\n")
    assert made.rest(1.0)
    made.data_received(OK)
    assert transport.is_aborted
    assert not made.is_fit(0.0)


async def test_an_end_on_a_waiting_connection_is_no_fault() -> None:
    """Nobody waits for anything there."""
    gone: list[Connection] = []
    made = Connection(ORIGIN, gone.append)
    made.connection_made(cast("asyncio.Transport", FakeTransport()))
    made.eof_received()
    made.connection_lost(None)
    made.data_received(b"late")
    assert gone == [made]
    assert made.failure is None


async def test_a_slow_reader_pauses_the_socket_and_a_reader_lets_it_go_on() -> None:
    """At twice the read buffer; what has ended is not resumed."""
    made, transport = connected()
    made.data_received(OK + b"Content-Length: 10000000\r\n\r\n")
    for size, is_paused in ((2 * READ_BUFFER_BYTES, False), (1, True), (99, True)):
        made.data_received(b"x" * size)
        assert transport.is_paused is is_paused
    assert len(made.take()) == 2 * READ_BUFFER_BYTES + 100
    assert not transport.is_paused
    made.data_received(b"x" * (2 * READ_BUFFER_BYTES + 1))
    assert transport.is_paused
    made.connection_lost(None)
    assert made.take()
    assert transport.is_paused


async def test_a_connection_given_back_unread_reads_on() -> None:
    """Paused over a body that nobody took, it would be deaf to its own end."""
    made, transport = connected()
    size = 2 * READ_BUFFER_BYTES + 1
    made.data_received(OK + b"Content-Length: %d\r\n\r\n" % size)
    made.data_received(b"x" * size)
    assert transport.is_paused
    assert made.rest(1.0)
    assert not transport.is_paused
    assert made.pieces == []


async def test_a_long_request_goes_out_as_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Piece by piece; a wake-up that is none changes nothing."""
    monkeypatch.setattr(module, "PIECE_BYTES", 4)
    made, transport = connected()
    made.pause_writing()
    sending = asyncio.create_task(made.write_long(b"head ", b"0123456789"))
    for _ in range(3):
        await asyncio.sleep(0)
        made.data_received(b"")
    assert transport.written == b"head "
    made.resume_writing()
    await sending
    assert transport.written == b"head 0123456789"
    made.data_received(OK + b"Content-Length: 0\r\n\r\n")
    assert made.rest(1.0)


@pytest.mark.parametrize("answer", [OK + b"Content-Length: 0\r\n\r\n", b"garbage"])
async def test_a_request_answered_early_goes_no_further(answer: bytes) -> None:
    """What is left of the body would be taken for the next request."""
    made, transport = connected()
    made.pause_writing()
    sending = asyncio.create_task(made.write_long(b"head ", b"0123456789"))
    await asyncio.sleep(0)
    made.data_received(answer)
    await sending
    assert transport.written == b"head "
    assert not made.rest(1.0)


async def test_cutting_an_answer_resets_and_wakes() -> None:
    """Whoever waits learns of it; twice is once."""
    made, transport = connected()
    made.data_received(OK + b"Content-Length: 5\r\n\r\nhe")
    waiter = made.wait()
    made.cut()
    made.cut()
    assert waiter.done()
    assert (transport.is_reset, made.failure, made.pieces) == (True, CUT, [])


async def test_nobody_is_woken_who_has_left() -> None:
    """A cancelled wait is passed over."""
    made, _ = connected()
    made.wait().cancel()
    made.data_received(OK)
    made.wait().cancel()
    made.eof_received()
    assert made.failure is NO_ANSWER


def test_the_fake_is_asked_for_nothing_else() -> None:
    """A transport has what the fake has."""
    names: list[Any] = [name for name in vars(FakeTransport) if not name.startswith("_") and name != "setsockopt"]
    assert all(hasattr(asyncio.Transport, name) for name in names)
