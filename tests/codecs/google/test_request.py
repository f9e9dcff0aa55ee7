"""The call as a whole: path, tools, what is left out and said so."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.codecs.google.request import model_of, path_of
from proxy.codecs.google.schema import clean_schema
from proxy.codecs.wire import Abilities, JsonObject
from proxy.errors import ClientError
from tests.codecs.google.calls import HI_TURN, encode

TOOL: JsonObject = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.mark.parametrize("model", ["gemini-3-pro", "a/b:c?d#e", "..", "é %"])
def test_the_model_is_one_segment_of_the_path(model: str) -> None:
    """Whatever its id holds, it stays what it is and cannot lead elsewhere."""
    for is_stream in (False, True):
        path = path_of(model, is_stream=is_stream)
        assert model_of(path) == model
        assert path.count("/") == 2
        assert path.count("?") == is_stream
    assert path_of("m", is_stream=True) == "/models/m:streamGenerateContent?alt=sse"
    assert path_of("m", is_stream=False) == "/models/m:generateContent"


def test_a_plain_request_holds_nothing_but_its_turn() -> None:
    """No setting is sent that nobody asked for; `stream` decides the path, not the body."""
    call, written = encode(stream=True)
    assert written == {"contents": [HI_TURN]}
    assert (call.path, call.is_stream, call.dropped) == ("/models/m:streamGenerateContent?alt=sse", True, ())
    assert encode(stream=None)[0].path == "/models/m:generateContent"


def test_what_is_harmless_to_leave_out_is_left_out_silently() -> None:
    """Fields about caller, books, caches and other layers do not change the answer."""
    harmless: JsonObject = dict.fromkeys(
        [
            "metadata",
            "store",
            "user",
            "safety_identifier",
            "stream_options",
            "usage",
            "prompt_cache_key",
            "cache_control",
            "turnpike",
            "models",
            "route",
            "provider",
            "plugins",
            "transforms",
            "preset",
            "session_id",
            "trace",
            "debug",
        ],
        "x",
    )
    call, written = encode(**harmless)
    assert (written, call.dropped) == ({"contents": [HI_TURN]}, ())


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [
        ({"service_tier": "auto"}, ()),
        ({"service_tier": "default"}, ()),
        ({"service_tier": None}, ()),
        ({"service_tier": "priority"}, ("service_tier",)),
        ({"service_tier": "flex"}, ("service_tier",)),
        ({"web_search_options": {}}, ("web_search_options",)),
        ({"web_search_options": {"search_context_size": "low"}}, ("web_search_options",)),
        ({"web_search_options": None}, ()),
    ],
)
def test_a_tier_or_a_search_that_was_asked_for_is_named(fields: JsonObject, dropped: tuple[str, ...]) -> None:
    """Another tier has another price and speed, and a search another answer; the usual tier asks for nothing."""
    call, written = encode(**fields)
    assert (written, call.dropped) == ({"contents": [HI_TURN]}, dropped)


def test_what_gemini_cannot_honour_is_named() -> None:
    """A field that changes the answer, an unknown one too, is told; one that asks for nothing is not."""
    call, written = encode(logit_bias={"1": 5}, prediction={"type": "content"}, min_p=0.1, verbosity="low", x_new=1)
    assert written == {"contents": [HI_TURN]}
    assert call.dropped == ("logit_bias", "prediction", "min_p", "verbosity", "x_new")
    assert encode(logit_bias={}, prediction=None, min_p=0, functions=[])[0].dropped == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"google": {"cached_content": "cachedContents/1"}, "safety_settings": [{"category": "C", "threshold": "T"}]},
        {
            "extra_body": {
                "google": {
                    "cached_content": "cachedContents/1",
                    "safety_settings": [{"category": "C", "threshold": "T"}],
                }
            }
        },
    ],
)
def test_gemini_s_own_settings_go_on(fields: JsonObject) -> None:
    """Where Google's compatible endpoint takes them, and where most clients put them."""
    call, written = encode(**fields)
    assert written == {
        "contents": [HI_TURN],
        "cachedContent": "cachedContents/1",
        "safetySettings": [{"category": "C", "threshold": "T"}],
    }
    assert call.dropped == ()


def test_functions_become_declarations() -> None:
    """Description and schema go on when there are any; `strict` has no counterpart."""
    bare = {"function": {"name": "g", "description": "", "parameters": {}}}
    full = {"type": "function", "function": {**TOOL["function"], "description": "d", "strict": True}}
    written = encode(tools=[full, bare])[1]
    declared = [{"name": "f", "description": "d", "parametersJsonSchema": {"type": "object"}}, {"name": "g"}]
    assert written["tools"] == [{"functionDeclarations": declared}]
    assert "toolConfig" not in written


def test_tools_that_are_no_functions_are_named() -> None:
    """They are another vendor's; without a function there is nothing to choose from either."""
    call, written = encode(tools=[{"type": "web_search"}, {"googleSearch": {}, "type": "x"}], tool_choice="auto")
    assert (call.dropped, written) == (("tools",), {"contents": [HI_TURN]})


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "f"}}, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TOOL]}},
            {"mode": "ANY", "allowedFunctionNames": ["f"]},
        ),
    ],
)
def test_the_choice_of_tools(choice: Any, expected: JsonObject | None) -> None:
    """Each of OpenAI's has its mode."""
    call, written = encode(tools=[TOOL], tool_choice=choice)
    assert written.get("toolConfig") == (expected and {"functionCallingConfig": expected})
    assert call.dropped == ()


@pytest.mark.parametrize(
    ("choice", "abilities"),
    [
        ("required", Abilities(forced_tools=False)),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TOOL]}}, Abilities()),
    ],
)
def test_a_choice_that_cannot_be_made_is_softened(choice: Any, abilities: Abilities) -> None:
    """The model may still call, and the client is told."""
    call, written = encode(tools=[TOOL], tool_choice=choice, abilities=abilities)
    assert written["toolConfig"] == {"functionCallingConfig": {"mode": "AUTO"}}
    assert call.dropped == ("tool_choice",)


def test_calls_one_by_one_cannot_be_asked_for() -> None:
    """Gemini has no such switch; it matters only when there are tools."""
    assert encode(tools=[TOOL], parallel_tool_calls=False)[0].dropped == ("parallel_tool_calls",)
    assert encode(tools=[TOOL], parallel_tool_calls=True)[0].dropped == ()
    assert encode(parallel_tool_calls=False)[0].dropped == ()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function"),
        ({"tools": [TOOL, 5]}, "tools[1].function"),
        ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"allowed_tools": {"tools": [{}]}}}, "tool_choice"),
    ],
)
def test_tools_that_cannot_be_read_are_refused(fields: JsonObject, param: str) -> None:
    """The client is told where."""
    with pytest.raises(ClientError) as refused:
        encode(**fields)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (
            {"$schema": "x", "type": "object", "additionalProperties": False},
            {"type": "object", "additionalProperties": False},
        ),
        ({"const": 1}, {"enum": [1]}),
        ({"$ref": "#/$defs/A", "description": "d", "$comment": "c"}, {"$ref": "#/$defs/A", "$comment": "c"}),
        (
            {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 9},
            {"type": "integer", "minimum": 1, "maximum": 8},
        ),
        ({"type": "number", "exclusiveMinimum": 0.5}, {"type": "number", "minimum": 0.5}),
        ({"exclusiveMinimum": True, "minimum": 3}, {"minimum": 3}),
        ({"exclusiveMinimum": 1, "minimum": 3}, {"minimum": 3}),
        (
            {"properties": {"const": {"const": "a"}, "$schema": {"type": "string"}}},
            {"properties": {"const": {"enum": ["a"]}, "$schema": {"type": "string"}}},
        ),
        (
            {"anyOf": [{"const": 1}, True], "items": {"const": 2}},
            {"anyOf": [{"enum": [1]}, True], "items": {"enum": [2]}},
        ),
        ({"properties": 5, "anyOf": 6, "enum": [{"const": 1}]}, {"properties": 5, "anyOf": 6, "enum": [{"const": 1}]}),
    ],
)
def test_schemas_are_mended_where_gemini_differs(schema: JsonObject, expected: JsonObject) -> None:
    """Words are changed where they are schema words, never where they are names or values; the given one stays."""
    before = repr(schema)
    assert clean_schema(schema) == expected
    assert repr(schema) == before
