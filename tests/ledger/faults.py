"""A store that fails or stops where a test wants it to: between the writer and its real connection."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from proxy.ledger import schema
from proxy.ledger.protocol import Ledger

STALL_S_MAX = 20


class Faults:
    """What goes wrong: by the first word of a statement, or `connect`."""

    def __init__(self) -> None:
        self.errors: dict[str, BaseException] = {}
        self.effects: dict[str, Callable[[sqlite3.Cursor], object]] = {}
        self.connections: list[sqlite3.Connection] = []
        self.pages_max: int | None = None
        self._stalls: dict[str, tuple[threading.Event, threading.Event]] = {}

    def connect(self, path: Path, *, is_reader: bool = False) -> Any:
        """Stand in for `schema.connect`."""
        if "connect" in self.errors:
            raise self.errors["connect"]
        self.connections.append(schema.connect(path, is_reader=is_reader))
        if self.pages_max is not None:
            self.connections[-1].execute(f"PRAGMA max_page_count = {self.pages_max}")
        return _Connection(self.connections[-1], self)

    def fill(self) -> None:
        """Let the disk be full as it is now."""
        self.pages_max = int(self.connections[-1].execute("PRAGMA page_count").fetchone()[0])
        self.connections[-1].execute(f"PRAGMA max_page_count = {self.pages_max}")

    def free(self) -> None:
        """Let there be space again, for the next connection: a full disk costs the one that met it."""
        self.pages_max = None

    def stall(self, word: str) -> Stall:
        """Stop the writer at its next statement that begins with a word."""
        reached, released = threading.Event(), threading.Event()
        self._stalls[word] = (reached, released)
        return Stall(reached, released)

    def meet(self, statement: str, cursor: sqlite3.Cursor) -> None:
        """Let happen what was asked for."""
        word = statement.split(maxsplit=1)[0]
        if word in self._stalls:
            reached, released = self._stalls.pop(word)
            reached.set()
            assert released.wait(STALL_S_MAX)
        if word in self.effects:
            self.effects.pop(word)(cursor)
        if word in self.errors:
            raise self.errors[word]


class Stall:
    """The writer, stopped; leaving the block lets it go on."""

    def __init__(self, reached: threading.Event, released: threading.Event) -> None:
        self._reached = reached
        self._released = released

    def is_reached(self) -> bool:
        """Tell whether the writer stands there."""
        return self._reached.is_set()

    def release(self) -> None:
        """Let it go on."""
        self._released.set()


class _Connection:
    def __init__(self, connection: sqlite3.Connection, faults: Faults) -> None:
        self._connection = connection
        self._faults = faults

    def cursor(self) -> _Cursor:
        return _Cursor(self._connection.cursor(), self._faults)

    def close(self) -> None:
        self._connection.close()


class _Cursor:
    def __init__(self, cursor: sqlite3.Cursor, faults: Faults) -> None:
        self._cursor = cursor
        self._faults = faults

    @property
    def connection(self) -> sqlite3.Connection:
        return self._cursor.connection

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    @property
    def lastrowid(self) -> int | None:
        return self._cursor.lastrowid

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        self._faults.meet(statement, self._cursor)
        return self._cursor.execute(statement, parameters)

    def close(self) -> None:
        self._cursor.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens in the writer's thread."""
    give_up_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up_s
        await asyncio.sleep(0.002)


async def stalled(faults: Faults, ledger: Ledger, word: str = "COMMIT") -> tuple[Stall, asyncio.Task[object]]:
    """Stop the writer in the middle of somebody else's call, so that what comes next is one batch."""
    stall = faults.stall(word)
    blocking: asyncio.Task[object] = asyncio.create_task(ledger.revoke_key("nobody"))
    await until(stall.is_reached)
    return stall, blocking


async def begun(task: asyncio.Task[object]) -> None:
    """Let a task put its call into the queue."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()


async def cancel(task: asyncio.Task[object]) -> None:
    """Cancel a caller and see it leave at once."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
