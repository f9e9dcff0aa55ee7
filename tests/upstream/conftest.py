"""One adapter for each test, and the ways the tests call it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import orjson
import pytest
import uvloop

from proxy.codecs.wire import Call
from proxy.errors import Failure, UpstreamError
from proxy.routing.table import Dialect, Provider, Secret
from proxy.upstream import HttpUpstream

SECRET = "sk-very-secret-0123456789"
REPLY_BYTES_MAX = 32 << 20
CONNECT_S = 1.0
LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, LoopFactory]:
    """Run each test on the standard loop and on the one that serves: they order data and ends differently."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def adapter() -> AsyncIterator[HttpUpstream]:
    """Give an adapter and close it."""
    upstream = HttpUpstream()
    yield upstream
    await upstream.close()


def provider_at(base_url: str, **fields: object) -> Provider:
    """Make a provider with a credential."""
    known = {"name": "acme", "dialect": Dialect.OPENAI, "api_key": Secret(SECRET)}
    return Provider(base_url=base_url, **(known | fields))  # type: ignore[arg-type]


def call_of(model: str = "m", *, is_stream: bool = False, padding: int = 0) -> Call:
    """Make a call for a model; `fault:NAME` picks a mode of the fault upstream."""
    body = {"model": model, "stream": is_stream, "messages": [{"role": "user", "content": "x" * padding}]}
    return Call("/chat/completions", orjson.dumps(body), is_stream)


async def ask(adapter: HttpUpstream, provider: Provider, call: Call | None = None) -> bytes:
    """Call and read the whole reply."""
    reply = await adapter.open(provider, call or call_of(), connect_timeout_s=CONNECT_S)
    try:
        return await reply.read_all(REPLY_BYTES_MAX)
    finally:
        await reply.close()


async def fail(adapter: HttpUpstream, provider: Provider, call: Call | None = None) -> Failure:
    """Call, expect a failure, and check that its words give nothing away."""
    with pytest.raises(UpstreamError) as caught:
        await ask(adapter, provider, call)
    message = caught.value.failure.message
    for private in (SECRET, "127.0.0.1", "localhost", "://", provider.base_url):
        assert private not in message
    return caught.value.failure


@asynccontextmanager
async def raw_server(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serve connections with a handler of the test's own; give the base URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Read one request with its body, and give its head."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    return head


def answering(answer: bytes, requests: list[bytes] | None = None) -> Handler:
    """Make a handler that gives the same answer to every request of a connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_request(reader)
            if requests is not None:
                requests.append(head)
            writer.write(answer)

    return handle
