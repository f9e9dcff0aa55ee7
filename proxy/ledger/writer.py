"""The one thread of a process that writes (floor 2): group commit, and callers who do not wait for ever.

* Calls come from the event loop through one queue. The thread takes all that wait, up to `batch_max`, and commits them
  together; then the loop is told once and answers every caller. There is no timer to wait for: what arrives during a
  commit is the next batch.
* A caller that is cancelled, or has waited `WAIT_S_MAX`, abandons its call. Not begun, it is skipped. Begun, it may be
  written all the same, so its undoing is queued behind it at once, before anything its caller can do next. Settlements
  are never abandoned: who has waited so long for one is told, and it is written when the store recovers.
* The queue has limits: `CALLS_MAX` calls and `KEPT_MAX` settlements may be under way, one more is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Protocol

from proxy.clock import Clock
from proxy.errors import LedgerUnavailable
from proxy.ledger.committer import AnyCall, ArgumentT, Call, Committer, Common, Nothing, ResultT, Undo
from proxy.ledger.locks import Turnstile
from proxy.ledger.schema import RETRY_AFTER_S

CALLS_MAX = 4_096
"""Admissions and other calls that may wait at once."""
KEPT_MAX = 65_536
"""Settlements that may wait at once, in the queue and in the spool together."""
WAIT_S_MAX = 2.0
"""How long a caller waits for a store that does not answer; looked at every `WATCH_S`."""
WATCH_S = 0.5
CLOSE_S_MAX = 10.0
"""How long closing waits for the thread."""


class Observer(Protocol):
    """Is told how long things take; `telemetry.Meters` is one."""

    def queue_changed(self, waiting: int, kept: int) -> None:
        """Hear how many calls and settlements are under way."""

    def turn_came(self, waited_s: float) -> None:
        """Hear, in the writer's thread, how long it waited for other processes."""

    def became_durable(self, waited_s: float) -> None:
        """Hear how long the first call of a batch took from being asked to being answered, as a rule durable."""


class Writer:
    """Runs calls in the order in which they come, each durable before its caller is told."""

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        turnstile: Turnstile,
        clock: Clock,
        *,
        common: Common | None = None,
        observer: Observer | None = None,
        is_crowded: bool = False,
    ) -> None:
        """Start the thread; `connect` opens the store and may raise sqlite3.Error or OSError.

        `common` is what the shared calls of a transaction have in common, if anything; from now on it is the thread's.
        """
        self._clock = clock
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[AnyCall | None] = SimpleQueue()
        self._waiting: dict[AnyCall, float] = {}
        """What is under way and since when, oldest first; abandoned calls too, as long as they are in the queue."""
        self._kept: dict[AnyCall, float] = {}
        self._watch: asyncio.TimerHandle | None = None
        self._is_late = False
        """Somebody has waited too long, and nothing was written since."""
        self._is_closed = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        on_turn = observer.turn_came if observer is not None else None
        self._committer = Committer(
            connect, turnstile, clock, common=common or Nothing(), on_turn=on_turn, is_crowded=is_crowded
        )
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    async def call(
        self,
        work: Callable[[sqlite3.Cursor, ArgumentT], ResultT],
        argument: ArgumentT,
        *,
        is_shared: bool = False,
        undo: Undo | None = None,
    ) -> ResultT:
        """Run one call and wait until it is durable; `undo` runs behind it when its caller does not wait that long.

        Raises LedgerUnavailable when the store cannot be used, did not answer in `WAIT_S_MAX`, or too many wait.
        """
        if self._is_closed or len(self._waiting) >= CALLS_MAX:
            raise self._refuse()
        future: asyncio.Future[ResultT] = self._loop.create_future()
        call = Call(work, argument, future=future, is_kept=False, is_shared=is_shared, undo=undo)
        self._put(call, self._waiting)
        try:
            return await future
        except asyncio.CancelledError:
            self._abandon(call)
            raise

    async def keep(
        self, work: Callable[[sqlite3.Cursor, ArgumentT], ResultT], argument: ArgumentT, *, is_shared: bool = False
    ) -> ResultT:
        """Run a call that must not be lost: it is tried until it is durable, whoever waits for it or not.

        Raises LedgerUnavailable when it was not durable in `WAIT_S_MAX` (and is still kept), when too many wait, or
        when the writer was closed before the store took it.
        """
        if self._is_closed or len(self._kept) >= KEPT_MAX:
            raise self._refuse()
        future: asyncio.Future[ResultT] = self._loop.create_future()
        self._put(Call(work, argument, future=future, is_kept=True, is_shared=is_shared), self._kept)
        return await future

    @property
    def is_failing(self) -> bool:
        """Whether the store did not take, or has not yet taken, what it was last given."""
        return self._is_late or self._committer.is_failing

    async def close(self) -> None:
        """Write what is queued, then end the thread; LedgerUnavailable when it does not end in `CLOSE_S_MAX`."""
        if not self._is_closed:
            self._is_closed = True
            self._queue.put(None)
        try:
            await asyncio.wait_for(asyncio.shield(self._ended), CLOSE_S_MAX)
        except TimeoutError as error:
            raise LedgerUnavailable("the ledger's writer is stuck in the store; end this process") from error
        self._thread.join()

    def _refuse(self) -> LedgerUnavailable:
        if self._is_closed:
            return LedgerUnavailable("the ledger is closed; this process is about to end", retry_after_s=RETRY_AFTER_S)
        return LedgerUnavailable("too many requests wait for the ledger; try again", retry_after_s=RETRY_AFTER_S)

    # ------------------------------------------------------------ on the event loop

    def _put(self, call: AnyCall, queued: dict[AnyCall, float]) -> None:
        queued[call] = self._loop.time()
        if self._observer is not None:
            call.asked_s = self._clock.monotonic_s()
            self._observer.queue_changed(len(self._waiting), len(self._kept))
        self._keep_watch()
        self._queue.put(call)

    def _keep_watch(self) -> None:
        if self._watch is None:
            self._watch = self._loop.call_later(WATCH_S, self._look)

    def _abandon(self, call: AnyCall) -> None:
        call.is_abandoned = True
        if call.undo is not None and not self._is_closed:
            # Past KEPT_MAX too: every undoing belongs to a call that counts against CALLS_MAX.
            self._put(Call(call.undo, call, future=None, is_kept=True), self._kept)

    def _look(self) -> None:
        """Let go of those who have waited too long."""
        self._watch = None
        latest = self._loop.time() - WAIT_S_MAX
        for queued in (self._waiting, self._kept):
            for call, asked_at_s in list(queued.items()):
                if asked_at_s > latest:
                    break
                self._let_go(call)
        if self._waiting or self._kept:
            self._keep_watch()

    def _let_go(self, call: AnyCall) -> None:
        if call.future is None or call.future.done():
            return
        self._is_late = True
        if call.is_kept:
            message = "the ledger does not answer; the settlement is kept until it does"
        else:
            message = "the ledger does not answer; try again"
            self._abandon(call)
        call.future.set_exception(LedgerUnavailable(message, retry_after_s=RETRY_AFTER_S))

    def _deliver(self, calls: list[AnyCall], durable_s: float | None = None) -> None:
        """Tell every caller of a batch, and the observer when it became durable."""
        self._is_late = False
        for call in calls:
            (self._kept if call.is_kept else self._waiting).pop(call, None)
            future = call.future
            if future is None or future.done():
                continue
            if call.error is None:
                future.set_result(call.outcome)
            else:
                future.set_exception(call.error)
        if self._observer is not None:
            self._observer.queue_changed(len(self._waiting), len(self._kept))
            if durable_s is not None:
                # The first has waited longest; one look for each batch, because this runs for every request.
                self._observer.became_durable(durable_s - calls[0].asked_s)

    def _end(self) -> None:
        """The thread is over: nobody is left waiting, even if it was a bug that ended it."""
        self._is_closed = True
        if self._watch is not None:
            self._watch.cancel()
        for call in (*self._waiting, *self._kept):
            call.error = self._refuse()
        self._deliver([*self._waiting, *self._kept])
        if not self._ended.done():
            self._ended.set_result(None)

    # ------------------------------------------------------------ in the thread

    def _run(self) -> None:
        """Take and write until closed."""
        is_closing = False
        try:
            while not is_closing:
                calls, is_closing = self._take()
                self._tell(self._committer.write(calls, is_last=is_closing))
        finally:
            self._committer.close()
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._end)

    def _take(self) -> tuple[list[AnyCall], bool]:
        """Wait for a call, or for the spool's next try, and take all that is queued; True: nothing comes after."""
        try:
            first = self._queue.get(timeout=self._committer.patience_s)
        except Empty:
            return [], False
        calls: list[AnyCall] = []
        while first is not None:
            calls.append(first)
            if len(calls) == self._committer.batch_max or self._queue.empty():
                return calls, False
            first = self._queue.get()
        return calls, True

    def _tell(self, calls: list[AnyCall]) -> None:
        if calls:
            # A loop that is gone has nobody left to tell.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._deliver, calls, self._clock.monotonic_s())
