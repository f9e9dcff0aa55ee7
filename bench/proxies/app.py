"""Pass-through proxies for the stack benchmark, one thing varied at a time by the environment.

PORT, UPSTREAM  where to listen, what to call
CLIENT  a kind of clients.py
APP     asgi (raw) | starlette | starlette-stream | sketch (JSON parse, key, model rewrite, usage, ledger)
SERVER  uvicorn | granian-asgi | granian-rsgi | aiohttp-web
HTTP, LOOP  uvicorn's parser and event loop
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from relaying import (
    EVENT_STREAM,
    PORT,
    Message,
    Receive,
    Send,
    client,
    pass_through,
    read_and_close,
    stream_out,
)

APP = os.environ.get("APP", "asgi")
SERVER = os.environ.get("SERVER", "uvicorn")
HTTP = os.environ.get("HTTP", "httptools")
LOOP = os.environ.get("LOOP", "uvloop")
HOST = "127.0.0.1"
# As many routes as a gateway has, the chat route in the middle.
PATHS_BEFORE = ["/health", "/ready", "/metrics", "/v1/models", "/v1/usage", "/v1/credits", "/v1/embeddings"]
PATHS_AFTER = [f"/admin/{number}" for number in range(10)]


class Forward:
    """A bare ASGI callable as the response of a Starlette route."""

    def __init__(self, reply: Any) -> None:
        self.reply = reply

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        await stream_out(self.reply, send, receive)


async def pieces_of(reply: Any) -> AsyncIterator[bytes]:
    """Give a stream's pieces to Starlette's own response."""
    try:
        async for piece in reply.chunks():
            yield piece
    finally:
        await reply.close()


def starlette_app() -> Any:
    """Make the proxy on Starlette's router."""
    from starlette.applications import Starlette
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route

    async def chat(request: Any) -> Any:
        reply = await client().open(await request.body())
        headers = {"content-type": reply.ctype.decode()}
        if not reply.ctype.startswith(EVENT_STREAM):
            return Response(await read_and_close(reply), status_code=reply.status, headers=headers)
        if APP == "starlette-stream":
            return StreamingResponse(pieces_of(reply), status_code=reply.status, headers=headers)
        return Forward(reply)

    async def nothing(_: Any) -> Any:
        return Response("")

    return Starlette(
        routes=[
            *(Route(path, nothing) for path in PATHS_BEFORE),
            Route("/v1/chat/completions", chat, methods=["POST"]),
            *(Route(path, nothing) for path in PATHS_AFTER),
        ]
    )


def sketch_app() -> Any:
    """Make the proxy that keeps books."""
    from sketch import Sketch

    return Sketch()


async def rsgi(_: Any, protocol: Any) -> None:
    """Forward a request by granian's own interface."""
    reply = await client().open(await protocol())
    headers = [("content-type", reply.ctype.decode())]
    if not reply.ctype.startswith(EVENT_STREAM):
        protocol.response_bytes(reply.status, headers, await read_and_close(reply))
        return
    relaying = asyncio.current_task()
    gone = asyncio.ensure_future(protocol.client_disconnect())
    gone.add_done_callback(lambda future: None if future.cancelled() else relaying.cancel())
    transport = protocol.response_stream(reply.status, headers)
    try:
        async for piece in reply.chunks():
            await transport.send_bytes(piece)
    except asyncio.CancelledError:
        pass
    finally:
        gone.cancel()
        await reply.close()


def aiohttp_app() -> Any:
    """Make the proxy on aiohttp's server."""
    from aiohttp import web

    async def chat(request: Any) -> Any:
        reply = await client().open(await request.read())
        headers = {"content-type": reply.ctype.decode()}
        try:
            if not reply.ctype.startswith(EVENT_STREAM):
                return web.Response(body=await reply.read(), status=reply.status, headers=headers)
            response = web.StreamResponse(status=reply.status, headers=headers)
            await response.prepare(request)
            async for piece in reply.chunks():
                await response.write(piece)
            await response.write_eof()
            return response
        finally:
            await reply.close()

    application = web.Application(client_max_size=50 << 20)
    application.router.add_post("/v1/chat/completions", chat)
    return application


def serve() -> None:
    """Run the chosen server until it is ended."""
    if SERVER == "uvicorn":
        import uvicorn

        lifespan = "on" if APP in {"asgi", "sketch"} else "auto"
        options = {"access_log": False, "log_level": "warning", "lifespan": lifespan}
        uvicorn.run(app, host=HOST, port=PORT, loop=LOOP, http=HTTP, **options)
    elif SERVER.startswith("granian"):
        from granian import Granian

        interface = SERVER.partition("-")[2]
        target = "app:rsgi" if interface == "rsgi" else "app:app"
        options = {"working_dir": Path(__file__).parent, "workers": 1, "loop": "uvloop", "log_level": "warning"}
        Granian(target, address=HOST, port=PORT, interface=interface, **options).serve()
    else:
        import uvloop
        from aiohttp import web

        uvloop.install()
        web.run_app(aiohttp_app(), host=HOST, port=PORT, access_log=None, print=None, handler_cancellation=True)


MAKERS = {
    "asgi": lambda: pass_through,
    "starlette": starlette_app,
    "starlette-stream": starlette_app,
    "sketch": sketch_app,
}
app = MAKERS[APP]()

if __name__ == "__main__":
    serve()
