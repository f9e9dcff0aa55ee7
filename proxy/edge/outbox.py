"""What a reply is written to (floor 5): its head waits for the first bytes of its body, so that both leave together.

Uvicorn writes them apart, which costs a system call here, a packet on the wire and a wake-up at the client, for every
request. The head waits until the event loop comes round at most: a reply whose body is not at hand is not delayed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Outbox:
    """Stands in for the transport of one reply after another on a connection."""

    __slots__ = ("_head", "_is_open", "_loop", "_on_close", "_transport", "is_closing")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, on_close: Callable[[], None]
    ) -> None:
        """Write to a transport; closing it is left to `on_close`."""
        self._transport = transport
        self._loop = loop
        self._on_close = on_close
        self._head: bytes | None = None
        self._is_open = False
        self.is_closing = transport.is_closing

    def begin(self) -> None:
        """Expect the head of another reply."""
        self.flush()
        self._is_open = False

    def write(self, data: bytes) -> None:
        """Hold the head, or send it with this."""
        if self._is_open:
            self._transport.write(data)
        elif self._head is None:
            self._head = data
            self._loop.call_soon(self.flush)
        else:
            head, self._head = self._head, None
            self._is_open = True
            self._transport.write(head + data)

    def flush(self) -> None:
        """Send a head that still waits."""
        if self._head is not None:
            head, self._head = self._head, None
            self._is_open = True
            self._transport.write(head)

    def close(self) -> None:
        """End the reply and with it the connection."""
        self.flush()
        self._on_close()
