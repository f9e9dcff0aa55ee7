"""One tiny interface over several HTTP clients, for the stack benchmark: `await open(body)` gives a reply.

A reply has .status, .ctype (bytes), await .read(), async iteration over .chunks() and await .close(). Each client is
imported when it is made: an environment needs only the ones it measures.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

HEADERS = {"content-type": "application/json", "authorization": "Bearer sk-mock", "accept-encoding": "identity"}
CONNECTIONS_MAX = 1_000
IDLE_MAX = 512
UNREAD_BYTES_MAX = 256 * 1024


class Httpx:
    """httpx and httpx2, on their own transport or on that of another library."""

    def __init__(self, url: str, kind: str) -> None:
        self.url = url
        if kind.startswith("httpx2"):
            import httpx2 as library
        else:
            import httpx as library
        self.session: Any = None
        self.client = library.AsyncClient(
            limits=library.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=IDLE_MAX),
            timeout=library.Timeout(120),
            trust_env=False,
            transport=self._transport(kind),
        )

    async def open(self, body: bytes) -> HttpxReply:
        """Send a request and wait for the reply's head."""
        request = self.client.build_request("POST", self.url, content=body, headers=HEADERS)
        return HttpxReply(await self.client.send(request, stream=True))

    def _transport(self, kind: str) -> Any:
        if kind.endswith("-pyreqwest"):
            return pyreqwest_transport()
        if not kind.endswith("-aiohttp"):
            return None
        import aiohttp

        if kind == "httpx-aiohttp":
            from httpx_aiohttp import AiohttpTransport
        else:
            from httpx_aiohttp.httpx2.transport import AiohttpTransport
        connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX, keepalive_timeout=60)
        self.session = aiohttp.ClientSession(connector=connector)
        return AiohttpTransport(client=lambda: self.session)


def pyreqwest_transport() -> Any:
    """Make pyreqwest's transport for httpx; the stock one holds back up to 64 KB before it answers."""
    from pyreqwest.client import ClientBuilder
    from pyreqwest.compatibility.httpx import HttpxTransport

    class Unbuffered(HttpxTransport):
        def _map_body(self, builder: Any, request: Any) -> Any:
            return super()._map_body(builder, request).streamed_read_buffer_limit(0)

    return Unbuffered(ClientBuilder().http1_only().pool_max_idle_per_host(IDLE_MAX).build())


class HttpxReply:
    """A reply of either httpx."""

    def __init__(self, reply: Any) -> None:
        self.status = reply.status_code
        self.ctype = reply.headers.get("content-type", "").encode()
        self.read, self.chunks, self.close = reply.aread, reply.aiter_raw, reply.aclose


class Aiohttp:
    """aiohttp."""

    def __init__(self, url: str, _: str) -> None:
        import aiohttp

        self.url = url
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX, keepalive_timeout=60),
            auto_decompress=False,
            skip_auto_headers=("User-Agent",),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=120),
        )

    async def open(self, body: bytes) -> AiohttpReply:
        """Send a request and wait for the reply's head."""
        return AiohttpReply(await self.session.post(self.url, data=body, headers=HEADERS))


class AiohttpReply:
    """A reply of aiohttp."""

    def __init__(self, reply: Any) -> None:
        self._reply = reply
        self.status = reply.status
        self.ctype = reply.headers.get("content-type", "").encode()
        self.read, self.chunks = reply.read, reply.content.iter_any

    async def close(self) -> None:
        """Give the connection back, or close it when there is more to come."""
        if self._reply.content.at_eof():
            self._reply.release()
        else:
            self._reply.close()


class Httpcore:
    """httpcore, the engine of httpx, without httpx."""

    def __init__(self, url: str, _: str) -> None:
        import httpcore

        self.url = url
        self._request = httpcore.Request
        host = url.split("/")[2].encode()
        self._headers = [(b"host", host), *((name.encode(), value.encode()) for name, value in HEADERS.items())]
        self.pool = httpcore.AsyncConnectionPool(max_connections=CONNECTIONS_MAX, max_keepalive_connections=IDLE_MAX)

    async def open(self, body: bytes) -> HttpcoreReply:
        """Send a request and wait for the reply's head."""
        headers = [*self._headers, (b"content-length", str(len(body)).encode())]
        request = self._request("POST", self.url, headers=headers, content=body)
        return HttpcoreReply(await self.pool.handle_async_request(request))


class HttpcoreReply:
    """A reply of httpcore."""

    def __init__(self, reply: Any) -> None:
        self.status = reply.status
        self.ctype = next((value for name, value in reply.headers if name.lower() == b"content-type"), b"")
        self.read, self.chunks, self.close = reply.aread, reply.aiter_stream, reply.aclose


class Niquests:
    """niquests."""

    def __init__(self, url: str, _: str) -> None:
        import niquests

        self.url = url
        self._session = niquests.AsyncSession(
            pool_connections=10, pool_maxsize=IDLE_MAX, disable_http2=True, disable_http3=True
        )
        self._session.trust_env = False

    async def open(self, body: bytes) -> NiquestsReply:
        """Send a request and wait for the reply's head."""
        return NiquestsReply(await self._session.post(self.url, data=body, headers=HEADERS, stream=True))


class NiquestsReply:
    """A reply of niquests."""

    def __init__(self, reply: Any) -> None:
        self._reply = reply
        self.status = reply.status_code
        self.ctype = reply.headers.get("content-type", "").encode()

    async def read(self) -> bytes:
        """Read all of it."""
        return await self._reply.content

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give whatever has arrived, until the end."""
        async for piece in await self._reply.iter_content(-1):
            yield piece

    async def close(self) -> None:
        """Be done with it."""
        await self._reply.close()


class Pyreqwest:
    """pyreqwest: reqwest, in Rust."""

    def __init__(self, url: str, _: str) -> None:
        from pyreqwest.client import ClientBuilder

        self.url = url
        self._client = ClientBuilder().http1_only().pool_max_idle_per_host(IDLE_MAX).build()

    async def open(self, body: bytes) -> PyreqwestReply:
        """Send a request and wait for the reply's head."""
        builder = self._client.post(self.url).headers(HEADERS).body_bytes(body)
        request = builder.streamed_read_buffer_limit(0).build_streamed()
        return PyreqwestReply(request, await request.__aenter__())


class PyreqwestReply:
    """A reply of pyreqwest."""

    def __init__(self, request: Any, reply: Any) -> None:
        self._request, self._reply = request, reply
        self.status = reply.status
        self.ctype = (reply.get_header("content-type") or "").encode()

    async def read(self) -> bytes:
        """Read all of it."""
        return bytes(await self._reply.bytes())

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give each piece as it comes."""
        reader = self._reply.body_reader
        while (piece := await reader.read_chunk()) is not None:
            yield bytes(piece)

    async def close(self) -> None:
        """Be done with it."""
        await self._request.__aexit__(None, None, None)


class Wreq:
    """wreq: a fork of reqwest, in Rust."""

    def __init__(self, url: str, _: str) -> None:
        import wreq

        self.url = url
        self._client = wreq.Client(http1_only=True, pool_max_idle_per_host=IDLE_MAX)

    async def open(self, body: bytes) -> WreqReply:
        """Send a request and wait for the reply's head."""
        request = self._client.post(self.url, body=body, headers=HEADERS)
        return WreqReply(request, await request.__aenter__())


class WreqReply:
    """A reply of wreq."""

    def __init__(self, request: Any, reply: Any) -> None:
        self._request, self._reply = request, reply
        self.status = reply.status.as_int()
        self.ctype = bytes(reply.headers["content-type"])  # a memoryview

    async def read(self) -> bytes:
        """Read all of it."""
        return bytes(await self._reply.bytes())

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give each piece as it comes."""
        async with self._reply.stream() as pieces:
            async for piece in pieces:
                yield bytes(piece)

    async def close(self) -> None:
        """Be done with it."""
        await self._request.__aexit__(None, None, None)


class Connection(asyncio.Protocol):
    """Our own minimal HTTP/1.1 client connection on httptools: the practical limit for Python."""

    def __init__(self) -> None:
        import httptools

        self._make_parser = httptools.HttpResponseParser
        self.transport: Any = None
        self._waiter: asyncio.Future[None] | None = None
        self.reset()

    def reset(self) -> None:
        """Be ready for the next reply."""
        self._parser = self._make_parser(self)
        self.status, self.ctype, self.pieces, self.size = 0, b"", [], 0
        self.done = self.paused = self.lost = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) == len(b"content-type") and name.lower() == b"content-type":
            self.ctype = value

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.size += len(piece)

    def on_message_complete(self) -> None:
        self.done = True

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)
        if self.size > UNREAD_BYTES_MAX and not self.paused:
            self.paused = True
            self.transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._wake()

    def take(self) -> bytes:
        """Give what has arrived and read on."""
        data = self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)
        self.pieces, self.size = [], 0
        if self.paused:
            self.paused = False
            self.transport.resume_reading()
        return data

    async def wait(self) -> None:
        """Wait until something has happened."""
        if self.lost:
            raise ConnectionError
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Protocol:
    """A pool of such connections."""

    def __init__(self, url: str, _: str) -> None:
        _, _, address, path = url.split("/", 3)
        self._host, port = address.split(":")
        self._port = int(port)
        lines = [f"POST /{path} HTTP/1.1", f"host: {address}", *(f"{name}: {value}" for name, value in HEADERS.items())]
        self._head = ("\r\n".join(lines) + "\r\ncontent-length: ").encode()
        self.idle: deque[Connection] = deque()

    async def open(self, body: bytes) -> ProtocolReply:
        """Send a request and wait for the reply's head."""
        connection = await self._connect()
        connection.transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
        while not connection.status:
            await connection.wait()
        return ProtocolReply(self, connection)

    async def _connect(self) -> Connection:
        while self.idle:
            connection = self.idle.pop()
            if not connection.lost:
                connection.reset()
                return connection
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._host, self._port)
        return connection


class ProtocolReply:
    """A reply of our own connection."""

    def __init__(self, pool: Protocol, connection: Connection) -> None:
        self._pool, self._connection = pool, connection
        self.status, self.ctype = connection.status, connection.ctype

    async def read(self) -> bytes:
        """Read all of it."""
        while not self._connection.done:
            await self._connection.wait()
        return b"".join(self._connection.pieces)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give whatever has arrived, until the end."""
        connection = self._connection
        while True:
            if connection.pieces:
                yield connection.take()
            elif connection.done:
                return
            else:
                await connection.wait()

    async def close(self) -> None:
        """Keep the connection for another request, or cut it when there is more to come."""
        if self._connection.done and not self._connection.lost:
            self._pool.idle.append(self._connection)
        else:
            self._connection.transport.abort()


KINDS = {
    "aiohttp": Aiohttp,
    "httpcore": Httpcore,
    "niquests": Niquests,
    "protocol": Protocol,
    "pyreqwest": Pyreqwest,
    "wreq": Wreq,
}


def make(kind: str, url: str) -> Any:
    """Make a client by its name."""
    return (Httpx if kind.startswith("httpx") else KINDS[kind])(url, kind)
