"""A whole message as a chat completion."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.codecs.anthropic.reasoning import FORMAT
from proxy.codecs.wire import JsonObject
from proxy.errors import FailureKind, UpstreamError
from tests.codecs.anthropic.asking import text
from tests.codecs.anthropic.reading import CODEC, CREATED_S, reading, replied

USE = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1, "b": ["é"]}}


def message_of(reply: JsonObject) -> JsonObject:
    """Give the one choice's message."""
    (choice,) = reply["choices"]
    message: JsonObject = choice["message"]
    return message


def test_a_reply_in_its_plainest_form() -> None:
    """In the shape OpenAI's clients are strict about."""
    assert replied(text("Hello"), text(" you.")) == {
        "id": "msg_1",
        "object": "chat.completion",
        "created": CREATED_S,
        "model": "claude-x",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello you.", "refusal": None},
                "finish_reason": "stop",
                "native_finish_reason": "end_turn",
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 1,
            "total_tokens": 11,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def test_calls_thoughts_and_words() -> None:
    """Each in its place; arguments are compact JSON."""
    reply = replied(
        {"type": "thinking", "thinking": "H\n", "signature": "sig=="},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "thinking", "thinking": "m.", "signature": ""},
        text("Wait."),
        USE,
        {**USE, "id": "toolu_2", "input": {}},
        stop_reason="tool_use",
    )
    assert message_of(reply) == {
        "role": "assistant",
        "content": "Wait.",
        "refusal": None,
        "reasoning": "H\nm.",
        "reasoning_details": [
            {"type": "reasoning.text", "text": "H\n", "signature": "sig==", "format": FORMAT, "index": 0},
            {"type": "reasoning.encrypted", "data": "xyz", "format": FORMAT, "index": 1},
            {"type": "reasoning.text", "text": "m.", "format": FORMAT, "index": 2},
        ],
        "tool_calls": [
            {"id": "toolu_1", "type": "function", "function": {"name": "add", "arguments": '{"a":1,"b":["é"]}'}},
            {"id": "toolu_2", "type": "function", "function": {"name": "add", "arguments": "{}"}},
        ],
    }
    assert reply["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("content", [[], [USE], [text("")], [{"type": "server_tool_use", "input": {}}, 5, {}]])
def test_an_answer_without_words_has_no_content(content: list[Any]) -> None:
    """Null, as OpenAI's; what server tools did says nothing."""
    assert message_of(replied(*content))["content"] is None


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
        (None, "stop"),
    ],
)
def test_stop_reasons(reason: str | None, finish: str) -> None:
    """In OpenAI's words, with the vendor's own beside them."""
    (choice,) = replied(text("A"), stop_reason=reason)["choices"]
    assert (choice["finish_reason"], choice["native_finish_reason"]) == (finish, reason)


@pytest.mark.parametrize(
    ("details", "refusal"),
    [
        ({"category": "cyber", "explanation": "I cannot."}, "I cannot."),
        ({"category": "cyber", "explanation": None}, "cyber"),
        (None, None),
    ],
)
def test_a_refusal_has_words(details: Any, refusal: str | None) -> None:
    """The explanation, else its category."""
    assert message_of(replied(stop_reason="refusal", stop_details=details))["refusal"] == refusal


@pytest.mark.parametrize(("tier", "name"), [("standard", "default"), ("priority", "priority"), ("batch", None)])
def test_the_tier_that_served(tier: str, name: str | None) -> None:
    """Where OpenAI has a name for it."""
    assert replied(usage={"input_tokens": 1, "service_tier": tier}).get("service_tier") == name


def test_citations_become_annotations() -> None:
    """With the place of the text they stand behind; a document of the request has no address."""
    web = {"type": "web_search_result_location", "url": "https://a.example", "title": None, "cited_text": "Quote."}
    page = {"type": "page_location", "document_title": "a.pdf"}
    source = {"type": "search_result_location", "source": "https://b.example", "title": "B"}
    reply = replied(text("See: "), {**text("four"), "citations": [web, page]}, {**text("!"), "citations": [source, 5]})
    assert message_of(reply)["annotations"] == [
        {
            "type": "url_citation",
            "url_citation": {
                "url": "https://a.example",
                "title": "",
                "start_index": 5,
                "end_index": 9,
                "content": "Quote.",
            },
        },
        {"type": "url_citation", "url_citation": {"url": "", "title": "a.pdf", "start_index": 5, "end_index": 9}},
        {
            "type": "url_citation",
            "url_citation": {"url": "https://b.example", "title": "B", "start_index": 9, "end_index": 10},
        },
    ]


@pytest.mark.parametrize(
    ("content", "reason", "expected"),
    [
        ([USE], "tool_use", ('{"a":1,"b":["é"]}', "stop", None)),
        ([{**text("Sure:"), "citations": [{}]}, USE], "tool_use", ('{"a":1,"b":["é"]}', "stop", None)),
        ([USE], "max_tokens", ('{"a":1,"b":["é"]}', "length", None)),
        ([text("Words.")], "end_turn", ("Words.", "stop", None)),
        ([{**USE, "name": "sub"}], "tool_use", (None, "tool_calls", 1)),
        ([USE, {**USE, "name": "sub"}], "tool_use", ('{"a":1,"b":["é"]}', "tool_calls", 1)),
    ],
)
def test_a_tool_that_stands_for_the_answer(content: list[Any], reason: str, expected: tuple[Any, ...]) -> None:
    """Its input is the content; words around it would spoil it, and other calls stay calls."""
    reply = replied(*content, schema_tool="add", stop_reason=reason)
    (choice,) = reply["choices"]
    calls = choice["message"].get("tool_calls")
    assert (choice["message"]["content"], choice["finish_reason"], calls and len(calls)) == expected
    assert "annotations" not in choice["message"]


def test_a_reply_without_counts_has_no_usage() -> None:
    """It is counted here instead."""
    assert "usage" not in replied(text("A"), usage=None)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"content":"x"}', b'{"content":null}'])
def test_what_is_no_message_is_no_reply(body: bytes) -> None:
    """A page, or an object without content."""
    with pytest.raises(UpstreamError) as caught:
        CODEC.read_reply(body, reading())
    assert caught.value.failure.kind is FailureKind.INVALID_REPLY


def test_an_error_in_place_of_a_message() -> None:
    """Is told as what it is, whatever the status said."""
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with pytest.raises(UpstreamError) as caught:
        CODEC.read_reply(orjson.dumps(body), reading())
    failure = caught.value.failure
    assert (failure.kind, failure.status, failure.may_have_cost) == (FailureKind.SERVER_ERROR, 529, False)
