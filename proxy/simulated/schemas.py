"""The least JSON that fits a JSON Schema: what a model with structured output has to give (pure).

Covered: type, enum, const, properties and required, items, prefixItems, minItems, bounds and multiples of numbers,
lengths and common formats of strings, $ref into the same document, anyOf, oneOf and allOf. Not covered: pattern, not,
if/then/else, dependencies, uniqueItems. Depth and size are bounded, so that no schema can keep us busy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from operator import ge, gt, le, lt
from typing import Any, Final

Json = Any

DEPTH_MAX: Final = 16
DEPTH_EASY: Final = 6
"""Below this depth a branch without $ref or nesting is preferred: recursive schemas have to end somewhere."""
BRANCHES_MAX: Final = 100
"""Of allOf."""
WORK_MAX: Final = 20_000
"""Keywords read for one value in all; what is left to make after that is null."""
ITEMS_MAX: Final = 1_000
TEXT_CHARS_MAX: Final = 1_000
NUMBER_MAX: Final = 2**53
_TEXT: Final = "text "
_BOUNDS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "minimum": ge,
    "maximum": le,
    "exclusiveMinimum": gt,
    "exclusiveMaximum": lt,
}
_FORMATS: Final = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def make_instance(schema: object) -> Json:
    """Make the least value that fits; null where the schema is no schema or asks for too much."""
    return _Maker(schema).make(schema, 0)


class _Maker:
    """One document, and how much work it may still ask for."""

    def __init__(self, document: object) -> None:
        self._document = document
        self._work_left = WORK_MAX

    def make(self, schema: object, depth: int) -> Json:
        self._work_left -= 1
        if not isinstance(schema, dict) or depth > DEPTH_MAX or self._work_left < 0:
            return None
        schema = self._settle(schema, depth)
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return schema["enum"][0]
        match _type_of(schema):
            case "object":
                return self._make_object(schema, depth)
            case "array":
                return self._make_array(schema, depth)
            case kind:
                make = _SCALARS.get(kind)
                return None if make is None else make(schema)

    def _settle(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        """Resolve references and choices until plain keywords are left."""
        for _ in range(DEPTH_MAX):
            self._work_left -= len(schema)
            if "$ref" in schema:
                target = self._find(schema["$ref"])
                schema = _merge({name: value for name, value in schema.items() if name != "$ref"}, target)
            elif keyword := next((word for word in ("anyOf", "oneOf", "allOf") if word in schema), None):
                rest = {name: value for name, value in schema.items() if name != keyword}
                branches = [branch for branch in _list_of(schema[keyword]) if isinstance(branch, dict)]
                chosen = branches[:BRANCHES_MAX] if keyword == "allOf" else _choose(branches, depth)
                schema = rest
                for branch in chosen:
                    schema = _merge(schema, branch)
            else:
                break
        return schema

    def _find(self, reference: object) -> Mapping[str, Any]:
        """Follow a JSON pointer into this document; anything else finds nothing."""
        node: object = self._document
        if not isinstance(reference, str) or not reference.startswith("#"):
            return {}
        for part in reference.removeprefix("#").split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            node = node.get(name) if isinstance(node, dict) else None
        return node if isinstance(node, dict) else {}

    def _make_object(self, schema: Mapping[str, Any], depth: int) -> Json:
        known = schema.get("properties")
        properties = known if isinstance(known, dict) else {}
        names = [name for name in _list_of(schema.get("required")) if isinstance(name, str)]
        missing = max(0, _int_of(schema, "minProperties", 0) - len(names))
        names += [name for name in properties if name not in names][:missing]
        return {name: self.make(properties.get(name, {"type": "string"}), depth + 1) for name in names}

    def _make_array(self, schema: Mapping[str, Any], depth: int) -> Json:
        first = _list_of(schema.get("prefixItems"))
        count = min(_int_of(schema, "minItems", 0), ITEMS_MAX)
        rest = schema.get("items", {"type": "string"})
        schemas = (first + [rest] * (count - len(first)))[: max(count, len(first))]
        return [self.make(item, depth + 1) for item in schemas]


def _merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Join two schemas that both hold: names are collected, of anything else the second wins."""
    merged = {**first, **second}
    if isinstance(first.get("properties"), dict) and isinstance(second.get("properties"), dict):
        merged["properties"] = {**first["properties"], **second["properties"]}
    if "required" in first and "required" in second:
        merged["required"] = [*_list_of(first["required"]), *_list_of(second["required"])]
    return merged


def _choose(branches: list[dict[str, Any]], depth: int) -> list[dict[str, Any]]:
    """Choose one branch: the first, deep down one that ends."""
    if depth >= DEPTH_EASY:
        ending = [branch for branch in branches if _type_of(branch) in _SCALARS or _type_of(branch) == "null"]
        branches = ending or branches[::-1]
    return branches[:1]


def _type_of(schema: Mapping[str, Any]) -> str:
    """Tell the type, guessing from other keywords when it is not told."""
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "$ref" in schema:
        return "reference"
    if "properties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    return "number" if schema.keys() & {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"} else "string"


def _make_string(schema: Mapping[str, Any]) -> str:
    known = _FORMATS.get(str(schema.get("format")))
    if known is not None:
        return known
    least = min(max(_int_of(schema, "minLength", 0), len(_TEXT) - 1), TEXT_CHARS_MAX)
    text = (_TEXT * (least // len(_TEXT) + 1))[:least]
    return text[: _int_of(schema, "maxLength", TEXT_CHARS_MAX)]


def _make_number(schema: Mapping[str, Any], *, is_whole: bool) -> float:
    """Try the values near zero and near the bounds; 0 when none of them fits."""
    low = _number_of(schema, "minimum", "exclusiveMinimum")
    high = _number_of(schema, "maximum", "exclusiveMaximum")
    step = _number_of(schema, "multipleOf") or 1
    bounds = [bound for bound in (low, high) if bound is not None]
    near = [value for bound in bounds for value in (bound, math.floor(bound) + 1, math.ceil(bound) - 1)]
    steps = [(math.floor(bound / step) + offset) * step for bound in bounds for offset in (0, 1, -1)]
    tried = [0, *near, *steps, *([sum(bounds) / 2] if len(bounds) == 2 else [])]
    whole = [int(value) if float(value).is_integer() else value for value in tried]
    fitting = (value for value in whole if _fits(value, schema) and (isinstance(value, int) or not is_whole))
    return next(fitting, 0)


def _fits(value: float, schema: Mapping[str, Any]) -> bool:
    step = _number_of(schema, "multipleOf")
    bounds = ((_number_of(schema, name), holds) for name, holds in _BOUNDS.items())
    is_within = all(holds(value, bound) for bound, holds in bounds if bound is not None)
    return is_within and (not step or float(value / step).is_integer())


def _number_of(schema: Mapping[str, Any], *names: str) -> float | None:
    """Give the first of these keywords that holds a number we can count with exactly."""
    for name in names:
        value = schema.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= NUMBER_MAX:
            return value
    return None


def _int_of(schema: Mapping[str, Any], name: str, default: int) -> int:
    value = schema.get(name)
    return value if isinstance(value, int) and value >= 0 else default


def _list_of(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


_SCALARS: Final[Mapping[str, Callable[[Mapping[str, Any]], Json]]] = {
    "string": _make_string,
    "integer": partial(_make_number, is_whole=True),
    "number": partial(_make_number, is_whole=False),
    "boolean": lambda _schema: True,
}
