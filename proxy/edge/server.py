"""The listening side (floor 5): binds, serves an ASGI app through `EdgeProtocol`, ends without breaking a stream.

The caller opens what the app needs before it calls `serve` and closes it after: when `serve` returns, no request runs.
A server by itself ends on a signal. One of several workers leaves signals to its parent and is told by it what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from types import FrameType
from typing import Any

import uvicorn

from proxy.edge.framing import DEFAULT_LIMITS, Limits
from proxy.edge.protocol import EdgeProtocol

Asgi = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]

DRAIN_S = 300
"""How long running streams may go on after SIGTERM; a second signal ends the wait."""
SETTLE_S = 10.0
"""How long a request cut off after that may take to settle."""
BACKLOG_CONNECTIONS = 2048

END_GENTLY = b"d"
END_AT_ONCE = b"e"
"""What a parent writes to a worker; that it writes nothing any more, being dead, means the same."""


class ListenError(Exception):
    """The address cannot be listened on; the message names it and the remedy."""


def listen(host: str, port: int) -> socket.socket:
    """Bind an address, port 0 for any free one; nothing is accepted yet. Raises `ListenError`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        msg = f"The host {host!r} cannot be resolved ({error.strerror}); use an address of this machine."
        raise ListenError(msg) from error
    family, kind, protocol, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        msg = f"Cannot listen on {host} port {port} ({error.strerror}); stop what uses it or choose another --port."
        raise ListenError(msg) from error
    return listener


def listen_beside(taken: socket.socket) -> socket.socket:
    """Bind the address of another socket again, for another process; once both listen, connections are spread evenly.

    The kernel spreads them (SO_REUSEPORT). Where it does not do that, everywhere but on Linux, both are the same
    socket. Nobody takes the port by such a binding from the outside: the first one, `listen`, was made without it.
    """
    if sys.platform != "linux":
        return taken.dup()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener = socket.socket(taken.family, taken.type, taken.proto)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(taken.getsockname())
    return listener


def address_of(listener: socket.socket, host: str) -> str:
    """Give the URL a listener is reached under, with the port it really has."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


async def serve(
    app: Asgi,
    *,
    listeners: Sequence[socket.socket],
    on_ready: Callable[[], None],
    orders: socket.socket | None = None,
    limits: Limits = DEFAULT_LIMITS,
    drain_s: int = DRAIN_S,
) -> None:
    """Serve until SIGTERM or SIGINT, or with `orders` until the parent says so; `on_ready`: requests are answered.

    Then nothing new is accepted, running replies go on for `drain_s` seconds at most, and what is left is cancelled.
    """
    _raise_file_limit()
    config = uvicorn.Config(
        app,
        http=EdgeProtocol.limited(limits),
        ws="none",
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        backlog=BACKLOG_CONNECTIONS,
        timeout_keep_alive=limits.keep_alive_s,
        timeout_graceful_shutdown=drain_s,
    )
    server = _Server(config, on_ready, orders)
    await server.serve(sockets=list(listeners))
    await _settle(server.server_state.tasks)


def _raise_file_limit() -> None:
    """Take all open files the system grants: a stream needs two, and shells often start us with 1,024 in all."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Server(uvicorn.Server):
    """Uvicorn's server with a ready line that is true and an exit that is clean."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], orders: socket.socket | None) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._orders = orders

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.should_exit:
            return
        if self._orders is not None:
            self._orders.settimeout(0)
            self._loop.add_reader(self._orders, self._obey)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self._orders is not None:
            self._loop.remove_reader(self._orders)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End gently on the first signal, soon on the second; uvicorn would raise it again and die of it."""
        if self._orders is None:
            self._end(at_once=self.should_exit)

    def _obey(self) -> None:
        assert self._orders is not None, "read only when there is one"
        try:
            order = self._orders.recv(16)
        except BlockingIOError:
            return
        if not order:
            self._loop.remove_reader(self._orders)
        self._end(at_once=not order or END_AT_ONCE in order)

    def _end(self, *, at_once: bool) -> None:
        self.should_exit = True
        if at_once:
            self.force_exit = True
            # Uvicorn would still wait for the connections to close: end what holds them open.
            self._loop.call_soon_threadsafe(_cancel, self.server_state.tasks)


async def _settle(tasks: set[asyncio.Task[None]]) -> None:
    """End requests that outlived the drain and wait until they have booked what they used."""
    left = set(tasks)
    _cancel(left)
    if left:
        await asyncio.wait(left, timeout=SETTLE_S)


def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel each once: a second time would interrupt what it does to end well."""
    for task in tuple(tasks):
        if not task.cancelling():
            task.cancel()
