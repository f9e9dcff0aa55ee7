"""Addresses nobody serves: ports that refuse, that swallow connection attempts, and free ones for our own server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

HOST: Final = "127.0.0.1"
BACKLOG_FILL: Final = 4
"""Connections that fill a backlog of 0; Linux takes one or two, the rest stay half open."""


@contextmanager
def closed_port() -> Iterator[str]:
    """Give the base URL of a port that refuses connections and that nobody else can take meanwhile."""
    with socket.socket() as held:
        held.bind((HOST, 0))
        yield f"http://{HOST}:{held.getsockname()[1]}/v1"


@contextmanager
def blackhole_port() -> Iterator[str]:
    """Give the base URL of a port on which a connection attempt is never answered: its backlog is full (Linux)."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind((HOST, 0))
        listener.listen(0)
        for _ in range(BACKLOG_FILL):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://{HOST}:{listener.getsockname()[1]}/v1"


def free_port() -> int:
    """Give a port that was free a moment ago, for a server in another process."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((HOST, 0))
        port: int = taken.getsockname()[1]
        return port
