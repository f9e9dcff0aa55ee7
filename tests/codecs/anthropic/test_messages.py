"""Messages become a system prompt and turns: who speaks when, tool calls and their results, thinking sent back."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.codecs.anthropic.reasoning import FORMAT
from proxy.codecs.wire import Abilities, JsonObject, Thinking
from proxy.errors import ClientError
from tests.codecs.anthropic.asking import USER, answered, called, encode, function, text, turns, written

MARK = {"type": "ephemeral", "ttl": "1h"}


def thought(words: str | None, signature: str | None = None, *, index: int = 0, **more: Any) -> JsonObject:
    """Make a detail of Claude's thinking, or a piece of one."""
    pieces = {"text": words, "signature": signature}
    said = {name: piece for name, piece in pieces.items() if piece is not None}
    return {"type": "reasoning.text", "format": FORMAT, "index": index, **said, **more}


def more(words: str | None, signature: str | None = None, *, index: int = 0) -> JsonObject:
    """Make a piece that goes on from the one before it."""
    return {name: value for name, value in thought(words, signature, index=index).items() if name != "format"}


def sealed(data: str, **more: Any) -> JsonObject:
    """Make a detail nobody but Anthropic can read."""
    return {"type": "reasoning.encrypted", "format": FORMAT, "index": 0, "data": data, **more}


def thinking(words: str, signature: str) -> JsonObject:
    """Make a thinking block."""
    return {"type": "thinking", "thinking": words, "signature": signature}


def test_system_messages_are_gathered_in_front() -> None:
    """Developer messages too, wherever they stood, with their cache breakpoints; empty ones are left out."""
    marked = {"type": "text", "text": "Long.", "cache_control": MARK}
    body = written(
        {"role": "system", "content": "Be brief."},
        USER,
        {"role": "developer", "content": [marked, {"type": "text", "text": " \n"}]},
        {"role": "system", "content": ""},
        {"role": "system", "content": "Last.", "cache_control": MARK},
    )
    assert body["system"] == [text("Be brief."), marked, {**text("Last."), "cache_control": MARK}]
    assert body["messages"] == [{"role": "user", "content": [text("Hi")]}]


def test_a_chat_without_a_system_prompt_has_none() -> None:
    """An empty one would be refused."""
    assert "system" not in written({"role": "system", "content": " "}, USER)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([USER, {"role": "user", "content": "There?"}], [("user", [text("Hi"), text("There?")])]),
        (
            [USER, {"role": "assistant", "content": "A"}, {"role": "assistant", "content": "B"}, USER],
            [("user", [text("Hi")]), ("assistant", [text("A"), text("B")]), ("user", [text("Hi")])],
        ),
        (
            [{"role": "assistant", "content": "Welcome."}, USER],
            [("user", [text(".")]), ("assistant", [text("Welcome.")]), ("user", [text("Hi")])],
        ),
        ([{"role": "user", "content": ""}], [("user", [text(".")])]),
        ([{"role": "user", "content": None}], [("user", [text(".")])]),
        ([], [("user", [text(".")])]),
        ([{"role": "system", "content": "x"}], [("user", [text(".")])]),
        (
            [USER, {"role": "assistant", "content": ""}, {"role": "user", "content": [text(" "), text("B")]}],
            [("user", [text("Hi"), text("B")])],
        ),
        (
            [USER, {"role": "assistant", "content": None, "refusal": "No."}, USER],
            [("user", [text("Hi")]), ("assistant", [text("No.")]), ("user", [text("Hi")])],
        ),
        (
            [USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, USER],
            [("user", [text("Hi")]), ("assistant", [text("No.")]), ("user", [text("Hi")])],
        ),
        ([{**USER, "name": "ann"}], [("user", [text("ann: Hi")])]),
        ([{**USER, "name": " "}], [("user", [text("Hi")])]),
        ([{**USER, "name": "ann", "content": ""}], [("user", [text(".")])]),
        ([{**USER, "cache_control": MARK}], [("user", [{**text("Hi"), "cache_control": MARK}])]),
        (
            [{**USER, "content": [{**text("Hi"), "cache_control": MARK}]}],
            [("user", [{**text("Hi"), "cache_control": MARK}])],
        ),
        ([{**USER, "content": [{**text("Hi"), "cache_control": 5}]}], [("user", [text("Hi")])]),
    ],
)
def test_roles_take_turns_and_the_user_begins(messages: list[JsonObject], expected: list[tuple[str, Any]]) -> None:
    """Neighbours of one role are one turn; nothing that is sent is empty."""
    assert turns(messages=messages) == expected


@pytest.mark.parametrize(
    ("said", "kept"),
    [("{", "{"), ("So, \n\t", "So,"), ([text("A "), text("B \n")], None)],
)
def test_the_assistant_s_last_words_are_gone_on_from(said: Any, kept: str | None) -> None:
    """A prefill, without the white space at its end that Anthropic refuses."""
    _, (role, content) = turns(USER, {"role": "assistant", "content": said})
    assert (role, content) == ("assistant", [text(kept)] if kept else [text("A "), text("B")])


def test_a_model_that_takes_no_prefill_is_given_none() -> None:
    """It is left out, and the client is told."""
    call = encode(USER, {"role": "assistant", "content": "{"}, abilities=Abilities(prefill=False))
    assert call.dropped == ("prefill",)
    assert turns(USER, {"role": "assistant", "content": "{"}, abilities=Abilities(prefill=False)) == [
        ("user", [text("Hi")])
    ]
    assert turns({"role": "assistant", "content": "{"}, abilities=Abilities(prefill=False)) == [("user", [text(".")])]
    assert encode(USER, abilities=Abilities(prefill=False)).dropped == ()


def test_results_stand_in_one_turn_before_any_text() -> None:
    """In the order they came, whatever the user said in between; system messages do not part them."""
    assert turns(
        USER,
        called("a", "b"),
        answered("b", "B"),
        {"role": "user", "content": "Well?"},
        {"role": "system", "content": "Hurry."},
        answered("a", "A"),
    )[1:] == [
        (
            "assistant",
            [
                {"type": "tool_use", "id": "a", "name": "add", "input": {"a": 1}},
                {"type": "tool_use", "id": "b", "name": "add", "input": {"a": 1}},
            ],
        ),
        (
            "user",
            [
                {"type": "tool_result", "tool_use_id": "b", "content": [text("B")]},
                {"type": "tool_result", "tool_use_id": "a", "content": [text("A")]},
                text("Well?"),
            ],
        ),
    ]


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ('{"a": 1, "b": [null]}', {"a": 1, "b": [None]}),
        ("", {}),
        (" \n", {}),
        (None, {}),
        ({"a": 1}, {"a": 1}),
        ('{"a": 1', {"arguments": '{"a": 1'}),
        ("5", {"arguments": "5"}),
        ("[1]", {"arguments": "[1]"}),
        ('{"a":' * 100 + "1" + "}" * 100, {"arguments": '{"a":' * 100 + "1" + "}" * 100}),
    ],
)
def test_arguments_become_an_input(arguments: Any, given: JsonObject) -> None:
    """Nothing is an empty object; what a model wrote badly is kept as text, because history cannot be mended."""
    content = turns(USER, called("a", arguments=arguments), answered("a"))[1][1]
    assert content[0]["input"] == given


def test_ids_are_made_fit_for_both_a_call_and_its_result() -> None:
    """Characters Anthropic refuses are replaced, and ids that vendors use again in every turn are told apart."""
    sent = turns(
        USER,
        called("call:1", "call/1", ""),
        answered("call/1", "B"),
        answered("call:1", "A"),
        answered("", "C"),
        called("call:1", "call:1"),
        answered("call:1", "D"),
        answered("call:1", "E"),
    )
    ids = [[block.get("id") or block.get("tool_use_id") for block in content] for _, content in sent[1:]]
    assert ids == [
        ["call_1", "call_1_1", "call"],
        ["call_1_1", "call_1", "call"],
        ["call_1_3", "call_1_4"],
        ["call_1_3", "call_1_4"],
    ]


def test_a_result_may_have_parts_fail_or_be_empty() -> None:
    """Pictures too; an empty one has no content, which Anthropic allows, and no empty text, which it does not."""
    picture = {"type": "image_url", "image_url": {"url": "https://pics.example/a.png"}}
    content = turns(
        USER,
        called("a", "b", "c"),
        answered("a", [text("See:"), picture], cache_control=MARK, name="add"),
        answered("b", "", is_error=False),
        answered("c", "boom", is_error=True),
    )[2][1]
    assert content == [
        {
            "type": "tool_result",
            "tool_use_id": "a",
            "content": [
                text("See:"),
                {"type": "image", "source": {"type": "url", "url": "https://pics.example/a.png"}},
            ],
            "cache_control": MARK,
        },
        {"type": "tool_result", "tool_use_id": "b"},
        {"type": "tool_result", "tool_use_id": "c", "content": [text("boom")], "is_error": True},
    ]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([called("a")], "messages"),
        ([called("a"), USER, {"role": "assistant", "content": "x"}], "messages"),
        ([called("a", "b"), answered("a")], "messages"),
        ([answered("a")], "messages[1].tool_call_id"),
        ([called("a"), answered("b")], "messages[2].tool_call_id"),
        ([called("a"), answered("a"), answered("a")], "messages[3].tool_call_id"),
        (
            [called("a"), answered("a"), USER, {"role": "assistant", "content": "x"}, answered("a")],
            "messages[5].tool_call_id",
        ),
        ([called("a", arguments=5)], "messages[1].tool_calls[0].function.arguments"),
        ([called("a", name="")], "messages[1].tool_calls[0]"),
        ([{"role": "assistant", "tool_calls": [5]}], "messages[1].tool_calls[0]"),
        ([{"role": "assistant", "tool_calls": {"id": "a"}}], "messages[1].tool_calls"),
        ([{"role": "assistant", "function_call": {"name": "a"}}], "messages[1]"),
        ([{"role": "function", "name": "a", "content": "x"}], "messages[1].role"),
        ([{"role": "user", "content": 5}], "messages[1].content"),
        ([5], "messages[1].role"),
    ],
)
def test_what_has_no_place_in_a_chat_is_refused(messages: list[Any], param: str) -> None:
    """With its place in the request: the provider's own words would be about one the client never wrote."""
    with pytest.raises(ClientError) as caught:
        encode(USER, *messages)
    assert caught.value.param == param


@pytest.mark.parametrize("messages", [None, "Hi", {}])
def test_a_request_without_messages_is_refused(messages: Any) -> None:
    """There is nothing to send."""
    with pytest.raises(ClientError) as caught:
        encode(messages=messages)
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    ("details", "blocks"),
    [
        ([thought("Hm. \n", "sig==")], [thinking("Hm. \n", "sig==")]),
        ([thought("H"), thought("m."), thought(None, "sig")], [thinking("Hm.", "sig")]),
        ([thought("H"), thought("m.", "sig")], [thinking("Hm.", "sig")]),
        ([thought("H"), more("m."), more(None, "sig")], [thinking("Hm.", "sig")]),
        ([thought("Hm.", "sig", format=FORMAT * 3)], [thinking("Hm.", "sig")]),
        ([thought("H", "s", format=FORMAT + "x")], []),
        ([more("H", "s")], []),
        ([thought("A", "s"), more("B", "t", index=1), more("C", "u")], [thinking("A", "s")]),
        ([thought("A", "s"), thought("B", format="x"), more("C", "u")], [thinking("A", "s")]),
        ([thought("", "s")], [thinking("", "s")]),
        ([thought(None, "s")], [thinking("", "s")]),
        ([thought("A", "s"), thought("B", "t")], [thinking("A", "s"), thinking("B", "t")]),
        ([thought("A", "s"), thought("B", "t", index=1)], [thinking("A", "s"), thinking("B", "t")]),
        ([thought("A"), thought("B", "t", index=1)], [thinking("B", "t")]),
        ([thought("A", "s"), thought(None, "t")], [thinking("A", "t")]),
        (
            [sealed("x"), thought("A", "s", index=1), sealed("y", index=2)],
            [
                {"type": "redacted_thinking", "data": "x"},
                thinking("A", "s"),
                {"type": "redacted_thinking", "data": "y"},
            ],
        ),
        ([sealed("")], []),
        ([thought("A")], []),
        ([thought("A", "s", format="google-gemini-v1"), sealed("x", format=None)], []),
        ([{"type": "reasoning.summary", "format": FORMAT, "summary": "x", "signature": "s"}], []),
        ([thought("A", "s"), {"type": "reasoning.summary", "format": FORMAT}, 5], [thinking("A", "s")]),
        ("x", []),
        (None, []),
    ],
)
def test_thinking_goes_back_unharmed(details: Any, blocks: list[JsonObject]) -> None:
    """In front, in order, byte for byte, whole or in the pieces it was streamed in; other vendors' is left out."""
    message = {**called("a"), "content": "Wait.", "reasoning": "Hm.", "reasoning_details": details}
    content = turns(USER, message, answered("a"), tools=[function()])[1][1]
    assert content[:-2] == blocks
    assert content[-2] == text("Wait.")


def test_a_model_that_cannot_think_is_given_no_thinking() -> None:
    """It would not know what it is."""
    message = {"role": "assistant", "content": "A", "reasoning_details": [thought("Hm.", "s")]}
    abilities = Abilities(thinking=Thinking.NONE)
    assert turns(USER, message, USER, abilities=abilities)[1] == ("assistant", [text("A")])


def test_thinking_alone_is_nothing_to_go_on_from() -> None:
    """A turn that broke off before its first word is left out at the end."""
    message = {"role": "assistant", "content": None, "reasoning_details": [thought("Hm.", "s")]}
    assert turns(USER, message) == [("user", [text("Hi")])]
    assert turns(USER, {"role": "assistant", "content": "A"}, message)[1] == ("assistant", [text("A")])
