"""What only OpenRouter's users send: taken out for everyone else, or said the common way."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.codecs.efforts import EFFORTS
from proxy.codecs.plainness import check_effort, fit_call_ids, plain_messages, plain_tools, say_effort
from proxy.codecs.wire import UNKNOWN_ABILITIES, Abilities, JsonObject
from proxy.errors import ClientError

MARK = {"type": "ephemeral"}

# ---------------------------------------------------------------- messages


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "user", "content": "Hi"}],
        [{"role": "user", "content": [{"type": "text", "text": "Hi"}, "odd", None]}],
        [{"role": "assistant", "content": None, "tool_calls": [{"id": "c", "reasoning": "x"}]}],
        [{"role": "assistant", "content": "Hi", "reasoning_content": "so", "refusal": None, "audio": {"id": "a"}}],
        [{"role": "user", "content": {"cache_control": MARK}}],
        [{"role": "assistant", "content": None, "tool_calls": ["odd", None]}],
        [{"role": "assistant", "content": None, "tool_calls": {"extra_content": {}}}],
    ],
)
def test_plain_messages_are_the_very_same(messages: list[Any]) -> None:
    """Most requests, and nothing is copied for them."""
    assert plain_messages(messages) is messages


@pytest.mark.parametrize(
    ("message", "plain"),
    [
        (
            {"role": "assistant", "content": "Hi", "reasoning": "so", "reasoning_details": [{"type": "x"}]},
            {"role": "assistant", "content": "Hi"},
        ),
        ({"role": "assistant", "annotations": [], "images": []}, {"role": "assistant"}),
        ({"role": "assistant", "content": None, "reasoning": None}, {"role": "assistant", "content": None}),
        (
            {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": MARK}, "odd", {"type": "x"}]},
            {"role": "user", "content": [{"type": "text", "text": "a"}, "odd", {"type": "x"}]},
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": "a", "prompt_cache_breakpoint": True}], "name": "n"},
            {"role": "user", "content": [{"type": "text", "text": "a"}], "name": "n"},
        ),
        (
            {"role": "assistant", "content": [{"type": "text", "text": "a"}, 3], "reasoning": "so"},
            {"role": "assistant", "content": [{"type": "text", "text": "a"}, 3]},
        ),
        (
            {"role": "tool", "tool_call_id": "c", "content": "", "is_error": True, "cache_control": MARK},
            {"role": "tool", "tool_call_id": "c", "content": ""},
        ),
        (
            {
                "role": "assistant",
                "content": None,
                "tool_calls": ["odd", {"id": "c", "function": {}, "extra_content": {"google": {}}}, {"id": "d"}],
            },
            {"role": "assistant", "content": None, "tool_calls": ["odd", {"id": "c", "function": {}}, {"id": "d"}]},
        ),
    ],
)
def test_openrouters_own_members_are_taken_out(message: JsonObject, plain: JsonObject) -> None:
    """Everything else stays, other messages are the very same, and the client's are not touched."""
    other = {"role": "user", "content": "Go on."}
    before = copy.deepcopy(message)
    made = plain_messages([other, message])
    assert made == [other, plain]
    assert made[0] is other
    assert message == before


members = st.sampled_from(["reasoning", "reasoning_details", "annotations", "images", "content", "name", "refusal"])
parts = st.dictionaries(st.sampled_from(["type", "text", "cache_control", "prompt_cache_breakpoint"]), st.just("x"))
contents = st.none() | st.text(max_size=3) | st.lists(parts | st.text(max_size=2), max_size=3)


@given(st.lists(st.dictionaries(members, contents), max_size=4))
def test_nothing_of_openrouters_is_left_and_nothing_else_is_lost(messages: list[Any]) -> None:
    """Doing it twice changes nothing."""
    made = plain_messages(messages)
    assert len(made) == len(messages)
    for message, plain in zip(messages, made, strict=True):
        kept = message.keys() - {"reasoning", "reasoning_details", "annotations", "images"}
        assert plain.keys() == kept
        assert all(plain[name] == message[name] for name in kept - {"content"})
        for part in plain.get("content") if isinstance(plain.get("content"), list) else ():
            assert not isinstance(part, dict) or part.keys() <= {"type", "text"}
    assert plain_messages(made) is made


# ---------------------------------------------------------------- tools


@pytest.mark.parametrize("tools", [None, "odd", [], ["odd", None], [{"function": {"name": "f"}}], [{"function": "f"}]])
def test_plain_tools_are_the_very_same(tools: Any) -> None:
    """What makes no sense goes on to be refused."""
    assert plain_tools(tools) is tools


def test_marks_for_a_cache_are_taken_off_tools() -> None:
    """On the tool and on its function; a parameter of that name is the client's own."""
    other = {"type": "function", "function": {"name": "g", "parameters": {"properties": {"cache_control": {}}}}}
    tools = [
        other,
        {"type": "function", "function": {"name": "f", "cache_control": MARK}},
        {"type": "function", "function": {"name": "h"}, "cache_control": MARK},
        {"type": "x", "function": None, "cache_control": MARK},
    ]
    before = copy.deepcopy(tools)
    made = plain_tools(tools)
    assert made == [
        other,
        {"type": "function", "function": {"name": "f"}},
        {"type": "function", "function": {"name": "h"}},
        {"type": "x", "function": None},
    ]
    assert made[0] is other
    assert tools == before


# ---------------------------------------------------------------- ids of tool calls


def call_and_answer(call_id: object) -> list[Any]:
    """An assistant's call and the tool's answer to it."""
    return [
        {"role": "assistant", "content": None, "tool_calls": [{"id": call_id, "type": "function"}]},
        {"role": "tool", "tool_call_id": call_id, "content": "4"},
    ]


def ids_in(messages: list[Any]) -> list[Any]:
    """Give the id of the call and the one that is answered."""
    return [messages[0]["tool_calls"][0]["id"], messages[1]["tool_call_id"]]


@given(st.text(max_size=40) | st.from_regex(r"(call_|toolu_)[0-9A-Za-z]{24}", fullmatch=True))
def test_an_answer_still_finds_its_call(call_id: str) -> None:
    """Under an id of exactly that many letters and digits, the same each time."""
    messages = call_and_answer(call_id)
    before = copy.deepcopy(messages)
    made = fit_call_ids(messages, 9)
    call, answered = ids_in(made)
    assert call == answered
    assert re.fullmatch(r"[a-zA-Z0-9]{9}", call)
    assert fit_call_ids(made, 9) == made
    assert messages == before


@given(st.lists(st.text(max_size=12), min_size=2, max_size=2, unique=True))
def test_two_calls_stay_two(ids: list[str]) -> None:
    """Even when the ids differ in their last character only."""
    first, second = (ids_in(fit_call_ids(call_and_answer(call_id), 9))[0] for call_id in ids)
    assert first != second


@pytest.mark.parametrize("call_id", ["D681PevKs", None, 3])
def test_an_id_that_fits_or_is_none_stays(call_id: object) -> None:
    """What makes no sense goes on to be refused."""
    assert ids_in(fit_call_ids(call_and_answer(call_id), 9)) == [call_id, call_id]


def test_what_holds_no_ids_stays() -> None:
    """Other messages, and calls that are none."""
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": ["odd"]}, {"tool_calls": None}]
    assert fit_call_ids(messages, 9) == messages


# ---------------------------------------------------------------- efforts


GPT = Abilities(efforts=("none", "low", "medium", "high"))
GROK = Abilities(efforts=("low", "high"))


def say(body: JsonObject, abilities: Abilities = GPT) -> tuple[str | None, tuple[str, ...]]:
    """Give the effort written and the fields lost."""
    written = {name: value for name, value in body.items() if name != "reasoning"}
    dropped = say_effort(body, written, abilities)
    return written.get("reasoning_effort"), dropped


@pytest.mark.parametrize(
    ("effort", "abilities", "said"),
    [
        ("none", GPT, "none"),
        ("minimal", GPT, "none"),
        ("low", GPT, "low"),
        ("high", GPT, "high"),
        ("xhigh", GPT, "high"),
        ("max", GPT, "high"),
        ("medium", GROK, "low"),
        ("max", GROK, "high"),
    ],
)
def test_an_effort_is_said_as_the_nearest_one_known(effort: str, abilities: Abilities, said: str) -> None:
    """A backup that reasons a little less is a backup."""
    assert say({"reasoning": {"effort": effort}}, abilities) == (said, ())
    assert say({"reasoning_effort": effort}, abilities) == (said, ())


@given(st.sampled_from(EFFORTS[1:]), st.lists(st.sampled_from(EFFORTS), min_size=1, unique=True))
def test_no_effort_known_is_nearer(effort: str, known: list[str]) -> None:
    """And one that is known is said as it is."""
    said, dropped = say({"reasoning": {"effort": effort}}, Abilities(efforts=tuple(known)))
    assert said in known
    assert dropped == ()
    ranks = {name: abs(EFFORTS.index(name) - EFFORTS.index(effort)) for name in known}
    assert ranks[said] == min(ranks.values())


@pytest.mark.parametrize(
    ("body", "abilities", "said", "dropped"),
    [
        ({}, GPT, None, ()),
        ({"reasoning": None}, GPT, None, ()),
        ({"reasoning": "high"}, GPT, None, ()),
        ({"reasoning": {}}, GPT, None, ()),
        ({"reasoning": {"enabled": True}}, GPT, None, ()),
        ({"reasoning": {"exclude": True}}, UNKNOWN_ABILITIES, None, ()),
        ({"reasoning": {"effort": "high"}}, UNKNOWN_ABILITIES, None, ("reasoning",)),
        ({"reasoning": {"max_tokens": 2_000}}, GPT, None, ("reasoning",)),
        ({"reasoning": {"max_tokens": 2_000}}, UNKNOWN_ABILITIES, None, ("reasoning",)),
        ({"reasoning_effort": "high"}, UNKNOWN_ABILITIES, "high", ()),
        ({"reasoning_effort": "high", "reasoning": {"effort": "high"}}, UNKNOWN_ABILITIES, "high", ()),
        ({"reasoning_effort": "max", "reasoning": {"exclude": True}}, GROK, "high", ()),
        ({"reasoning_effort": "turbo"}, GPT, "turbo", ()),
        ({"reasoning_effort": "none"}, UNKNOWN_ABILITIES, "none", ()),
        ({"reasoning_effort": "none", "reasoning": {"max_tokens": 9}}, GROK, "low", ("reasoning_effort", "reasoning")),
        ({"reasoning_effort": "low", "reasoning": {"max_tokens": 9}}, GPT, "low", ("reasoning",)),
    ],
)
def test_what_cannot_be_said_is_named(
    body: JsonObject, abilities: Abilities, said: str | None, dropped: tuple[str, ...]
) -> None:
    """A wish to reason is never lost in silence; one that asks for nothing loses nothing."""
    assert say(body, abilities) == (said, dropped)


@pytest.mark.parametrize(
    ("body", "effort"),
    [
        ({}, None),
        ({"reasoning": None}, None),
        ({"reasoning": "high"}, None),
        ({"reasoning": {}}, None),
        ({"reasoning": {"enabled": True}}, None),
        ({"reasoning": {"enabled": False}}, "none"),
        ({"reasoning": {"enabled": False, "effort": "low"}}, "low"),
        ({"reasoning": {"effort": "high"}, "reasoning_effort": "high"}, "high"),
        ({"reasoning": {"max_tokens": 9}, "reasoning_effort": "high"}, None),
    ],
)
def test_a_wish_is_read_alike_for_every_target(body: JsonObject, effort: str | None) -> None:
    """Before any is chosen."""
    assert check_effort(body) == effort


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"reasoning": {"effort": "turbo"}}, "must be one of none, minimal, low, medium, high, xhigh, max"),
        ({"reasoning": {"effort": 3}}, "must be one of"),
        ({"reasoning": {"effort": ["high"]}}, "must be one of"),
        ({"reasoning": {"effort": {}}}, "must be one of"),
        ({"reasoning": {"effort": "high"}, "reasoning_effort": "low"}, "say two things"),
        ({"reasoning": {"enabled": False}, "reasoning_effort": "low"}, "say two things"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(body: JsonObject, told: str) -> None:
    """400, as OpenRouter itself says (openrouter.md 1.4)."""
    for abilities in (GPT, UNKNOWN_ABILITIES):
        with pytest.raises(ClientError, match=told) as caught:
            say(body, abilities)
        assert caught.value.param == "reasoning"


def test_reasoning_switched_off_is_said() -> None:
    """As no effort where the model knows that; as the least, and named, where it always thinks."""
    for wish in ({"enabled": False}, {"effort": "none"}):
        assert say({"reasoning": wish}) == ("none", ())
        assert say({"reasoning": wish}, GROK) == ("low", ("reasoning",))
        assert say({"reasoning": wish}, UNKNOWN_ABILITIES) == (None, ())
    assert say({"reasoning_effort": "none"}) == ("none", ())
    assert say({"reasoning_effort": "none"}, GROK) == ("low", ("reasoning_effort",))


def test_signatures_of_gemini_go_back_to_gemini() -> None:
    """Its own address for OpenAI clients asks for them, and knows OpenRouter's members as little as OpenAI does."""
    signed = {"id": "c", "extra_content": {"google": {"thought_signature": "s"}}}
    messages = [{"role": "assistant", "reasoning": "Hm.", "tool_calls": [signed]}]
    assert plain_messages(messages, model="gemini-3-pro") == [{"role": "assistant", "tool_calls": [signed]}]
    assert plain_messages(messages, model="gpt-5") == [{"role": "assistant", "tool_calls": [{"id": "c"}]}]
