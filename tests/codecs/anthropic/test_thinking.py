"""How long a model is to think: efforts, budgets, models that know one or the other, and what thinking goes with."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.codecs.anthropic.reasoning import FORMAT
from proxy.codecs.wire import Abilities, JsonObject, Thinking
from proxy.errors import ClientError
from tests.codecs.anthropic.asking import USER, answered, called, encode, function

SHOWN = {"type": "adaptive", "display": "summarized"}
HIDDEN = {"type": "adaptive", "display": "omitted"}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}


def budget(tokens: int, **more: Any) -> JsonObject:
    """Make thinking by a number of tokens."""
    return {"type": "enabled", "budget_tokens": tokens, **more}


def told(
    thinking: Thinking | None, /, *messages: JsonObject, **fields: Any
) -> tuple[JsonObject | None, str | None, tuple[str, ...]]:
    """Give what a model of this kind is told, and what is lost."""
    call = encode(*messages, abilities=Abilities(thinking=thinking), **fields)
    body = orjson.loads(call.body)
    return body.get("thinking"), body.get("output_config", {}).get("effort"), call.dropped


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"reasoning": {}}, None),
        ({"reasoning": {"exclude": True}}, None),
        ({"include_reasoning": True}, None),
        ({"reasoning": {"effort": "none"}}, None),
        ({"reasoning": {"enabled": False}}, None),
        ({"reasoning": {"enabled": False, "effort": "high"}}, None),
        ({"reasoning": {"max_tokens": 0}}, None),
        ({"reasoning": {"effort": "max"}}, budget(9_500)),
        ({"reasoning": {"effort": "xhigh"}}, budget(9_500)),
        ({"reasoning": {"effort": "high"}}, budget(8_000)),
        ({"reasoning": {"effort": "medium"}}, budget(5_000)),
        ({"reasoning": {"effort": "low"}}, budget(2_000)),
        ({"reasoning": {"effort": "minimal"}}, budget(1_024)),
        ({"reasoning_effort": "low"}, budget(2_000)),
        ({"reasoning_effort": "low", "reasoning": {"effort": "low"}}, budget(2_000)),
        ({"reasoning": {"enabled": True}}, budget(5_000)),
        ({"reasoning": {"enabled": True, "effort": "low"}}, budget(2_000)),
        ({"reasoning": {"max_tokens": 3_000}}, budget(3_000)),
        ({"reasoning": {"max_tokens": 3_000, "effort": "high"}}, budget(3_000)),
        ({"reasoning": {"max_tokens": 10}}, budget(1_024)),
        ({"reasoning": {"effort": "low", "exclude": True}}, budget(2_000, display="omitted")),
        ({"reasoning_effort": "low", "include_reasoning": False}, budget(2_000, display="omitted")),
    ],
)
@pytest.mark.parametrize("thinking", [Thinking.BUDGET, None])
def test_a_budget(thinking: Thinking | None, fields: JsonObject, expected: JsonObject | None) -> None:
    """Efforts are shares of the cap; a model nothing is known of is told the same."""
    assert told(thinking, max_tokens=10_000, **fields) == (expected, None, ())


@pytest.mark.parametrize(
    ("max_tokens", "reasoning", "expected", "dropped"),
    [
        (1_078, {"effort": "max"}, budget(1_024), ()),
        (1_077, {"effort": "max"}, None, ("reasoning",)),
        (1_280, {"effort": "low"}, budget(1_024), ()),
        (1_279, {"effort": "low"}, None, ("reasoning",)),
        (100, {"max_tokens": 2_000}, None, ("reasoning",)),
        (1_279, {"max_tokens": 1_024}, None, ("reasoning",)),
        (2_000, {"max_tokens": 3_000}, budget(1_600), ("reasoning.max_tokens",)),
        (2_000, {"max_tokens": 1_601}, budget(1_600), ("reasoning.max_tokens",)),
        (2_000, {"max_tokens": 1_600}, budget(1_600), ()),
        (500_000, {"effort": "max"}, budget(128_000), ()),
        (500_000, {"max_tokens": 200_000}, budget(128_000), ("reasoning.max_tokens",)),
    ],
)
def test_a_budget_leaves_room_for_the_answer(
    max_tokens: int, reasoning: JsonObject, expected: JsonObject | None, dropped: tuple[str, ...]
) -> None:
    """The cap is what the client pays for: it is never raised, thinking gives way."""
    assert told(Thinking.BUDGET, max_tokens=max_tokens, reasoning=reasoning) == (expected, None, dropped)


def test_a_cap_of_ours_makes_a_budget_smaller() -> None:
    """Money holds for thinking too."""
    body = orjson.loads(encode(cap=5_000, max_tokens=10_000, reasoning={"effort": "high"}).body)
    assert (body["max_tokens"], body["thinking"]) == (5_000, budget(4_000))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (None, None, ())),
        ({"reasoning": {"exclude": True}}, (None, None, ())),
        ({"reasoning": {"effort": "none"}}, ({"type": "disabled"}, None, ())),
        ({"reasoning_effort": "none"}, ({"type": "disabled"}, None, ())),
        ({"reasoning": {"effort": "minimal"}}, (SHOWN, "low", ())),
        ({"reasoning": {"effort": "low"}}, (SHOWN, "low", ())),
        ({"reasoning": {"effort": "medium"}}, (SHOWN, "medium", ())),
        ({"reasoning": {"effort": "high"}}, (SHOWN, "high", ())),
        ({"reasoning": {"effort": "xhigh"}}, (SHOWN, "xhigh", ())),
        ({"reasoning": {"effort": "max"}}, (SHOWN, "max", ())),
        ({"reasoning": {"enabled": True}}, (SHOWN, "medium", ())),
        ({"reasoning": {"effort": "low", "exclude": True}}, (HIDDEN, "low", ())),
        ({"reasoning": {"max_tokens": 2_000}}, (SHOWN, "low", ("reasoning.max_tokens",))),
        ({"reasoning": {"max_tokens": 2_001}}, (SHOWN, "medium", ("reasoning.max_tokens",))),
        ({"reasoning": {"max_tokens": 5_001}}, (SHOWN, "high", ("reasoning.max_tokens",))),
        ({"reasoning": {"max_tokens": 2_000, "effort": "max"}}, (SHOWN, "max", ())),
        ({"verbosity": "low"}, (None, "low", ())),
        ({"verbosity": "low", "reasoning": {"effort": "low"}}, (SHOWN, "low", ())),
        ({"verbosity": "low", "reasoning": {"effort": "high"}}, (SHOWN, "high", ("verbosity",))),
        ({"verbosity": "low", "reasoning": {"effort": "none"}}, ({"type": "disabled"}, "low", ())),
    ],
)
def test_an_adaptive_model_is_told_an_effort(
    fields: JsonObject, expected: tuple[JsonObject | None, str | None, tuple[str, ...]]
) -> None:
    """A budget becomes the effort that would have given it; verbosity is the same dial, and gives way to effort."""
    assert told(Thinking.ADAPTIVE, max_tokens=10_000, **fields) == expected


UP_TO_HIGH = ("low", "medium", "high")
WITHOUT_XHIGH = (*UP_TO_HIGH, "max")


@pytest.mark.parametrize(
    ("fields", "efforts", "expected"),
    [
        ({"reasoning_effort": "xhigh"}, WITHOUT_XHIGH, (SHOWN, "high", ())),
        ({"reasoning_effort": "max"}, WITHOUT_XHIGH, (SHOWN, "max", ())),
        ({"reasoning_effort": "max"}, UP_TO_HIGH, (SHOWN, "high", ())),
        ({"reasoning_effort": "minimal"}, ("none", "minimal", "medium"), (SHOWN, "medium", ())),
        ({"reasoning_effort": "minimal"}, ("none", "minimal"), (SHOWN, "low", ())),
        ({"reasoning_effort": "none"}, UP_TO_HIGH, ({"type": "disabled"}, None, ())),
        ({"verbosity": "xhigh"}, UP_TO_HIGH, (None, "high", ())),
        ({"verbosity": "max", "reasoning_effort": "xhigh"}, UP_TO_HIGH, (SHOWN, "high", ())),
        ({"reasoning": {"max_tokens": 5_001}}, ("low", "medium"), (SHOWN, "medium", ("reasoning.max_tokens",))),
    ],
)
def test_an_effort_is_the_nearest_that_the_model_takes(
    fields: JsonObject, efforts: tuple[str, ...], expected: tuple[JsonObject | None, str | None, tuple[str, ...]]
) -> None:
    """Of two as near the lower; not to think is no effort, so it needs no other."""
    call = encode(max_tokens=10_000, abilities=Abilities(thinking=Thinking.ADAPTIVE, efforts=efforts), **fields)
    body = orjson.loads(call.body)
    assert (body.get("thinking"), body.get("output_config", {}).get("effort"), call.dropped) == expected


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [
        ({}, ()),
        ({"reasoning": {"effort": "high"}}, ("reasoning",)),
        ({"reasoning": {"max_tokens": 2_000}}, ("reasoning",)),
        ({"reasoning_effort": "high"}, ("reasoning_effort",)),
        ({"reasoning": {"effort": "none"}}, ()),
        ({"thinking": budget(2_000)}, ("thinking",)),
        ({"verbosity": "low"}, ("verbosity",)),
    ],
)
def test_a_model_that_cannot_think_is_not_told_to(fields: JsonObject, dropped: tuple[str, ...]) -> None:
    """What was asked for in vain is named; not thinking is what it does."""
    assert told(Thinking.NONE, max_tokens=10_000, **fields) == (None, None, dropped)


@pytest.mark.parametrize(
    ("native", "max_tokens", "sent", "dropped"),
    [
        (budget(2_000), 10_000, budget(2_000), ()),
        (budget(2_000, x=1), 2_001, budget(2_000, x=1), ()),
        (budget(2_000, x=1), 2_000, budget(1_600, x=1), ("thinking",)),
        (budget(2_000), 1_279, None, ("thinking",)),
        ({"type": "adaptive"}, 100, {"type": "adaptive"}, ()),
        ({"type": "disabled"}, 100, {"type": "disabled"}, ()),
        (budget("x"), 100, None, ("thinking",)),  # type: ignore[arg-type] # not Anthropic's
        ({"type": "enabled", "clear_thinking": False}, 100, None, ("thinking",)),
        ({}, 100, None, ()),
    ],
)
def test_anthropic_s_own_thinking_wins(
    native: JsonObject, max_tokens: int, sent: JsonObject | None, dropped: tuple[str, ...]
) -> None:
    """Over `reasoning`, and below the cap."""
    expected = (sent, None, dropped)
    assert told(Thinking.BUDGET, max_tokens=max_tokens, thinking=native, reasoning={"effort": "low"}) == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"reasoning": "high"}, "reasoning"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"reasoning": {"effort": 5}}, "reasoning.effort"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"reasoning_effort": "low", "reasoning": {"effort": "high"}}, "reasoning_effort"),
        ({"reasoning": {"max_tokens": "x"}}, "reasoning.max_tokens"),
        ({"reasoning": {"max_tokens": -1}}, "reasoning.max_tokens"),
        ({"reasoning": {"max_tokens": True}}, "reasoning.max_tokens"),
        ({"verbosity": "none"}, "verbosity"),
        ({"verbosity": 5}, "verbosity"),
    ],
)
def test_a_wish_that_is_none_is_refused(fields: JsonObject, param: str) -> None:
    """And two that contradict each other."""
    with pytest.raises(ClientError) as caught:
        encode(**fields)
    assert caught.value.param == param


PREFILL = {"role": "assistant", "content": "{"}


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        (Thinking.BUDGET, (None, None, ("reasoning",))),
        (Thinking.ADAPTIVE, ({"type": "disabled"}, "high", ("reasoning",))),
    ],
)
def test_a_prefill_goes_before_thinking(
    thinking: Thinking, expected: tuple[JsonObject | None, str | None, tuple[str, ...]]
) -> None:
    """The two do not go together, and the words stand there."""
    assert told(thinking, USER, PREFILL, reasoning={"effort": "high"}) == expected


def test_a_prefill_that_is_left_out_leaves_thinking_alone() -> None:
    """There is nothing in its way."""
    call = encode(USER, PREFILL, reasoning={"effort": "high"}, abilities=Abilities(prefill=False))
    assert call.dropped == ("prefill",)
    assert orjson.loads(call.body)["thinking"] == budget(3_276)


def test_a_tool_loop_begun_without_thinking_goes_on_without() -> None:
    """Anthropic refuses a budget there: another vendor made that call, or nobody thought."""
    wish = {"reasoning": {"effort": "high"}, "tools": [function()]}
    thought = {"type": "reasoning.text", "format": FORMAT, "text": "Hm.", "signature": "s"}
    assert told(Thinking.BUDGET, USER, called("a"), answered("a"), **wish) == (None, None, ("reasoning",))
    assert told(Thinking.BUDGET, USER, called("a"), answered("a"), thinking=budget(2_000)) == (
        None,
        None,
        ("thinking",),
    )
    assert told(Thinking.ADAPTIVE, USER, called("a"), answered("a"), **wish) == (SHOWN, "high", ())
    loop = {**called("a"), "reasoning_details": [thought]}
    assert told(Thinking.BUDGET, USER, loop, answered("a"), **wish) == (budget(3_276), None, ())
    over = (USER, called("a"), answered("a"), {"role": "assistant", "content": "2"}, USER)
    assert told(Thinking.BUDGET, *over, **wish) == (budget(3_276), None, ())


def test_a_schema_kept_by_a_tool_goes_before_thinking() -> None:
    """A forced tool and thinking do not go together; where none can be forced, thinking may stay."""
    wish: JsonObject = {"reasoning": {"effort": "high"}, "response_format": SCHEMA}
    call = encode(**wish, abilities=Abilities(json_schema=False))
    assert (call.dropped, call.schema_tool) == (("reasoning",), "a")
    assert "thinking" not in orjson.loads(call.body)
    call = encode(**wish, abilities=Abilities(json_schema=False, forced_tools=False))
    assert call.dropped == ("response_format",)
    assert orjson.loads(call.body)["thinking"] == budget(3_276)


def test_thinking_goes_before_a_forced_tool() -> None:
    """The tool may still be called."""
    call = encode(reasoning={"effort": "high"}, tools=[function()], tool_choice="required")
    assert call.dropped == ("tool_choice",)
    assert orjson.loads(call.body)["tool_choice"] == {"type": "auto"}


def test_an_effort_and_a_format_share_their_place() -> None:
    """And a client's own `output_config` has the last word."""
    wish: JsonObject = {"reasoning_effort": "high", "response_format": SCHEMA}
    abilities = Abilities(thinking=Thinking.ADAPTIVE)
    form = {"type": "json_schema", "schema": {"type": "object", "additionalProperties": False}}
    body = orjson.loads(encode(**wish, abilities=abilities).body)
    assert body["output_config"] == {"effort": "high", "format": form}
    body = orjson.loads(encode(**wish, output_config={"effort": "max", "x": 1}, abilities=abilities).body)
    assert body["output_config"] == {"effort": "max", "format": form, "x": 1}
