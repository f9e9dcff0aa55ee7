"""What comes back, whole and in streams: content, endings, errors, and figures that must add up."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest

from proxy.codecs.failures import find_fault
from proxy.codecs.intake import Batch, Intake
from proxy.codecs.wire import Call, JsonObject, Reading
from proxy.errors import FailureKind, UpstreamError
from proxy.sse import DONE_EVENT, event
from proxy.usage import Usage
from tests.codecs.accumulation import accumulate
from tests.codecs.google.calls import ASKED, CODEC, HI, READING, contents

COUNTS = {"promptTokenCount": 5, "candidatesTokenCount": 3, "totalTokenCount": 8}
PICTURE = {"inlineData": {"mimeType": "image/png", "data": "QQ=="}}
SHOWN_PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}}


def candidate(*parts: JsonObject, finish: str | None = "STOP", **more: Any) -> JsonObject:
    """Write one candidate."""
    written = {"content": {"role": "model", "parts": list(parts)}, **more}
    return {**written, "finishReason": finish} if finish else written


def reply(*candidates: JsonObject, reading: Reading = READING, **more: Any) -> JsonObject:
    """Read a whole reply."""
    sent = {"candidates": list(candidates), "modelVersion": "gemini-x", "responseId": "r1", **more}
    return CODEC.read_reply(orjson.dumps(sent), reading)


def message(*parts: JsonObject, **more: Any) -> JsonObject:
    """Give the message that parts become."""
    (choice,) = reply(candidate(*parts, **more))["choices"]
    found = choice["message"]
    assert isinstance(found, dict)
    return found


def stream(*events: Any, choices: int = 1) -> tuple[list[JsonObject], Batch, Usage | None]:
    """Read a stream of these JSON events: its chunks, its end and the usage."""
    intake = Intake(CODEC, READING, choices=choices)
    frames, batch = [], Batch([])
    for one in events:
        batch = intake.feed(event(one if isinstance(one, bytes) else orjson.dumps(one)))
        frames += batch.frames
        if batch.failure is not None:
            return [json.loads(frame.raw[6:]) for frame in frames], batch, intake.usage
    batch = intake.end()
    frames += [frame for frame in batch.frames if not frame.is_done]
    return [json.loads(frame.raw[6:]) for frame in frames], batch, intake.usage


def test_a_plain_reply() -> None:
    """Every field OpenAI's clients read, the native reason beside the translated one."""
    assert reply(candidate({"text": "Hel"}, {"text": "lo"}), usageMetadata=COUNTS) == {
        "id": "r1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gemini-x",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "finish_reason": "stop",
                "native_finish_reason": "STOP",
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 3,
            "total_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0, "cached_audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
        },
    }


def test_a_reply_that_names_neither_itself_nor_its_model() -> None:
    """The id is made of the request, the model is the one asked; usage that was not sent is not made up."""
    read = CODEC.read_reply(orjson.dumps({"candidates": [candidate({"text": "x"})]}), READING)
    other = Reading(Call(ASKED.path, b"{}", is_stream=False))
    assert read["model"] == "asked/model"
    assert read["id"].startswith("chatcmpl-")
    assert read["id"] == CODEC.read_reply(b"{}", READING)["id"] != CODEC.read_reply(b"{}", other)["id"]
    assert "usage" not in read
    assert CODEC.read_usage(read) is None
    assert CODEC.read_reply(b"{}", READING)["choices"] == []


def test_thoughts_calls_and_signatures() -> None:
    """Thoughts are reasoning; calls are whole, with an id each; a signature knows what it belongs to."""
    found = message(
        {"text": "why", "thought": True},
        {"text": " so", "thought": True, "thoughtSignature": "AA=="},
        {"text": "t", "thoughtSignature": "BB=="},
        {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "CC=="},
        {"functionCall": {"name": "g", "id": "own"}},
        {"functionCall": {"name": "h", "id": "own"}},
        {"text": "more", "thought": True},
        {"thought": True},
        {"x_new": 1},
    )
    first, own, third = (call["id"] for call in found["tool_calls"])
    assert (first[:5], own, third[:5]) == ("call_", "own", "call_")
    assert len({first, own, third}) == 3
    assert found == {
        "role": "assistant",
        "content": "t",
        "refusal": None,
        "reasoning": "why somore",
        "reasoning_details": [
            {
                "type": "reasoning.text",
                "text": "why so",
                "signature": "AA==",
                "id": None,
                "format": "google-gemini-v1",
                "index": 0,
            },
            {"type": "reasoning.encrypted", "data": "BB==", "id": None, "format": "google-gemini-v1", "index": 1},
            {"type": "reasoning.encrypted", "data": "CC==", "id": first, "format": "google-gemini-v1", "index": 2},
            {"type": "reasoning.text", "text": "more", "id": None, "format": "google-gemini-v1", "index": 3},
        ],
        "tool_calls": [
            {
                "id": first,
                "type": "function",
                "function": {"name": "f", "arguments": '{"a":1}'},
                "extra_content": {"google": {"thought_signature": "CC=="}},
            },
            {"id": "own", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            {"id": third, "type": "function", "function": {"name": "h", "arguments": "{}"}},
        ],
    }


def test_calls_alone_leave_the_content_empty() -> None:
    """Null beside calls, as OpenAI has it; an empty text where there is nothing at all."""
    assert message({"functionCall": {"name": "f"}})["content"] is None
    assert message(finish="SAFETY") == {"role": "assistant", "content": "", "refusal": None}


def test_pictures_and_speech() -> None:
    """Pictures are data URLs with their signature by number; speech is audio; what else there may be is left out."""
    sound = {"inlineData": {"mimeType": "audio/L16;rate=24000", "data": "QUJD"}}
    found = message(PICTURE, {**PICTURE, "thoughtSignature": "AA=="}, sound, sound, {"inlineData": {"mimeType": "x/y"}})
    assert found["images"] == [{**SHOWN_PICTURE, "index": 0}, {**SHOWN_PICTURE, "index": 1}]
    assert [(detail["data"], detail["id"]) for detail in found["reasoning_details"]] == [("AA==", "image_1")]
    assert found["audio"]["data"] == "QUJDQUJD"


def test_steps_of_server_tools_are_kept_for_the_way_back() -> None:
    """They are nobody's to call, so they stand in the details, in order."""
    code = {"executableCode": {"code": "1", "language": "PYTHON", "id": "x"}, "thoughtSignature": "AA=="}
    result = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}
    details = message(code, result, {"text": "t"})["reasoning_details"]
    assert [(detail["type"], detail["id"]) for detail in details] == [
        ("reasoning.server_tool_call", "server_0"),
        ("reasoning.encrypted", "server_0"),
        ("reasoning.server_tool_call", "server_1"),
    ]
    assert (details[0]["tool_name"], details[0]["tool_call_id"]) == ("executableCode", "x")
    assert json.loads(details[2]["result"]) == result["codeExecutionResult"]


def test_pages_that_a_search_found() -> None:
    """Each once, by address."""
    page, other = {"web": {"uri": "https://x.test", "title": "X"}}, {"web": {"uri": "https://y.test"}}
    noted = message({"text": "t"}, groundingMetadata={"groundingChunks": [page, page, {"web": {}}, {}, other]})[
        "annotations"
    ]
    cited = {"url": "https://x.test", "title": "X", "start_index": 0, "end_index": 0}
    assert noted[0] == {"index": 0, "type": "url_citation", "url_citation": cited}
    assert [(note["index"], note["url_citation"]["url"]) for note in noted] == [
        (0, "https://x.test"),
        (1, "https://y.test"),
    ]


def test_odds_of_tokens() -> None:
    """The chosen ones and their rivals, as far as those were sent."""
    result = {
        "chosenCandidates": [{"token": "é", "logProbability": -0.5}, {"token": "b", "logProbability": -1}],
        "topCandidates": [{"candidates": [{"token": "é", "logProbability": -0.5}]}],
    }
    (choice,) = reply(candidate({"text": "éb"}, logprobsResult=result))["choices"]
    first = {"token": "é", "logprob": -0.5, "bytes": [195, 169]}
    assert choice["logprobs"] == {
        "content": [
            {**first, "top_logprobs": [first]},
            {"token": "b", "logprob": -1, "bytes": [98], "top_logprobs": []},
        ],
        "refusal": None,
    }


# openrouter.md 8.5, reason by reason.
ENDINGS = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(
        [
            "SAFETY",
            "RECITATION",
            "LANGUAGE",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_OTHER",
            "IMAGE_RECITATION",
            "MODEL_ARMOR",
            "OTHER",
            "X_NEW",
        ],
        "content_filter",
    ),
    **dict.fromkeys(
        [
            "MALFORMED_FUNCTION_CALL",
            "UNEXPECTED_TOOL_CALL",
            "TOO_MANY_TOOL_CALLS",
            "MISSING_THOUGHT_SIGNATURE",
            "MALFORMED_RESPONSE",
        ],
        "error",
    ),
}


@pytest.mark.parametrize(("native", "expected"), ENDINGS.items())
def test_every_ending(native: str, expected: str) -> None:
    """OpenAI's word for it, Google's beside it; an error is a failure, in a reply and in a stream, its usage kept."""
    ended = candidate({"text": "x"}, finish=native, finishMessage="said why")
    whole = reply(ended, usageMetadata=COUNTS)
    (choice,) = whole["choices"]
    assert (choice["finish_reason"], choice["native_finish_reason"]) == (expected, native)
    _, batch, usage = stream({"candidates": [ended], "usageMetadata": COUNTS})
    assert (CODEC.read_usage(whole), usage) == (Usage(5, 3), Usage(5, 3))
    for failure in (find_fault(whole), batch.failure):
        assert (failure is not None) is (expected == "error")
        if failure is not None:
            assert (failure.kind, failure.code) == (FailureKind.INVALID_REPLY, native)
            assert failure.message == f"The model broke off its answer with {native}: said why"


@pytest.mark.parametrize("native", ["OTHER", "NO_IMAGE", "FINISH_REASON_UNSPECIFIED"])
def test_an_unknown_ending_with_nothing_before_it_is_an_error(native: str) -> None:
    """There is nothing to show, so another target is tried."""
    failure = find_fault(reply(candidate(finish=native)))
    assert failure is not None
    assert failure.message == f"The model broke off its answer with {native}."


def test_a_reply_with_calls_stops_for_them() -> None:
    """STOP after a call is tool_calls; a limit stays a limit."""
    call = {"functionCall": {"name": "f"}}
    assert reply(candidate(call))["choices"][0]["finish_reason"] == "tool_calls"
    assert reply(candidate(call, finish="MAX_TOKENS"))["choices"][0]["finish_reason"] == "length"
    assert reply(candidate({"text": "x"}, finish=None))["choices"][0]["finish_reason"] is None


def test_a_blocked_prompt_is_an_empty_filtered_answer() -> None:
    """In a reply and in a stream, asked for one answer or for two; the prompt's tokens are still reported."""
    blocked = {
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5},
    }
    whole = CODEC.read_reply(orjson.dumps(blocked), READING)
    (choice,) = whole["choices"]
    assert (choice["finish_reason"], choice["native_finish_reason"]) == ("content_filter", "SAFETY")
    assert choice["message"]["content"] == ""
    assert CODEC.read_usage(whole) == Usage(5)
    for choices in (1, 2):
        chunks, batch, usage = stream(blocked, choices=choices)
        assert batch.is_end
        assert chunks[0]["choices"][0]["finish_reason"] == "content_filter"
        assert usage == Usage(5)
    feedback: JsonObject = {"promptFeedback": {"blockReason": "SAFETY"}}
    assert reply(candidate({"text": "x"}), **feedback)["choices"][0]["finish_reason"] == "stop"


def test_several_candidates_are_several_choices() -> None:
    """By their own index, or by their place."""
    two = reply(candidate({"text": "a"}, index=1), candidate({"text": "b"}, index=0))["choices"]
    assert [(choice["index"], choice["message"]["content"]) for choice in two] == [(1, "a"), (0, "b")]
    two = reply(candidate({"text": "a"}), candidate({"text": "b"}))["choices"]
    assert [choice["index"] for choice in two] == [0, 1]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[1]", "The provider's answer is not JSON."),
        (b"x", "The provider's answer is not JSON."),
        (b'{"error":"busy"}', "busy"),
        (b'{"error":{"message":"busy","code":"x"}}', "busy"),
        (b'{"error":{"message":"busy","code":true,"status":"NEW"}}', "busy"),
        (b'{"error":{"message":"busy","code":200}}', "busy"),
    ],
)
def test_what_is_no_answer_is_a_failure(body: bytes, message: str) -> None:
    """Whole or in a stream."""
    with pytest.raises(UpstreamError) as failed:
        CODEC.read_reply(body, READING)
    assert (failed.value.failure.kind, failed.value.failure.message) == (FailureKind.INVALID_REPLY, message)
    chunks, batch, _ = stream({"candidates": [candidate({"text": "a"}, finish=None)]}, body)
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [{"role": "assistant", "content": "a"}]
    assert batch.failure is not None
    assert (batch.failure.kind, batch.failure.message) == (FailureKind.INVALID_REPLY, message)


BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
WAIT = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}
LONG = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."


@pytest.mark.parametrize(
    ("error", "kind", "status", "wait_s"),
    [
        ({"status": "RESOURCE_EXHAUSTED", "code": 429, "details": [WAIT]}, FailureKind.RATE_LIMITED, 429, 7),
        ({"status": "RESOURCE_EXHAUSTED"}, FailureKind.RATE_LIMITED, 429, None),
        ({"status": "INVALID_ARGUMENT", "message": LONG}, FailureKind.CONTEXT_LENGTH, 400, None),
        ({"status": "INVALID_ARGUMENT", "message": "x"}, FailureKind.BAD_REQUEST, 400, None),
        ({"status": "INVALID_ARGUMENT", "details": [BAD_KEY]}, FailureKind.CREDENTIALS, 400, None),
        ({"status": "PERMISSION_DENIED", "code": 403}, FailureKind.CREDENTIALS, 403, None),
        ({"status": "UNAVAILABLE", "code": 503}, FailureKind.SERVER_ERROR, 503, None),
        ({"status": "DEADLINE_EXCEEDED"}, FailureKind.TIMEOUT, 504, None),
        ({"status": "NEW", "code": 429}, FailureKind.RATE_LIMITED, 429, None),
        ({"code": 404}, FailureKind.NOT_FOUND, 404, None),
    ],
)
def test_an_error_in_place_of_an_answer_is_what_its_status_says(
    error: JsonObject, kind: FailureKind, status: int, wait_s: float | None
) -> None:
    """In a whole reply, as a stream's first event and after words, which alone may have cost something."""
    body = orjson.dumps({"error": error})
    with pytest.raises(UpstreamError) as failed:
        CODEC.read_reply(body, READING)
    begun: JsonObject = {"candidates": [candidate({"text": "a"}, finish=None)]}
    first, later = stream(body)[1].failure, stream(begun, body)[1].failure
    for failure, may_have_cost in ((failed.value.failure, False), (first, False), (later, True)):
        assert failure is not None
        assert (failure.kind, failure.status, failure.retry_after_s) == (kind, status, wait_s)
        assert failure.may_have_cost is may_have_cost


def test_a_stream_in_openai_s_shape() -> None:
    """The role once, deltas as they come, the finish reason, then the last usage; events without content are silent."""
    chunks, batch, usage = stream(
        {"candidates": [candidate({"text": "a"}, finish=None)], "usageMetadata": {"promptTokenCount": 9}},
        {"usageMetadata": {"promptTokenCount": 7}},
        {"candidates": [candidate({"text": ""}, finish=None)]},
        {"candidates": [candidate({"functionCall": {"name": "f"}}, finish=None)]},
        {"candidates": [candidate({"functionCall": {"name": "g"}}, finish=None)]},
        {"candidates": [{"finishReason": "STOP"}], "usageMetadata": COUNTS},
    )
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert deltas[0] == {"role": "assistant", "content": "a"}
    assert [call["index"] for delta in deltas[1:3] for call in delta["tool_calls"]] == [0, 1]
    assert deltas[3] == {}
    assert [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]] == [
        None,
        None,
        None,
        "tool_calls",
    ]
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["prompt_tokens"], len(chunks)) == ([], 5, 5)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert usage == Usage(5, 3)
    assert batch.is_end
    assert batch.frames[-1].raw == DONE_EVENT


def test_only_chunks_that_matter_are_given_as_json() -> None:
    """The finish reason and the usage, unless the reader wants all; the bytes are the same."""
    events = [
        {"candidates": [candidate({"text": "a"}, finish=None)], "usageMetadata": {"promptTokenCount": 9}},
        {"candidates": [candidate({"text": "b"}, finish=None)]},
        {"candidates": [candidate({"text": "c"})], "usageMetadata": COUNTS},
    ]
    body = b"".join(event(orjson.dumps(one)) for one in events)
    every = Intake(CODEC, READING, choices=1)
    few = Intake(CODEC, replace(READING, parse_all=False), choices=1)
    wanted, batch = ([*intake.feed(body).frames, *intake.end().frames] for intake in (every, few))
    assert [frame.raw for frame in batch] == [frame.raw for frame in wanted]
    assert [frame.chunk for frame in batch if frame.chunk] == [frame.chunk for frame in wanted[-3:-1]]


def test_thoughts_of_a_stream_are_one_detail_until_something_else_comes() -> None:
    """By their index, which is how clients put them together."""
    chunks, _, _ = stream(
        {"candidates": [candidate({"text": "a", "thought": True}, finish=None)]},
        {"candidates": [candidate({"text": "b", "thought": True}, finish=None)]},
        {"candidates": [candidate({"text": "", "thought": True, "thoughtSignature": "AA=="}, finish=None)]},
        {"candidates": [candidate({"text": "c", "thought": True}, finish=None)]},
        {"candidates": [candidate({"text": "t", "thoughtSignature": "BB=="})]},
    )
    details = [detail for chunk in chunks for detail in chunk["choices"][0]["delta"].get("reasoning_details", [])]
    assert [(detail["index"], detail.get("text")) for detail in details] == [
        (0, "a"),
        (0, "b"),
        (0, ""),
        (1, "c"),
        (2, None),
    ]
    assert details[2]["signature"] == "AA=="


def test_comments_pass_and_a_stream_without_usage_ends_without() -> None:
    """A comment is relayed as it is; `usage` is unknown, not nothing."""
    decoder = CODEC.stream(READING)
    assert [frame.raw for frame in decoder.decode(b": wait\n\n")] == [b": wait\n\n"]
    assert decoder.usage is None
    chunks, batch, usage = stream({"candidates": [candidate({"text": "a"})]})
    assert (len(chunks), batch.is_end, usage) == (1, True, None)


@pytest.mark.parametrize("choices", [1, 2])
def test_a_stream_without_a_finish_reason_is_broken(choices: int) -> None:
    """Its usage is known all the same; one of two answers left open is as bad."""
    second = candidate({"text": "b"}, index=1, finish=None)
    first = candidate({"text": "a"}, index=0, finish="STOP" if choices == 2 else None)
    events = [{"candidates": [first, second][:choices], "usageMetadata": COUNTS}]
    _, batch, usage = stream(*events, choices=choices)
    assert batch.failure is not None
    assert batch.failure.kind is FailureKind.BROKEN_STREAM
    assert usage == Usage(5, 3)


def test_fewer_answers_than_asked_for_are_whole_when_the_stream_says_so() -> None:
    """Google may leave one out."""
    assert stream({"candidates": [candidate({"text": "a"}, index=0)]}, choices=2)[1].is_end


def test_an_answer_that_openai_s_sdk_put_together_goes_back_unharmed() -> None:
    """It joins every text but `type`; Gemini gets its signatures where they stood, byte for byte."""
    spoken = {"inlineData": {"mimeType": "audio/L16", "data": "QUJD"}}
    chunks, _, _ = stream(
        {"candidates": [candidate({"text": "a", "thought": True}, finish=None)]},
        {"candidates": [candidate({"text": "b", "thought": True}, finish=None)]},
        {"candidates": [candidate({"text": "", "thought": True, "thoughtSignature": "AA=="}, finish=None)]},
        {"candidates": [candidate({"text": "c", "thought": True}, finish=None)]},
        {"candidates": [candidate({"functionCall": {"name": "f"}, "thoughtSignature": "BB=="}, finish=None)]},
        {"candidates": [candidate(spoken, finish=None)]},
        {"candidates": [candidate(spoken)]},
    )
    message = accumulate(choice["delta"] for chunk in chunks for choice in chunk["choices"])
    assert [detail["format"] for detail in message["reasoning_details"]] == ["google-gemini-v1"] * 3
    assert message["audio"] == {
        "id": chunks[5]["choices"][0]["delta"]["audio"]["id"],
        "data": "QUJD" * 2,
        "transcript": "",
    }
    del message["audio"]
    identifier = message["tool_calls"][0]["id"]
    assert contents(HI, message, {"role": "tool", "tool_call_id": identifier, "content": "1"})[1]["parts"] == [
        {"text": "ab", "thought": True, "thoughtSignature": "AA=="},
        {"functionCall": {"name": "f", "args": {}, "id": identifier}, "thoughtSignature": "BB=="},
    ]


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ([{"format": "google-gemini-v1" * 3, "text": "ab", "signature": "AA=="}], ["ab"]),
        ([{"format": "google-gemini-v1", "text": "a"}, {"text": "b", "signature": "AA=="}], ["ab"]),
        ([{"format": "google-gemini-v1", "text": "a"}, {"text": "b", "signature": "AA==", "index": 1}], []),
        ([{"format": "x", "text": "a"}, {"text": "b", "signature": "AA=="}], []),
        ([{"text": "b", "signature": "AA=="}], []),
        ([{"format": "google-gemini-v1x", "text": "a", "signature": "AA=="}], []),
    ],
)
def test_thoughts_sent_back_in_pieces(details: list[JsonObject], expected: list[str]) -> None:
    """A piece without a format goes on from the thought before it; a format said over and over is one."""
    pieces = [{"type": "reasoning.text", "index": 0, **detail} for detail in details]
    turn = contents(HI, {"role": "assistant", "content": "x", "reasoning_details": pieces})[1]
    assert [part["text"] for part in turn["parts"] if part.get("thought")] == expected
