"""The clocks of a relay, how it lets go of its upstream, and the watchdog behind both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from proxy.errors import FailureKind, UpstreamError
from proxy.relay import DRAIN_S, Watchdog
from proxy.upstream import HttpUpstream
from tests.faults import replies
from tests.faults.steps import Ask, Hang, Mode, Outcome, Send
from tests.faults.upstream import FaultUpstream
from tests.gateway.stage import (
    HELD,
    FakeUpstream,
    Gate,
    Script,
    a_provider,
    broken,
    events,
    streamed,
)
from tests.relays import (
    CLOCKS,
    FINISH,
    QUICK,
    ROLE,
    TOTAL_S,
    WORD,
    a_relay,
    data_of,
    failure_of_open,
    frames_of,
    opened,
)

# ---------------------------------------------------------------- clocks


@pytest.mark.parametrize("script", [HELD, streamed(HELD), streamed(ROLE, HELD)], ids=["head", "body", "role"])
async def test_the_first_token_clock_covers_everything_before_the_first_word(script: Script | str) -> None:
    """A hanging call, a silent body, a role and nothing more: a timeout that may have cost money."""
    failure = await failure_of_open(script, clocks=QUICK)
    assert (failure.kind, failure.may_have_cost) == (FailureKind.TIMEOUT, True)
    assert failure.message == "The provider sent no answer within 0.05 s."


async def test_a_call_that_comes_too_late_is_not_made() -> None:
    """Nothing is sent, so it cannot cost anything."""
    upstream = FakeUpstream(streamed())
    relay = a_relay(upstream)
    with pytest.raises(UpstreamError) as caught:
        await relay.open(total_left_s=0.0)
    assert (caught.value.failure.kind, caught.value.failure.may_have_cost) == (FailureKind.TIMEOUT, False)
    assert not relay.was_sent
    assert not upstream.calls


async def test_what_is_left_of_the_total_clock_shortens_the_first() -> None:
    """The whole request is over then."""
    relay = a_relay(FakeUpstream(HELD))
    with pytest.raises(UpstreamError) as caught:
        await relay.open(total_left_s=0.02)
    assert caught.value.failure.message == "The provider sent no answer within 0.02 s."


async def test_the_idle_clock_ends_a_silent_stream() -> None:
    """The upstream is closed and the stream has failed, with what came before it given."""
    upstream = FakeUpstream(streamed(WORD, HELD))
    relay = a_relay(upstream, clocks=QUICK)
    await relay.open(total_left_s=TOTAL_S)
    with pytest.raises(UpstreamError) as caught:
        await frames_of(relay)
    failure = caught.value.failure
    assert (failure.kind, failure.may_have_cost) == (FailureKind.TIMEOUT, True)
    assert failure.message == "The provider sent nothing more for too long."
    assert upstream.replies[0].is_closed
    await relay.close()


async def test_a_silence_behind_the_answer_is_no_failure() -> None:
    """Finished and then silent: the answer is whole."""
    relay = await opened(streamed(WORD, FINISH, HELD), clocks=QUICK)
    assert data_of(await frames_of(relay)) == WORD + FINISH


async def test_the_idle_clock_does_not_run_while_the_client_reads() -> None:
    """A slow client is not the provider's fault."""
    relay = await opened(streamed(WORD, WORD, FINISH), clocks=CLOCKS._replace(idle_s=0.03))
    relay.start(total_left_s=TOTAL_S)
    while await relay.take() is not None:  # noqa: ASYNC110  # the sleep is a slow client's
        await asyncio.sleep(0.05)
    await relay.close()


async def test_the_total_clock_ends_a_stream_that_drips() -> None:
    """Each piece within its idle time, all of them together beyond the total."""

    class Dripping:
        status, headers = 200, {"content-type": "text/event-stream"}
        is_closed = False

        async def read(self) -> bytes:
            await asyncio.sleep(0.01)
            if self.is_closed:
                raise broken("closed")
            return WORD

        async def read_all(self, bytes_max: int) -> bytes:
            raise AssertionError

        async def close(self) -> None:
            self.is_closed = True

    await expect_overdue(Dripping)


async def test_the_total_clock_ends_a_stream_that_never_waits() -> None:
    """Its next piece is always there, so no timer gets its turn: the clock is looked at before each read too."""

    class Gushing:
        status, headers = 200, {"content-type": "text/event-stream"}

        async def read(self) -> bytes:
            return WORD

        async def read_all(self, bytes_max: int) -> bytes:
            raise AssertionError

        async def close(self) -> None:
            pass

    await expect_overdue(Gushing)


async def expect_overdue(make: Callable[[], Any]) -> None:
    """Read a stream without end until its total clock stops it."""

    class Endless(FakeUpstream):
        async def open(self, provider: Any, call: Any, **_: Any) -> Any:
            return make()

    relay = a_relay(Endless(""))
    await relay.open(total_left_s=TOTAL_S)
    with pytest.raises(UpstreamError) as caught:
        await frames_of(relay, total_left_s=0.05)
    assert caught.value.failure.kind is FailureKind.TIMEOUT
    await relay.close()


# ---------------------------------------------------------------- letting go


async def test_closing_twice_is_once() -> None:
    """And before it was opened it is nothing."""
    upstream = FakeUpstream(streamed())
    relay = a_relay(upstream)
    await relay.close()
    await relay.open(total_left_s=TOTAL_S)
    await relay.close()
    await relay.close()
    assert upstream.replies[0].closes == 1


async def test_a_stream_under_way_is_cut_off_at_once() -> None:
    """What it would still send is not waited for."""
    gate = Gate()
    upstream = FakeUpstream(streamed(WORD, HELD), gate=gate)
    relay = a_relay(upstream)
    await relay.open(total_left_s=TOTAL_S)
    await relay.close()
    assert upstream.replies[0].is_closed
    assert gate.passed.count("read") == 1


@pytest.mark.parametrize(
    "rest", [(), (HELD,), (broken(),), (b"more", b"still more")], ids=["end", "hung", "cut", "more"]
)
async def test_the_end_of_a_finished_stream_is_read_off_for_a_moment(rest: tuple[Any, ...]) -> None:
    """So that its connection can serve again; whatever comes there instead, the reply is closed soon."""
    upstream = FakeUpstream(streamed(*events(), *rest))
    relay = a_relay(upstream)
    await relay.open(total_left_s=TOTAL_S)
    await frames_of(relay)
    started_s = asyncio.get_running_loop().time()
    await relay.close()
    assert asyncio.get_running_loop().time() - started_s < DRAIN_S * 10
    assert upstream.replies[0].closes == 1


# ---------------------------------------------------------------- over sockets


class Wire:
    """A real upstream for relays."""

    def __init__(self, up: FaultUpstream) -> None:
        self.up = up
        self.provider = replace(a_provider("one"), base_url=up.base_url)
        self._http = HttpUpstream()
        self.open = self._http.open
        self.close = self._http.close


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    """Listen, and close both sides."""
    async with FaultUpstream() as up:
        wire = Wire(up)
        yield wire
        await wire.close()


async def test_a_finished_stream_leaves_its_connection_to_the_next(wire: Wire) -> None:
    """Draining hands it back to the pool: two calls, one connection."""
    for _ in range(2):
        relay = a_relay(wire)
        await relay.open(total_left_s=TOTAL_S)
        frames = await frames_of(relay)
        assert frames[-1].is_done
        await relay.close()
    assert len(wire.up.connections) == 1


async def test_a_stream_let_go_of_half_way_closes_its_connection(wire: Wire) -> None:
    """The provider sees it at once and stops writing."""
    wire.up.replace_script([replies.ok_paced(50, every_s=0.02)])
    relay = a_relay(wire)
    await relay.open(total_left_s=TOTAL_S)
    await relay.close()
    await wire.up.left(wire.up.exchanges[0])
    assert wire.up.exchanges[0].made_tokens < 50


async def test_the_idle_clock_closes_the_connection(wire: Wire) -> None:
    """Silence in the middle of a stream: a timeout here, a departure there."""

    def plan(ask: Ask) -> Any:
        yield from replies.streamed([Send(WORD), Hang()])

    wire.up.replace_script([Mode("hang", plan, stream=Outcome.CUT, json=Outcome.FALLBACK)])
    relay = a_relay(wire, clocks=CLOCKS._replace(idle_s=0.05))
    await relay.open(total_left_s=TOTAL_S)
    with pytest.raises(UpstreamError) as caught:
        await frames_of(relay)
    assert caught.value.failure.kind is FailureKind.TIMEOUT
    await wire.up.left(wire.up.exchanges[0])
    await relay.close()


# ---------------------------------------------------------------- the watchdog


class Kennel:
    """A watchdog and what it did."""

    def __init__(self) -> None:
        self.bites = 0
        self.dog = Watchdog(self._bite)

    def _bite(self) -> None:
        self.bites += 1


async def test_a_watchdog_fires_once_when_left_running() -> None:
    """And may be started again."""
    kennel = Kennel()
    for bites in (1, 2):
        kennel.dog.start(0.01)
        await asyncio.sleep(0.03)
        assert kennel.bites == bites


async def test_a_watchdog_that_is_started_anew_looks_again_later() -> None:
    """One timer serves many starts: it finds the deadline moved and sleeps on, then fires at the new one."""
    kennel = Kennel()
    kennel.dog.start(0.1)
    await asyncio.sleep(0.01)
    kennel.dog.start(0.6)
    await asyncio.sleep(0.2)
    assert kennel.bites == 0
    await asyncio.sleep(0.6)
    assert kennel.bites == 1


async def test_a_watchdog_with_a_nearer_deadline_wakes_earlier() -> None:
    """A timer set far ahead is set anew."""
    kennel = Kennel()
    kennel.dog.start(10.0)
    kennel.dog.start(0.01)
    await asyncio.sleep(0.03)
    assert kennel.bites == 1


async def test_a_paused_watchdog_sleeps_on() -> None:
    """Its timer comes, finds nothing to do, and the next start sets another."""
    kennel = Kennel()
    kennel.dog.start(0.01)
    kennel.dog.pause()
    await asyncio.sleep(0.03)
    assert kennel.bites == 0
    kennel.dog.start(0.01)
    await asyncio.sleep(0.03)
    assert kennel.bites == 1


async def test_a_stopped_watchdog_gives_its_timer_back() -> None:
    """Twice is once, and before its first start it has none."""
    kennel = Kennel()
    kennel.dog.stop()
    kennel.dog.start(0.01)
    kennel.dog.stop()
    kennel.dog.stop()
    await asyncio.sleep(0.03)
    assert kennel.bites == 0
