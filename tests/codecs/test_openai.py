"""OpenAI's dialect: what is written upstream, which events are parsed, and JSON that is not quite JSON."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.codecs.objects import DEPTH_MAX, parse_object
from proxy.codecs.openai import OPENROUTER_FIELDS, OpenAICodec
from proxy.codecs.wire import UNKNOWN_ABILITIES, Abilities, Call, Frame, JsonObject, Reading
from proxy.errors import FailureKind, UpstreamError
from proxy.sse import DONE_EVENT, event

BODY: JsonObject = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}

READING = Reading(Call("/chat/completions", b"{}", is_stream=True))
READING_ALL = replace(READING, parse_all=True)


def reading(*, parse_all: bool) -> Reading:
    """Read a call's reply in part or in whole."""
    return READING_ALL if parse_all else READING


def written(codec: OpenAICodec, body: JsonObject, *, cap: int | None = None) -> JsonObject:
    """Encode a body for model `m` and read it back."""
    call = codec.encode(body, model="m", output_tokens_max=cap)
    assert (call.path, call.headers, call.is_stream) == ("/chat/completions", {}, body.get("stream") is True)
    result = orjson.loads(call.body)
    assert isinstance(result, dict)
    return result


def test_fields_of_openrouter_go_only_to_openrouter() -> None:
    """Its own fields go on to it and are left out for everyone else; ours go nowhere; unknown ones pass."""
    # openrouter.md 1.2; `user` and `prediction` are OpenAI's too.
    own = {
        "models": ["a"],
        "route": "fallback",
        "provider": {"only": ["x"]},
        "plugins": [],
        "transforms": [],
        "preset": "p",
        "reasoning": {"effort": "low"},
        "include_reasoning": True,
        "usage": {"include": True},
        "session_id": "s",
        "trace": {},
        "debug": {},
        "stop_server_tools_when": [],
    }
    passing = {"user": "u", "prediction": {}, "temperature": 0, "x_new": [1, {"a": None}], "seed": 2**63}
    body = {**BODY, **own, **passing, "turnpike": {"x": 1}}
    assert set(own) == OPENROUTER_FIELDS
    assert written(OpenAICodec(is_openrouter=True), body) == {**BODY, **own, **passing, "model": "m"}
    assert written(OpenAICodec(is_openrouter=False), body) == {**BODY, **passing, "model": "m"}


def test_openrouters_ways_of_talking_go_only_to_openrouter() -> None:
    """Members of messages and parts that OpenAI answers 400 to; what was lost is named."""
    body: JsonObject = {
        "model": "chat",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
            {"role": "assistant", "content": "Hello", "reasoning": "so", "reasoning_content": "so"},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}, "cache_control": {"type": "ephemeral"}}],
        "reasoning": {"effort": "high"},
    }
    before = orjson.dumps(body)
    assert written(OpenAICodec(is_openrouter=True), body) == {**body, "model": "m"}
    plain = written(OpenAICodec(is_openrouter=False), body)
    assert plain["tools"] == [{"type": "function", "function": {"name": "f"}}]
    assert plain["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": "Hello", "reasoning_content": "so"},
    ]
    assert orjson.dumps(body) == before


def test_ids_of_tool_calls_are_made_to_fit() -> None:
    """Where a provider has one length for them (Mistral)."""
    body: JsonObject = {**BODY, "messages": [{"role": "tool", "tool_call_id": "call_1", "content": "4"}]}
    assert written(OpenAICodec(is_openrouter=False), body)["messages"] == body["messages"]
    fitted = written(OpenAICodec(is_openrouter=False, call_id_chars=9), body)["messages"]
    assert len(fitted[0]["tool_call_id"]) == 9


@pytest.mark.parametrize(
    ("is_openrouter", "abilities", "effort", "dropped"),
    [
        (True, UNKNOWN_ABILITIES, None, ()),
        (False, UNKNOWN_ABILITIES, None, ("reasoning",)),
        (False, Abilities(efforts=("low", "medium")), "medium", ()),
    ],
)
def test_reasoning_is_said_as_the_model_takes_it(
    abilities: Abilities, effort: str | None, dropped: tuple[str, ...], *, is_openrouter: bool
) -> None:
    """OpenRouter's own form goes to OpenRouter, an effort to whoever is known to take one."""
    codec = OpenAICodec(is_openrouter=is_openrouter)
    body = {**BODY, "reasoning": {"effort": "high"}}
    call = codec.encode(body, model="m", output_tokens_max=None, abilities=abilities)
    assert (orjson.loads(call.body).get("reasoning_effort"), call.dropped) == (effort, dropped)


@pytest.mark.parametrize(
    ("more", "asks", "options"),
    [
        ({"stream": True}, True, {"include_usage": True}),
        ({"stream": True, "stream_options": None}, True, {"include_usage": True}),
        ({"stream": True, "stream_options": {"include_usage": False}}, True, {"include_usage": True}),
        ({"stream": True, "stream_options": {"x": 1}}, True, {"x": 1, "include_usage": True}),
        ({"stream": True}, False, None),
        ({"stream": True, "stream_options": {"include_usage": True}}, False, None),
        ({"stream": False}, True, None),
        ({}, True, None),
        ({"stream": None}, True, None),
    ],
)
def test_usage_is_asked_of_every_stream_that_can_tell(more: JsonObject, asks: bool, options: JsonObject | None) -> None:
    """The books need usage whether the client asked or not; a server that knows no such option is not asked."""
    result = written(OpenAICodec(is_openrouter=False, asks_usage=asks), {**BODY, **more})
    assert result.get("stream_options") == options
    assert ("stream_options" in result) is (options is not None)


@pytest.mark.parametrize(
    ("named", "cap", "expected"),
    [
        ({}, None, {}),
        ({"max_tokens": 100}, None, {"max_tokens": 100}),
        ({}, 64, {"max_tokens": 64}),
        ({"max_tokens": None}, 64, {"max_tokens": 64}),
        ({"max_tokens": 100}, 64, {"max_tokens": 64}),
        ({"max_completion_tokens": 100}, 64, {"max_completion_tokens": 64}),
        ({"max_completion_tokens": 100, "max_tokens": 90}, 64, {"max_completion_tokens": 64, "max_tokens": 64}),
        ({"max_completion_tokens": 100, "max_tokens": 9}, 64, {"max_completion_tokens": 64, "max_tokens": 9}),
        ({"max_tokens": 10}, 64, {"max_tokens": 10}),
    ],
)
def test_a_cap_of_ours_lowers_what_was_asked(named: JsonObject, cap: int | None, expected: JsonObject) -> None:
    """It goes under the name the client used, and never raises what the client said."""
    assert written(OpenAICodec(is_openrouter=False), {**BODY, **named}, cap=cap) == {**BODY, "model": "m", **expected}


def test_a_cap_goes_where_the_provider_reads_it() -> None:
    """OpenAI's newer models reject `max_tokens`; what the client itself sent keeps its name."""
    codec = OpenAICodec(is_openrouter=False, cap_field="max_completion_tokens")
    assert written(codec, BODY, cap=64)["max_completion_tokens"] == 64
    assert written(codec, {**BODY, "max_tokens": 100}, cap=64) == {**BODY, "model": "m", "max_tokens": 64}


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=8).map("x_{}".format), values, max_size=6))
def test_whatever_is_not_routed_arrives_as_it_was_sent(fields: JsonObject) -> None:
    """Unknown fields of any shape are the client's and the provider's affair; the caller's body is not touched."""
    body = {**BODY, **fields}
    before = orjson.dumps(body)
    assert written(OpenAICodec(is_openrouter=False), body) == {**BODY, **fields, "model": "m"}
    assert orjson.dumps(body) == before


@pytest.mark.parametrize(
    ("raw", "chunk"),
    [
        (event(b'{"choices":[{"delta":{"content":"hi"}}]}'), None),
        (event(b'{"choices":[{"delta":{},"finish_reason":null}],"usage":null,"error" : null}'), None),
        (event(b'{"choices":[{"delta":{"content":"\\"usage\\": 5"}}]}'), None),
        (event(b'{"choices":[{"finish_reason":"stop"}]}'), {"choices": [{"finish_reason": "stop"}]}),
        (event(b'{"usage" :\t{"prompt_tokens":1}}'), {"usage": {"prompt_tokens": 1}}),
        (event(b'{"error":"x"}'), {"error": "x"}),
        (event(b'{"x_groq":{"usage":{"prompt_tokens":1}}}'), {"x_groq": {"usage": {"prompt_tokens": 1}}}),
        (b'event: error\ndata: {"error":"x"}\n\n', {"error": "x"}),
        (b'data: {"error":\ndata: "x"}\n\n', {"error": "x"}),
        (b'data:   {"error":"x"}  \n\n', {"error": "x"}),
    ],
)
def test_only_events_that_matter_are_parsed(raw: bytes, chunk: JsonObject | None) -> None:
    """Usage, an error, a finish reason; the rest is bytes to pass on, and the bytes stay what they were."""
    assert list(OpenAICodec(is_openrouter=False).stream(READING).decode(raw)) == [Frame(raw, chunk)]


def test_every_event_is_parsed_when_asked() -> None:
    """OpenRouter's SDKs demand keys in every chunk."""
    raw = event(b'{"choices":[]}')
    assert list(OpenAICodec(is_openrouter=False).stream(READING_ALL).decode(raw)) == [Frame(raw, {"choices": []})]


@pytest.mark.parametrize("parse_all", [True, False])
@pytest.mark.parametrize(
    "raw", [b": OPENROUTER PROCESSING\n\n", b"event: ping\n\n", b"data:\n\n", b"data: \n\n", b"data\n\n", b"id: 1\n\n"]
)
def test_events_without_data_pass(raw: bytes, parse_all: bool) -> None:
    """Comments and empty events say nothing, and mean no harm."""
    assert list(OpenAICodec(is_openrouter=True).stream(reading(parse_all=parse_all)).decode(raw)) == [Frame(raw)]


@pytest.mark.parametrize("raw", [DONE_EVENT, b"data:[DONE]\n\n", b"data:  [DONE] \n\n", b"event: x\ndata: [DONE]\n\n"])
def test_done_is_the_end(raw: bytes) -> None:
    """However it is spaced."""
    assert list(OpenAICodec(is_openrouter=True).stream(READING_ALL).decode(raw)) == [Frame(raw, None, is_done=True)]


@pytest.mark.parametrize("data", [b"[DONE", b'{"choices":', b"hello", b"[]", b"null", b"<html>", b'{"a":1} x'])
@pytest.mark.parametrize("parse_all", [True, False])
def test_an_event_that_is_no_object_breaks_the_stream(data: bytes, parse_all: bool) -> None:
    """Rubbish is told, not relayed."""
    with pytest.raises(UpstreamError) as caught:
        OpenAICodec(is_openrouter=False).stream(reading(parse_all=parse_all)).decode(event(data))
    assert caught.value.failure.kind is FailureKind.BROKEN_STREAM


def test_an_object_that_cannot_be_read_breaks_the_stream() -> None:
    """What looks like an object and matters must be one."""
    with pytest.raises(UpstreamError) as caught:
        OpenAICodec(is_openrouter=False).stream(READING).decode(event(b'{"usage":{]}'))
    assert caught.value.failure.kind is FailureKind.INVALID_REPLY


MENDED = [
    (b'{"usage":{"cost":NaN}}', {"usage": {"cost": None}}),
    (b'{"usage":{"cost":-Infinity}}', {"usage": {"cost": None}}),
    (b'{"usage":{"cost":1e999}}', {"usage": {"cost": None}}),
    (b'{"usage":{"cost":-1' + b"0" * 5000 + b"}}", {"usage": {"cost": None}}),
    (
        b'{"usage":NaN,"n":[12,-5,1.5,999999999999999999,12345678901234567890]}',
        {"usage": None, "n": [12, -5, 1.5, 999999999999999999, 1.2345678901234567e19]},
    ),
    (b'{"usage":{},"text":"\\ud83d"}', {"usage": {}, "text": "\ufffd"}),
    (b'{"usage":{},"text":"\\ude00\\ud83d\\ude00"}', {"usage": {}, "text": "\ufffd😀"}),
    (b'{"usage":{},"text":"a\xff"}', {"usage": {}, "text": "a\ufffd"}),
]


@pytest.mark.parametrize(("data", "value"), MENDED)
def test_json_that_is_not_quite_json_is_mended(data: bytes, value: JsonObject) -> None:
    """NaN, infinities and numbers beyond a double become null, broken characters U+FFFD (reliability.md R38)."""
    assert parse_object(data) == value
    assert OpenAICodec(is_openrouter=False).read_reply(data, READING) == value


@pytest.mark.parametrize(("data", "value"), MENDED)
def test_a_mended_event_is_written_again(data: bytes, value: JsonObject) -> None:
    """A client's parser is strict: it gets JSON."""
    (frame,) = OpenAICodec(is_openrouter=False).stream(READING).decode(event(data))
    assert frame == Frame(event(orjson.dumps(value)), value)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"5", b'"x"', b"null", b"<html></html>", b"{", b"[" * 100_000, b'{"a":' * 2_000, b"\xff"]
)
def test_what_is_no_object_is_no_reply(data: bytes) -> None:
    """A page, a list, half an object: never an exception of another kind, never a byte of it quoted."""
    with pytest.raises(UpstreamError) as caught:
        parse_object(data)
    assert caught.value.failure.kind is FailureKind.INVALID_REPLY
    assert caught.value.failure.message == "The provider's answer is not JSON."


@pytest.mark.parametrize("opening", [b'{"a":', b"["])
def test_a_reply_nested_too_deep_is_refused(opening: bytes) -> None:
    """What could not be written again is not taken in; everything less deep is."""
    closing = {b'{"a":': b"}", b"[": b"]"}[opening]
    good = b'{"usage":' + opening * (DEPTH_MAX - 1) + b"1" + closing * (DEPTH_MAX - 1) + b"}"
    bad = b'{"usage":' + opening * DEPTH_MAX + b"1" + closing * DEPTH_MAX + b"}"
    wide = b'{"usage":{},"a":[' + b"[]," * 1000 + b"{}]}"
    assert parse_object(good)
    assert parse_object(wide)
    assert orjson.dumps(parse_object(good))
    with pytest.raises(UpstreamError, match="nested too deep"):
        parse_object(bad)
    with pytest.raises(UpstreamError, match="nested too deep"):
        OpenAICodec(is_openrouter=False).stream(READING).decode(event(bad))


@given(st.binary(max_size=60))
def test_any_bytes_are_an_object_or_an_upstream_s_failure(data: bytes) -> None:
    """Nothing a provider sends raises anything else."""
    for attempt in (parse_object, OpenAICodec(is_openrouter=True).stream(READING_ALL).decode):
        with suppress(UpstreamError):
            attempt(data)


def test_a_refusal_is_read_with_what_was_asked() -> None:
    """The client's own link may be quoted in an error; headers are read too."""
    body = b'{"error":{"message":"Cannot read https://pics.example/cat.png","code":"bad_image"}}'
    failure = OpenAICodec(is_openrouter=False).read_failure(
        400, {"retry-after": "3"}, body, asked=b'{"url":"https://pics.example/cat.png"}'
    )
    assert (failure.kind, failure.code, failure.retry_after_s) == (FailureKind.BAD_REQUEST, "bad_image", 3)
    assert failure.message == "Cannot read https://pics.example/cat.png"
