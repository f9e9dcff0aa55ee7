"""A client's tools, and which of them the model is to call (floor 1a, pure; openrouter.md 8.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from proxy.codecs.anthropic.content import mark_cached
from proxy.codecs.anthropic.schema import restrict
from proxy.codecs.anthropic.values import object_of, text_of
from proxy.codecs.wire import JsonObject
from proxy.errors import ClientError

_KINDS = {"auto": "auto", "none": "none", "required": "any"}


@dataclass(frozen=True, slots=True)
class Tools:
    """What goes into `tools` and `tool_choice`."""

    tools: list[JsonObject] = field(default_factory=list)
    choice: JsonObject | None = None
    dropped: tuple[str, ...] = ()


def read_choice(body: JsonObject) -> tuple[JsonObject | None, tuple[str, ...]]:
    """Translate `tool_choice`, and name it when it can only be kept in part; raises `ClientError`."""
    asked = body.get("tool_choice")
    if asked is None:
        return None, ()
    if isinstance(asked, str) and asked in _KINDS:
        return {"type": _KINDS[asked]}, ()
    kind = object_of(asked).get("type")
    name = text_of(object_of(object_of(asked).get("function")).get("name"))
    if kind == "function" and name:
        return {"type": "tool", "name": name}, ()
    if kind == "allowed_tools":
        mode = object_of(object_of(asked).get("allowed_tools")).get("mode")
        return {"type": "any" if mode == "required" else "auto"}, ("tool_choice",)
    raise ClientError("`tool_choice` is auto, none, required or a function by name.", param="tool_choice")


def is_forced(choice: JsonObject | None) -> bool:
    """Tell whether a choice makes the model call a tool."""
    return choice is not None and choice["type"] in ("any", "tool")


def read_tools(body: JsonObject) -> tuple[list[JsonObject], tuple[str, ...]]:
    """Translate the functions among `tools`; other kinds are run by whoever invented them, and are named as left out.

    Raises `ClientError` for a function that is none.
    """
    tools = body.get("tools")
    if tools is None:
        return [], ()
    if not isinstance(tools, list):
        raise ClientError("`tools` is a list.", param="tools")
    written = [
        _write_tool(tool, f"tools[{number}]")
        for number, tool in enumerate(tools)
        if object_of(tool).get("type", "function") == "function"
    ]
    return written, () if len(written) == len(tools) else ("tools",)


def choose(
    tools: Sequence[JsonObject],
    choice: JsonObject | None,
    *,
    answer: JsonObject | None,
    can_force: bool,
    is_parallel: bool,
) -> Tools:
    """Settle what may be called; `answer` is the tool that stands for a schema, `can_force` whether one can be forced.

    A force that cannot be kept becomes a free choice.
    """
    dropped: tuple[str, ...] = ()
    if answer is not None:
        named = {"type": "tool", "name": answer["name"]}
        is_alone = not tools or (choice is not None and choice["type"] == "none")
        forced: JsonObject = named if is_alone else {"type": "any"}
        return Tools(
            [*tools, answer], {**(forced if can_force else {"type": "auto"}), "disable_parallel_tool_use": True}
        )
    if not tools:
        return Tools(dropped=("tool_choice",) if is_forced(choice) else ())
    if is_forced(choice) and not can_force:
        choice, dropped = {"type": "auto"}, ("tool_choice",)
    if not is_parallel and (choice is None or choice["type"] != "none"):
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return Tools(list(tools), choice, dropped)


def declare(names: Sequence[str]) -> Tools:
    """Declare tools that a chat has called and the request no longer offers: without them its history is refused."""
    schema = {"type": "object", "properties": {}}
    return Tools([{"name": name, "input_schema": schema} for name in names], {"type": "none"})


def _write_tool(tool: object, place: str) -> JsonObject:
    function = object_of(object_of(tool).get("function"))
    name = text_of(function.get("name"))
    if not name:
        raise ClientError("A tool holds its `function`, and that its `name`.", param=place)
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise ClientError(
            "A function's `parameters` is a JSON Schema, an object.", param=f"{place}.function.parameters"
        )
    schema: JsonObject = {"type": "object", **(parameters or {"properties": {}})}
    written: JsonObject = {"name": name}
    if description := text_of(function.get("description")):
        written["description"] = description
    is_strict = function.get("strict") is True
    written["input_schema"] = restrict(schema) if is_strict else schema
    if is_strict:
        written["strict"] = True
    return mark_cached(mark_cached(written, function), object_of(tool))
