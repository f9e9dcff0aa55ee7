"""A gateway without a network: an upstream that plays scripts, and an in-memory ledger that counts how holds end.

Every place where an exchange waits for one of them passes a `Gate`, and a test may hold one of those places.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson

from proxy.app.parts import make_codec
from proxy.clock import Clock, SystemClock
from proxy.codecs.wire import Call, Codec, JsonObject, Surface, say_nothing
from proxy.errors import Failure, FailureKind, UpstreamError
from proxy.gateway import Asked, Line, Service
from proxy.health import Health
from proxy.ledger.admission import PendingAttempt
from proxy.ledger.memory import MemoryLedger
from proxy.ledger.protocol import Ledger
from proxy.ledger.records import Admission, Advance, AttemptEnd, AttemptRow, KeyRecord, Settlement
from proxy.ledger.records import Outcome as LedgerOutcome
from proxy.money import Budget, Period
from proxy.policy.limits import Limits
from proxy.pricing import ModelFacts, Prices
from proxy.relay import Errand
from proxy.routing.plan import Candidate
from proxy.routing.principal import Principal
from proxy.routing.table import Catalogue, Dialect, Provider, Retry, Route, Secret, Table, Target
from tests.faults import chunks
from tests.faults.steps import Tokens

WAIT_S = 5.0
PRICES = Prices(Decimal(1), Decimal(2))
FACTS = ModelFacts(PRICES, context_tokens=8_000)
STREAM = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}
USAGE = Tokens(7, 5)
HELD = "held"
"""A piece that never comes: the reply hangs until it is closed."""


class Gate:
    """Holds one place, the `nth` time it is passed; all others are only noted."""

    def __init__(self, place: str = "", nth: int = 1) -> None:
        self.place = place
        self.left = nth
        self.passed: list[str] = []
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def at(self, place: str) -> None:
        """Pass, or wait here until opened."""
        self.passed.append(place)
        if place == self.place:
            self.left -= 1
            if self.left == 0:
                self.reached.set()
                await self.opened.wait()


@dataclass(frozen=True, slots=True)
class Script:
    """One reply: bytes in pieces, an error as the last, or `HELD`."""

    pieces: tuple[bytes | UpstreamError | str, ...]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: STREAM)


class FakeReply:
    """Plays a script; keeps the interface `codecs.wire.UpstreamReply`."""

    def __init__(self, script: Script, gate: Gate) -> None:
        self.status = script.status
        self.headers = script.headers
        self.closes = 0
        self._pieces = list(script.pieces)
        self._gate = gate
        self._closed = asyncio.Event()
        self._is_done = False

    @property
    def is_closed(self) -> bool:
        """Tell whether it was let go of."""
        return self._closed.is_set()

    async def read(self) -> bytes:
        await self._gate.at("drain" if self._is_done else "read")
        piece = self._pieces.pop(0) if self._pieces else b""
        if isinstance(piece, str):
            await self._closed.wait()
            raise broken("The connection was closed.")
        if isinstance(piece, UpstreamError):
            raise piece
        self._is_done = self._is_done or piece == chunks.DONE
        return piece

    async def read_all(self, bytes_max: int) -> bytes:
        body = b""
        while piece := await self.read():
            body += piece
        assert len(body) <= bytes_max
        return body

    async def close(self) -> None:
        self.closes += 1
        self._closed.set()


class FakeUpstream:
    """Plays one script per call, the last one again and again; keeps the interface `codecs.wire.Upstream`."""

    def __init__(self, *scripts: Script | UpstreamError | str, gate: Gate | None = None) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.replies: list[FakeReply] = []
        self.gate = gate or Gate()
        self._scripts = list(scripts)

    async def open(
        self, provider: Provider, call: Call, *, connect_timeout_s: float, on_sent: Callable[[], None] = say_nothing
    ) -> FakeReply:
        on_sent()
        self.calls.append((provider.name, orjson.loads(call.body)))
        await self.gate.at("open")
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        if script == HELD:
            await asyncio.Event().wait()
        assert not isinstance(script, str), "no reply is made of text"
        if isinstance(script, UpstreamError):
            raise script
        reply = FakeReply(script, self.gate)
        self.replies.append(reply)
        return reply

    async def close(self) -> None:
        for reply in self.replies:
            await reply.close()


class CountingLedger(MemoryLedger):
    """Counts how often each hold is ended, and passes a gate before and after each of its writes."""

    def __init__(self, *, clock: Clock, gate: Gate) -> None:
        super().__init__(clock=clock)
        self.ends: Counter[tuple[str, int]] = Counter()
        self.gate = gate

    async def admit(self, admission: Admission) -> LedgerOutcome:
        await self.gate.at("admit")
        return await super().admit(admission)

    async def advance(self, step: Advance) -> LedgerOutcome:
        await self.gate.at("advance")
        answer = await super().advance(step)
        await self.gate.at("advanced")
        return answer

    async def settle(self, settlement: Settlement) -> bool:
        await self.gate.at("settle")
        answer = await super().settle(settlement)
        await self.gate.at("settled")
        return answer

    def _end(self, attempt: PendingAttempt, end: AttemptEnd, at_s: float) -> None:
        self._count(attempt)
        super()._end(attempt, end, at_s)

    def _post_in_full(self, attempt: PendingAttempt, error: str) -> None:
        self._count(attempt)
        super()._post_in_full(attempt, error)

    def _count(self, attempt: PendingAttempt) -> None:
        self.ends[attempt.subject.key_name, attempt.seq] += 1


@dataclass(frozen=True, slots=True)
class Stage:
    """A service and what stands behind it."""

    service: Service
    ledger: Ledger
    upstream: FakeUpstream
    table: Table

    def asked(
        self,
        *,
        key: str = "app",
        surface: Surface = Surface.OPENAI,
        forwarded: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Asked:
        """Ask as the edge would."""
        body: JsonObject = {"model": "chat", "messages": [{"role": "user", "content": "Say hello."}], **fields}
        return Asked(
            body=body,
            body_bytes=len(orjson.dumps(body)),
            surface=surface,
            principal=Principal(key, has_budget=True),
            table=self.table,
            request_id="req",
            app=None,
            received_s=self.service.clock.monotonic_s(),
            forwarded=forwarded or {},
        )

    async def rows(self) -> list[AttemptRow]:
        """Read the books."""
        return list(await self.ledger.export(since_s=None, after_seq=0, rows_max=1_000))


def a_provider(name: str, *, dialect: Dialect = Dialect.OPENAI, **fields: Any) -> Provider:
    """Make a provider with a credential and a host that must never be told."""
    return Provider(name, dialect, base_url="https://up.example:8443/v1", api_key=Secret("sk-secret"), **fields)


def a_target(name: str, *, facts: ModelFacts = FACTS, **fields: Any) -> Target:
    """Make the target `provider/model`."""
    owner, _, model = name.partition("/")
    return Target(a_provider(owner), model, facts=facts, **fields)


def an_errand(candidate: Candidate, codec: Codec, *, dropped: tuple[str, ...] = ()) -> Errand:
    """Make the errand of a candidate's call, with which the codec lost these fields."""
    target = candidate.target
    call = codec.encode(dict(candidate.body), model=target.model, output_tokens_max=candidate.output_tokens_max)
    made = Call(call.path, call.body, is_stream=call.is_stream, dropped=dropped)
    return Errand(target.provider, made, candidate.clocks)


def a_table(*targets: Target | str, retries: int = 1, max_cost_nano_usd: int | None = None) -> Table:
    """Make a table whose only model is `chat`."""
    made = tuple(target if isinstance(target, Target) else a_target(target) for target in targets)
    route = Route("chat", made or (a_target("one/m"),), max_cost_nano_usd=max_cost_nano_usd)
    return Table(id="t", providers={}, routes={"chat": route}, retry=Retry(retries))


def a_key(name: str = "app", usd: str = "100") -> KeyRecord:
    """Make a key with a budget."""
    return KeyRecord(name, digest=name, limits=Limits(budgets=(Budget(int(Decimal(usd) * 10**9), Period.TOTAL),)))


async def a_stage(
    *scripts: Script | UpstreamError | str,
    table: Table | None = None,
    ledger: Ledger | None = None,
    gate: Gate | None = None,
    key: KeyRecord | None = None,
) -> Stage:
    """Make a stage: one key, one model, and an upstream that plays these scripts."""
    gate, clock = gate or Gate(), SystemClock()
    ledger = ledger or CountingLedger(clock=clock, gate=gate)
    await ledger.create_key(key or a_key())
    upstream = FakeUpstream(*scripts, gate=gate)
    service = Service(
        ledger=ledger,
        health=Health(),
        clock=clock,
        facts=Catalogue().find,
        line=lambda provider: Line(upstream, make_codec(provider)),
        jitter=lambda: 0.0,
    )
    return Stage(service, ledger, upstream, table or a_table())


def events(count: int = USAGE.completion, *, reported: Tokens | None = USAGE) -> tuple[bytes, ...]:
    """Give the events of a good stream, each a piece of its own."""
    return tuple(send.data for send in chunks.whole("m", count, reported))


def streamed(*pieces: bytes | UpstreamError | str) -> Script:
    """Answer with a stream, the good one unless told."""
    return Script(pieces or events())


def whole(value: object | None = None, *, status: int = 200, **extra: Any) -> Script:
    """Answer in one piece, with the good answer unless told."""
    answer = chunks.answer("m", usage=chunks.usage(USAGE), **extra) if value is None else value
    return Script((chunks.dumps(answer),), status, JSON)


def refused(status: int, message: str = "no") -> Script:
    """Answer with an error."""
    return whole({"error": {"message": message}}, status=status)


def failed(kind: FailureKind, message: str = "no", **fields: Any) -> UpstreamError:
    """Make an attempt's end."""
    return UpstreamError(Failure(kind, message, **fields))


def broken(message: str = "The stream broke.") -> UpstreamError:
    """Make the end of a stream that broke on the wire."""
    return failed(FailureKind.BROKEN_STREAM, message, may_have_cost=True)


@asynccontextmanager
async def in_time() -> AsyncIterator[None]:
    """Let nothing here wait for ever."""
    async with asyncio.timeout(WAIT_S):
        yield
