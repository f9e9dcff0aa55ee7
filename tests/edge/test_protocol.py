"""The hardened connection over real sockets: deadlines, limits, early answers, the cap, the cut."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import replace

import pytest

from proxy.edge.framing import Limits
from tests.edge.connection import CLOSE, PATIENT, POST, QUICK, EchoApp, ask, connected, head, served, status_of


async def test_a_plain_request_is_answered() -> None:
    """With a body by length and by chunks."""
    app = EchoApp()
    async with served(app, PATIENT) as server:
        reply = await ask(server, head(b"POST /x HTTP/1.1", b"content-length: 3", CLOSE) + b"abc")
        assert reply.endswith(b"POST /x abc")
        chunked = b"3\r\nabc\r\n2;a=b\r\nde\r\n0\r\n\r\n"
        reply = await ask(server, head(b"POST /x HTTP/1.1", b"transfer-encoding: chunked", CLOSE) + chunked)
        assert reply.endswith(b"POST /x abcde")
        assert b"server:" not in reply.lower()


async def test_a_connection_is_used_again() -> None:
    """Keep-alive, request after request, whatever the pieces they arrive in."""
    async with served(EchoApp(), PATIENT) as server, connected(server) as client:
        for number in range(5):
            client.send(head(b"POST /x HTTP/1.1", b"content-length: 1")[:-5])
            await asyncio.sleep(0)
            client.send(head(b"POST /x HTTP/1.1", b"content-length: 1")[-5:] + b"%d" % number)
            assert await client.read_reply() == (200, b"POST /x %d" % number)


async def test_a_client_that_waits_for_leave_to_send_gets_it() -> None:
    """`Expect: 100-continue`, as curl sends it with large bodies."""
    async with served(EchoApp(), PATIENT) as server, connected(server) as client:
        client.send(head(b"POST /x HTTP/1.1", b"content-length: 3", b"expect: 100-continue"))
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"abc")
        assert await client.read_reply() == (200, b"POST /x abc")


async def test_head_asks_for_no_body() -> None:
    """The connection goes on."""
    async with served(EchoApp(), PATIENT) as server, connected(server) as client:
        client.send(head(b"HEAD /x HTTP/1.1"))
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        client.send(head(b"GET /y HTTP/1.1"))
        assert await client.read_reply() == (200, b"GET /y ")


# ---------------------------------------------------------------- S14: slow clients


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET", b"GET /x HTTP/1.1\r\nhost: a\r\nx-slow:", b"\r\n"],
    ids=["silent", "request line", "half a header", "blank line"],
)
async def test_a_head_that_does_not_come_is_closed_at_its_deadline(sent: bytes) -> None:
    """With 408 when a request had begun, without a word when nothing had been sent."""
    async with served(EchoApp()) as server:
        reply = await ask(server, sent, timeout_s=2.0)
        assert status_of(reply) in ({408} if sent else {0})


async def test_a_dripping_head_does_not_move_its_deadline() -> None:
    """One byte now and then is no progress."""
    async with served(EchoApp()) as server, connected(server) as client:
        reading = asyncio.ensure_future(client.read_all(2.0))
        for byte in b"GET /x HTTP/1.1\r\nhost: a\r\nx: 1234567890":
            client.send(bytes([byte]))
            await asyncio.sleep(0.01)
            if reading.done():
                break
        assert status_of(await reading) == 408


async def test_a_body_that_does_not_come_is_closed_at_its_deadline() -> None:
    """408, and the app is told that the client is gone."""
    app = EchoApp()
    async with served(app) as server:
        reply = await ask(server, head(b"POST /x HTTP/1.1", b"content-length: 10") + b"abc", timeout_s=2.0)
        assert status_of(reply) == 408
        await asyncio.wait_for(app.left.wait(), 1.0)


async def test_a_body_that_keeps_the_pace_is_waited_for() -> None:
    """The deadline grows with what has arrived."""
    limits = replace(QUICK, body_s=0.1, body_bytes_per_s=100)
    async with served(EchoApp(), limits) as server, connected(server) as client:
        client.send(head(b"POST /x HTTP/1.1", b"content-length: 100"))
        for _ in range(10):
            client.send(b"0123456789")
            await asyncio.sleep(0.03)
        status, _ = await client.read_reply()
        assert status == 200


async def test_an_idle_connection_is_closed_after_the_keep_alive_time() -> None:
    """Also when blank lines follow a finished request: they start the head's clock."""
    async with served(EchoApp(), replace(PATIENT, head_s=0.1)) as server, connected(server) as client:
        client.send(head())
        await client.read_reply()
        client.send(b"\r\n")
        assert status_of(await client.read_all(2.0)) == 408


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    """Its reply waits in bounded memory, and not for ever."""
    app = EchoApp()
    async with served(app) as server:
        listener = socket.create_connection(("127.0.0.1", server.port))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.sendall(head(b"GET /big HTTP/1.1"))
        await server.until_connections(1)
        await server.until_connections(0)
        listener.close()


async def test_a_slow_reader_that_goes_on_gets_everything() -> None:
    """Reading at all starts the clock anew."""
    async with served(EchoApp()) as server, connected(server) as client:
        client.send(head(b"GET /big HTTP/1.1"))
        await asyncio.sleep(0.1)
        status, body = await client.read_reply()
        assert (status, len(body)) == (200, 16_000_000)


async def test_a_client_that_does_not_read_the_end_is_cut_off() -> None:
    """Closing waits for what was written to leave, but not for ever."""
    async with served(EchoApp()) as server:
        client = socket.create_connection(("127.0.0.1", server.port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(head(b"GET /big HTTP/1.1", CLOSE))
        await server.until_connections(1)
        await server.until_connections(0)
        client.close()


async def test_a_body_the_app_does_not_read_has_no_deadline() -> None:
    """It is we who keep it waiting."""
    app = EchoApp()
    async with served(app, replace(QUICK, body_s=0.03)) as server, connected(server) as client:
        client.send(head(b"POST /idle HTTP/1.1", b"content-length: 1000000") + b"x" * 999_000)
        await asyncio.sleep(0.15)
        app.go_on.set()
        client.send(b"x" * 1000)
        assert (await client.read_reply())[0] == 200


# ---------------------------------------------------------------- limits of the head


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (head(b"GET /" + b"a" * 9_000 + b" HTTP/1.1"), 414),
        (head(b"GET /x HTTP/1.1", b"x: " + b"a" * 33_000), 431),
        (head(b"GET /x HTTP/1.1", *[b"x%d: a" % number for number in range(100)]), 431),
        (head(b"GET /x HTTP/1.1", *[b"x%d: %s" % (number, b"a" * 400) for number in range(90)]), 431),
        (b"GET /x HTTP/1.1\r\nx: " + b"a" * 3_000_000, 431),
        (b"GET /" + b"a" * 3_000_000, 414),
        (b"\r\n" * 100_000, 431),
        (head(b"GET /x HTTP/1.1", *[b"x%d: a" % number for number in range(99)], CLOSE)[:-13] + b"\r\n\r\n", 0),
    ],
    ids=["target", "one field", "fields", "all fields", "endless field", "endless target", "blank lines", "short"],
)
async def test_a_head_beyond_the_limits_is_refused(data: bytes, status: int) -> None:
    """414 or 431, however it is cut into packets; what is left of it is thrown away while the client reads."""
    async with served(EchoApp(), PATIENT) as server:
        if status:
            assert status_of(await ask(server, data)) == status


async def test_a_head_at_the_limits_is_accepted() -> None:
    """100 fields, 32 KiB, 8 KiB of target."""
    app = EchoApp()
    fields = [b"x%02d: a" % number for number in range(98)]
    async with served(app, PATIENT) as server:
        assert status_of(await ask(server, head(b"GET /x HTTP/1.1", *fields, CLOSE))) == 200
        assert status_of(await ask(server, head(b"GET /" + b"a" * 8_190 + b" HTTP/1.1", CLOSE))) == 200
        assert status_of(await ask(server, head(b"GET /x HTTP/1.1", b"x: " + b"a" * 32_700, CLOSE))) == 200
    assert len(app.asked) == 3


# ---------------------------------------------------------------- early answers


@pytest.mark.parametrize("fields", [[], [CLOSE]], ids=["keep-alive", "close"])
async def test_an_early_answer_reaches_a_client_that_is_still_sending(fields: list[bytes]) -> None:
    """What it sends is thrown away for a while; closing at once would reset what it has not read."""
    size = 8_000_000
    async with served(EchoApp(), PATIENT) as server, connected(server) as client:
        client.send(head(b"POST /early HTTP/1.1", b"content-length: %d" % size, *fields))
        await asyncio.sleep(0.05)
        for _ in range(8):
            client.send(b"x" * (size // 8))
            await client.writer.drain()
        assert await client.read_reply() == (200, b"early")


@pytest.mark.parametrize("pause_s", [0.0, 0.02], ids=["together", "apart"])
async def test_each_body_may_be_thrown_away_to_its_own_end(pause_s: float) -> None:
    """What earlier requests of a connection sent too much is not counted against the next, wherever a read ends."""
    async with served(EchoApp(), replace(PATIENT, linger_bytes_max=10_000)) as server, connected(server) as client:
        for _ in range(4):
            client.send(head(b"POST /early HTTP/1.1", b"content-length: 8000"))
            assert await client.read_reply() == (200, b"early")
            for _ in range(2):
                client.send(b"x" * 4_000)
                await asyncio.sleep(pause_s)


async def test_a_body_in_pieces_may_be_the_last_of_its_connection() -> None:
    """The reply is whole and the connection closed after it."""
    async with served(EchoApp(), PATIENT) as server, connected(server) as client:
        client.send(head(POST, b"content-length: 6", CLOSE) + b"abc")
        await asyncio.sleep(0.02)
        client.send(b"def")
        assert (await client.read_all(1.0)).endswith(b"POST /x abcdef")


async def test_a_client_that_never_stops_sending_is_closed() -> None:
    """The endless body is read for `linger_s`, not for ever."""
    async with served(EchoApp(), PATIENT) as server, connected(server) as client:
        client.send(head(b"POST /early HTTP/1.1", b"transfer-encoding: chunked"))

        async def flood() -> None:
            while not client.writer.is_closing():
                client.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
                await asyncio.sleep(0.005)

        flooding = asyncio.ensure_future(flood())
        assert b"early" in await client.read_all(3.0)
        flooding.cancel()


async def test_discarding_has_an_end() -> None:
    """Past `linger_bytes_max` the connection is dropped."""
    async with served(EchoApp(), replace(PATIENT, linger_bytes_max=10_000, linger_s=60.0)) as server:
        async with connected(server) as client:
            client.send(b"nonsense\r\n\r\n")
            await asyncio.sleep(0.05)
            client.send(b"x" * 100_000)
            await server.until_connections(0)
        async with connected(server) as client:
            client.send(head(b"POST /early HTTP/1.1", b"content-length: 1000000") + b"x" * 500_000)
            await server.until_connections(0)


# ---------------------------------------------------------------- cap and cut


async def test_connections_beyond_the_cap_are_told_so() -> None:
    """503 with Retry-After; far beyond it they are dropped without a word; those inside are unharmed."""
    limits: Limits = replace(PATIENT, connections_max=2, refused_max=1)
    async with served(EchoApp(), limits) as server, connected(server) as first, connected(server) as second:
        first.send(head())
        assert (await first.read_reply())[0] == 200
        async with connected(server) as third, connected(server) as fourth:
            assert status_of(await third.read_all()) == 503
            assert await fourth.read_all() == b""
        second.send(head())
        assert (await second.read_reply())[0] == 200


async def test_a_cut_leaves_no_terminal_chunk_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """What was written arrives, the end does not: no client can take it for whole."""
    with caplog.at_level(logging.DEBUG):
        async with served(EchoApp(), PATIENT) as server:
            reply = await ask(server, head(b"GET /cut HTTP/1.1"))
    assert reply.endswith(b"d\r\ndata: error\n\n\r\n")
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


async def test_a_cut_after_the_end_does_nothing() -> None:
    """A finished reply stays whole and its connection usable."""
    app = EchoApp()
    async with served(app, PATIENT) as server, connected(server) as client:
        client.send(head())
        await client.read_reply()
        app.scopes[0]["extensions"]["turnpike.cut"]()
        client.send(head(b"GET /y HTTP/1.1"))
        assert await client.read_reply() == (200, b"GET /y ")
