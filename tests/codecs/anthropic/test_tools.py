"""Tools, which of them to call, and answers that are to have a form."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.codecs.wire import Abilities, JsonObject
from proxy.errors import ClientError
from tests.codecs.anthropic.asking import USER, answered, called, encode, function, text, written

MARK = {"type": "ephemeral"}
ADD = {"name": "add", "input_schema": {"type": "object", "properties": {}}}
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}}}
STRICT = {
    "type": "object",
    "properties": {"age": {"type": "integer", "description": "(minimum: 0)"}},
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        (function(), ADD),
        (function(parameters=None, description=""), ADD),
        (function(parameters={}), ADD),
        ({"function": {"name": "add"}}, ADD),
        (
            function(description="Adds.", parameters=SCHEMA),
            {"name": "add", "description": "Adds.", "input_schema": SCHEMA},
        ),
        (function(parameters={"properties": {}}), ADD),
        (function(strict=False, parameters=SCHEMA), {"name": "add", "input_schema": SCHEMA}),
        (function(strict=True, parameters=SCHEMA), {"name": "add", "input_schema": STRICT, "strict": True}),
        ({**function(), "cache_control": MARK}, {**ADD, "cache_control": MARK}),
        (function(cache_control=MARK), {**ADD, "cache_control": MARK}),
    ],
)
def test_a_function_becomes_a_tool(tool: JsonObject, expected: JsonObject) -> None:
    """With a schema in any case, and one that is kept to strictly in the form Anthropic can keep."""
    assert written(tools=[tool])["tools"] == [expected]


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ("x", "tools"),
        ([function(), 5], "tools[1]"),
        ([function(), {"type": "function"}], "tools[1]"),
        ([function("")], "tools[0]"),
        ([{"type": "custom"}, function(parameters=5)], "tools[1].function.parameters"),
    ],
)
def test_a_tool_that_is_none_is_refused(tools: Any, param: str) -> None:
    """With its place."""
    with pytest.raises(ClientError) as caught:
        encode(tools=tools)
    assert caught.value.param == param


def test_tools_of_other_kinds_are_named_as_lost() -> None:
    """Whoever invented them runs them, and charges for it."""
    call = encode(tools=[{"type": "custom", "custom": {}}, function(), {"type": "web_search_20250305", "name": "w"}])
    assert call.dropped == ("tools",)
    assert orjson.loads(call.body)["tools"] == [ADD]
    assert "tools" not in orjson.loads(encode(tools=[{"type": "custom"}]).body)
    assert "tools" not in orjson.loads(encode(tools=[]).body)


NAMED = {"type": "function", "function": {"name": "add"}}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}}


@pytest.mark.parametrize(
    ("choice", "parallel", "expected", "dropped"),
    [
        (None, None, None, ()),
        (None, True, None, ()),
        ("auto", None, {"type": "auto"}, ()),
        ("none", None, {"type": "none"}, ()),
        ("required", None, {"type": "any"}, ()),
        (NAMED, None, {"type": "tool", "name": "add"}, ()),
        (ALLOWED, None, {"type": "any"}, ("tool_choice",)),
        ({"type": "allowed_tools"}, None, {"type": "auto"}, ("tool_choice",)),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}, ()),
        ("auto", False, {"type": "auto", "disable_parallel_tool_use": True}, ()),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}, ()),
        (NAMED, False, {"type": "tool", "name": "add", "disable_parallel_tool_use": True}, ()),
        ("none", False, {"type": "none"}, ()),
    ],
)
def test_the_choice_of_a_tool(choice: Any, parallel: Any, expected: Any, dropped: tuple[str, ...]) -> None:
    """By Anthropic's names; whether several may be called at once stands beside it there."""
    call = encode(tools=[function()], tool_choice=choice, parallel_tool_calls=parallel)
    assert orjson.loads(call.body).get("tool_choice") == expected
    assert call.dropped == dropped


@pytest.mark.parametrize("choice", ["any", {"type": "tool", "name": "add"}, {"type": "function"}, 5, []])
def test_a_choice_that_is_none_is_refused(choice: Any) -> None:
    """Rather than guessed."""
    with pytest.raises(ClientError) as caught:
        encode(tools=[function()], tool_choice=choice)
    assert caught.value.param == "tool_choice"


@pytest.mark.parametrize(
    ("choice", "dropped"), [("auto", ()), ("none", ()), ("required", ("tool_choice",)), (NAMED, ("tool_choice",))]
)
def test_a_choice_among_no_tools_is_none(choice: Any, dropped: tuple[str, ...]) -> None:
    """Anthropic refuses it."""
    call = encode(tool_choice=choice, parallel_tool_calls=False)
    assert "tool_choice" not in orjson.loads(call.body)
    assert call.dropped == dropped


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_a_model_that_cannot_be_forced_is_free(choice: Any) -> None:
    """And the client is told."""
    call = encode(
        tools=[function()], tool_choice=choice, parallel_tool_calls=False, abilities=Abilities(forced_tools=False)
    )
    assert orjson.loads(call.body)["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert call.dropped == ("tool_choice",)


def test_a_chat_that_called_tools_still_knows_them() -> None:
    """Anthropic refuses their calls in a request that offers none; they are named, and may not be called."""
    history = (USER, called("a", name="add"), answered("a"), called("b", name="sub"), answered("b"))
    body = written(*history)
    assert [tool["name"] for tool in body["tools"]] == ["add", "sub"]
    assert body["tool_choice"] == {"type": "none"}
    assert [tool["name"] for tool in written(*history, tools=[function("mul")])["tools"]] == ["mul"]


def form(schema: Any = SCHEMA, **more: Any) -> JsonObject:
    """Make a `response_format`."""
    return {"type": "json_schema", "json_schema": {"name": "person", "schema": schema, **more}}


def test_a_schema_is_kept_by_the_model_itself() -> None:
    """Where it can, in the form it takes."""
    call = encode(response_format=form(strict=True))
    body = orjson.loads(call.body)
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": STRICT}}
    assert (call.schema_tool, call.dropped, "tools" in body) == (None, (), False)
    named = {"type": "json_schema", "json_schema": {"name": "x"}}
    assert written(response_format=named)["output_config"]["format"]["schema"]["type"] == "object"


def test_a_form_and_a_prefill_do_not_go_together() -> None:
    """Anthropic refuses both at once."""
    assert encode(USER, {"role": "assistant", "content": "{"}, response_format=form()).dropped == ("prefill",)


OLD = Abilities(json_schema=False)
TOOL = {"name": "person", "description": "Give the answer.", "input_schema": SCHEMA}


@pytest.mark.parametrize(
    ("fields", "tools", "choice"),
    [
        ({}, [TOOL], {"type": "tool", "name": "person"}),
        ({"tools": []}, [TOOL], {"type": "tool", "name": "person"}),
        ({"tools": [function()]}, [ADD, TOOL], {"type": "any"}),
        ({"tools": [function()], "tool_choice": "auto"}, [ADD, TOOL], {"type": "any"}),
        ({"tools": [function()], "tool_choice": "none"}, [ADD, TOOL], {"type": "tool", "name": "person"}),
    ],
)
def test_an_older_model_answers_by_a_tool(fields: JsonObject, tools: list[JsonObject], choice: JsonObject) -> None:
    """It must call it, or one of the client's; the schema stands there as the client wrote it."""
    call = encode(response_format=form(), abilities=OLD, **fields)
    body = orjson.loads(call.body)
    assert (body["tools"], body["tool_choice"]) == (tools, {**choice, "disable_parallel_tool_use": True})
    assert (call.schema_tool, call.dropped, "output_config" in body) == ("person", (), False)


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_a_client_that_forces_its_own_tool_gets_no_answer_beside_it(choice: Any) -> None:
    """So there is nothing to form."""
    call = encode(response_format=form(), tools=[function()], tool_choice=choice, abilities=OLD)
    assert call.schema_tool is None
    assert orjson.loads(call.body)["tools"] == [ADD]


def test_a_model_that_can_neither_is_asked() -> None:
    """The tool is offered and asked for in words, and the client is told that nothing forces it."""
    abilities = Abilities(json_schema=False, forced_tools=False)
    call = encode({"role": "system", "content": "Hm."}, USER, response_format=form(), abilities=abilities)
    body = orjson.loads(call.body)
    assert (call.schema_tool, call.dropped) == ("person", ("response_format",))
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert body["system"][0] == text("Hm.")
    assert "`person`" in body["system"][1]["text"]


@pytest.mark.parametrize(
    ("name", "tools", "expected"),
    [
        ("a b/c", [], "a_b_c"),
        ("", [], "answer"),
        (None, [], "answer"),
        ("x" * 70, [], "x" * 60),
        ("add", [function()], "add_"),
        ("add", [function(), function("add_"), 5], "add__"),
    ],
)
def test_the_tool_that_answers_has_a_name_of_its_own(name: Any, tools: list[Any], expected: str) -> None:
    """One Anthropic accepts and no tool of the client's has."""
    named = {"type": "json_schema", "json_schema": {"name": name, "description": "A person.", "schema": {}}}
    tools = [tool for tool in tools if isinstance(tool, dict)]
    call = encode(response_format=named, tools=tools, abilities=OLD)
    assert call.schema_tool == expected
    tool = orjson.loads(call.body)["tools"][-1]
    assert tool == {"name": expected, "description": "A person.", "input_schema": {"type": "object"}}


def test_json_without_a_schema_is_asked_for_in_words() -> None:
    """There is no mode for it."""
    call = encode(response_format={"type": "json_object"})
    (system,) = orjson.loads(call.body)["system"]
    assert "JSON object" in system["text"]
    assert call.dropped == ()


@pytest.mark.parametrize(
    ("asked", "dropped"),
    [
        (None, ()),
        ({"type": "text"}, ()),
        ({"type": "grammar", "grammar": "x"}, ("response_format",)),
        ("json", ("response_format",)),
        ({}, ("response_format",)),
    ],
)
def test_other_forms_are_named_as_lost(asked: Any, dropped: tuple[str, ...]) -> None:
    """Plain text is what comes anyway."""
    call = encode(response_format=asked)
    assert call.dropped == dropped
    assert set(orjson.loads(call.body)) == {"model", "max_tokens", "messages"}


@pytest.mark.parametrize("named", [None, "x", {"schema": 5}, {"schema": True}, {"schema": None}])
def test_a_form_without_a_schema_is_refused(named: Any) -> None:
    """With its place."""
    with pytest.raises(ClientError) as caught:
        encode(response_format={"type": "json_schema", "json_schema": named})
    assert caught.value.param == "response_format.json_schema"
