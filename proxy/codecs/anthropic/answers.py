"""The form an answer is to have, `response_format` (floor 1a, pure; openrouter.md 8.3).

A schema is kept by the model's own structured output where it has one. Where it has not, the schema becomes a tool the
model must call, and the call's input is the answer. JSON without a schema has no mode of its own: the model is asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxy.codecs.anthropic.schema import restrict
from proxy.codecs.anthropic.values import object_of, objects_of, text_of
from proxy.codecs.wire import Abilities, JsonObject
from proxy.errors import ClientError

NAME_CHARS_MAX = 60
_JSON_ONLY = "Answer with one JSON object and nothing else: no words around it, no code fence."
_TOOL_ONLY = "Give your answer by calling the tool `{name}`, once, and write nothing else."
_UNFIT_FOR_NAME = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass(frozen=True, slots=True)
class Form:
    """How the form is asked for."""

    output_format: JsonObject | None = None
    """Goes to `output_config.format`."""
    tool: JsonObject | None = None
    """Stands for the answer."""
    instruction: str = ""
    """Goes behind the system prompt."""
    dropped: tuple[str, ...] = ()


def read_form(body: JsonObject, abilities: Abilities, *, has_forced_tool: bool) -> Form:
    """Choose the form; a client that forces a tool of its own gets no answer beside it, so there is none to form.

    Raises `ClientError` for a schema that is none.
    """
    asked = body.get("response_format")
    if asked is None:
        return Form()
    match object_of(asked).get("type"):
        case "text":
            return Form()
        case "json_object":
            return Form(instruction=_JSON_ONLY)
        case "json_schema":
            named = _read_schema(asked)
        case _:
            return Form(dropped=("response_format",))
    schema = named.get("schema", {"type": "object"})
    if abilities.json_schema:
        return Form({"type": "json_schema", "schema": restrict(schema)})
    return Form() if has_forced_tool else _tool_form(named, schema, body, abilities)


def _read_schema(asked: JsonObject) -> JsonObject:
    named = asked.get("json_schema")
    if not isinstance(named, dict) or not isinstance(named.get("schema", {}), dict):
        raise ClientError(
            "A `json_schema` format holds an object with the JSON Schema under `schema`.",
            param="response_format.json_schema",
        )
    return named


def _tool_form(named: JsonObject, schema: JsonObject, body: JsonObject, abilities: Abilities) -> Form:
    taken = {text_of(object_of(tool.get("function")).get("name")) for tool in objects_of(body.get("tools"))}
    name = _UNFIT_FOR_NAME.sub("_", text_of(named.get("name")))[:NAME_CHARS_MAX] or "answer"
    while name in taken:
        name += "_"
    description = text_of(named.get("description")) or "Give the answer."
    tool = {"name": name, "description": description, "input_schema": {"type": "object", **schema}}
    if abilities.forced_tools:
        return Form(tool=tool)
    return Form(tool=tool, instruction=_TOOL_ONLY.format(name=name), dropped=("response_format",))
