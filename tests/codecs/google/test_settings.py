"""How the answer is made: limits, sampling, form, modalities, thinking."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.codecs.wire import Abilities, JsonObject, Thinking
from proxy.errors import ClientError
from tests.codecs.google.calls import config, encode

SCHEMA: JsonObject = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"const": 1}}}
TOOLS = [{"type": "function", "function": {"name": "f"}}]
LEVEL = Abilities(thinking=Thinking.LEVEL)
BUDGET = Abilities(thinking=Thinking.BUDGET)
NONE = Abilities(thinking=Thinking.NONE)
UNKNOWN = Abilities()
LOW_OR_HIGH = Abilities(thinking=Thinking.LEVEL, efforts=("low", "high"))
ALWAYS_ON = Abilities(thinking=Thinking.BUDGET, efforts=("minimal", "low", "medium", "high"))
SOMETIMES = Abilities(thinking=Thinking.LEVEL, efforts=("none", "low"))


@pytest.mark.parametrize(
    ("fields", "cap", "most", "expected"),
    [
        ({}, None, None, None),
        ({}, None, 100, None),
        ({}, 50, None, 50),
        ({"max_tokens": 10}, None, None, 10),
        ({"max_tokens": 10, "max_completion_tokens": 20}, None, None, 20),
        ({"max_tokens": 10, "max_completion_tokens": None}, None, None, 10),
        ({"max_tokens": 10}, 5, None, 5),
        ({"max_tokens": 5}, 10, None, 5),
        ({"max_tokens": 500}, None, 100, 100),
        ({"max_tokens": 500}, 300, 1000, 300),
    ],
)
def test_the_limit_of_the_output(fields: JsonObject, cap: int | None, most: int | None, expected: int | None) -> None:
    """The client's under the newer name first, under our cap, and never more than the model can write."""
    assert config(cap=cap, abilities=Abilities(output_tokens_max=most), **fields).get("maxOutputTokens") == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"temperature": 0, "top_p": 0.5, "top_k": 4}, {"temperature": 0, "topP": 0.5, "topK": 4}),
        ({"temperature": None}, {}),
        ({"seed": 7, "n": 2}, {"seed": 7, "candidateCount": 2}),
        ({"seed": 2**31 + 7, "n": 1}, {"seed": 7}),
        ({"presence_penalty": 1, "frequency_penalty": 0}, {"presencePenalty": 1}),
        ({"stop": "x"}, {"stopSequences": ["x"]}),
        ({"stop": ["1", "", "2", "3", "4", "5"]}, {"stopSequences": ["1", "2", "3", "4", "5"]}),
        ({"stop": []}, {}),
        ({"logprobs": True, "top_logprobs": 3}, {"responseLogprobs": True, "logprobs": 3}),
        ({"logprobs": True}, {"responseLogprobs": True}),
        ({"logprobs": False, "top_logprobs": 3}, {}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"responseMimeType": "application/json"}),
        ({"response_format": SCHEMA}, {"responseMimeType": "application/json", "responseJsonSchema": {"enum": [1]}}),
        ({"modalities": ["text", "image"]}, {"responseModalities": ["TEXT", "IMAGE"]}),
        (
            {"modalities": ["text", "audio"], "audio": {"voice": "Kore", "format": "pcm16"}},
            {
                "responseModalities": ["AUDIO"],
                "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Kore"}}},
            },
        ),
        (
            {"image_config": {"aspect_ratio": "1:1", "image_size": "2K", "x": 1}},
            {"imageConfig": {"aspectRatio": "1:1", "imageSize": "2K"}},
        ),
    ],
)
def test_settings_under_gemini_s_names(fields: JsonObject, expected: JsonObject) -> None:
    """Each setting there is a word for; what asks for nothing is not sent."""
    call, written = encode(**fields)
    assert written.get("generationConfig", {}) == expected
    assert call.dropped == ()


@pytest.mark.parametrize(
    ("fields", "abilities", "expected", "dropped"),
    [
        ({"temperature": 1, "top_k": 2, "seed": 3}, Abilities(sampling=False), {"seed": 3}, ("temperature", "top_k")),
        (
            {"response_format": SCHEMA},
            Abilities(json_schema=False),
            {"responseMimeType": "application/json"},
            ("response_format",),
        ),
        ({"response_format": {"type": "grammar"}}, UNKNOWN, {}, ("response_format",)),
        (
            {"response_format": SCHEMA, "tools": TOOLS},
            BUDGET,
            {"thinkingConfig": {"includeThoughts": True}},
            ("response_format",),
        ),
        ({"response_format": SCHEMA, "tools": TOOLS}, NONE, {}, ("response_format",)),
        ({"audio": {"voice": "Kore", "format": "mp3"}, "modalities": ["audio"]}, UNKNOWN, None, ("audio.format",)),
    ],
)
def test_settings_a_model_has_not_are_named(
    fields: JsonObject, abilities: Abilities, expected: JsonObject | None, dropped: tuple[str, ...]
) -> None:
    """They are left out or softened, never sent to be refused."""
    call, written = encode(abilities=abilities, **fields)
    assert call.dropped == dropped
    assert expected is None or written.get("generationConfig", {}) == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_completion_tokens": True}, "max_completion_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": True}, "top_p"),
        ({"top_k": []}, "top_k"),
        ({"presence_penalty": "x"}, "presence_penalty"),
        ({"frequency_penalty": {}}, "frequency_penalty"),
        ({"seed": "a"}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"n": "two"}, "n"),
        ({"n": 0}, "n"),
        ({"logprobs": "x"}, "logprobs"),
        ({"logprobs": True, "top_logprobs": "x"}, "top_logprobs"),
        ({"top_logprobs": -1}, "top_logprobs"),
        ({"response_format": "json"}, "response_format"),
        ({"modalities": "text"}, "modalities"),
        ({"tools": "x"}, "tools"),
        ({"tools": ["x"]}, "tools[0].function"),
        ({"stop": ["1", "2", "3", "4", "5", "6"]}, "stop"),
        ({"stop": 5}, "stop"),
        ({"stop": [5]}, "stop"),
        ({"reasoning": 5}, "reasoning"),
        ({"reasoning": {"max_tokens": "x"}}, "reasoning.max_tokens"),
        ({"reasoning": {"max_tokens": -2}}, "reasoning.max_tokens"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"reasoning": {"effort": "low"}, "reasoning_effort": "high"}, "reasoning_effort"),
        ({"google": {"thinking_config": {"thinking_budget": 1, "thinking_level": "low"}}}, "google.thinking_config"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(fields: JsonObject, param: str) -> None:
    """The client is told which."""
    with pytest.raises(ClientError) as refused:
        encode(**fields)
    assert refused.value.param == param


SHOWN = {"includeThoughts": True}


@pytest.mark.parametrize(
    ("fields", "abilities", "expected"),
    [
        # nothing asked: OpenRouter's default is to show what is thought
        ({}, UNKNOWN, None),
        ({}, LEVEL, SHOWN),
        ({}, BUDGET, SHOWN),
        ({}, NONE, None),
        ({"include_reasoning": False}, LEVEL, None),
        ({"include_reasoning": True}, UNKNOWN, SHOWN),
        ({"reasoning": {"exclude": True}}, BUDGET, None),
        # levels
        *[
            ({"reasoning": {"effort": effort}}, LEVEL, {"thinkingLevel": level, **SHOWN})
            for effort, level in {
                "minimal": "minimal",
                "low": "low",
                "medium": "medium",
                "high": "high",
                "xhigh": "high",
                "max": "high",
            }.items()
        ],
        ({"reasoning_effort": "low"}, UNKNOWN, {"thinkingLevel": "low", **SHOWN}),
        ({"reasoning_effort": "low", "reasoning": {"effort": "low"}}, LEVEL, {"thinkingLevel": "low", **SHOWN}),
        ({"reasoning": {"enabled": True}}, LEVEL, {"thinkingLevel": "medium", **SHOWN}),
        ({"reasoning": {"effort": "high", "exclude": True}}, LEVEL, {"thinkingLevel": "high"}),
        ({"reasoning": {"max_tokens": 2000}}, LEVEL, {"thinkingBudget": 2000, **SHOWN}),
        ({"reasoning": {"effort": "none"}}, UNKNOWN, {"thinkingBudget": 0}),
        # the nearest of the levels it is known to take, of two as near the lower
        ({"reasoning_effort": "minimal"}, LOW_OR_HIGH, {"thinkingLevel": "low", **SHOWN}),
        ({"reasoning_effort": "medium"}, LOW_OR_HIGH, {"thinkingLevel": "low", **SHOWN}),
        ({"reasoning_effort": "xhigh"}, LOW_OR_HIGH, {"thinkingLevel": "high", **SHOWN}),
        ({"reasoning_effort": "minimal"}, SOMETIMES, {"thinkingLevel": "low", **SHOWN}),
        ({"reasoning_effort": "none"}, SOMETIMES, {"thinkingBudget": 0}),
        ({"reasoning": {"max_tokens": 10}}, ALWAYS_ON, {"thinkingBudget": 128, **SHOWN}),
        # budgets, by the shares of openrouter.md 1.4
        ({"reasoning_effort": "minimal", "max_tokens": 10_000}, BUDGET, {"thinkingBudget": 1000, **SHOWN}),
        ({"reasoning_effort": "low", "max_tokens": 10_000}, BUDGET, {"thinkingBudget": 2000, **SHOWN}),
        ({"reasoning_effort": "medium", "max_tokens": 10_000}, BUDGET, {"thinkingBudget": 5000, **SHOWN}),
        ({"reasoning_effort": "high", "max_tokens": 10_000}, BUDGET, {"thinkingBudget": 8000, **SHOWN}),
        ({"reasoning_effort": "max", "max_tokens": 10_000}, BUDGET, {"thinkingBudget": 9500, **SHOWN}),
        ({"reasoning_effort": "medium"}, BUDGET, {"thinkingBudget": 12_288, **SHOWN}),
        ({"reasoning_effort": "minimal", "max_tokens": 640}, BUDGET, {"thinkingBudget": 512, **SHOWN}),
        ({"reasoning": {"max_tokens": 10}, "max_tokens": 100}, BUDGET, {"thinkingBudget": 10, **SHOWN}),
        ({"reasoning": {"max_tokens": 1600}, "max_tokens": 2000}, BUDGET, {"thinkingBudget": 1600, **SHOWN}),
        ({"reasoning_effort": "max", "max_tokens": 60_000}, BUDGET, {"thinkingBudget": 24_576, **SHOWN}),
        ({"reasoning_effort": "none"}, BUDGET, {"thinkingBudget": 0}),
        ({"reasoning": {"enabled": False}}, BUDGET, {"thinkingBudget": 0}),
        ({"reasoning": {"max_tokens": -1}}, BUDGET, {"thinkingBudget": -1, **SHOWN}),
        ({"reasoning": {"max_tokens": 0}}, BUDGET, {"thinkingBudget": 0}),
        ({"reasoning": {"max_tokens": 3000, "enabled": True}}, BUDGET, {"thinkingBudget": 3000, **SHOWN}),
        # models that do not think refuse to be told not to
        ({"reasoning_effort": "none"}, NONE, None),
        # Google's own words win
        (
            {
                "google": {"thinking_config": {"thinking_level": "low", "includeThoughts": False}},
                "reasoning_effort": "high",
            },
            LEVEL,
            {"thinkingLevel": "low", "includeThoughts": False},
        ),
        ({"extra_body": {"google": {"thinking_config": {"thinking_budget": 9}}}}, UNKNOWN, {"thinkingBudget": 9}),
    ],
)
def test_thinking(fields: JsonObject, abilities: Abilities, expected: JsonObject | None) -> None:
    """A level or a budget, never both, and thoughts shown unless the client would rather not."""
    call, written = encode(abilities=abilities, **fields)
    assert written.get("generationConfig", {}).get("thinkingConfig") == expected
    assert call.dropped == ()


@pytest.mark.parametrize(
    ("fields", "abilities", "expected", "dropped"),
    [
        ({"reasoning_effort": "none"}, LEVEL, {"thinkingLevel": "minimal", **SHOWN}, ("reasoning_effort",)),
        ({"reasoning_effort": "none"}, LOW_OR_HIGH, {"thinkingLevel": "low", **SHOWN}, ("reasoning_effort",)),
        ({"reasoning": {"max_tokens": 0}}, LOW_OR_HIGH, {"thinkingLevel": "low", **SHOWN}, ("reasoning",)),
        ({"reasoning": {"enabled": False}}, ALWAYS_ON, {"thinkingBudget": 128, **SHOWN}, ("reasoning",)),
        ({"reasoning": {"effort": "high"}}, NONE, None, ("reasoning",)),
        # no budget that leaves the answer no room
        ({"reasoning": {"max_tokens": 90_000}}, BUDGET, {"thinkingBudget": 24_576, **SHOWN}, ("reasoning.max_tokens",)),
        (
            {"reasoning": {"max_tokens": 3000}, "max_tokens": 2000},
            LEVEL,
            {"thinkingBudget": 1600, **SHOWN},
            ("reasoning.max_tokens",),
        ),
        ({"reasoning": {"max_tokens": 600}, "max_tokens": 600}, BUDGET, {"thinkingBudget": 0}, ("reasoning",)),
        ({"reasoning_effort": "minimal", "max_tokens": 639}, BUDGET, {"thinkingBudget": 0}, ("reasoning_effort",)),
        (
            {"reasoning_effort": "low", "max_tokens": 600},
            ALWAYS_ON,
            {"thinkingBudget": 128, **SHOWN},
            ("reasoning_effort",),
        ),
    ],
)
def test_thinking_that_cannot_be_had_is_named(
    fields: JsonObject, abilities: Abilities, expected: Any, dropped: tuple[str, ...]
) -> None:
    """One cannot stop thinking, another cannot begin, and an answer needs room."""
    call, written = encode(abilities=abilities, **fields)
    assert written.get("generationConfig", {}).get("thinkingConfig") == expected
    assert call.dropped == dropped
