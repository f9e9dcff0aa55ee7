"""OpenRouter's list over a real socket: what comes back, and what is not waited for or followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from proxy.outbound import listing
from proxy.outbound.listing import FetchError, fetch_listing

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Answer every request so; gives the base URL and the heads of the requests."""
    heads: list[bytes] = []
    calls: set[asyncio.Task[None]] = set()

    def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.add(asyncio.create_task(_answer(reader, writer)))

    async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        try:
            await answer(writer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1", heads
    finally:
        server.close()
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.sleep(0.01)  # a transport is closed by the loop's next round


def saying(*pieces: bytes) -> Answer:
    """Answer with bytes as they are."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)

    return answer


async def test_the_whole_list_is_asked_for_without_a_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind of model, and nothing of this machine's: no proxy, no netrc."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with serving(saying(JSON, b'{"data": [', b"1]}")) as (url, heads):
        assert await fetch_listing(url) == {"data": [1]}
    head = heads[0].decode().lower()
    assert head.startswith("get /api/v1/models?output_modalities=all http/1.1")
    assert "authorization" not in head
    assert "user-agent: turnpike/" in head


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        ((b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n",), "HTTP 503"),
        ((b"HTTP/1.1 302 Go\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",), "HTTP 302"),
        ((JSON, b"<html>"), "no JSON"),
        ((b"nonsense\r\n\r\n",), "cannot be reached"),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", b"{"), "cannot be reached"),
        ((JSON, b"x" * 2_000), "longer than 1,000 bytes"),
    ],
)
async def test_what_is_no_list_is_told(pieces: tuple[bytes, ...], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In words without an address; a redirect is not followed, and no body is read without end."""
    monkeypatch.setattr(listing, "LISTING_BYTES_MAX", 1_000)
    async with serving(saying(*pieces)) as (url, heads):
        with pytest.raises(FetchError, match=told) as caught:
            await fetch_listing(url)
    assert "127.0.0.1" not in str(caught.value)
    assert len(heads) == 1


async def test_a_list_that_trickles_is_given_up() -> None:
    """The time is for all of it, not for each piece."""

    async def trickle(writer: asyncio.StreamWriter) -> None:
        writer.write(JSON)
        for _ in range(100):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with serving(trickle) as (url, _):
        with pytest.raises(FetchError, match=r"no whole answer in 0\.2 s"):
            await fetch_listing(url, total_s_max=0.2)


async def test_nobody_there_is_told() -> None:
    """As any other failure."""
    async with serving(saying(b"")) as (url, _):
        pass
    with pytest.raises(FetchError, match="cannot be reached"):
        await fetch_listing(url)
