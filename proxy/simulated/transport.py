"""Plays scripts in real time, behind the same interface as a provider on the network."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Final
from weakref import WeakSet

from proxy.clock import Clock, SystemClock
from proxy.codecs.wire import Call, say_nothing
from proxy.errors import Failure, FailureKind, UpstreamError
from proxy.routing.table import Provider, Simulation
from proxy.simulated.answers import compose, quote
from proxy.simulated.asks import AskError, read_any, read_ask
from proxy.simulated.scripts import NEVER_S, Ending, Script, Stamp, Writer, refuse_ask

TICK_S: Final = 0.01
"""Tokens that come faster than this are read together."""
READ_BYTES_MAX: Final = 64 * 1024
"""A read ends with the event that passes this."""
CHAT_PATH: Final = "/chat/completions"
_PARTS: Final = 1_000_000
"""A fail rate is taken to this precision."""


class SimulatedUpstream:
    """Answers calls by itself; keeps the interface `codecs.wire.Upstream`."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._run = secrets.token_hex(6)
        self._answers = 0
        self._calls: dict[str, int] = {}
        self._replies: WeakSet[SimulatedReply] = WeakSet()
        self._is_closed = asyncio.Event()

    async def open(
        self,
        provider: Provider,
        call: Call,
        *,
        connect_timeout_s: float,
        on_sent: Callable[[], None] = say_nothing,
    ) -> SimulatedReply:
        """Answer once the head's moment has come; raises `UpstreamError` for a refused or given-up call."""
        called_at_s = asyncio.get_running_loop().time()
        script = self._write(provider, call)
        on_sent()
        if await _waits_out(self._is_closed, script.head_at_s):
            raise UpstreamError(Failure(FailureKind.CONNECT, "The simulated provider has been stopped."))
        reply = SimulatedReply(script, called_at_s)
        self._replies.add(reply)
        return reply

    async def close(self) -> None:
        """End every reply and every wait for one."""
        self._is_closed.set()
        for reply in list(self._replies):
            await reply.close()

    def _write(self, provider: Provider, call: Call) -> Script:
        simulation = provider.simulation or Simulation()
        if simulation.content is not None:
            return Writer(read_any(call.body), quote(simulation.content), simulation, self._stamp()).write(None)
        number = self._calls.get(provider.name, 0)
        self._calls[provider.name] = number + 1
        fault = simulation.fail if is_failing(simulation, number) else None
        if fault == "refuse":
            raise UpstreamError(Failure(FailureKind.CONNECT, "The simulated provider refused the connection."))
        if call.path != CHAT_PATH:
            return refuse_ask("The simulated provider only completes chats.", None)
        try:
            ask = read_ask(call.body)
        except AskError as error:
            return refuse_ask(str(error), error.param)
        choices = compose(ask, seed=simulation.seed, length_tokens=simulation.length_tokens)
        return Writer(ask, choices, simulation, self._stamp()).write(fault)

    def _stamp(self) -> Stamp:
        self._answers += 1
        return Stamp(f"chatcmpl-{self._run}{self._answers:012x}", int(self._clock.now_s()))


class SimulatedReply:
    """One script being played; keeps the interface `codecs.wire.UpstreamReply`."""

    def __init__(self, script: Script, called_at_s: float) -> None:
        """Begin to play; the moments of a script's bytes count from the call, those of a JSON reply from its head."""
        self.status = script.status
        self.headers: Mapping[str, str] = script.headers
        self._called_at_s = called_at_s
        self._beats = script.beats
        self._next = next(script.beats, None)
        self._ending = script.ending
        self._is_closed = asyncio.Event()

    async def read(self) -> bytes:
        """Wait for the next bytes, b"" at the proper end; raises `UpstreamError` when cut or closed meanwhile."""
        if self._next is None:
            if self._ending is Ending.WHOLE:
                return b""
            wait_s = NEVER_S if self._ending is Ending.NEVER else 0.0
        else:
            wait_s = self._called_at_s + self._next.at_s - asyncio.get_running_loop().time()
        is_closed = await _waits_out(self._is_closed, max(wait_s, TICK_S) if wait_s > 0 else 0.0)
        if is_closed or self._next is None:
            message = "The simulated reply broke off."
            raise UpstreamError(Failure(FailureKind.BROKEN_STREAM, message, may_have_cost=True))
        return self._take_due()

    async def read_all(self, bytes_max: int) -> bytes:
        """Read the rest; raises `UpstreamError` also when it is longer than `bytes_max`."""
        body = b""
        while piece := await self.read():
            body += piece
            if len(body) > bytes_max:
                message = "The simulated reply is too long."
                raise UpstreamError(Failure(FailureKind.INVALID_REPLY, message, may_have_cost=True))
        return body

    async def close(self) -> None:
        """Stop at once; twice is once."""
        self._is_closed.set()

    def _take_due(self) -> bytes:
        now_s = asyncio.get_running_loop().time() - self._called_at_s
        due = b""
        while self._next is not None and (not due or (self._next.at_s <= now_s and len(due) < READ_BYTES_MAX)):
            due += self._next.data
            self._next = next(self._beats, None)
        return due


def is_failing(simulation: Simulation, number: int) -> bool:
    """Decide about a provider's call of this number: of any N calls in a row, rate x N fail, give or take one."""
    share = round(simulation.fail_rate * _PARTS)
    offset = int.from_bytes(blake2b(str(simulation.seed).encode(), digest_size=8).digest(), "big") % _PARTS
    return (offset + (number + 1) * share) // _PARTS > (offset + number * share) // _PARTS


async def _waits_out(event: asyncio.Event, seconds: float) -> bool:
    """Wait, and tell whether the event ended the wait."""
    if seconds <= 0:
        await asyncio.sleep(0)  # like a socket that is always ready, it lets others have their turn
        return event.is_set()
    try:
        async with asyncio.timeout(None if seconds == NEVER_S else seconds):
            return await event.wait()
    except TimeoutError:
        return False
