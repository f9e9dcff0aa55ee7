"""JSON Schemas as Anthropic's structured output takes them (floor 1a, pure; openrouter.md 8.3).

It refuses keywords that restrict a value beyond its type. They are moved into the description, where the model still
reads them: an answer then keeps to them by goodwill, no longer by grammar.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from proxy.codecs.wire import JsonObject

_REFUSED = frozenset(
    {
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "maxItems",
        "uniqueItems",
        "contains",
        "minContains",
        "maxContains",
        "prefixItems",
        "unevaluatedItems",
        "minProperties",
        "maxProperties",
        "patternProperties",
        "propertyNames",
        "unevaluatedProperties",
        "if",
        "then",
        "else",
        "not",
    }
)
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
"""Of a string, as Anthropic's own SDK sends them."""
_DEPENDENT = re.compile(r"dependen(?:t|cies)")
_LISTS = ("anyOf", "allOf")
_MAPS = ("properties", "$defs", "definitions")


def restrict(schema: Any) -> Any:
    """Give a schema without what is refused; `true` and `false` are schemas too. The original is not changed."""
    if not isinstance(schema, dict):
        return schema
    kept = dict(schema)
    if "oneOf" in kept and "anyOf" not in kept:
        kept["anyOf"] = kept.pop("oneOf")
    moved = {name: kept.pop(name) for name in schema if _is_refused(name, schema[name]) and name in kept}
    if _is_object(kept):
        moved |= {"additionalProperties": kept["additionalProperties"]} if kept.get("additionalProperties") else {}
        kept["additionalProperties"] = False
    if moved:
        kept["description"] = _describe(kept.get("description"), moved)
    return _restrict_inside(kept)


def _restrict_inside(schema: JsonObject) -> JsonObject:
    """Go down where schemas stand, and nowhere else: a property may well be called `minimum`."""
    inside: JsonObject = {}
    for name, value in schema.items():
        if name in _MAPS and isinstance(value, dict):
            inside[name] = {key: restrict(child) for key, child in value.items()}
        elif name in _LISTS and isinstance(value, list):
            inside[name] = [restrict(child) for child in value]
        elif name == "items":
            inside[name] = restrict(value)
    return schema | inside


def _is_refused(name: str, value: object) -> bool:
    if name == "minItems":
        return value not in (0, 1)
    if name == "format":
        return not (isinstance(value, str) and value in _FORMATS)
    return name in _REFUSED or name == "oneOf" or _DEPENDENT.match(name) is not None


def _is_object(schema: JsonObject) -> bool:
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema


def _describe(description: object, moved: JsonObject) -> str:
    """Add what was taken out to a description, as JSON the model can read."""
    said = ", ".join(f"{name}: {orjson.dumps(value).decode()}" for name, value in moved.items())
    return f"{description}\n\n({said})" if isinstance(description, str) and description else f"({said})"
