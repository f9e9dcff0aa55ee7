"""One upstream reply: what commits it, what fails it, how it ends."""

from __future__ import annotations

import orjson
import pytest

from proxy.errors import FailureKind, UpstreamError
from proxy.relay import HEAD_FRAMES_MAX
from proxy.sse import DONE_EVENT
from proxy.usage import Usage
from tests.faults import chunks
from tests.faults.steps import Tokens
from tests.gateway.stage import (
    FakeUpstream,
    Gate,
    Script,
    broken,
    events,
    failed,
    in_time,
    refused,
    streamed,
    whole,
)
from tests.relays import (
    FINISH,
    ROLE,
    TOTAL_S,
    WORD,
    a_relay,
    data_of,
    failure_of_open,
    frames_of,
    opened,
)

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
    relay.start(total_left_s=TOTAL_S)
    got = await relay.take()
    assert got is not None
    with pytest.raises(UpstreamError) as caught:
        await relay.take()
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
