"""What the simulated model says: the same for the same request, no longer than allowed, in the shape asked for."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.simulated.answers import compose
from proxy.simulated.asks import AskError, read_ask
from tests.simulated.conftest import HELLO

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]}},
            "required": ["city", "unit"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}
ABOUT_TIME = [{"role": "user", "content": "Use get_time, please"}]
TOOL_ANSWERED = [*HELLO, {"role": "assistant", "content": None}, {"role": "tool", "content": "12"}]


def choices_of(*, seed: int = 0, length: int = 30, **fields: Any) -> Any:
    """Compose an answer for a request body."""
    body = {"model": "any", "messages": HELLO, **fields}
    return compose(read_ask(orjson.dumps(body)), seed=seed, length_tokens=length)


def text_for(**fields: Any) -> str:
    """Give the text of the only choice."""
    (choice,) = choices_of(**fields)
    text: str = choice.text
    return text


def test_the_same_request_gets_the_same_text() -> None:
    """Other fields change nothing; the seed, the model id and the messages do."""
    assert text_for() == text_for(temperature=2, user="someone")
    assert len({text_for(), text_for(seed=1), text_for(model="other"), text_for(messages=ABOUT_TIME)}) == 4


@given(length=st.integers(1, 300), cap=st.none() | st.integers(1, 300))
def test_prose_has_the_wanted_length_and_never_more_than_the_cap(length: int, cap: int | None) -> None:
    """One piece a token; a text within the cap is whole sentences."""
    (choice,) = choices_of(length=length, max_tokens=cap)
    assert choice.output_tokens == min(length, cap or length)
    assert choice.finish_reason == ("stop" if cap is None or cap >= length else "length")
    if choice.finish_reason == "stop" and length > 1:
        assert choice.text.endswith(".")
        assert ". ." not in choice.text
        assert ".." not in choice.text


def test_the_smaller_of_both_caps_counts() -> None:
    """`max_completion_tokens` and its old name hold at once."""
    (choice,) = choices_of(max_tokens=9, max_completion_tokens=4)
    assert choice.output_tokens == 4


@given(st.text())
def test_echo_gives_the_last_user_message_back_exactly(text: str) -> None:
    """Whatever is in it, in pieces that join to it."""
    if any("\ud800" <= char <= "\udfff" for char in text):
        return
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": "no"}]
    assert text_for(model="echo", messages=messages) == text


def test_echo_joins_the_text_parts_and_keeps_the_cap() -> None:
    """Parts that are no text are left out."""
    parts = [
        {"type": "text", "text": "one two "},
        {"type": "image_url", "image_url": {}},
        {"type": "text", "text": "three"},
    ]
    messages = [{"role": "user", "content": parts}, {"role": "user", "content": None}]
    assert text_for(model="echo", messages=messages[:1]) == "one two three"
    assert text_for(model="echo", messages=messages) == ""
    assert text_for(model="echo", messages=[{"role": "system", "content": "x"}]) == ""
    (choice,) = choices_of(model="echo", messages=messages[:1], max_tokens=2)
    assert (choice.text, choice.finish_reason) == ("one two", "length")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model": "json"}, {"answer": "yes"}),
        ({"response_format": {"type": "json_object"}}, {"answer": "yes"}),
        ({"model": "json", "prompt": "score=72"}, {"score": 72}),
        ({"model": "json", "prompt": "score = 7 and then score=-8.5"}, {"score": -8.5}),
        ({"model": "json", "prompt": "score=007"}, {"score": 7}),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, {"answer": "yes"}),
    ],
)
def test_json_is_given_as_asked(fields: dict[str, Any], expected: object) -> None:
    """Any model honours a response format; `json` needs none; the last score of the prompt counts."""
    prompt = fields.pop("prompt", "Hello")
    assert orjson.loads(text_for(messages=[{"role": "user", "content": prompt}], **fields)) == expected


def test_json_fits_the_schema_and_a_score_goes_where_it_fits() -> None:
    """A schema without a score keeps its shape."""
    properties = {"score": {"type": "integer", "minimum": 0}, "why": {"type": "string"}}
    for names, expected in ((["score", "why"], {"score": 61, "why": "text"}), (["why"], {"why": "text"})):
        kept = {name: properties[name] for name in names}
        schema = {"type": "object", "properties": kept, "required": names, "additionalProperties": False}
        asked = {"type": "json_schema", "json_schema": {"name": "rating", "schema": schema}}
        messages = [{"role": "user", "content": "Say score=61"}]
        assert orjson.loads(text_for(messages=messages, response_format=asked)) == expected


@pytest.mark.parametrize(
    ("fields", "called"),
    [
        ({"tools": [WEATHER, CLOCK], "tool_choice": "required"}, "get_weather"),
        (
            {"tools": [WEATHER, CLOCK], "tool_choice": {"type": "function", "function": {"name": "get_time"}}},
            "get_time",
        ),
        ({"tools": [WEATHER, CLOCK], "tool_choice": "required", "messages": ABOUT_TIME}, "get_time"),
        ({"tools": [WEATHER, CLOCK], "messages": ABOUT_TIME}, "get_time"),
        ({"tools": [WEATHER, CLOCK], "tool_choice": "auto", "messages": ABOUT_TIME}, "get_time"),
        ({"tools": [WEATHER, CLOCK], "tool_choice": "none", "messages": ABOUT_TIME}, None),
        ({"tools": [WEATHER, CLOCK]}, None),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "other"}}}, None),
        ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools"}}, None),
        ({"tools": [WEATHER], "tool_choice": "required", "messages": TOOL_ANSWERED}, None),
        ({"tools": "none", "messages": ABOUT_TIME}, None),
        ({"tools": ["none", {"function": {}}, {"type": "x"}], "tool_choice": "required"}, None),
    ],
)
def test_a_tool_is_called_when_it_has_to_be_or_is_spoken_of(fields: dict[str, Any], called: str | None) -> None:
    """Named, required, or mentioned by the user; and text once the tool has answered."""
    (choice,) = choices_of(**fields)
    assert choice.tool == called
    assert choice.finish_reason == ("tool_calls" if called else "stop")
    if called is not None:
        assert orjson.loads(choice.text) == ({"city": "text", "unit": "c"} if called == "get_weather" else {})
        assert choice.output_tokens == len(choice.pieces) + 1


def test_arguments_beyond_the_cap_are_cut() -> None:
    """As a real model leaves them: no JSON, and the finish reason says why."""
    (choice,) = choices_of(tools=[WEATHER], tool_choice="required", max_tokens=3)
    assert (choice.output_tokens, choice.finish_reason) == (3, "length")


def test_several_choices_differ_only_where_chance_decides() -> None:
    """Prose varies, an echo does not."""
    assert len({choice.text for choice in choices_of(n=3)}) == 3
    assert len({choice.text for choice in choices_of(n=3, model="echo")}) == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"[]", None),
        (b'{"messages": []}', "messages"),
        (b'{"messages": ["a"]}', "messages"),
        (b'{"messages": [{}], "n": 0}', "n"),
        (b'{"messages": [{}], "n": 129}', "n"),
        (b'{"messages": [{}], "max_tokens": true}', "max_tokens"),
        (b'{"messages": [{}], "max_completion_tokens": "9"}', "max_completion_tokens"),
    ],
)
def test_a_bad_request_names_the_field(body: bytes, param: str | None) -> None:
    """As strict as the real one about what is read."""
    with pytest.raises(AskError) as caught:
        read_ask(body)
    assert caught.value.param == param


def test_prompt_tokens_are_counted_by_characters() -> None:
    """Four a token, rounded up, and an empty message is one."""
    messages = [{"role": "user", "content": "12345"}, {"role": "assistant", "content": None}]
    assert read_ask(orjson.dumps({"messages": messages})).count_prompt_tokens() == 3
