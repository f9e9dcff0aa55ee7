"""Functions the model may call (part of the Google codec, pure; openrouter.md 8.5)."""

from __future__ import annotations

from proxy.codecs.google.fields import list_of, object_of, objects_of, text_of
from proxy.codecs.google.parts import refuse
from proxy.codecs.google.schema import clean_schema
from proxy.codecs.wire import Abilities, JsonObject

_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


def write_tools(body: JsonObject, abilities: Abilities, dropped: list[str]) -> JsonObject:
    """Give `tools` and `toolConfig`, as far as the client asks for any; raises `ClientError`.

    Only functions go on. Tools that run at a provider are another vendor's, or cost fees of their own here.
    """
    declarations = _declarations(body.get("tools"), dropped)
    if not declarations:
        return {}
    written: JsonObject = {"tools": [{"functionDeclarations": declarations}]}
    config = _config(body.get("tool_choice"), abilities, dropped)
    if config:
        written["toolConfig"] = {"functionCallingConfig": config}
    if body.get("parallel_tool_calls") is False:
        dropped.append("parallel_tool_calls")
    return written


def _declarations(tools: object, dropped: list[str]) -> list[JsonObject]:
    declarations = []
    if not isinstance(tools, list | None):
        refuse("must be a list", "tools")
    for index, tool in enumerate(list_of(tools)):
        function = object_of(object_of(tool).get("function"))
        if object_of(tool).get("type", "function") != "function":
            dropped.append("tools")
        elif not text_of(function.get("name")):
            refuse("must have a name", f"tools[{index}].function")
        else:
            declarations.append(_declare(function))
    return declarations


def _declare(function: JsonObject) -> JsonObject:
    declaration: JsonObject = {"name": function["name"]}
    if description := text_of(function.get("description")):
        declaration["description"] = description
    if parameters := object_of(function.get("parameters")):
        declaration["parametersJsonSchema"] = clean_schema(parameters)
    return declaration


def _config(choice: object, abilities: Abilities, dropped: list[str]) -> JsonObject:
    """Say how calls are chosen; a model that cannot be made to call a tool may at least do so."""
    config = _choose(choice)
    if config.get("mode") == "ANY" and not abilities.forced_tools:
        dropped.append("tool_choice")
        return {"mode": "AUTO"}
    if "allowedFunctionNames" in config and config["mode"] == "AUTO":
        dropped.append("tool_choice")
        return {"mode": "AUTO"}
    return config


def _choose(choice: object) -> JsonObject:
    if choice is None:
        return {}
    if isinstance(choice, str) and choice in _MODES:
        return {"mode": _MODES[choice]}
    fields = object_of(choice)
    if name := text_of(object_of(fields.get("function")).get("name")):
        return {"mode": "ANY", "allowedFunctionNames": [name]}
    allowed = object_of(fields.get("allowed_tools"))
    names = [text_of(object_of(tool.get("function")).get("name")) for tool in objects_of(allowed.get("tools"))]
    if names and all(names):
        return {"mode": _MODES.get(text_of(allowed.get("mode")), "AUTO"), "allowedFunctionNames": names}
    return refuse("must be auto, none, required, a function's name or allowed_tools with functions", "tool_choice")
