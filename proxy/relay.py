"""One upstream reply, owned (floor 3): opened, read to its first meaningful event, relayed, closed.

Until `open` returns nothing has been shown to the client and the gateway may still go elsewhere; the first meaningful
event is the commit point. Comments, role chunks and empty chunks do not count: a provider that only says "processing"
has promised nothing. From then on a failure can only be reported, never repaired.

Who opens a relay closes it. `close` never waits for the upstream longer than `DRAIN_S`, and only to hand a connection
whose stream has ended back to the pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from proxy.codecs.failures import find_fault
from proxy.codecs.intake import Batch, Intake, choices_of, is_meaningful, parse_frame
from proxy.codecs.surface import split_reply
from proxy.codecs.wire import Call, Codec, Frame, JsonObject, Reading, Upstream, UpstreamReply
from proxy.errors import Failure, FailureKind, UpstreamError
from proxy.metering import Transcript
from proxy.policy.timeouts import Clocks
from proxy.routing.table import Provider
from proxy.sse import DONE_EVENT, event
from proxy.usage import Usage

REPLY_BYTES_MAX = 64 << 20
"""A whole JSON reply; images inside can make it large."""
ERROR_BYTES_MAX = 256 << 10
HEAD_FRAMES_MAX = 1_000
"""So many chunks without meaning are an answer of their own kind: the stream is committed rather than held for ever."""
GENERATION_ID_CHARS_MAX = 200
DRAIN_S = 0.05
"""How long a finished stream may take to end its body, so that its connection can be used again."""
OK = 200


class Errand(NamedTuple):
    """What one attempt asks of one provider."""

    provider: Provider
    call: Call
    clocks: Clocks
    choices: int = 1
    """`n`: how many answers make the reply whole."""
    parse_all: bool = False
    """The client's surface needs every chunk parsed."""
    created_s: int = 0
    """When it was asked, seconds since the epoch."""


class Relay:
    """One attempt's exchange with its upstream."""

    def __init__(self, errand: Errand, *, upstream: Upstream[Provider], codec: Codec) -> None:
        """Prepare; nothing is sent before `open`."""
        self._errand = errand
        self._upstream = upstream
        self._codec = codec
        self._reading = Reading(errand.call, errand.created_s, parse_all=errand.parse_all)
        self._intake = Intake(codec, self._reading, choices=errand.choices) if errand.call.is_stream else None
        self._due: Batch | None = None
        """What has been read and not handed out."""
        self._deadline_s = 0.0
        self._reply: UpstreamReply | None = None
        self._watchdog = Watchdog(self._give_up_waiting)
        self._is_overdue = False
        self._is_at_end = False
        self._usage: Usage | None = None
        self._sent = _Sent()
        self._told_id: str | None = None
        """As OpenRouter's header says it, before the first event does."""
        self.status: int | None = None
        self.json: JsonObject | None = None
        """The whole reply, when the upstream answered in one piece."""
        self.seed: JsonObject = {}
        """The reply, or the first chunk of it: id, model and created."""
        self.transcript = Transcript()
        self.is_replayed = False
        """It is out of the provider's own response cache, as its header says (openrouter.md 4.8)."""
        self.is_delivering = False
        """Something a client could read has come."""

    @property
    def was_sent(self) -> bool:
        """Tell whether the call is on its way: from then on it may cost money."""
        return self._sent.is_noted

    @property
    def usage(self) -> Usage | None:
        """Give the provider's last word on usage so far."""
        return self._usage or (self._intake.usage if self._intake is not None else None)

    @property
    def generation_id(self) -> str | None:
        """Give the upstream's own id of the reply, as soon as it has said one."""
        reply_id = self.seed.get("id") or self._told_id
        return reply_id[:GENERATION_ID_CHARS_MAX] if isinstance(reply_id, str) else None

    @property
    def is_started(self) -> bool:
        """Tell whether the stream is being handed out."""
        return self._deadline_s > 0

    async def open(self, *, total_left_s: float) -> None:
        """Call the upstream and wait for the first meaningful event, or for the whole JSON reply.

        Raises `UpstreamError` for everything that is not an answer; another target may then be tried.
        """
        limit_s = min(self._errand.clocks.first_token_s, total_left_s)
        if limit_s <= 0:
            raise UpstreamError(_overdue("nothing: the request's time was over before it was called"))
        # What `asyncio.timeout` does, without its eight calls: this is on the way of every request.
        task = asyncio.current_task()
        assert task is not None, "a relay is opened in a task"
        cancels = task.cancelling()
        timer = asyncio.get_running_loop().call_later(limit_s, self._interrupt, task)
        try:
            await self._open()
        except asyncio.CancelledError as error:
            if not self._is_overdue or task.uncancel() > cancels:
                raise
            raise UpstreamError(_overdue(f"no answer within {limit_s:g} s", may_have_cost=self.was_sent)) from error
        finally:
            timer.cancel()

    def start(self, *, total_left_s: float) -> None:
        """Begin to hand the stream out: from here its whole length is on the clock."""
        self._deadline_s = self._watchdog.now_s() + total_left_s

    async def take(self) -> list[Frame] | None:
        """Wait for the stream's next frames, `[DONE]` included if the upstream sent it; None at the end.

        Raises `UpstreamError` behind the last good frames when the stream breaks, stalls or ends unfinished.
        """
        while True:
            batch, self._due = self._due, None
            if batch is None:
                batch = await self._next_batch()
            if batch.frames:
                if batch.failure is not None or batch.is_end:
                    self._due = Batch([], batch.failure, batch.is_end)
                self.transcript.extend(batch.frames)
                return batch.frames
            if batch.failure is not None:
                raise UpstreamError(batch.failure)
            if batch.is_end:
                return None

    async def close(self) -> None:
        """Let go of the upstream; a stream still under way is cut off at once. Twice is once."""
        self._watchdog.stop()
        reply, self._reply = self._reply, None
        if reply is None:
            return
        try:
            if self._is_at_end:
                async with asyncio.timeout(DRAIN_S):
                    while await reply.read():
                        pass
        except (TimeoutError, UpstreamError):
            pass
        finally:
            await reply.close()

    async def _open(self) -> None:
        errand = self._errand
        self._reply = reply = await self._upstream.open(
            errand.provider, errand.call, connect_timeout_s=errand.clocks.connect_s, on_sent=self._sent.note
        )
        self.status = reply.status
        self._told_id = reply.headers.get("x-generation-id")
        self.is_replayed = reply.headers.get("x-openrouter-cache-status", "").upper() == "HIT"
        if reply.status != OK:
            body = await reply.read_all(ERROR_BYTES_MAX)
            raise UpstreamError(self._codec.read_failure(reply.status, reply.headers, body, asked=errand.call.body))
        kind = reply.headers.get("content-type", "")
        if "html" in kind:
            raise UpstreamError(_invalid("The provider answered with a web page."))
        if errand.call.is_stream and "json" not in kind:
            await self._read_head(reply)
        else:
            self._take_json(await reply.read_all(REPLY_BYTES_MAX))

    def _take_json(self, body: bytes) -> None:
        reply = self._codec.read_reply(body, self._reading)
        self._usage = self._codec.read_usage(reply)
        failure = find_fault(reply)
        if failure is None and not choices_of(reply):
            failure = _invalid("The provider's answer has no choices.")
        if failure is not None:
            raise UpstreamError(failure)
        self.json = self.seed = reply
        self.is_delivering = True
        if self._errand.call.is_stream:
            # Asked for a stream, got one piece: the client still gets its stream, in three or four events.
            frames = [Frame(event(orjson.dumps(chunk)), chunk) for chunk in split_reply(reply)]
            self._due = Batch([*frames, Frame(DONE_EVENT, is_done=True)], is_end=True)
            self._is_at_end = True

    async def _read_head(self, reply: UpstreamReply) -> None:
        """Read until an event means something; chunks before it are kept, comments are not."""
        head: list[Frame] = []
        while True:
            batch = self._take(await reply.read())
            for index, frame in enumerate(map(parse_frame, batch.frames)):
                chunk = frame.chunk
                if chunk is None and not frame.is_done:
                    continue
                head.append(frame)
                self.seed = self.seed or chunk or {}
                if (chunk is not None and is_meaningful(chunk)) or len(head) >= HEAD_FRAMES_MAX:
                    self.is_delivering = True
                    self._due = Batch([*head, *batch.frames[index + 1 :]], batch.failure, batch.is_end)
                    return
            if batch.failure is not None or batch.is_end:
                empty = _invalid("The provider's stream ended without an answer.")
                is_told = batch.failure is not None and batch.failure.kind is not FailureKind.BROKEN_STREAM
                raise UpstreamError(batch.failure if is_told and batch.failure else empty)

    async def _next_batch(self) -> Batch:
        """Wait for the next read under the idle clock and the total clock."""
        assert self._reply is not None, "frames are taken from an open relay"
        watchdog = self._watchdog
        # A read that need not wait is never late for the watchdog, so time is asked too.
        left_s = self._deadline_s - watchdog.now_s()
        if left_s <= 0:
            raise UpstreamError(_overdue("an answer longer than this request may take", may_have_cost=True))
        watchdog.start(min(self._errand.clocks.idle_s, left_s))
        try:
            return self._take(await self._reply.read())
        except UpstreamError as error:
            if self._intake is not None and self._intake.is_whole:
                # The answer was finished; how the connection ended after it is nobody's concern.
                return Batch([], is_end=True)
            if self._is_overdue:
                raise UpstreamError(_overdue("nothing more for too long", may_have_cost=True)) from error
            raise
        finally:
            watchdog.pause()

    def _take(self, data: bytes) -> Batch:
        assert self._intake is not None, "only streams are taken in"
        batch = self._intake.feed(data) if data else self._intake.end()
        self._is_at_end = batch.is_end
        return batch

    def _interrupt(self, task: asyncio.Task[Any]) -> None:
        self._is_overdue = True
        task.cancel()

    def _give_up_waiting(self) -> None:
        self._is_overdue = True
        if self._reply is not None:
            self._closing = asyncio.get_running_loop().create_task(self._reply.close())


class _Sent:
    """Notes that a call went out; apart from the relay, because connections outlive it and may hold on to this."""

    __slots__ = ("is_noted",)

    def __init__(self) -> None:
        self.is_noted = False

    def note(self) -> None:
        self.is_noted = True


class Watchdog:
    """Fires when it has been left running for too long: one timer for a whole stream instead of one per read."""

    __slots__ = ("_deadline_s", "_fire", "_loop", "_timer")

    def __init__(self, fire: Callable[[], None]) -> None:
        """Keep what to do; nothing runs before `start`."""
        self._fire = fire
        self._deadline_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def now_s(self) -> float:
        """Give the event loop's time."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.time()

    def start(self, limit_s: float) -> None:
        """Begin to count anew."""
        self._deadline_s = self.now_s() + limit_s
        if self._timer is None or self._timer.when() > self._deadline_s:
            self._set(self._deadline_s)

    def pause(self) -> None:
        """Stop counting; the timer stays for the next `start`."""
        self._deadline_s = None

    def stop(self) -> None:
        """End for good: give the timer back, and what it would have called, or the two would keep each other alive."""
        self._deadline_s = None
        self._fire = _do_nothing
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, when_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        assert self._loop is not None, "start sets the loop"
        self._timer = self._loop.call_at(when_s, self._check)

    def _check(self) -> None:
        """Fire when overdue, else look again at the deadline moved meanwhile; a paused watchdog sleeps on."""
        self._timer = None
        if self._deadline_s is None or self._loop is None:
            return
        if self._loop.time() >= self._deadline_s:
            self._fire()
        else:
            self._set(self._deadline_s)


def _do_nothing() -> None:
    """Stand in for what a stopped watchdog would have done."""


def _invalid(message: str) -> Failure:
    return Failure(FailureKind.INVALID_REPLY, message, status=OK)


def _overdue(what: str, *, may_have_cost: bool = False) -> Failure:
    return Failure(FailureKind.TIMEOUT, f"The provider sent {what}.", may_have_cost=may_have_cost)
