"""An exchange may be interrupted wherever it waits: the upstream is closed, and every hold ends exactly once.

The server's stop cancels the task, once or again and again; a client that leaves is noticed by the watcher of the edge.
Each place is held in turn, the exchange interrupted there, and the stubs and the books are looked at.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.clock import SystemClock
from proxy.edge.auth import Authenticator
from proxy.edge.chat import ChatEndpoint
from proxy.edge.protocol import CUT, WHEN_LEFT
from proxy.gateway import Exchange, drains
from proxy.ledger.folder import digest_key
from proxy.ledger.locks import Turnstile
from proxy.ledger.records import Admission, Advance, AttemptState, Settlement
from proxy.ledger.records import Outcome as LedgerOutcome
from proxy.ledger.sqlite import SqliteLedger
from proxy.routing.table import Table
from proxy.telemetry import Telemetry
from proxy.tokens import bound_input, estimate_input
from tests.faults import chunks
from tests.gateway.stage import (
    HELD,
    CountingLedger,
    Gate,
    Script,
    Stage,
    a_key,
    a_stage,
    a_table,
    a_target,
    broken,
    events,
    in_time,
    refused,
    streamed,
    whole,
)

PEPPER = b"p" * 32
CLIENT_KEY = "sk-test-leaving"
NO_USAGE = streamed(*events(reported=None))
EMPTY = streamed(chunks.event(chunks.chunk_of("m", [], usage=chunks.usage(chunks.DEFAULT_TOKENS))), chunks.DONE)
"""Whole by its own account, but without an answer: a failure whose end is read off the connection all the same."""


@dataclass(frozen=True, slots=True)
class Case:
    """One place of one kind of exchange."""

    place: str
    scripts: tuple[Script, ...]
    nth: int = 1
    is_stream: bool = True
    targets: tuple[str, ...] = ("one/m",)
    rows: int = 1
    """How many attempts the books know in the end."""

    @property
    def is_over(self) -> bool:
        """Tell whether the answer is settled there, so that leaving no longer matters."""
        if self.place == "drain":
            return self.targets != PAIR
        return self.place in ("last", "body") or (self.place == "head" and not self.is_stream)

    @property
    def name(self) -> str:
        """Name it for the list of tests."""
        first = self.scripts[0]
        answer = "good" if first.status == 200 else str(first.status)
        return f"{'stream' if self.is_stream else 'json'}-{answer}-{self.place}-{self.nth}-of-{len(self.targets)}"


PAIR = ("one/m", "two/m")
GOOD = (streamed(),)
ANSWER = (whole(),)
CASES = [
    Case("admit", GOOD, rows=0),
    Case("open", GOOD),
    Case("read", GOOD),
    Case("head", GOOD),
    Case("piece", GOOD),
    Case("read", GOOD, nth=4),
    Case("piece", GOOD, nth=4),
    Case("settle", GOOD),
    Case("settled", GOOD),
    Case("last", GOOD),
    Case("drain", GOOD),
    Case("settle", (streamed(*events()[:3], broken()),)),
    Case("last", (streamed(*events()[:3], broken()),)),
    Case("admit", ANSWER, is_stream=False, rows=0),
    Case("open", ANSWER, is_stream=False),
    Case("read", ANSWER, is_stream=False),
    Case("settle", ANSWER, is_stream=False),
    Case("settled", ANSWER, is_stream=False),
    Case("head", ANSWER, is_stream=False),
    Case("body", ANSWER, is_stream=False),
    Case("drain", (EMPTY, streamed()), targets=PAIR),
    Case("advance", (refused(500), streamed()), targets=PAIR),
    Case("advanced", (refused(500), streamed()), targets=PAIR, rows=2),
    Case("open", (refused(500), streamed()), nth=2, targets=PAIR, rows=2),
    Case("read", (refused(500), streamed(HELD)), nth=3, targets=PAIR, rows=2),
    Case("settle", (refused(500), streamed()), targets=PAIR, rows=2),
    Case("settle", (refused(400),)),
    Case("settled", (refused(400),), is_stream=False),
]


POLICIES = ["cancel", "drain"]


@pytest.fixture(autouse=True)
def _drains_end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read for nobody is cut off at once when the service ends."""
    monkeypatch.setattr(drains, "STOP_S_MAX", 0.02)


def a_route(case: Case, policy: str) -> Table:
    """Make the case's targets, whose providers do this when a client leaves."""
    made = [a_target(name) for name in case.targets]
    return a_table(*(replace(one, provider=replace(one.provider, on_disconnect=policy)) for one in made))


async def turns(count: int = 5) -> None:
    """Let the loop come round a few times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def converse(stage: Stage, case: Case, gate: Gate) -> None:
    """Serve one exchange; the client's socket is one more thing to wait for."""
    async with Exchange(stage.asked(stream=case.is_stream), stage.service) as exchange:
        answer = await exchange.answer()
        await gate.at("head")
        if answer.body is not None:
            await gate.at("body")
            return
        while await exchange.next_piece():
            await gate.at("last" if exchange.is_settled else "piece")


async def expect_tidy(stage: Stage) -> None:
    """Hold every upstream reply closed, every hold ended exactly once, and every task over."""
    await turns()  # a generator left half-way is closed by the loop, a turn later
    assert all(reply.is_closed for reply in stage.upstream.replies)
    ledger = stage.ledger
    assert isinstance(ledger, CountingLedger)
    assert set(ledger.ends.values()) <= {1}
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def expect_booked(stage: Stage, rows: int) -> None:
    """Hold the books to as many attempts, none of them pending, each with a cost."""
    booked = await stage.rows()
    assert len(booked) == rows
    assert all(row.state is not AttemptState.PENDING and row.cost_nano_usd is not None for row in booked)
    (budget,) = await stage.ledger.budgets("app", stage.service.clock.now_s())
    assert budget.held_nano_usd == 0
    assert budget.posted_nano_usd == sum(row.cost_nano_usd or 0 for row in booked)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_stopping_server_leaves_nothing_open(case: Case, times: int, policy: str) -> None:
    """However often the task is cancelled while it waits, the shielded rest is carried out."""
    gate = Gate(case.place, case.nth)
    stage = await a_stage(*case.scripts, table=a_route(case, policy), gate=gate)
    task = asyncio.create_task(converse(stage, case, gate))
    async with in_time():
        await gate.reached.wait()
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        await stage.service.drain()
    await expect_tidy(stage)
    await expect_booked(stage, case.rows)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_cancellation_that_comes_with_the_answer(case: Case, policy: str) -> None:
    """What is waited for is there in the same turn of the loop in which the task is cancelled."""
    gate = Gate(case.place, case.nth)
    stage = await a_stage(*case.scripts, table=a_route(case, policy), gate=gate)
    task = asyncio.create_task(converse(stage, case, gate))
    async with in_time():
        await gate.reached.wait()
        gate.opened.set()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await stage.service.drain()
    await expect_tidy(stage)
    await expect_booked(stage, case.rows)


class Leaver:
    """A client on an ASGI connection that leaves when told; its socket is a place to wait at."""

    def __init__(self, body: dict[str, Any], gate: Gate) -> None:
        self.bodies: list[bytes] = []
        self.status: int | None = None
        self.cuts = 0
        self._body: bytes | None = orjson.dumps(body)
        self._gate = gate
        self._on_left: Callable[[], None] | None = None

    async def receive(self) -> Any:
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    def leave(self) -> None:
        if self._on_left is not None:
            self._on_left()

    def when_left(self, callback: Callable[[], None] | None) -> None:
        self._on_left = callback

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            await self._gate.at("head" if message["status"] == 200 else "refusal")
            return
        self.bodies.append(message["body"])
        await self._gate.at(self._place(message))

    def cut(self) -> None:
        self.cuts += 1

    def _place(self, message: Any) -> str:
        if self.status != 200:
            return "refusal"
        if "more_body" not in message:
            return "body"
        return "piece" if message["more_body"] and b'"error"' not in message["body"] else "last"

    @property
    def scope(self) -> dict[str, Any]:
        headers = [(b"authorization", b"Bearer " + CLIENT_KEY.encode())]
        return {
            "path": "/v1/chat/completions",
            "headers": headers,
            "extensions": {CUT: self.cut, WHEN_LEFT: self.when_left},
        }


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_client_that_leaves_leaves_nothing_open(case: Case, policy: str) -> None:
    """The watcher interrupts every wait but those behind the settlement; the endpoint returns as if all is well."""
    gate = Gate(case.place, case.nth)
    key = replace(a_key(), digest=digest_key(PEPPER, CLIENT_KEY))
    stage = await a_stage(*case.scripts, table=a_route(case, policy), gate=gate, key=key)
    log = io.BytesIO()
    telemetry = Telemetry(stream=log)
    authenticator = Authenticator(stage.ledger, pepper=PEPPER, clock=stage.service.clock)
    endpoint = ChatEndpoint(stage.service, authenticator=authenticator, table=lambda: stage.table, telemetry=telemetry)
    body = {"model": "chat", "messages": [{"role": "user", "content": "Hello!"}], "stream": case.is_stream}
    client = Leaver(body, gate)
    task = asyncio.create_task(endpoint(client.scope, client.receive, client.send))
    async with in_time():
        await gate.reached.wait()
        client.leave()
        await turns()
        gate.opened.set()
        await task
        await stage.service.drain()
    telemetry.close()
    assert not task.cancelled()
    await expect_tidy(stage)
    await expect_booked(stage, case.rows)
    (line,) = log.getvalue().splitlines()
    seen = orjson.loads(line)
    assert (seen["status"], seen["event"]) == (200 if case.is_over else 499, "request_finished")


class ThreadGate:
    """Holds a thread in the first call of a function."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._opened = threading.Event()
        self.reached = asyncio.Event()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.reached.is_set():
            self._loop.call_soon_threadsafe(self.reached.set)
            self._opened.wait(5)
        return self._work(*args, **kwargs)

    def open(self) -> None:
        """Let the thread go on."""
        self._opened.set()


async def interrupt_in_thread(stage: Stage, gate: ThreadGate, *, is_stream: bool) -> None:
    """Cancel an exchange while a thread counts for it."""
    task = asyncio.create_task(converse(stage, Case("", (), is_stream=is_stream), Gate()))
    async with in_time():
        await gate.reached.wait()
        task.cancel()
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await task
        await stage.service.drain()


async def test_interrupted_while_the_prompt_is_tokenized(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is held yet, so nothing is booked."""
    gate = ThreadGate(bound_input)
    monkeypatch.setattr("proxy.gateway.admission.bound_input", gate)
    stage = await a_stage(streamed(), key=a_key(usd="0.001"))
    await interrupt_in_thread(stage, gate, is_stream=True)
    await expect_tidy(stage)
    assert await stage.rows() == []
    assert not stage.upstream.calls


@pytest.mark.parametrize(
    "scripts",
    [(NO_USAGE,), (streamed(*events()[:3], broken()),), (streamed(broken()), streamed())],
    ids=["at the end", "after a break", "between tries"],
)
async def test_interrupted_while_tokens_are_counted(monkeypatch: pytest.MonkeyPatch, scripts: tuple[Script]) -> None:
    """The count is made anew behind the shield, and booked once."""
    gate = ThreadGate(estimate_input)
    monkeypatch.setattr("proxy.gateway.attempt.estimate_input", gate)
    stage = await a_stage(*scripts, table=a_table(*PAIR))
    await interrupt_in_thread(stage, gate, is_stream=True)
    await expect_tidy(stage)
    (row,) = await stage.rows()
    assert (row.error, row.cost_source, row.state) == ("client_left", "estimated", "posted")
    await expect_booked(stage, 1)


async def test_interrupted_between_two_tries() -> None:
    """The failed attempt is closed and known by its own failure; the wait for the next one ends at once."""
    stage = await a_stage(refused(500), table=a_table("one/m", retries=3))
    task = asyncio.create_task(converse(stage, Case("", ()), Gate()))
    async with in_time():
        while not any(reply.is_closed for reply in stage.upstream.replies):
            await turns()
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await expect_tidy(stage)
    (row,) = await stage.rows()
    assert (row.error, row.state) == ("server_error", "voided")
    assert len(stage.upstream.calls) == 1


class GatedLedger(SqliteLedger):
    """The durable ledger, with a gate before each of its writes."""

    gate = Gate()

    async def admit(self, admission: Admission) -> LedgerOutcome:
        await self.gate.at("admit")
        return await super().admit(admission)

    async def advance(self, step: Advance) -> LedgerOutcome:
        await self.gate.at("advance")
        return await super().advance(step)

    async def settle(self, settlement: Settlement) -> bool:
        await self.gate.at("settle")
        return await super().settle(settlement)


@pytest.mark.parametrize("is_waiting", [True, False], ids=["before the commit", "beside the commit"])
@pytest.mark.parametrize("place", ["admit", "advance", "settle"])
async def test_interrupted_while_the_store_writes(tmp_path: Path, place: str, *, is_waiting: bool) -> None:
    """The writer's thread is past recall: what it wrote for a request that has gone is taken back or ended, once."""
    ledger = await GatedLedger.open(tmp_path / "data", clock=SystemClock())
    ledger.gate = gate = Gate(place)
    stage = await a_stage(refused(500), streamed(), table=a_table(*PAIR), ledger=ledger)
    turnstile = Turnstile(tmp_path / "data")
    task = asyncio.create_task(converse(stage, Case("", ()), Gate()))
    async with in_time():
        await gate.reached.wait()
        with turnstile:
            gate.opened.set()
            await asyncio.sleep(0.01)  # the thread now waits for its turn
            if is_waiting:
                task.cancel()
                await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await stage.service.drain()
    await ledger.close()  # what the writer has been asked for is done then
    turnstile.close()
    assert all(reply.is_closed for reply in stage.upstream.replies)
    stage = replace(stage, ledger=await SqliteLedger.open(tmp_path / "data", clock=SystemClock()))
    rows = await stage.rows()
    assert len(rows) <= {"admit": 1, "advance": 2, "settle": 2}[place]
    await expect_booked(stage, len(rows))
    await stage.ledger.close()
