"""JSON Schema as Gemini reads it (part of the Google codec, pure).

`parametersJsonSchema` and `responseJsonSchema` take most of JSON Schema as it is, unlike `parameters` and
`responseSchema`, which know only a subset of OpenAPI's and would lose `additionalProperties`, `$ref` and formats. What
is left to mend: `const` becomes an `enum` of one, an exclusive bound its neighbour or a plain one, beside `$ref`
nothing but `$` names may stand, and words for other tools go.
"""

from __future__ import annotations

from typing import Any

from proxy.codecs.google.fields import is_whole
from proxy.codecs.wire import JsonObject

_UNKNOWN = frozenset({"$schema", "discriminator", "examples", "strict"})
_OF_SCHEMAS = frozenset({"properties", "$defs", "definitions", "patternProperties"})
_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_SINGLE = frozenset({"items", "additionalProperties", "not"})
_BOUNDS = {"exclusiveMinimum": ("minimum", 1), "exclusiveMaximum": ("maximum", -1)}


def clean_schema(schema: JsonObject) -> JsonObject:
    """Give the schema as Gemini takes it; the given one is left as it is."""
    kept = {name: _clean_member(name, value) for name, value in schema.items() if name not in _UNKNOWN}
    if "$ref" in kept:
        return {name: value for name, value in kept.items() if name.startswith("$")}
    if "const" in kept:
        kept["enum"] = [kept.pop("const")]
    for exclusive, (inclusive, step) in _BOUNDS.items():
        bound = kept.pop(exclusive, None)
        if isinstance(bound, int | float) and not isinstance(bound, bool):
            is_integer = schema.get("type") == "integer" and is_whole(bound)
            kept.setdefault(inclusive, bound + step if is_integer else bound)
    return kept


def _clean_member(name: str, value: Any) -> Any:
    if name in _OF_SCHEMAS and isinstance(value, dict):
        return {key: _clean(one) for key, one in value.items()}
    if name in _LISTS and isinstance(value, list):
        return [_clean(one) for one in value]
    return _clean(value) if name in _SINGLE else value


def _clean(value: Any) -> Any:
    return clean_schema(value) if isinstance(value, dict) else value
