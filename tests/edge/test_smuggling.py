"""One way to read a request: what can be read in two is refused, what comes ahead of its turn waits or is refused."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from tests.edge.connection import CLOSE, PATIENT, POST, EchoApp, ask, connected, head, served, status_of

# ---------------------------------------------------------------- S11, S12: one way to read a request

CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"
SMUGGLED = [
    head(POST, b"content-length: 4", b"transfer-encoding: chunked") + CHUNKS,
    head(POST, b"transfer-encoding: chunked", b"content-length: 4") + CHUNKS,
    head(POST, b"content-length: 5", b"content-length: 6") + b"abcdef",
    head(POST, b"content-length: 5", b"content-length: 5") + b"abcde",
    head(POST, b"content-length: 5, 5") + b"abcde",
    head(POST, b"content-length: +5") + b"abcde",
    head(POST, b"content-length: 0x5") + b"abcde",
    head(POST, b"content-length: 1_0") + b"abcdeabcde",
    head(POST, b"content-length: -1"),
    head(POST, b"content-length: 99999999999999999999999"),
    head(POST, b"transfer-encoding: xchunked") + CHUNKS,
    head(POST, b"transfer-encoding: gzip, chunked") + CHUNKS,
    head(POST, b"transfer-encoding: chunked, identity") + CHUNKS,
    head(POST, b"transfer-encoding: chunked", b"transfer-encoding: chunked") + CHUNKS,
    head(POST, b"transfer-encoding: chunked", b"transfer-encoding: identity") + CHUNKS,
    head(POST, b"transfer-encoding : chunked") + CHUNKS,
    head(POST, b"content-length : 3") + b"abc",
    head(POST, b" content-length: 3") + b"abc",
    head(POST, b"x: a", b" folded") + b"",
    head(POST, b"x: a\x00b"),
    head(POST, b"x: a\rb"),
    head(POST, b"x\x00: a"),
    b"POST /x HTTP/1.1\nhost: a\ncontent-length: 0\n\n",
    b"POST /x HTTP/1.1\r\nhost: a\nx: b\r\n\r\n",
    head(POST, b"transfer-encoding: chunked") + b"3\nabc\n0\n\n",
    head(POST, b"transfer-encoding: chunked") + b"3\r\nabcX0\r\n\r\n",
    head(POST, b"transfer-encoding: chunked") + b"3\r\nabc0\r\n\r\n",
    head(POST, b"transfer-encoding: chunked") + b"+3\r\nabc\r\n0\r\n\r\n",
    head(POST, b"transfer-encoding: chunked") + b"0x3\r\nabc\r\n0\r\n\r\n",
    head(POST, b"transfer-encoding: chunked") + b" 3\r\nabc\r\n0\r\n\r\n",
    head(POST, b"transfer-encoding: chunked") + b"ffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    head(POST, b"transfer-encoding: chunked") + b"3\r\nabc\r\n0\r\nx: trailer\r\n\r\n",
    head(POST, b"transfer-encoding: chunked") + b"3\r\nabc\r\n0\r\n" + b"x: trailer\r\n" * 100_000 + b"\r\n",
    head(POST, b"transfer-encoding: chunked") + b"3;" + b"x" * 1_000_000 + b"\r\nabc\r\n0\r\n\r\n",
    head(b"POST /x HTTP/1.0", b"transfer-encoding: chunked") + CHUNKS,
    b"GET /x HTTP/1.1\r\n\r\n",
    head(b"GET /x HTTP/1.1", b"host: b"),
    head(host=b"a/x?"),
    head(host=b"a#"),
    head(b"GET http://evil/admin HTTP/1.1"),
    head(b"CONNECT evil:443 HTTP/1.1"),
    head(b"OPTIONS * HTTP/1.1"),
    head(b"get /x HTTP/1.1"),
    head(b"GET /x y HTTP/1.1"),
    head(b"GET /x HTTP/1.1 "),
    head(b"GET /\xff HTTP/1.1"),
    head(b"GET /x\x00y HTTP/1.1"),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


@pytest.mark.parametrize("data", SMUGGLED, ids=range(len(SMUGGLED)))
async def test_a_request_that_can_be_read_in_two_ways_is_refused(data: bytes) -> None:
    """400 and a closed connection, and the request that follows it on the wire never runs."""
    app = EchoApp()
    async with served(app, PATIENT) as server:
        reply = await ask(server, data + head(b"GET /smuggled HTTP/1.1", CLOSE), timeout_s=3.0)
    assert status_of(reply) in {400, 505}, reply
    assert reply.count(b"HTTP/1.1 ") == 1
    assert orjson.loads(reply.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_http"
    assert "/smuggled" not in [path for _, path, _ in app.asked]


async def test_a_refused_body_tells_the_app_that_its_client_is_gone() -> None:
    """The request that had begun ends like one whose client left."""
    app = EchoApp()
    async with served(app, PATIENT) as server, connected(server) as client:
        client.send(head(POST, b"transfer-encoding: chunked") + b"3\r\nabc\r\n")
        await asyncio.sleep(0.02)
        client.send(b"zz\r\n")
        assert status_of(await client.read_all()) == 400
        await asyncio.wait_for(app.left.wait(), 1.0)


async def test_a_body_that_breaks_under_a_running_reply_aborts_it() -> None:
    """There is no way left to say why, but the client cannot take the reply for whole."""
    app = EchoApp()
    async with served(app, PATIENT) as server, connected(server) as client:
        client.send(head(b"POST /eager HTTP/1.1", b"transfer-encoding: chunked") + b"3\r\nabc\r\n")
        await client.reader.readuntil(b"first")
        client.send(b"zz\r\n")
        assert b"last" not in await client.read_all()
        await asyncio.wait_for(app.left.wait(), 1.0)


async def test_an_upgrade_is_ignored() -> None:
    """S10, S42: no h2c, no websocket; the request is answered as any other and the connection closed."""
    app = EchoApp()
    async with served(app, PATIENT) as server:
        for fields in (
            [b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAMAAABk"],
            [b"connection: upgrade", b"upgrade: websocket", b"sec-websocket-key: x", b"sec-websocket-version: 13"],
        ):
            reply = await ask(server, head(b"GET /x HTTP/1.1", *fields) + head(b"GET /smuggled HTTP/1.1"))
            assert status_of(reply) == 200
            assert reply.count(b"HTTP/1.1 ") == 1
            body = b"content-length: 3"
            reply = await ask(server, head(POST, *fields, body) + b"abc" + head(POST, body) + b"def")
            assert reply.endswith(b"POST /x abc")
            reply = await ask(server, head(POST, *fields, b"transfer-encoding: chunked") + CHUNKS + CHUNKS)
            assert reply.endswith(b"POST /x abc")
    assert "/smuggled" not in [path for _, path, _ in app.asked]


async def test_a_body_behind_an_upgrade_may_come_in_pieces() -> None:
    """Java's HTTP client offers h2c with every POST; its body has a deadline like any other."""
    async with served(EchoApp()) as server:
        fields = [b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAMAAABk"]
        async with connected(server) as client:
            client.send(head(POST, *fields, b"content-length: 6"))
            for byte in b"abcdef":
                await asyncio.sleep(0.002)
                client.send(bytes([byte]))
            assert await client.read_reply() == (200, b"POST /x abcdef")
        assert status_of(await ask(server, head(POST, *fields, b"content-length: 6") + b"abc")) == 408
        assert status_of(await ask(server, head(POST, *fields, b"transfer-encoding: chunked") + b"zz\r\n")) == 400


# ---------------------------------------------------------------- S13: pipelining


async def test_pipelined_requests_are_answered_in_order_and_bounded() -> None:
    """Sixteen may wait behind the one being answered; then the connection closes."""
    app = EchoApp()
    async with served(app, PATIENT) as server, connected(server) as client:
        client.send(b"".join(head(b"GET /%d HTTP/1.1" % number) for number in range(1000)))
        received = await client.read_all()
    answered = [path for _, path, _ in app.asked]
    assert answered == [f"/{number}" for number in range(len(answered))]
    assert received.count(b"HTTP/1.1 200") == len(answered) <= 17


async def test_nothing_follows_a_request_that_closes() -> None:
    """It asked to be the last."""
    app = EchoApp()
    async with served(app, PATIENT) as server:
        reply = await ask(server, head(b"GET /1 HTTP/1.1", CLOSE) + head(b"GET /2 HTTP/1.1"))
    assert reply.endswith(b"GET /1 ")
    assert [path for _, path, _ in app.asked] == ["/1"]


async def test_no_request_begins_on_a_connection_that_is_being_shut_down() -> None:
    """The running one is answered, then it closes."""
    app = EchoApp()
    async with served(app, PATIENT) as server, connected(server) as client:
        client.send(head(b"GET /slow HTTP/1.1"))
        await client.reader.readuntil(b"first")
        for connection in server.state.connections:
            connection.shutdown()
        client.send(head(b"GET /2 HTTP/1.1"))
        await asyncio.sleep(0.02)
        app.go_on.set()
        assert (await client.read_all()).endswith(b"last\r\n0\r\n\r\n")
    assert [path for _, path, _ in app.asked] == ["/slow"]


async def test_a_bad_request_behind_a_good_one_lets_it_finish() -> None:
    """The first is answered, the second refused by closing."""
    app = EchoApp()
    async with served(app, PATIENT) as server, connected(server) as client:
        client.send(head(b"GET /slow HTTP/1.1"))
        await client.reader.readuntil(b"first")
        client.send(b"nonsense\r\n\r\n" + head(b"GET /smuggled HTTP/1.1"))
        await asyncio.sleep(0.05)
        app.go_on.set()
        assert (await client.read_all()).endswith(b"4\r\nlast\r\n0\r\n\r\n")
    assert [path for _, path, _ in app.asked] == ["/slow"]


async def test_a_bad_body_behind_a_good_request_lets_it_finish() -> None:
    """A waiting request that turns out to be malformed never runs."""
    app = EchoApp()
    async with served(app, PATIENT) as server, connected(server) as client:
        client.send(head(b"GET /slow HTTP/1.1"))
        await client.reader.readuntil(b"first")
        client.send(head(b"POST /2 HTTP/1.1", b"content-length: 1") + b"a")
        client.send(head(b"POST /3 HTTP/1.1", b"transfer-encoding: chunked") + b"zz\r\n")
        await asyncio.sleep(0.05)
        app.go_on.set()
        received = await client.read_all()
    assert received.count(b"HTTP/1.1") == 1
    assert [path for _, path, _ in app.asked] == ["/slow", "/2"]


async def test_a_large_body_does_not_wait_behind_a_running_request() -> None:
    """It would stop us from reading, and so from noticing that the client left."""
    app = EchoApp()
    async with served(app, PATIENT) as server:
        async with connected(server) as client:
            client.send(head(b"GET /slow HTTP/1.1"))
            await client.reader.readuntil(b"first")
            client.send(head(b"POST /2 HTTP/1.1", b"content-length: 900000") + b"x" * 400_000)
            await asyncio.sleep(0.05)
            assert not app.left.is_set()
        await asyncio.wait_for(app.left.wait(), 1.0)


async def test_a_client_that_leaves_is_noticed_behind_a_waiting_request() -> None:
    """The running request is told, not only the newest one."""
    app = EchoApp()
    async with served(app, PATIENT) as server:
        async with connected(server) as client:
            client.send(head(b"GET /slow HTTP/1.1"))
            await client.reader.readuntil(b"first")
            client.send(head(b"GET /2 HTTP/1.1"))
            await asyncio.sleep(0.02)
        await asyncio.wait_for(app.left.wait(), 1.0)
    assert [path for _, path, _ in app.asked] == ["/slow"]
