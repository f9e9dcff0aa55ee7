"""A scripted fault upstream on raw sockets: it carries out a mode's steps and notes what happened when.

    async with FaultUpstream([reset_before_headers(), ok()]) as up:
        ...  # point a provider's base_url at up.base_url
        assert up.exchanges[0].mode == "reset_before_headers"

The script is used up one mode per request, the last one repeats; a model named `fault:NAME` picks its mode itself.
Limits: a request above REQUEST_BYTES_MAX, or one that is no HTTP, ends its connection and is noted in `up.rejected`.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, Self, cast

from tests.faults.modes import MODEL_PREFIX, MODES
from tests.faults.ports import HOST
from tests.faults.records import Connection, End, Exchange
from tests.faults.replies import ok, plain
from tests.faults.steps import Ask, Close, Hang, Json, Mode, Reset, Send, Step, Wait

REQUEST_BYTES_MAX: Final = 64 * 1024 * 1024
HEAD_BYTES_MAX: Final = 256 * 1024
WAIT_S: Final = 5.0
"""How long `until` and its kin wait before they give up."""
RST_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 s: closing drops what is unsent and sends RST."""


class _Peer(asyncio.StreamReaderProtocol):
    """One connection: notes the moment the peer leaves, which a reader alone would see late."""

    def __init__(self, upstream: FaultUpstream) -> None:
        loop = asyncio.get_running_loop()
        self._reader = asyncio.StreamReader(limit=HEAD_BYTES_MAX, loop=loop)
        super().__init__(self._reader, loop=loop)
        self._upstream = upstream
        self.left = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        super().connection_made(transport)
        self.transport = stream
        self.reader = self._reader
        loop = asyncio.get_running_loop()
        self.writer = asyncio.StreamWriter(stream, self, self._reader, loop)
        self.connection = self._upstream.accepted(self)

    def eof_received(self) -> bool:
        self._note_departure("fin")
        super().eof_received()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._note_departure("rst")
        self.connection.closed_at = time.monotonic()
        super().connection_lost(exc)
        self._upstream.changed()

    def _note_departure(self, how: str) -> None:
        if self.connection.peer_closed_at is None and self.connection.shut_at is None:
            self.connection.peer_closed_at = time.monotonic()
            self.connection.peer_closed_by = how
        self.left.set()
        self._upstream.changed()


class FaultUpstream:
    """A fault upstream and its records; an async context manager that leaves no task and no socket behind."""

    def __init__(self, script: Sequence[Mode] = (), *, port: int = 0) -> None:
        self.script: list[Mode] = list(script) or [ok()]
        self.exchanges: list[Exchange] = []
        self.connections: list[Connection] = []
        self.rejected: list[bytes] = []
        self._port = port
        self._peers: set[_Peer] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._used = 0
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._bugs: list[Exception] = []

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()
        if self._bugs:
            raise ExceptionGroup("the fault upstream itself failed", self._bugs)

    @property
    def url(self) -> str:
        """The address without a path."""
        return f"http://{HOST}:{self._port}"

    @property
    def base_url(self) -> str:
        """The address as a provider's `base_url`."""
        return f"{self.url}/v1"

    @property
    def port(self) -> int:
        """The port, the same before and after an outage."""
        return self._port

    @property
    def open_connections(self) -> int:
        """How many connections neither side has closed."""
        return sum(connection.is_open for connection in self.connections)

    async def listen(self) -> None:
        """Start to accept, on the port of before when there was one."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Peer(self), HOST, self._port or None, backlog=2048)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections from now on and drop the open ones; `listen` ends the outage."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for peer in self._peers:
            peer.connection.shut()
            peer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # aborted transports report their loss in the next round of the loop

    def replace_script(self, script: Sequence[Mode]) -> None:
        """Start another script with the next request."""
        self.script = list(script)
        self._used = 0

    async def until(self, condition: Callable[[], bool], *, timeout_s: float = WAIT_S) -> None:
        """Wait until the records meet a condition; TimeoutError when they do not in time."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def received(self, count: int = 1, *, timeout_s: float = WAIT_S) -> Exchange:
        """Wait until `count` requests have been read in all, and give the last of them."""
        await self.until(lambda: len(self.exchanges) >= count, timeout_s=timeout_s)
        return self.exchanges[count - 1]

    async def left(self, exchange: Exchange, *, timeout_s: float = WAIT_S) -> float:
        """Wait until the peer of an exchange has closed its connection, and give the monotonic time of it."""
        await self.until(lambda: exchange.connection.peer_closed_at is not None, timeout_s=timeout_s)
        moment = exchange.connection.peer_closed_at
        assert moment is not None
        return moment

    def accepted(self, peer: _Peer) -> Connection:
        """Note a new connection and serve it; called by the protocol."""
        connection = Connection(number=len(self.connections), accepted_at=time.monotonic())
        self.connections.append(connection)
        self._peers.add(peer)
        task = asyncio.get_running_loop().create_task(self._serve(peer, connection))
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        self.changed()
        return connection

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        bug = None if task.cancelled() else task.exception()
        if isinstance(bug, Exception):
            self._bugs.append(bug)

    def changed(self) -> None:
        """Wake whoever waits for the records to change."""
        self._changed.set()

    async def _serve(self, peer: _Peer, connection: Connection) -> None:
        """Answer one request after another until the connection ends."""
        try:
            keep = True
            while keep:
                exchange = await self._read(peer, connection)
                if exchange is None:
                    break
                keep = await self._answer(peer, exchange)
        finally:
            connection.shut()
            peer.writer.close()
            self._peers.discard(peer)

    async def _read(self, peer: _Peer, connection: Connection) -> Exchange | None:
        """Read one request; None at a clean end, at a cut, and for what is no request of a fair size."""
        block = b""
        with suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            block = await peer.reader.readuntil(b"\r\n\r\n")
            exchange = Exchange.parse(block, number=len(self.exchanges), connection=connection)
            size = int(exchange.headers.get("content-length", "0"))
            if exchange.method and size <= REQUEST_BYTES_MAX:
                exchange.raw = await peer.reader.readexactly(size)
                with suppress(ValueError):
                    exchange.body = json.loads(exchange.raw)
                exchange.received_at = time.monotonic()
                self.exchanges.append(exchange)
                self.changed()
                return exchange
        if block:
            self.rejected.append(block)
        return None

    async def _answer(self, peer: _Peer, exchange: Exchange) -> bool:
        """Carry out a plan until it is done or the peer has left; say whether the connection may serve on."""
        steps = self._choose(exchange)
        work = asyncio.ensure_future(_carry_out(steps, peer, exchange))
        departure = asyncio.ensure_future(peer.left.wait())
        try:
            await asyncio.wait({work, departure}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                exchange.end = End.PEER_LEFT
            elif isinstance(bug := work.exception(), Exception):
                raise bug
        except ConnectionError:
            exchange.end = End.PEER_LEFT
        finally:
            for task in (work, departure):
                task.cancel()
            await asyncio.gather(work, departure, return_exceptions=True)
            exchange.ended_at = time.monotonic()
            exchange.end = exchange.end or End.STOPPED
            self.changed()
        return exchange.end is End.DONE

    def _choose(self, exchange: Exchange) -> Iterable[Step]:
        """Give the steps for a request: by model name, else by script; only POST uses the script up."""
        if exchange.method != "POST":
            return plain({"error": {"message": "Not found", "code": 404}}, status=404)
        ask = _ask(exchange.body, exchange.path)
        if ask.model.startswith(MODEL_PREFIX):
            mode = MODES[ask.model.removeprefix(MODEL_PREFIX)]
        else:
            mode = self.script[min(self._used, len(self.script) - 1)]
            self._used += 1
        exchange.mode = mode.name
        return mode.plan(ask)


def _ask(body: Json, path: str) -> Ask:
    """Give what a plan may know of a request; a body that is no object is an empty one."""
    fields = body if isinstance(body, dict) else {}
    options = fields.get("stream_options") or {}
    return Ask(
        model=str(fields.get("model", "made-up")),
        is_stream=fields.get("stream") is True or ":streamGenerateContent" in path,
        wants_usage=bool(options.get("include_usage")) or bool((fields.get("usage") or {}).get("include")),
        path=path,
    )


async def _carry_out(steps: Iterable[Step], peer: _Peer, exchange: Exchange) -> None:
    """Carry out a plan; how it ended is in the exchange."""
    for step in _until_end(steps):
        match step:
            case Send():
                await _send(step, peer, exchange)
            case Wait(seconds=seconds):
                await asyncio.sleep(seconds)
            case Hang():
                await asyncio.Event().wait()
            case Reset():
                sock: socket.socket = peer.transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
                exchange.connection.shut()
                peer.transport.abort()
                exchange.end = End.RESET
            case Close():
                exchange.connection.shut()
                peer.writer.close()
                exchange.end = End.CLOSED
    exchange.end = exchange.end or End.DONE


def _until_end(steps: Iterable[Step]) -> Iterator[Step]:
    """Give a plan's steps up to the one that ends the connection; whatever is planned after it never happens."""
    for step in steps:
        yield step
        if isinstance(step, Reset | Close):
            return


async def _send(step: Send, peer: _Peer, exchange: Exchange) -> None:
    """Write bytes and book what they cost; a peer that is gone shows as a ConnectionError of `drain`."""
    if step.data:
        peer.writer.write(step.data)
        await peer.writer.drain()
    exchange.note_sent(step)
