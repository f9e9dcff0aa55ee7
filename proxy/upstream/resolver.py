"""Names to addresses, so that one slow name server stalls nobody else (reliability.md R45).

Look-ups run in threads of their own, each name in one thread at most however many wait for it. An answer is used for
ADDRESS_S_MAX without asking again. Whoever waits gives up after TIMEOUT_S; an answer not older than STALE_S serves
while the name server is silent or failing.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, NamedTuple

THREADS_MAX: Final = 8
TIMEOUT_S: Final = 2.0
ADDRESS_S_MAX: Final = 30.0
STALE_S: Final = 300.0
NAMES_MAX: Final = 1024
"""Names remembered; beyond it the oldest is forgotten."""

Question = tuple[str, int]


class Address(NamedTuple):
    """Where a socket connects to."""

    family: int
    protocol: int
    sockaddr: Any
    """In the system's form, which differs between families."""


class Resolver:
    """The system's resolver behind a time limit and a memory."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="dns")
        self._asked: dict[Question, asyncio.Future[list[Address]]] = {}
        self._known: dict[Question, tuple[float, list[Address]]] = {}

    async def resolve(self, host: str, port: int) -> list[Address]:
        """Look a name up; raises OSError (gaierror, TimeoutError) when there is neither an answer nor a recent one."""
        question = (host, port)
        loop = asyncio.get_running_loop()
        answered_at, addresses = self._known.get(question, (0.0, []))
        if addresses and loop.time() - answered_at < ADDRESS_S_MAX:
            return addresses
        lookup = self._asked.get(question)
        if lookup is None:
            lookup = self._asked[question] = loop.run_in_executor(self._threads, _look_up, *question)
            lookup.add_done_callback(partial(self._note, question))
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await asyncio.shield(lookup)
        except OSError:
            answered_at, addresses = self._known.get(question, (0.0, []))
            if not addresses or loop.time() - answered_at > STALE_S:
                raise
            return addresses

    def close(self) -> None:
        """Start no further look-up; one that hangs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _note(self, question: Question, lookup: asyncio.Future[list[Address]]) -> None:
        del self._asked[question]
        if lookup.cancelled() or lookup.exception() is not None:
            return
        self._known.pop(question, None)
        self._known[question] = (lookup.get_loop().time(), lookup.result())
        if len(self._known) > NAMES_MAX:
            del self._known[next(iter(self._known))]


def _look_up(host: str, port: int) -> list[Address]:
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [Address(family, protocol, address) for family, _type, protocol, _name, address in infos]
