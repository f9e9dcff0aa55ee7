"""The short queue: order kept, nobody overtakes, who leaves frees the line, and an end to waiting."""

from __future__ import annotations

import asyncio

import pytest

from proxy.errors import Overloaded
from proxy.gateway import queue as queue_module
from proxy.gateway.queue import Queue
from proxy.ledger.records import Admitted, Limited, Outcome
from proxy.policy.limits import Measure
from tests.gateway.stage import in_time

KEY = "key:app"


class Ledger:
    """Has room for so many, and notes who asked and who was let in."""

    def __init__(self, *, wait_s: float = 5.0, measure: Measure | None = None, retry_after_s: float = 0.01) -> None:
        """Begin full."""
        self.room = 0
        self.asked: list[str] = []
        self.admitted: list[str] = []
        self.scope = KEY
        self._wait_s = wait_s
        self._measure = measure
        self._retry_after_s = retry_after_s

    async def ask(self, name: str) -> Outcome:
        """Let one in while there is room."""
        self.asked.append(name)
        await asyncio.sleep(0)
        if not self.room:
            return Limited(self.scope, self._measure, 1, None, self._retry_after_s, self._wait_s)
        self.room -= 1
        self.admitted.append(name)
        return Admitted(name)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again soon."""
    monkeypatch.setattr(queue_module, "ASK_AGAIN_S", 0.005)


def begin(queue: Queue, ledger: Ledger, name: str, *, scopes: tuple[str, ...] = (KEY,)) -> asyncio.Task[object]:
    """Send a request in."""
    return asyncio.get_running_loop().create_task(queue.ask(lambda: scopes, lambda: ledger.ask(name)))


async def settle() -> None:
    """Let everybody who can go on go on."""
    for _ in range(10):
        await asyncio.sleep(0)


async def line_up(queue: Queue, ledger: Ledger, names: str) -> dict[str, asyncio.Task[object]]:
    """Send requests in one after another."""
    tasks: dict[str, asyncio.Task[object]] = {}
    for name in names:
        tasks[name] = begin(queue, ledger, name)
        await settle()
    return tasks


async def test_with_room_nobody_waits() -> None:
    """One question, and nobody's scopes are asked for."""
    queue, ledger = Queue(), Ledger()
    ledger.room = 1

    def never() -> tuple[str, ...]:
        raise AssertionError

    assert await queue.ask(never, lambda: ledger.ask("a")) == Admitted("a")


@pytest.mark.parametrize(("wait_s", "scope"), [(0.0, KEY), (5.0, "provider:up"), (5.0, "upstream:up/1")])
async def test_no_wait_is_no_queue(wait_s: float, scope: str) -> None:
    """A limit without `wait`, and those of upstream calls, which another target may answer, refuse at once."""
    queue, ledger = Queue(), Ledger(wait_s=wait_s)
    ledger.scope = scope
    assert isinstance(await begin(queue, ledger, "a"), Limited)
    assert ledger.asked == ["a"]


@pytest.mark.parametrize("measure", [None, Measure.REQUESTS])
async def test_the_order_is_that_of_coming(measure: Measure | None) -> None:
    """Whatever room comes, and however much at once."""
    queue, ledger = Queue(), Ledger(measure=measure)
    async with in_time():
        tasks = await line_up(queue, ledger, "abcdef")
        for room in (1, 3, 2):
            ledger.room = room
            await asyncio.sleep(0.05)
            assert not ledger.room
        await asyncio.gather(*tasks.values())
    assert "".join(ledger.admitted) == "abcdef"


async def test_who_comes_last_does_not_overtake() -> None:
    """There is room the moment it comes, and it is the first one's."""
    queue, ledger = Queue(), Ledger()
    async with in_time():
        tasks = await line_up(queue, ledger, "ab")
        ledger.room = 1
        late = begin(queue, ledger, "z")
        await tasks["a"]
        assert ledger.admitted == ["a"]
        assert "z" not in ledger.asked
        ledger.room = 2
        await asyncio.gather(tasks["b"], late)
    assert ledger.admitted == ["a", "b", "z"]


async def test_only_the_first_asks() -> None:
    """A hundred who wait ask no more than one."""
    queue, ledger = Queue(), Ledger()
    async with in_time():
        first = begin(queue, ledger, "first")
        await settle()
        rest = [begin(queue, ledger, "rest") for _ in range(100)]
        await asyncio.sleep(0.05)
        assert "rest" not in ledger.asked
        ledger.room = 101
        await asyncio.gather(first, *rest)


@pytest.mark.parametrize("leaving", ["a", "b", "c", "ab", "ac", "bc", "abc", "ba"])
async def test_who_leaves_frees_the_line(leaving: str) -> None:
    """From the front, the middle or the end: the others keep their order, and nobody is left standing."""
    queue, ledger = Queue(), Ledger()
    async with in_time():
        tasks = await line_up(queue, ledger, "abcd")
        for name in leaving:
            tasks[name].cancel()
        await asyncio.gather(*(tasks[name] for name in leaving), return_exceptions=True)
        ledger.room = 4
        await asyncio.gather(*(task for name, task in tasks.items() if name not in leaving))
        assert "".join(ledger.admitted) == "".join(name for name in "abcd" if name not in leaving)
        ledger.room = 1
        assert await begin(queue, ledger, "z") == Admitted("z")


async def test_who_has_the_turn_and_leaves_before_asking_passes_it_on() -> None:
    """Woken and cancelled in the same moment."""
    queue, ledger = Queue(), Ledger()
    async with in_time():
        tasks = await line_up(queue, ledger, "abc")
        tasks["a"].cancel()
        tasks["b"].cancel()
        ledger.room = 1
        await tasks["c"]
    assert ledger.admitted == ["c"]


@pytest.mark.parametrize("measure", [None, Measure.REQUESTS])
async def test_waiting_ends(measure: Measure | None) -> None:
    """When its time is over each gets the last refusal, also who never came to the front."""
    queue, ledger = Queue(), Ledger(wait_s=0.05, measure=measure)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    async with in_time():
        tasks = await line_up(queue, ledger, "abc")
        answers = await asyncio.gather(*tasks.values())
    assert all(isinstance(answer, Limited) for answer in answers)
    assert loop.time() - began_s < 0.5
    ledger.room = 1
    assert await begin(queue, ledger, "z") == Admitted("z")


async def test_nobody_waits_for_what_comes_too_late() -> None:
    """Room in ten seconds and a wait of five: refused now."""
    queue, ledger = Queue(), Ledger(wait_s=5.0, measure=Measure.REQUESTS, retry_after_s=10.0)
    async with in_time():
        assert isinstance(await begin(queue, ledger, "a"), Limited)
    assert len(ledger.asked) == 2


async def test_who_does_not_count_there_passes_by() -> None:
    """One user's line holds up no other of the same key."""
    queue, ledger, other = Queue(), Ledger(), Ledger()
    ledger.scope = "user:app/ann"
    other.room = 1
    async with in_time():
        ann = begin(queue, ledger, "ann", scopes=(KEY, "user:app/ann"))
        await settle()
        assert await begin(queue, other, "bob", scopes=(KEY, "user:app/bob")) == Admitted("bob")
        ledger.room = 2
        again = begin(queue, ledger, "ann-2", scopes=(KEY, "user:app/ann"))
        await asyncio.gather(ann, again)
    assert ledger.admitted == ["ann", "ann-2"]


async def test_a_line_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the named number they are refused at once, and the line goes on."""
    monkeypatch.setattr(queue_module, "QUEUED_MAX", 2)
    queue, ledger = Queue(), Ledger()
    async with in_time():
        tasks = await line_up(queue, ledger, "ab")
        with pytest.raises(Overloaded):
            await begin(queue, ledger, "c")
        ledger.room = 2
        await asyncio.gather(*tasks.values())
    assert ledger.admitted == ["a", "b"]


async def test_a_ledger_that_fails_frees_the_line() -> None:
    """The next one has its turn."""
    queue, ledger = Queue(), Ledger()
    asked = 0

    async def fail() -> Outcome:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise BrokenPipeError
        return await ledger.ask("a")

    async with in_time():
        broken = asyncio.get_running_loop().create_task(queue.ask(lambda: (KEY,), fail))
        await settle()
        rest = begin(queue, ledger, "b")
        with pytest.raises(BrokenPipeError):
            await broken
        ledger.room = 1
        assert await rest == Admitted("b")
