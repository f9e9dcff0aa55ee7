"""A tap on the wire between clients and a server: it notes the requests, and can break a reply as a dying one does."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Final, Self

from tests.faults.ports import HOST

REQUEST_LINE: Final = re.compile(rb"(?:GET|HEAD|POST) \S+(?= HTTP/1\.1\r\n)")
PIECE_BYTES: Final = 64 * 1024


class Tap:
    """One listening port in front of a server; an async context manager."""

    def __init__(self, port: int) -> None:
        self.requests: list[str] = []
        """Method and path of every request that came, each client's own retries included."""
        self.cut_after: bytes | None = None
        """The connection ends as soon as a reply has had these bytes."""
        self._port = port
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._join, HOST)
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._server is not None
        self._server.close()

    @property
    def url(self) -> str:
        """The address to give to clients, without a path."""
        assert self._server is not None
        return f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}"

    async def _join(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Carry bytes both ways until one side ends."""
        server, to_server = await asyncio.open_connection(HOST, self._port)
        ways = [
            asyncio.create_task(self._ask(client, to_server)),
            asyncio.create_task(self._answer(server, to_client)),
        ]
        with suppress(ConnectionError):
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        to_client.close()
        to_server.close()

    async def _ask(self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        while piece := await client.read(PIECE_BYTES):
            # A client writes a request line at once, and its prompts hold none.
            self.requests += [line.decode() for line in REQUEST_LINE.findall(piece)]
            to_server.write(piece)
            await to_server.drain()

    async def _answer(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        said = b""
        while piece := await server.read(PIECE_BYTES):
            to_client.write(piece)
            await to_client.drain()
            if self.cut_after is not None:
                said += piece
                if self.cut_after in said:
                    return
