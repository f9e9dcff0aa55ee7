"""Asking what a generation cost: with the provider's own credential, bounded in time and size, and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from proxy.outbound.generations import ANSWER_BYTES_MAX, Generations, GenerationUnknownError
from proxy.routing.table import Dialect, Provider, ProviderFlags, Secret
from tests.faults.ports import HOST, free_port
from tests.faults.router import RouterUpstream, bill

KEY = Secret("sk-or-test")


@asynccontextmanager
async def answering(data: bytes, *, hangs: bool = False) -> AsyncIterator[str]:
    """An upstream that gives these bytes to whoever asks, and its address."""
    serving: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(data)
            await writer.drain()
            if hangs:
                await reader.read()
        with suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}/api/v1"
        await asyncio.gather(*filter(None, serving))


def provider(base_url: str, **fields: object) -> Provider:
    """OpenRouter at an address."""
    return Provider("router", Dialect.OPENROUTER, base_url=base_url, **fields)  # type: ignore[arg-type]  # a test's


async def reason(asked: Provider, *, total_s_max: float = 5.0) -> str:
    """Why nothing is known."""
    generations = Generations(total_s_max=total_s_max)
    with pytest.raises(GenerationUnknownError) as caught:
        await generations.find(asked, KEY, "gen-1")
    return str(caught.value)


async def test_it_is_asked_by_id_with_the_credential() -> None:
    """The id is a value of the query, whatever stands in it; the amount comes back."""
    odd = "gen-1&id=other#x"
    async with RouterUpstream() as up:
        up.bills[odd] = bill(0.5)
        generations = Generations()
        told = [await generations.find(provider(up.base_url), KEY, odd) for _ in range(2)]
    assert [usage.cost_nano_usd for usage in told] == [500_000_000] * 2
    assert up.asked == [(odd, "Bearer sk-or-test")] * 2


@pytest.mark.parametrize(
    ("credential", "flags", "header"),
    [
        (None, ProviderFlags(), None),
        (KEY, ProviderFlags(key_header="x-key"), None),
        (KEY, ProviderFlags(), "Bearer sk-or-test"),
    ],
)
async def test_the_credential_goes_where_the_provider_wants_it(
    credential: Secret | None, flags: ProviderFlags, header: str | None
) -> None:
    """And nowhere when there is none."""
    async with RouterUpstream() as up:
        up.bills["gen-1"] = bill(0.5)
        generations = Generations()
        await generations.find(provider(up.base_url, flags=flags, verify=False), credential, "gen-1")
    assert up.asked == [("gen-1", header)]


async def test_not_written_yet_is_not_known() -> None:
    """404 until the record is there."""
    async with RouterUpstream() as up:
        assert await reason(provider(up.base_url)) == "HTTP 404"


def whole(body: bytes, status: str = "200 OK", extra: str = "") -> bytes:
    """An answer."""
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{extra}connection: close\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (whole(b"", "302 Found", "location: http://127.0.0.1:9/\r\n"), "HTTP 302"),
        (whole(b"{}", "401 Unauthorized"), "HTTP 401"),
        (whole(b"<html>"), "an answer without an amount"),
        (whole(b" " * (ANSWER_BYTES_MAX + 1)), "an answer beyond any sensible size"),
        (b"SSH-2.0\r\n\r\n", "no answer"),
        (b"", "no answer"),
    ],
)
async def test_whatever_else_comes_is_not_known(data: bytes, why: str) -> None:
    """No redirect is followed, no page is read, and nothing without end."""
    async with answering(data) as base_url:
        assert await reason(provider(base_url)) == why


async def test_nobody_waits_for_ever() -> None:
    """Neither for an answer nor for its end."""
    async with answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", hangs=True) as base_url:
        assert await reason(provider(base_url), total_s_max=0.2) in {"no answer in time", "no answer"}


async def test_nobody_there_is_not_known() -> None:
    """A refused connection is no answer."""
    assert await reason(provider(f"http://{HOST}:{free_port()}/v1")) == "no answer"
