"""What all pass-through proxies of the stack benchmark share: their settings, the client, reading and streaming."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import clients

CLIENT = os.environ.get("CLIENT", "aiohttp")
PORT = int(os.environ.get("PORT", "9100"))
URL = os.environ.get("UPSTREAM", "") + "/v1/chat/completions"
EVENT_STREAM = b"text/event-stream"

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@cache
def client() -> Any:
    """Give the HTTP client under test, made when the event loop runs; without its library there is nothing to serve."""
    try:
        return clients.make(CLIENT, URL)
    except ImportError as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        os._exit(2)


async def read_body(receive: Receive) -> bytes:
    """Read a request's whole body."""
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def serve_lifespan(receive: Receive, send: Send, start: Callable[[], None] | None = None) -> None:
    """Answer the server's lifespan messages; `start` runs at its start."""
    while (await receive())["type"] == "lifespan.startup":
        if start is not None:
            start()
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def send_json(reply: Any, data: bytes, send: Send, extra: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    """Send a JSON reply that has been read."""
    headers = [(b"content-type", reply.ctype), (b"content-length", str(len(data)).encode()), *extra]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": data})


async def read_and_close(reply: Any) -> bytes:
    """Read a JSON reply."""
    try:
        return await reply.read()
    finally:
        await reply.close()


async def stream_out(reply: Any, send: Send, receive: Receive, meter: Any = None) -> None:
    """Forward an SSE reply; a client that goes away cancels the read and closes the upstream connection."""
    relaying = asyncio.current_task()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        relaying.cancel()

    watcher = asyncio.get_running_loop().create_task(watch())
    try:
        headers = [(b"content-type", reply.ctype)]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        async for piece in reply.chunks():
            if meter is not None:
                meter.look(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        watcher.cancel()
        if meter is not None:
            await meter.settle()
        await send({"type": "http.response.body", "body": b""})
    except asyncio.CancelledError:
        pass
    finally:
        watcher.cancel()
        await reply.close()


async def pass_through(scope: Message, receive: Receive, send: Send) -> None:
    """Forward a request and its reply: the raw ASGI proxy."""
    if scope["type"] == "lifespan":
        await serve_lifespan(receive, send)
        return
    reply = await client().open(await read_body(receive))
    if reply.ctype.startswith(EVENT_STREAM):
        await stream_out(reply, send, receive)
    else:
        await send_json(reply, await read_and_close(reply), send)
