"""Several processes behind one port (part of `app`, floor 6): the parent, which starts workers anew and ends them all.

The parent binds, forks and waits, and never does more: it has no event loop, no thread and no ledger, so that it can
fork at any time, and nothing in it can get stuck. What a worker needs is imported and loaded before the first fork, so
the workers share that memory, and one that takes a dead one's place is there in no time and of the same version.

Parent and worker hold a pair of connected sockets. The parent writes when to end; the worker writes that it serves; and
either learns by the end of the file that the other is dead, however it died. Signals are the parent's: one that is sent
to the whole process group, as terminals and service managers do, must not reach a worker twice.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from proxy.edge.server import DRAIN_S, END_AT_ONCE, END_GENTLY, SETTLE_S, listen_beside
from proxy.telemetry import Board, Page, Vital

RESTART_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""How long a place stays empty after the first, second, ... death in a row; from then on as long as the last."""
STEADY_S = 10.0
"""A worker that lived so long begins a new row of deaths."""
END_S_MAX = DRAIN_S + SETTLE_S + 20
"""How long the parent waits for workers that were told to end; what lives then is killed."""
END_AT_ONCE_S_MAX = SETTLE_S + 20
KILLED = 1
"""The exit code a worker's death by a signal counts as."""

_READY = b"r"
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_BYTES_MAX = 256


@dataclass(frozen=True, slots=True)
class Seat:
    """What a worker is given: its listeners, its place on the board, and its line to the parent."""

    listeners: tuple[socket.socket, ...]
    board: Board
    number: int
    """From 0, that of its page."""
    orders: socket.socket

    def tell_ready(self) -> None:
        """Tell the parent that this worker serves."""
        self.orders.send(_READY)


@dataclass(slots=True)
class _Place:
    """One worker's place, whoever has it at the moment."""

    number: int
    page: Page
    listener: socket.socket | None = None
    pid: int | None = None
    """None: it is empty."""
    orders: socket.socket | None = None
    """The parent's end."""
    began_s: float = 0.0
    deaths: int = 0
    """In a row."""
    due_s: float = 0.0
    """When it is filled again."""
    was_ready: bool = False


@dataclass(slots=True)
class Workers:
    """The parent's view of its workers."""

    anchor: socket.socket
    """Holds the address and is never listened on: the port stays ours even while nobody serves."""
    board: Board
    on_ready: Callable[[], None]
    """Called once, when all workers serve."""
    on_death: Callable[[int, str, float], None]
    """Told which worker died (from 1), of what, and for how many seconds its place stays empty."""
    shared: tuple[socket.socket, ...] = ()
    """Listeners that every worker has."""
    _places: list[_Place] = field(init=False)
    _wake: tuple[socket.socket, socket.socket] = field(init=False)
    _signals: int = 0
    _ordered: bytes = b""
    """What the workers have been told; nothing while all is well."""
    _deadline_s: float = 0.0
    _is_started: bool = False
    """All have served at once."""
    _verdict: int = 0

    def __post_init__(self) -> None:
        """Give every worker its place."""
        self._places = [_Place(number, page) for number, page in enumerate(self.board.pages, start=1)]

    def run(self) -> Seat | int:
        """Keep all places filled until a signal; gives each worker its seat, and the parent the exit code at the end.

        That is the worst one of a worker that was told to end, or of the first that died before all served.
        """
        assert threading.active_count() == 1, "a process with threads must not fork"
        self._wake = socket.socketpair()
        for end in self._wake:
            end.settimeout(0)
        signal.set_wakeup_fd(self._wake[1].fileno(), warn_on_full_buffer=False)
        for number in (*_SIGNALS, signal.SIGCHLD):
            signal.signal(number, self._note_signal)
        while True:
            seat = self._fill()
            if seat is not None:
                return seat
            self._wait()
            self._hear()
            self._reap()
            self._order()
            if self._ordered and all(place.pid is None for place in self._places):
                return self._verdict

    def _note_signal(self, number: int, _frame: object) -> None:
        if number in _SIGNALS:
            self._signals += 1

    # --- beginning ------------------------------------------------------------------------------------------------

    def _fill(self) -> Seat | None:
        """Fork for every place that is due; gives a seat in the child, None in the parent."""
        for place in self._places:
            if place.pid is not None or self._ordered or place.due_s > time.monotonic():
                continue
            try:
                seat = self._fork(place)
            except OSError as error:
                if not self._is_started:
                    raise
                # No memory, no process or no file left for another one: the others go on.
                self._leave_empty(place, error.strerror or "cannot be started")
                continue
            if seat is not None:
                return seat
        return None

    def _fork(self, place: _Place) -> Seat | None:
        if place.listener is None:
            place.listener = listen_beside(self.anchor)
        place.orders, theirs = socket.socketpair()
        place.orders.settimeout(0)
        sys.stdout.flush()
        sys.stderr.flush()
        # Blocked over the fork: a signal between it and the child's own handling would run the parent's in the child.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (*_SIGNALS, signal.SIGCHLD))
        try:
            pid = os.fork()
            if pid == 0:
                self._forget_parent(place)
                return Seat((place.listener, *self.shared), self.board, place.number - 1, theirs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        place.pid, place.began_s = pid, time.monotonic()
        return None

    def _forget_parent(self, ours: _Place) -> None:
        """Make the child a process of its own: no handler of the parent's, and none of its files but what a seat has.

        What a sibling's line or listener is must be closed here, or it would outlive the one who should end it.
        """
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        for place in self._places:
            if place is not ours and place.listener is not None:
                place.listener.close()
            if place.orders is not None:
                place.orders.close()
        for file in (self.anchor, *self._wake):
            file.close()

    # --- watching -------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Sleep until a worker says something or dies, a signal comes, or something is due."""
        now_s = time.monotonic()
        due = [place.due_s for place in self._places if place.pid is None and not self._ordered]
        if self._ordered:
            due.append(self._deadline_s)
        files = [self._wake[0], *(place.orders for place in self._places if place.orders is not None)]
        select.select(files, [], [], max(0.0, min(due) - now_s) if due else None)
        with suppress(BlockingIOError):
            self._wake[0].recv(_BYTES_MAX)

    def _hear(self) -> None:
        """Note who serves by now."""
        for place in self._places:
            if place.orders is None:
                continue
            with suppress(OSError):
                said = place.orders.recv(_BYTES_MAX)
                place.was_ready = place.was_ready or _READY in said
                if not said:
                    # Dead or about to be; its process tells of what.
                    place.orders.close()
                    place.orders = None
        if not self._is_started and not self._ordered and all(place.was_ready for place in self._places):
            self._is_started = True
            self.on_ready()

    def _reap(self) -> None:
        """Take note of every worker that has ended."""
        for place in self._places:
            if place.pid is None:
                continue
            pid, status = os.waitpid(place.pid, os.WNOHANG)
            if pid:
                self._bury(place, os.waitstatus_to_exitcode(status))

    def _bury(self, place: _Place, code: int) -> None:
        place.page.leave()
        place.pid = None
        if place.orders is not None:
            place.orders.close()
            place.orders = None
        if self._ordered or not self._is_started:
            self._verdict = max(self._verdict, code if code >= 0 else KILLED)
        if self._ordered:
            return
        if not self._is_started:
            # Nobody told it to end, so it has not done well, whatever it says.
            self._verdict = self._verdict or KILLED
            self._tell(END_AT_ONCE, END_AT_ONCE_S_MAX)
            return
        place.page.cells[Vital.DEATHS] += 1
        self._leave_empty(place, f"signal {-code}" if code < 0 else f"exit code {code}")

    def _leave_empty(self, place: _Place, cause: str) -> None:
        """Decide when a place is filled again."""
        now_s = time.monotonic()
        place.deaths = place.deaths + 1 if now_s - place.began_s < STEADY_S else 1
        empty_s = RESTART_S[min(place.deaths, len(RESTART_S)) - 1]
        place.due_s = now_s + empty_s
        if empty_s and place.listener is not None:
            # Left open it would go on taking its share of the connections, and nobody would answer them.
            place.listener.close()
            place.listener = None
        self.on_death(place.number, cause, empty_s)

    # --- ending ---------------------------------------------------------------------------------------------------

    def _order(self) -> None:
        """Pass a signal on, the second as well, and kill those who take no order."""
        if self._signals and not self._ordered:
            self._tell(END_GENTLY, END_S_MAX)
        if self._signals > 1 and self._ordered == END_GENTLY:
            self._tell(END_AT_ONCE, END_AT_ONCE_S_MAX)
        if self._ordered and time.monotonic() >= self._deadline_s:
            for place in self._places:
                if place.pid is not None:
                    os.kill(place.pid, signal.SIGKILL)
            self._deadline_s += END_AT_ONCE_S_MAX

    def _tell(self, order: bytes, wait_s: float) -> None:
        self._ordered = order
        self._deadline_s = time.monotonic() + wait_s
        _close(self.anchor, *self.shared, *(place.listener for place in self._places))
        for place in self._places:
            if place.orders is not None:
                with suppress(OSError):
                    place.orders.send(order)


def run_apart(work: Callable[[], None]) -> int:
    """Do something in a forked process and wait for it; gives its exit code, negative for a signal.

    In the child this does not return: what `work` raises ends it, as it would have ended this process.
    """
    assert threading.active_count() == 1, "a process with threads must not fork"
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _do_and_exit(work)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _do_and_exit(work: Callable[[], None]) -> NoReturn:
    work()
    sys.exit(0)


def _close(*listeners: socket.socket | None) -> None:
    for listener in listeners:
        if listener is not None:
            listener.close()


__all__ = ["Seat", "Workers", "run_apart"]
