"""One upstream reply: what commits it, what its clocks do, how it ends and how it is let go of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from proxy.codecs.openai import OpenAICodec
from proxy.codecs.wire import Frame
from proxy.errors import Failure, FailureKind, UpstreamError
from proxy.policy.timeouts import Clocks
from proxy.relay import DRAIN_S, HEAD_FRAMES_MAX, Errand, Relay, Watchdog
from proxy.sse import DONE_EVENT
from proxy.upstream import AiohttpUpstream
from proxy.usage import Usage
from tests.faults import chunks, replies
from tests.faults.steps import Ask, Hang, Mode, Outcome, Send, Tokens
from tests.faults.upstream import FaultUpstream
from tests.gateway.stage import (
    HELD,
    FakeUpstream,
    Gate,
    Script,
    a_provider,
    broken,
    events,
    failed,
    in_time,
    refused,
    streamed,
    whole,
)

CODEC = OpenAICodec(is_openrouter=False)
CLOCKS = Clocks(connect_s=1.0, first_token_s=5.0, idle_s=5.0, total_s=5.0)
QUICK = replace(CLOCKS, first_token_s=0.05, idle_s=0.05)
ROLE = chunks.event(chunks.opening("m"))
WORD = chunks.event(chunks.content("m", "Hé"))
FINISH = chunks.event(chunks.finish("m"))
TOTAL_S = 5.0


def a_relay(
    upstream: Any, *, clocks: Clocks = CLOCKS, is_stream: bool = True, parse_all: bool = False, **fields: Any
) -> Relay:
    """Make a relay for a short question."""
    body = {"messages": [{"role": "user", "content": "Hello!"}], "stream": is_stream, **fields}
    call = CODEC.encode(body, model="m", output_tokens_max=None)
    provider = getattr(upstream, "provider", None) or a_provider("one")
    errand = Errand(provider, call, clocks, choices=fields.get("n", 1), parse_all=parse_all)
    return Relay(errand, upstream=upstream, codec=CODEC)


async def opened(*scripts: Script, **fields: Any) -> Relay:
    """Open a relay to scripts."""
    relay = a_relay(FakeUpstream(*scripts), **fields)
    await relay.open(total_left_s=TOTAL_S)
    return relay


async def frames_of(relay: Relay, *, total_left_s: float = TOTAL_S) -> list[Frame]:
    """Read all frames."""
    async with in_time():
        return [frame async for frames in relay.frames(total_left_s=total_left_s) for frame in frames]


async def failure_of_open(*scripts: Script | UpstreamError | str, clocks: Clocks = CLOCKS, **fields: Any) -> Failure:
    """Open a relay that fails."""
    relay = a_relay(FakeUpstream(*scripts), clocks=clocks, **fields)
    with pytest.raises(UpstreamError) as caught:
        await relay.open(total_left_s=TOTAL_S)
    await relay.close()
    return caught.value.failure


def data_of(frames: list[Frame]) -> bytes:
    """Join what a client would be sent."""
    return b"".join(frame.raw for frame in frames)


# ---------------------------------------------------------------- the commit point


async def test_a_stream_is_open_at_its_first_meaningful_event() -> None:
    """What came before it is kept and given, what comes after it is not yet read."""
    gate = Gate("read", nth=3)
    upstream = FakeUpstream(streamed(*events()), gate=gate)
    relay = a_relay(upstream)
    assert not relay.was_sent
    async with in_time():
        await relay.open(total_left_s=TOTAL_S)
    assert (relay.was_sent, relay.status, relay.is_delivering) == (True, 200, True)
    assert relay.seed["id"] == "chatcmpl-made-up"
    assert gate.passed.count("read") == 2  # the role, and the first word
    gate.opened.set()
    assert data_of(await frames_of(relay)) == b"".join(events())
    assert relay.usage == Usage(input_tokens=7, output_tokens=5)


async def test_comments_before_the_commit_point_are_dropped() -> None:
    """A provider that only says that it is at work has promised nothing; behind the commit point its word passes."""
    relay = await opened(streamed(chunks.COMMENT, ROLE, chunks.COMMENT, chunks.COMMENT + WORD, chunks.COMMENT, FINISH))
    assert data_of(await frames_of(relay)) == ROLE + WORD + chunks.COMMENT + FINISH


async def test_what_shares_a_read_with_the_first_word_is_given_with_it() -> None:
    """The head ends in the middle of a read: the rest of that read is not lost."""
    relay = await opened(streamed(b"".join(events())))
    assert data_of(await frames_of(relay)) == b"".join(events())


async def test_a_failure_behind_the_first_word_comes_behind_it() -> None:
    """In one read with the failure, the word is still the client's."""
    relay = await opened(streamed(WORD + chunks.event({"error": {"message": "gone", "code": 502}})))
    batches = relay.frames(total_left_s=TOTAL_S)
    got = await anext(batches)
    with pytest.raises(UpstreamError) as caught:
        await anext(batches)
    assert data_of(got) == WORD
    assert caught.value.failure.message == "gone"


async def test_so_many_chunks_without_meaning_are_an_answer_of_their_own() -> None:
    """At the limit the stream is committed rather than held for ever; one chunk less, and its end is a failure."""
    relay = await opened(streamed(ROLE * HEAD_FRAMES_MAX + FINISH + chunks.DONE))
    assert relay.is_delivering
    assert len(await frames_of(relay)) == HEAD_FRAMES_MAX + 2
    failure = await failure_of_open(streamed(ROLE * (HEAD_FRAMES_MAX - 1)))
    assert failure.kind is FailureKind.INVALID_REPLY


@pytest.mark.parametrize(
    "pieces", [(), (ROLE,), (chunks.COMMENT,), (chunks.DONE,), (ROLE, chunks.DONE)], ids=lambda pieces: str(len(pieces))
)
async def test_an_end_without_an_answer_is_a_failure(pieces: tuple[bytes, ...]) -> None:
    """Nothing meaningful came: another target may be asked."""
    failure = await failure_of_open(Script(pieces))
    assert (failure.kind, failure.may_have_cost) == (FailureKind.INVALID_REPLY, False)
    assert failure.message == "The provider's stream ended without an answer."


async def test_an_empty_answer_with_a_bill_keeps_the_bill() -> None:
    """A stream of nothing but usage is a failure that has cost something."""
    usage = chunks.event(chunks.chunk_of("m", [], usage=chunks.usage(Tokens(7, 0))))
    relay = a_relay(FakeUpstream(streamed(usage, chunks.DONE)))
    with pytest.raises(UpstreamError):
        await relay.open(total_left_s=TOTAL_S)
    assert relay.usage == Usage(input_tokens=7)
    assert not relay.is_delivering


async def test_an_error_before_the_first_word_keeps_its_own_words() -> None:
    """More telling than that the stream was empty."""
    failure = await failure_of_open(streamed(ROLE, chunks.event({"error": {"message": "slow down", "code": 429}})))
    assert (failure.kind, failure.status, failure.message) == (FailureKind.INVALID_REPLY, 429, "slow down")


async def test_a_connection_that_breaks_before_the_first_word() -> None:
    """The adapter's failure passes as it is."""
    failure = await failure_of_open(streamed(ROLE, broken("cut")))
    assert (failure.kind, failure.message) == (FailureKind.BROKEN_STREAM, "cut")


# ---------------------------------------------------------------- statuses and whole replies


async def test_a_json_reply_is_read_whole() -> None:
    """It is the seed of later frames, and its usage is known at once."""
    relay = await opened(whole(), is_stream=False)
    assert relay.json is not None
    assert relay.json == relay.seed
    assert relay.usage == Usage(input_tokens=7, output_tokens=5)
    assert relay.is_delivering
    await relay.close()


async def test_a_whole_reply_to_a_streaming_request_becomes_chunks() -> None:
    """Content, finish, usage and the terminal event, each of them a frame that can be priced and hidden."""
    relay = await opened(whole())
    frames = await frames_of(relay)
    assert [frame.is_done for frame in frames] == [False, False, False, True]
    assert data_of(frames).endswith(DONE_EVENT)
    parts = [frame.chunk for frame in frames if frame.chunk is not None]
    assert parts[0]["choices"][0]["delta"]["content"] == chunks.text(5)
    assert parts[1]["choices"][0]["finish_reason"] == "stop"
    assert parts[2]["usage"]["completion_tokens"] == 5
    assert all(orjson.loads(frame.raw[6:]) == frame.chunk for frame in frames[:3])
    assert relay.transcript.text() == chunks.text(5)
    await relay.close()


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"error": {"message": "broke", "code": 500}}, "broke"),
        (chunks.answer("m", choices=[]), "The provider's answer has no choices."),
        (chunks.answer("m", choices=None), "The provider's answer has no choices."),
        ([], "The provider's answer is not JSON."),
    ],
    ids=["error", "empty", "null", "list"],
)
async def test_a_200_that_is_no_answer_is_a_failure(value: object, message: str, *, is_stream: bool) -> None:
    """Whatever its status says."""
    failure = await failure_of_open(whole(value) if value else whole([]), is_stream=is_stream)
    assert failure.message == message


async def test_a_failed_reply_with_usage_keeps_it() -> None:
    """An empty answer that reports usage is booked."""
    relay = a_relay(FakeUpstream(whole(choices=[])), is_stream=False)
    with pytest.raises(UpstreamError):
        await relay.open(total_left_s=TOTAL_S)
    assert relay.usage == Usage(input_tokens=7, output_tokens=5)


async def test_a_status_is_classified_by_the_codec() -> None:
    """Its body is read for the words."""
    failure = await failure_of_open(refused(429, "too fast"))
    assert (failure.kind, failure.status, failure.message) == (FailureKind.RATE_LIMITED, 429, "too fast")


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
async def test_a_web_page_is_no_answer(*, is_stream: bool) -> None:
    """A captive portal answers 200 to everything."""
    page = Script((b"<html>hello</html>",), headers={"content-type": "text/html; charset=utf-8"})
    assert (await failure_of_open(page, is_stream=is_stream)).message == "The provider answered with a web page."


async def test_a_stream_without_a_type_is_read_as_one() -> None:
    """Some servers send none."""
    relay = await opened(Script(events(), headers={}))
    assert data_of(await frames_of(relay)) == b"".join(events())


async def test_a_call_that_fails_to_connect() -> None:
    """The adapter's failure passes, and there is nothing to close."""
    failure = await failure_of_open(failed(FailureKind.CONNECT, "refused"))
    assert failure.kind is FailureKind.CONNECT


# ---------------------------------------------------------------- the end of a stream


async def test_a_stream_without_its_last_event_is_whole_when_finished() -> None:
    """The finish reason counts; `[DONE]` is the gateway's to write."""
    relay = await opened(streamed(ROLE, WORD, FINISH))
    assert data_of(await frames_of(relay)) == ROLE + WORD + FINISH
    await relay.close()


async def test_a_stream_that_ends_unfinished_is_broken() -> None:
    """However politely it ends."""
    relay = await opened(streamed(ROLE, WORD))
    with pytest.raises(UpstreamError) as caught:
        await frames_of(relay)
    assert (caught.value.failure.kind, caught.value.failure.may_have_cost) == (FailureKind.BROKEN_STREAM, True)
    assert relay.transcript.text() == "Hé"


async def test_every_answer_asked_for_must_finish() -> None:
    """With `n` of two, one finish reason is half an answer."""
    other = chunks.event(chunks.chunk_of("m", [{"index": 1, "delta": {"content": "x"}, "finish_reason": None}]))
    relay = await opened(streamed(WORD, other, FINISH), n=2)
    with pytest.raises(UpstreamError):
        await frames_of(relay)


async def test_a_connection_that_breaks_behind_the_answer_is_nobodys_concern() -> None:
    """The finish reason was there; only its usage is missing then."""
    relay = await opened(streamed(WORD, FINISH, broken()))
    assert data_of(await frames_of(relay)) == WORD + FINISH


async def test_a_connection_that_breaks_within_the_answer_is_a_failure() -> None:
    """Behind the last good frame."""
    relay = await opened(streamed(WORD, broken("cut")))
    with pytest.raises(UpstreamError) as caught:
        await frames_of(relay)
    assert caught.value.failure.message == "cut"


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
    relay = await opened(streamed(WORD, WORD, FINISH), clocks=replace(CLOCKS, idle_s=0.03))
    async for _ in relay.frames(total_left_s=TOTAL_S):
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
        async def open(self, provider: Any, call: Any, *, connect_timeout_s: float) -> Any:
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
        self._http = AiohttpUpstream()
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
    relay = a_relay(wire, clocks=replace(CLOCKS, idle_s=0.05))
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
    kennel.dog.start(0.02)
    await asyncio.sleep(0.01)
    kennel.dog.start(0.03)
    await asyncio.sleep(0.015)
    assert kennel.bites == 0
    await asyncio.sleep(0.04)
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
