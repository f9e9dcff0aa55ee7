"""A streamed message as chunks: every event, in order and out of it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.codecs.anthropic import stream
from proxy.codecs.anthropic.reasoning import FORMAT
from proxy.codecs.wire import Frame, JsonObject
from proxy.errors import FailureKind, UpstreamError
from proxy.sse import DONE_EVENT, event
from tests.codecs.accumulation import accumulate
from tests.codecs.anthropic.asking import answered, turns
from tests.codecs.anthropic.reading import (
    CODEC,
    CREATED_S,
    END,
    PING,
    begin,
    block,
    reading,
    sse,
    stop,
    streamed,
    take_in,
    thoughts,
    use,
    words,
)
from tests.faults.framing import split_everywhere

HEAD = {"id": "msg_1", "object": "chat.completion.chunk", "created": CREATED_S, "model": "claude-x"}


def said(**delta: Any) -> JsonObject:
    """Make a chunk."""
    return {**HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def test_a_stream_chunk_by_chunk() -> None:
    """A role, text, the finish reason, usage without choices, the end; a ping is a comment."""
    _, batch = streamed(begin(), *words("Hel", "", "lo")[:2], PING, *words("Hel", "", "lo")[2:], stop(), END)
    finish = {"index": 0, "delta": {}, "finish_reason": "stop", "native_finish_reason": "end_turn"}
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    chunks = [
        said(role="assistant", content=""),
        said(content="Hel"),
        None,
        said(content="lo"),
        {**HEAD, "choices": [finish]},
        {**HEAD, "choices": [], "usage": usage},
    ]
    frames = [Frame(event(orjson.dumps(chunk)), chunk) if chunk else Frame(b": ping\n\n") for chunk in chunks]
    assert batch.frames == [*frames, Frame(DONE_EVENT, is_done=True)]
    assert (batch.is_end, batch.failure) == (True, None)


def test_only_chunks_that_matter_are_given_as_json() -> None:
    """The finish reason and the usage, unless the reader wants all; the bytes are the same."""
    body = sse(begin(), *thoughts("Hm"), *words("Hel", "lo", index=1), *use("{}", index=2), stop("tool_use"), END)
    wanted, _ = take_in([body], reading())
    batch, _ = take_in([body], reading(parse_all=False))
    assert [frame.raw for frame in batch.frames] == [frame.raw for frame in wanted.frames]
    assert [frame.chunk for frame in batch.frames if frame.chunk] == [frame.chunk for frame in wanted.frames[-3:-1]]
    assert batch.is_end


def test_calls_are_counted_by_themselves() -> None:
    """A block's index is not a call's; text may stand between two."""
    told, batch = streamed(
        begin(),
        *words("A"),
        *use('{"a"', ":1}", index=1),
        *use('{"b":2}', index=4, id_="toolu_2", name="sub"),
        stop("tool_use"),
        END,
    )
    assert told.calls == [
        {"id": "toolu_1", "name": "add", "arguments": '{"a":1}'},
        {"id": "toolu_2", "name": "sub", "arguments": '{"b":2}'},
    ]
    assert (told.content, told.finish_reason) == ("A", "tool_calls")
    assert batch.frames[2].chunk == said(
        tool_calls=[{"index": 0, "id": "toolu_1", "type": "function", "function": {"name": "add", "arguments": ""}}]
    )
    assert batch.frames[3].chunk == said(tool_calls=[{"index": 0, "function": {"arguments": '{"a"'}}])


@pytest.mark.parametrize(
    ("events", "arguments"),
    [
        (use(), "{}"),
        (use(""), "{}"),
        (use("", "{}"), "{}"),
        (use(input={"a": 1}), '{"a":1}'),
        (use('{"a":2}', input={"a": 1}), '{"a":2}'),
        (use(input=None), "{}"),
        (use()[:-1], "{}"),
        (use('{"a"', ":2}")[:-1], '{"a":2}'),
    ],
)
def test_arguments_that_never_came(events: list[JsonObject], arguments: str) -> None:
    """The input the block was opened with, an empty object at least, also when the block is never closed."""
    told, _ = streamed(begin(), *events, stop("tool_use"), END)
    assert [call["arguments"] for call in told.calls] == [arguments]


def test_thinking_streams_with_its_signature() -> None:
    """Text as it comes, the signature behind it, sealed blocks whole."""
    sealed = block(1, type="redacted_thinking", data="xyz")
    told, _ = streamed(
        begin(), *thoughts("H", "m."), *sealed, *thoughts(index=2, signature="t"), *words("A"), stop(), END
    )
    more = {"type": "reasoning.text"}
    first = {**more, "format": FORMAT}
    assert told.reasoning == "Hm."
    assert told.details == [
        {**first, "index": 0, "text": "H"},
        {**more, "index": 0, "text": "m."},
        {**more, "index": 0, "signature": "sig"},
        {"type": "reasoning.encrypted", "format": FORMAT, "index": 1, "data": "xyz"},
        {**first, "index": 2, "signature": "t"},
    ]


def test_blocks_may_open_with_something_in_them() -> None:
    """Text, thinking and a signature count from the start."""
    told, _ = streamed(
        begin(),
        *block(0, type="thinking", thinking="Hm.", signature="s"),
        *block(1, type="text", text="A"),
        stop(),
        END,
    )
    assert (told.content, told.reasoning, told.details[1]["signature"]) == ("A", "Hm.", "s")


def test_citations_are_told_when_their_text_is_known() -> None:
    """They come before it, and point behind it."""
    cited = words("four", index=1, citations=[{"url": "https://a.example", "title": "A"}, {"url": "https://b.example"}])
    opened = block(
        2, {"type": "text_delta", "text": "!"}, type="text", text="", citations=[{"url": "https://c.example"}]
    )
    told, batch = streamed(begin(), *words("See: "), *cited, *opened, stop(), END)
    deltas = (choice["delta"] for frame in batch.frames if frame.chunk for choice in frame.chunk["choices"])
    assert accumulate(deltas)["annotations"] == told.annotations  # OpenAI's SDK joins them by `index`
    places = [note["url_citation"] for note in told.annotations]
    assert [(place["url"], place["start_index"], place["end_index"]) for place in places] == [
        ("https://a.example", 5, 9),
        ("https://b.example", 5, 9),
        ("https://c.example", 9, 10),
    ]


def test_a_block_s_citations_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond is left out."""
    monkeypatch.setattr(stream, "CITATIONS_MAX", 2)
    told, _ = streamed(begin(), *words("A", citations=[{"url": str(number)} for number in range(5)]), stop(), END)
    assert len(told.annotations) == 2


def test_open_blocks_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message has one open at a time; a thousand are an attack on our memory."""
    monkeypatch.setattr(stream, "BLOCKS_MAX", 3)
    opened = [words("A", index=index)[0] for index in range(4)]
    told, batch = streamed(begin(), *words("Hi"), *opened)
    assert batch.failure is not None
    assert batch.failure.kind is FailureKind.BROKEN_STREAM
    assert told.content == "Hi"


SEARCH = [
    *block(
        0,
        {"type": "input_json_delta", "partial_json": "{}"},
        type="server_tool_use",
        id="srvtoolu_1",
        name="w",
        input={},
    ),
    *block(1, type="web_search_tool_result", tool_use_id="srvtoolu_1", content=[{"type": "web_search_result"}]),
    *block(2, {"type": "compaction_delta", "content": "x"}, type="compaction", content=None),
    {"type": "something_new", "index": 3},
    {"type": 5},
    {},
    {"type": "content_block_delta", "index": 9, "delta": {"type": "thinking_delta", "thinking": "x"}},
    {"type": "content_block_delta", "index": 9, "delta": {"type": "signature_delta", "signature": "x"}},
    {"type": "content_block_delta", "index": 9, "delta": {"type": "input_json_delta", "partial_json": "x"}},
    {"type": "content_block_delta", "index": 9, "delta": {"type": "citations_delta", "citation": {}}},
    {"type": "content_block_delta", "index": 9, "delta": {"type": "new_delta"}},
    {"type": "content_block_delta", "index": "x", "delta": None},
    {"type": "content_block_start", "index": None, "content_block": "x"},
    {"type": "content_block_stop", "index": 9},
    {"type": "message_delta", "delta": {"stop_reason": None}},
    {"type": "message_delta"},
]


def test_what_is_not_known_says_nothing() -> None:
    """Server tools, compaction, events and deltas of the future, and events gone wrong."""
    unknown = b"".join(event(orjson.dumps(one)) for one in SEARCH)
    batch, _ = take_in([sse(begin()) + unknown + sse(*words("A", index=9), stop(), END)])
    plain, _ = take_in([sse(begin(), *words("A", index=9), stop(), END)])
    assert batch.frames == plain.frames
    assert batch.is_end


@pytest.mark.parametrize("raw", [b": hello\n\n", b":\n\n"])
def test_comments_pass(raw: bytes) -> None:
    """Whoever stands between may keep the connection alive with them."""
    assert list(CODEC.stream(reading()).decode(raw)) == [Frame(raw)]


@pytest.mark.parametrize("raw", [b"event: ping\n\n", b"data:\n\n", b"data:  \n\n", b"id: 5\n\n"])
def test_events_without_data_say_nothing(raw: bytes) -> None:
    """Their names are Anthropic's and no client's."""
    assert list(CODEC.stream(reading()).decode(raw)) == []


@pytest.mark.parametrize("data", [b"hello", b"[1]", b"{", b'{"type":'])
def test_data_that_is_no_object_breaks_the_stream(data: bytes) -> None:
    """Rubbish is told."""
    with pytest.raises(UpstreamError) as caught:
        CODEC.stream(reading()).decode(event(data))
    assert caught.value.failure.kind is FailureKind.BROKEN_STREAM


@pytest.mark.parametrize("ending", [[], [END], [END, END], [stop(), END], [PING]])
def test_a_finished_message_ends_once(ending: list[JsonObject]) -> None:
    """Also where the upstream leaves `message_stop` out, or says things twice."""
    _, batch = streamed(begin(), *words("A"), stop(), *ending)
    kinds = [list((frame.chunk or {"": 0}).get("choices", ["-"])) for frame in batch.frames if frame.chunk]
    assert [bool(kind) for kind in kinds] == [True, True, True, False]
    assert batch.is_end
    assert batch.frames[-1].is_done


def test_a_gateway_s_done_is_an_end_too() -> None:
    """Some servers add OpenAI's."""
    batch, _ = take_in([sse(begin(), *words("A"), stop()) + DONE_EVENT])
    assert batch.is_end
    assert [frame.is_done for frame in batch.frames].count(True) == 1


@pytest.mark.parametrize(
    "events",
    [[], [begin()], [begin(), *words("A")], [begin(), *words("A"), END], [begin(), stop(None), END]],
)
def test_a_message_without_a_stop_reason_is_broken(events: list[JsonObject]) -> None:
    """Whatever else it says."""
    batch, _ = take_in([sse(*events)])
    assert batch.failure is not None
    assert not batch.is_end


def test_a_refusal_in_a_stream() -> None:
    """Its words come with the finish reason."""
    told, _ = streamed(begin(), stop("refusal", stop_details={"category": "bio", "explanation": "I cannot."}), END)
    assert (told.finish_reason, told.native_finish_reason, told.refusal) == ("content_filter", "refusal", "I cannot.")


def test_the_tier_stands_in_every_chunk() -> None:
    """It is known from the start."""
    _, batch = streamed(begin(usage={"input_tokens": 1, "service_tier": "priority"}), stop(), END)
    assert {frame.chunk["service_tier"] for frame in batch.frames if frame.chunk} == {"priority"}


def test_a_message_may_begin_with_all_of_it() -> None:
    """Blocks and a stop reason in `message_start`, and no block events after it."""
    content: list[JsonObject] = [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "text", "text": "A"},
        {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}},
        {"type": "tool_use", "id": "toolu_2", "name": "add", "input": {}},
    ]
    told, batch = streamed(begin(*content, stop_reason="tool_use", usage={"input_tokens": 3, "output_tokens": 4}), END)
    assert (told.content, told.reasoning, told.finish_reason) == ("A", "Hm.", "tool_calls")
    assert [call["arguments"] for call in told.calls] == ['{"a":1}', "{}"]
    usage = next(frame.chunk["usage"] for frame in batch.frames if frame.chunk and "usage" in frame.chunk)
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (3, 4)
    again, _ = streamed(begin(*content, stop_reason="tool_use"), stop("tool_use"), END)
    assert again == told


def test_a_message_may_begin_anew() -> None:
    """Block numbers start over; the id stays, calls count on, and a call left open gets its arguments."""
    second = {**begin(id="msg_2"), "x": 1}
    told, batch = streamed(
        begin(), *use()[:1], second, *words("B"), *use('{"b":1}', index=1, id_="toolu_2"), stop("tool_use"), END
    )
    assert [call["arguments"] for call in told.calls] == ["{}", '{"b":1}']
    assert told.content == "B"
    assert {frame.chunk["id"] for frame in batch.frames if frame.chunk} == {"msg_1"}
    assert sum("role" in choice["delta"] for f in batch.frames if f.chunk for choice in f.chunk["choices"]) == 1


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([*use('{"a"', ":1}"), stop("tool_use")], ('{"a":1}', "stop", 0)),
        ([*use(), stop("tool_use")], ("{}", "stop", 0)),
        (
            [
                *words("Sure:", citations=[{}]),
                *use('{"a":1}', index=1),
                *words("Done.", citations=[{}]),
                stop("tool_use"),
            ],
            ('{"a":1}', "stop", 0),
        ),
        ([*words("Just ", "words."), stop()], ("Just words.", "stop", 0)),
        (
            [*words("Calling."), *use(index=1, name="sub"), *words("So."), stop("tool_use")],
            ("Calling.So.", "tool_calls", 1),
        ),
        ([*use('{"a"'), stop("max_tokens")], ('{"a"', "length", 0)),
    ],
)
def test_a_streamed_tool_that_stands_for_the_answer(events: list[JsonObject], expected: tuple[Any, ...]) -> None:
    """Its arguments are the content; words before it are held back until it is clear that they are the answer."""
    told, _ = streamed(begin(), *events, END, schema_tool="add")
    assert (told.content, told.finish_reason, len(told.calls)) == expected


def test_words_held_back_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is that long is the answer."""
    monkeypatch.setattr(stream, "HELD_CHARS_MAX", 3)
    batch, _ = take_in([sse(begin(), *words("ab", "cd", "ef")[:-1])], reading(schema_tool="add"))
    assert [frame.chunk for frame in batch.frames][1:] == [said(content="abcd"), said(content="ef")]


@pytest.mark.parametrize(
    ("name", "kind", "status"),
    [
        ("overloaded_error", FailureKind.SERVER_ERROR, 529),
        ("rate_limit_error", FailureKind.RATE_LIMITED, 429),
        ("api_error", FailureKind.SERVER_ERROR, 500),
        ("timeout_error", FailureKind.TIMEOUT, 504),
        ("invalid_request_error", FailureKind.BAD_REQUEST, 400),
        ("something_new", FailureKind.SERVER_ERROR, 500),
    ],
)
def test_an_error_event_ends_the_stream(name: str, kind: FailureKind, status: int) -> None:
    """Behind the frames before it; what had begun has cost something."""
    told, batch = streamed(
        begin(), *words("Hi"), {"type": "error", "error": {"type": name, "message": "Sorry."}}, stop()
    )
    assert told.content == "Hi"
    assert batch.failure is not None
    failure = batch.failure
    assert (failure.kind, failure.status, failure.code, failure.message) == (kind, status, name, "Sorry.")
    assert failure.may_have_cost


@pytest.mark.parametrize("data", [b'{"type":"error"}', b'{"error":{}, "type":"error"}', b'{"error":"down"}'])
def test_an_error_event_without_much_in_it(data: bytes) -> None:
    """Is an error all the same, and before the message nothing has cost anything."""
    with pytest.raises(UpstreamError) as caught:
        CODEC.stream(reading()).decode(event(data))
    failure = caught.value.failure
    assert (failure.kind, failure.may_have_cost) == (FailureKind.SERVER_ERROR, False)
    assert failure.message in ("down", "The provider gave up.")


pieces = st.lists(st.text(max_size=4), max_size=3)
blocks = st.one_of(
    pieces.map(lambda texts: words(*texts)),
    pieces.map(lambda texts: thoughts(*texts)),
    pieces.map(lambda texts: use(*texts)),
    st.just(SEARCH[:3]),
)


@given(st.lists(blocks, max_size=4), st.sampled_from(["end_turn", "tool_use"]), st.sampled_from([None, "add"]))
def test_a_torn_stream_is_the_same_stream(parts: list[list[JsonObject]], reason: str, schema_tool: str | None) -> None:
    """Cut after every byte."""
    numbered = [{**one, "index": number} for number, part in enumerate(parts) for one in part]
    body = sse(begin(), *numbered, PING, stop(reason), END)
    with_ = reading(schema_tool=schema_tool)
    assert take_in(split_everywhere(body), with_) == take_in([body], with_)


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["text", "tool_use", "thinking", "add", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "text", "index", "delta", "content_block", "name", "usage", "content", "stop_reason"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
events = st.sampled_from(
    [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
)
members = st.dictionaries(st.sampled_from(["index", "delta", "message", "content_block", "usage", "error"]), values)


@given(st.lists(st.tuples(events, members), max_size=8), st.sampled_from([None, "add"]))
def test_any_events_are_frames_or_a_failure(said_: list[tuple[str, JsonObject]], schema_tool: str | None) -> None:
    """Nothing a provider sends raises anything else, and usage can be asked for at any time."""
    decoder = CODEC.stream(reading(schema_tool=schema_tool))
    for name, fields in said_:
        try:
            decoder.decode(event(orjson.dumps({**fields, "type": name})))
        except UpstreamError:
            return
        assert decoder.usage is None or decoder.usage.input_tokens >= 0
    decoder.close()


def test_an_answer_that_openai_s_sdk_put_together_goes_back_unharmed() -> None:
    """It joins every text but `type`; Anthropic gets its blocks as it wrote them, byte for byte."""
    sealed = block(1, type="redacted_thinking", data="eA==")
    events = [*thoughts("H", "m", ".", signature="c2ln"), *sealed, *thoughts(" \n", "B", index=2, signature="dA==")]
    _, batch = streamed(begin(), *events, *use('{"a":', "1}", index=3), stop("tool_use"), END)
    message = accumulate(choice["delta"] for frame in batch.frames if frame.chunk for choice in frame.chunk["choices"])
    assert [detail["format"] for detail in message["reasoning_details"]] == [FORMAT] * 3
    sent = turns({"role": "user", "content": "Hi"}, message, answered("toolu_1"))[1][1]
    assert sent == [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "eA=="},
        {"type": "thinking", "thinking": " \nB", "signature": "dA=="},
        {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}},
    ]
