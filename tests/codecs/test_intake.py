"""One upstream stream as it comes in: frames, the last usage, and whether the answer is whole."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import sse
from proxy.codecs.intake import Batch, Intake, broken, choices_of, is_meaningful, parse_frame
from proxy.codecs.openai import OpenAICodec
from proxy.codecs.wire import Call, Frame, JsonObject, Reading
from proxy.errors import FailureKind, UpstreamError
from proxy.sse import DONE_EVENT, event
from proxy.usage import Usage
from tests.faults.framing import split_at, split_everywhere


def write(chunk: JsonObject) -> bytes:
    """Write a chunk as an event."""
    return event(orjson.dumps(chunk))


def delta(text: str, index: int = 0) -> bytes:
    """Write a chunk of text."""
    return write({"choices": [{"index": index, "delta": {"content": text}, "finish_reason": None}]})


def finish(index: int = 0, reason: str = "stop") -> bytes:
    """Write a chunk with a finish reason."""
    return write({"choices": [{"index": index, "delta": {}, "finish_reason": reason}]})


def usage(tokens: int, **more: object) -> bytes:
    """Write a usage chunk of its own."""
    return write({"choices": [], "usage": {"prompt_tokens": tokens, "completion_tokens": 1}, **more})


CALL = Call("/chat/completions", b"{}", is_stream=True)
COMMENT = b": PROCESSING\n\n"
ERROR = write({"error": {"message": "boom"}, "choices": []})


def take_in(pieces: Iterable[bytes], *, choices: int = 1, parse_all: bool = False) -> tuple[Batch, Usage | None]:
    """Read pieces until the stream is over, and give what they add up to."""
    intake = Intake(OpenAICodec(is_openrouter=False), Reading(CALL, parse_all=parse_all), choices=choices)
    frames: list[Frame] = []
    for piece in pieces:
        batch = intake.feed(piece)
        frames += batch.frames
        if batch.failure is not None or batch.is_end:
            return Batch(frames, batch.failure, batch.is_end), intake.usage
    batch = intake.end()
    assert (batch.failure is None) is batch.is_end
    return Batch([*frames, *batch.frames], batch.failure, batch.is_end), intake.usage


WHOLE = [
    delta("a") + finish() + DONE_EVENT,
    delta("a") + finish() + usage(5) + DONE_EVENT,
    delta("a") + finish(),
    delta("a") + finish() + usage(5),
    delta("a") + finish() + DONE_EVENT.rstrip(b"\n"),
    delta("a") + finish().rstrip(b"\n"),
    finish() + DONE_EVENT,
    finish(reason="length") + DONE_EVENT,
    COMMENT + delta("a") + COMMENT + finish() + COMMENT + DONE_EVENT,
    usage(5) + delta("a") + finish() + DONE_EVENT,
    delta("a") + usage(5) + DONE_EVENT,
    delta("a").replace(b"\n", b"\r\n") + finish().replace(b"\n", b"\r") + DONE_EVENT,
]


@pytest.mark.parametrize("stream", WHOLE)
def test_a_whole_answer_ends_well(stream: bytes) -> None:
    """After a finish reason, with or without `[DONE]`, usage or comments; after a closing usage and `[DONE]`."""
    batch, _ = take_in([stream])
    assert (batch.failure, batch.is_end) == (None, True)
    assert batch.frames[-1].is_done is (b"[DONE]" in stream)
    assert not any(frame.is_done for frame in batch.frames[:-1])


CUT = [
    b"",
    COMMENT,
    DONE_EVENT,
    delta("a"),
    delta("a") + DONE_EVENT,
    delta("a") + usage(5),
    usage(5) + delta("a"),
    usage(5, choices=[{"index": 0, "delta": {}}]) + DONE_EVENT,
    usage(0) + usage(5, choices=[{"index": 0, "delta": {}}]) + DONE_EVENT,
    delta("a") + finish()[:-5],
    delta("a") + finish() + usage(5)[:-9],
    delta("a") + finish() + b"data: [DO",
    write({"choices": [{"index": 0, "delta": {}, "finish_reason": ""}]}) + DONE_EVENT,
    write({"choices": None}) + DONE_EVENT,
]


@pytest.mark.parametrize("stream", CUT)
def test_a_cut_stream_never_looks_complete(stream: bytes) -> None:
    """Without a finish reason, or cut inside an event: a broken stream, whatever the connection says."""
    batch, _ = take_in([stream])
    assert batch.failure is not None
    assert batch.failure.kind is FailureKind.BROKEN_STREAM
    assert not batch.is_end
    assert not any(frame.is_done for frame in batch.frames)


def test_what_came_before_a_failure_is_still_the_client_s() -> None:
    """The failing event itself is not shown, and nothing after it is read."""
    for failing in (ERROR, event(b"rubbish"), write({"choices": [{"finish_reason": "error"}]})):
        batch, _ = take_in([delta("a") + COMMENT + failing + delta("b") + finish() + DONE_EVENT])
        assert [frame.raw for frame in batch.frames] == [delta("a"), COMMENT]
        assert batch.failure is not None


def test_a_failure_inside_is_the_provider_s_own() -> None:
    """An error event is an invalid reply with the provider's words."""
    batch, _ = take_in([ERROR])
    assert batch.failure is not None
    assert (batch.failure.kind, batch.failure.message) == (FailureKind.INVALID_REPLY, "boom")


@pytest.mark.parametrize("late", [finish(), ERROR])
def test_nothing_after_done_is_read(late: bytes) -> None:
    """What a server says after the end changes nothing."""
    batch, counted = take_in([delta("a") + finish() + DONE_EVENT + late + usage(7)])
    assert (batch.is_end, batch.failure, counted) == (True, None, None)


@pytest.mark.parametrize(
    ("stream", "input_tokens"),
    [
        (usage(5) + delta("a") + usage(7) + finish(), 7),
        (finish() + usage(7) + usage(5), 5),
        (finish() + usage(5) + usage(0), 5),
        (finish() + usage(5) + write({"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}}), 5),
        (finish() + usage(5) + write({"choices": [], "usage": None}), 5),
        (finish() + usage(5) + write({"choices": [], "usage": {}}), 5),
        (finish() + usage(5) + ERROR, 5),
        (delta("a") + write({"error": "boom", "usage": {"prompt_tokens": 9}}), 9),
    ],
)
def test_the_last_usage_that_says_anything_counts(stream: bytes, input_tokens: int) -> None:
    """Repeated usage is never added up, a zero is no news, and one beside an error is taken (R44)."""
    _, counted = take_in([stream])
    assert counted is not None
    assert counted.input_tokens == input_tokens


@pytest.mark.parametrize(
    ("stream", "is_whole"),
    [
        (delta("a") + delta("b", 1) + finish() + finish(1), True),
        (delta("a") + delta("b", 1) + finish() + finish(1) + DONE_EVENT, True),
        (delta("a") + delta("b", 1) + finish() + DONE_EVENT, False),
        (delta("a") + delta("b", 1) + finish(), False),
        (delta("a") + finish(), False),
        (delta("a") + finish() + DONE_EVENT, True),
        (finish() + finish(1) + finish(2), True),
    ],
)
def test_all_answers_must_be_whole(stream: bytes, is_whole: bool) -> None:
    """With `n` every answer needs its finish reason; a provider that gives fewer says so by `[DONE]`."""
    batch, _ = take_in([stream], choices=2)
    assert batch.is_end is is_whole


def test_an_answer_of_one_may_have_any_index() -> None:
    """Without `n` nobody counts indices, so a delta without an index finishes with one that has it."""
    batch, _ = take_in([delta("a", 3) + finish()])
    assert batch.is_end


@pytest.mark.parametrize("index", [None, "0", [0], {}, 0.5])
def test_an_odd_index_breaks_nothing(index: object) -> None:
    """What is no number is the first answer's."""
    odd = write({"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]})
    batch, _ = take_in([odd + finish(1)], choices=2)
    assert batch.is_end


def test_chunks_are_parsed_when_asked_or_counted() -> None:
    """All of them for a surface that needs it or for several answers, else only those that matter."""
    stream = delta("a") + finish() + DONE_EVENT
    for choices, parse_all, parsed in ((1, False, [False, True]), (1, True, [True] * 2), (2, False, [True] * 2)):
        batch, _ = take_in([stream], choices=choices, parse_all=parse_all)
        assert [frame.chunk is not None for frame in batch.frames[:2]] == parsed


def test_an_endless_event_is_broken_off() -> None:
    """Frames before it are still given; an end before it is an end."""
    endless = b"data: " + b"x" * sse.EVENT_BYTES_MAX
    batch, _ = take_in([delta("a") + endless])
    assert [frame.raw for frame in batch.frames] == [delta("a")]
    assert batch.failure == broken("The provider sent an event beyond any sensible size.")
    assert batch.failure.may_have_cost
    batch, _ = take_in([finish() + DONE_EVENT + endless])
    assert batch.is_end
    batch, _ = take_in([ERROR + endless])
    assert batch.failure is not None
    assert batch.failure.message == "boom"


EVENTS = [
    delta("a"),
    delta("é😀", 1),
    finish(),
    finish(1),
    usage(5),
    COMMENT,
    ERROR,
    DONE_EVENT,
    event(b"rubbish"),
    b"event: x\ndata: {}\n\n",
    b"data: {}\r\n\r\n",
    b"data: {}\r\r",
    b"\xff\xfe\n\n",
    b"data: {",
    b"\n",
]
streams = st.lists(st.sampled_from(EVENTS), max_size=12).map(b"".join)
positions = st.lists(st.integers(min_value=1, max_value=1000), max_size=20)


@given(streams, positions, st.sampled_from([1, 2]), st.booleans())
def test_any_split_adds_up_to_the_same(stream: bytes, at: list[int], choices: int, parse_all: bool) -> None:
    """Frames, usage, failure and end do not depend on how the network cuts the stream."""
    whole = take_in([stream], choices=choices, parse_all=parse_all)
    assert take_in(split_at(stream, at), choices=choices, parse_all=parse_all) == whole
    assert take_in(split_everywhere(stream), choices=choices, parse_all=parse_all) == whole


@pytest.mark.parametrize(
    ("delta_", "says"),
    [
        ({"role": "assistant"}, False),
        ({"role": "assistant", "content": ""}, False),
        ({"role": "assistant", "content": None, "tool_calls": [], "refusal": None}, False),
        ({}, False),
        (None, False),
        ("x", False),
        ({"content": " "}, True),
        ({"reasoning": "hm"}, True),
        ({"reasoning_content": "hm", "content": ""}, True),
        ({"tool_calls": [{"index": 0}]}, True),
        ({"refusal": "no"}, True),
        ({"audio": {"data": "x"}}, True),
    ],
)
def test_a_chunk_means_something_when_it_says_something(delta_: object, says: bool) -> None:
    """Text, reasoning, refusals, tools and sound are news; a role alone promises nothing."""
    assert is_meaningful({"choices": [{"index": 0, "delta": delta_}]}) is says


@pytest.mark.parametrize(
    ("chunk", "says"),
    [
        ({}, False),
        ({"choices": None}, False),
        ({"choices": [], "usage": {"prompt_tokens": 1}}, False),
        ({"choices": [5, None]}, False),
        ({"choices": [{"delta": {}, "finish_reason": None}]}, False),
        ({"choices": [{"delta": {}, "finish_reason": "stop"}]}, True),
        ({"choices": [{"text": "x"}]}, True),
        ({"choices": [{"delta": {}}, {"delta": {"content": "x"}}]}, True),
    ],
)
def test_an_answer_s_end_means_something_too(chunk: JsonObject, says: bool) -> None:
    """An empty answer that is finished is an answer; usage and empty choices are none."""
    assert is_meaningful(chunk) is says


@pytest.mark.parametrize(
    ("frame", "chunk"),
    [
        (Frame(b"", {"a": 1}), {"a": 1}),
        (Frame(b'data: {"a":1}\n\n'), {"a": 1}),
        (Frame(b'data: {"a":NaN,"b":"\\ud83d"}\n\n'), {"a": None, "b": "\ufffd"}),
        (Frame(b"data:\n\n"), None),
        (Frame(COMMENT), None),
        (Frame(DONE_EVENT, is_done=True), None),
    ],
)
def test_a_frame_s_json_can_be_had_later(frame: Frame, chunk: JsonObject | None) -> None:
    """Nobody needs to have parsed it, and what is nearly JSON is mended; comments and the end have none."""
    assert parse_frame(frame).chunk == chunk


@pytest.mark.parametrize("data", [b"[1]", b"{", b"5"])
def test_data_that_is_no_object_is_the_upstream_s_failure(data: bytes) -> None:
    """It is never passed over in silence."""
    with pytest.raises(UpstreamError):
        parse_frame(Frame(event(data)))


def test_choices_are_objects() -> None:
    """Whatever else stands in the list, or instead of it, is not looked at."""
    assert choices_of({"choices": [{"a": 1}, 5, None, []]}) == [{"a": 1}]
    assert choices_of({"choices": {"a": 1}}) == choices_of({}) == []
