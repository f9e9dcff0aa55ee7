"""What a request says about its prompt's length, how long it is, and the words for one that is too long."""

from __future__ import annotations

import re
from typing import Any

import pytest

from proxy.errors import ClientError
from proxy.routing.transforms import (
    PromptTokens,
    asked_middle_out,
    count_prompt,
    drop_forms,
    forbid_forms,
    overflow_message,
    room_of,
)
from proxy.tokens import REPLY_TOKENS, count, estimate_input, family_of

ON: dict[str, Any] = {"id": "context-compression", "engine": "middle-out"}
OFF: dict[str, Any] = {"id": "context-compression", "enabled": False}
WEB: dict[str, Any] = {"id": "web"}


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ({}, None),
        ({"transforms": None, "plugins": None}, None),
        ({"plugins": []}, None),
        ({"plugins": [WEB, "context-compression", {}]}, None),
        ({"plugins": {"id": "context-compression"}}, None),
        # The older form.
        ({"transforms": ["middle-out"]}, True),
        ({"transforms": ["middle-out", "middle-out"]}, True),
        ({"transforms": []}, False),
        # The plugin.
        ({"plugins": [WEB, ON]}, True),
        ({"plugins": [{"id": "context-compression"}]}, True),
        ({"plugins": [{**ON, "enabled": True}]}, True),
        ({"plugins": [{**ON, "engine": None, "enabled": None}]}, True),
        ({"plugins": [OFF, WEB]}, False),
        ({"plugins": [{**ON, "enabled": False}]}, False),
        # Both, or twice: an off wins wherever it stands.
        ({"transforms": ["middle-out"], "plugins": [ON]}, True),
        ({"transforms": [], "plugins": [ON]}, False),
        ({"transforms": ["middle-out"], "plugins": [OFF]}, False),
        ({"plugins": [OFF, ON]}, False),
        ({"plugins": [ON, OFF]}, False),
    ],
)
def test_what_a_request_says(body: dict[str, Any], asked: bool | None) -> None:
    """Yes, no, or nothing; then the model's own setting counts."""
    assert asked_middle_out(body) is asked


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"transforms": ["summary"]}, "transforms"),
        ({"transforms": ["middle-out", 1]}, "transforms"),
        ({"transforms": "middle-out"}, "transforms"),
        ({"transforms": {}}, "transforms"),
        ({"plugins": [{**ON, "engine": "summary"}]}, "plugins"),
        ({"plugins": [{**ON, "engine": ["middle-out"]}]}, "plugins"),
        ({"plugins": [{**OFF, "engine": "summary"}]}, "plugins"),
        ({"plugins": [{**ON, "enabled": "no"}]}, "plugins"),
    ],
)
def test_what_there_is_none_of(body: dict[str, Any], param: str) -> None:
    """Shortening a prompt another way than asked for, or not at all, would be a silent lie."""
    with pytest.raises(ClientError, match=r"middle-out|true or false") as caught:
        asked_middle_out(body)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "invalid_value", param)


@pytest.mark.parametrize(
    ("body", "dropped", "forbidden"),
    [
        ({"n": 1}, {"n": 1}, {"n": 1, "plugins": [OFF]}),
        ({"transforms": ["middle-out"]}, {}, {"plugins": [OFF]}),
        ({"transforms": [], "plugins": [ON]}, {}, {"plugins": [OFF]}),
        ({"plugins": [ON, WEB]}, {"plugins": [WEB]}, {"plugins": [WEB, OFF]}),
        ({"plugins": [WEB]}, {"plugins": [WEB]}, {"plugins": [WEB, OFF]}),
        ({"plugins": []}, {"plugins": []}, {"plugins": [OFF]}),
        ({"plugins": None}, {"plugins": None}, {"plugins": [OFF]}),
        ({"transforms": [], "plugins": [WEB]}, {"plugins": [WEB]}, {"plugins": [WEB, OFF]}),
    ],
)
def test_the_forms_are_taken_out_or_turned_off(
    body: dict[str, Any], dropped: dict[str, Any], forbidden: dict[str, Any]
) -> None:
    """Other plugins stay, and the body that came in is not changed."""
    before = repr(body)
    assert drop_forms(body) == dropped
    assert forbid_forms(body) == forbidden
    assert asked_middle_out(drop_forms(body)) is None
    assert asked_middle_out(forbid_forms(body)) is False
    assert repr(body) == before


def test_a_body_without_either_form_is_not_copied() -> None:
    """Most requests say nothing of it."""
    body = {"messages": [], "plugins": [WEB]}
    assert drop_forms(body) is body


@pytest.mark.parametrize(
    ("context", "reserved", "fixed", "room"),
    [
        # 2 % is the larger margin from 3,201 tokens on, rounded up.
        (3_200, 0, 0, 3_136),
        (3_201, 0, 0, 3_136),
        (8_192, 1_000, 0, 7_028),
        (8_192, 1_000, 28, 7_000),
        # Nobody has said how long the answer may be: 4,096, at most a fourth.
        (4_000, None, 0, 2_920),
        (16_384, None, 0, 11_960),
        (200_000, None, 0, 191_904),
        # None left.
        (4_096, 4_096, 0, -82),
    ],
)
def test_the_room_a_context_leaves(context: int, reserved: int | None, fixed: int, room: int) -> None:
    """The context less the answer, the margin of estimates, and what is no message."""
    assert room_of(context, reserved_output_tokens=reserved, fixed_tokens=fixed) == room


@pytest.mark.parametrize(
    ("tools", "output", "total", "parts"),
    [
        (0, 131_072, 138_956, "7884 of text input, 131072 in the output"),
        (0, None, 7_884, "7884 of text input"),
        (155, None, 8_039, "7884 of text input, 155 of tool input"),
        (155, 10, 8_049, "7884 of text input, 155 of tool input, 10 in the output"),
    ],
)
def test_the_words_for_a_prompt_too_long(tools: int, output: int | None, total: int, parts: str) -> None:
    """OpenRouter's own, with only the parts there are: agents look for them to shorten what they send."""
    assert overflow_message(131_072, text_tokens=7_884, tool_tokens=tools, output_tokens=output) == (
        f"This endpoint's maximum context length is 131072 tokens. However, you requested about {total} tokens "
        f"({parts}). Please reduce the length of either one, or use the "
        '"middle-out" transform to compress your prompt automatically.'
    )


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}


@pytest.mark.parametrize("model", ["openai/gpt-4o", "anthropic/claude-sonnet-5-5", "google/gemini-3-pro", "x/y"])
def test_a_prompt_is_counted_part_by_part(model: str) -> None:
    """The parts add up to what a request is estimated at, but for what rounding and seams cost."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "name": "ann", "content": [{"type": "text", "text": "What is it?"}, IMAGE]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "look"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "A cat. " * 100},
    ]
    body = {"messages": messages, "tools": [TOOL], "response_format": SCHEMA}
    prompt = count_prompt(body, model)
    assert len(prompt.messages) == len(messages)
    assert prompt.messages[1] > 1_000  # the image
    assert prompt.text + prompt.tools == pytest.approx(estimate_input(body, model), abs=16)
    assert prompt.fixed == prompt.tools + prompt.rest
    assert prompt.tools == count(re.sub(r"\s", "", f"[[{TOOL}]]").replace("'", '"'), family_of(model))


IMAGE = {"type": "image_url", "image_url": {"url": "https://pictures.example/cat.png"}}


def test_a_plain_prompt_has_no_fixed_part_but_the_replys_beginning() -> None:
    """Then all room is the messages'."""
    prompt = count_prompt({"messages": [{"role": "user", "content": "hello world"}]}, "gpt-4o")
    assert prompt == PromptTokens("gpt-4o", (5,), tools=0, rest=REPLY_TOKENS)
    assert (prompt.text, prompt.fixed) == (5 + REPLY_TOKENS, REPLY_TOKENS)
