"""Instances fit their schemas, as a validator of its own sees it, and no schema keeps us busy."""

from __future__ import annotations

import time
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.simulated.schemas import make_instance

BOUNDS = st.integers(-50, 50)


@st.composite
def numbers(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a number's schema that has an instance."""
    low = draw(BOUNDS)
    width = draw(st.integers(3, 40))
    schema: dict[str, Any] = {"type": draw(st.sampled_from(["integer", "number"]))}
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["minimum", "exclusiveMinimum"]))] = low
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["maximum", "exclusiveMaximum"]))] = low + width
    if draw(st.booleans()):
        schema["multipleOf"] = draw(st.integers(1, 2))
    return schema


@st.composite
def strings(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a string's schema."""
    least = draw(st.integers(0, 40))
    schema: dict[str, Any] = {"type": "string"}
    if draw(st.booleans()):
        schema["minLength"] = least
    if draw(st.booleans()):
        schema["maxLength"] = least + draw(st.integers(0, 5))
    return schema


def nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw objects, arrays and choices of inner schemas."""
    names = st.sampled_from(["a", "b", "c", "d"])
    objects = st.dictionaries(names, inner, max_size=3).flatmap(
        lambda properties: st.builds(
            lambda required: {"type": "object", "properties": properties, "required": required},
            st.lists(st.sampled_from(sorted(properties)), unique=True) if properties else st.just([]),
        )
    )
    arrays = st.builds(
        lambda item, count: {"type": "array", "items": item, "minItems": count}, inner, st.integers(0, 3)
    )
    choices = st.builds(
        lambda word, branches: {word: branches}, st.sampled_from(["anyOf"]), st.lists(inner, min_size=1)
    )
    return objects | arrays | choices


SCALARS = (
    numbers()
    | strings()
    | st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["null", "integer"]}])
    | st.builds(lambda value: {"const": value}, st.integers() | st.text() | st.none())
    | st.builds(lambda values: {"enum": values}, st.lists(st.integers() | st.text(), min_size=1))
)


@given(st.recursive(SCALARS, nested, max_leaves=8))
def test_an_instance_fits_its_schema(schema: dict[str, Any]) -> None:
    """Checked by a validator that is not ours."""
    jsonschema.validate(make_instance(schema), schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {"n": {"type": "integer", "minimum": 3}},
         "type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"]},
        {"definitions": {"a/b~c": {"const": 1}}, "$ref": "#/definitions/a~1b~0c"},
        {"allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]},
                   {"properties": {"b": {"const": 2}}, "required": ["b"]}]},
        {"type": "object", "anyOf": [{"properties": {"a": {"type": "boolean"}}, "required": ["a"]}]},
        {"$defs": {"tree": {"type": "object", "properties": {
            "left": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]}}, "required": ["left"]}},
         "$ref": "#/$defs/tree"},
        {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": {"type": "string"}, "minItems": 3},
        {"items": {"type": "integer"}, "minItems": 2},
        {"minimum": 0.25, "maximum": 0.75},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "integer", "exclusiveMinimum": 2.5, "maximum": 3},
        {"type": "integer", "minimum": 7, "multipleOf": 5},
        {"type": "number", "maximum": -1, "multipleOf": 0.5},
        {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"], "minProperties": 2},
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "uuid"},
        {"required": ["anything"]},
        {"type": ["null"]},
        True,
    ],
)  # fmt: skip
def test_an_instance_fits_what_real_schemas_hold(schema: Any) -> None:
    """References, recursion that ends, merged branches, tuples, open bounds."""
    jsonschema.validate(make_instance(schema), schema)


@pytest.mark.parametrize(
    "schema",
    [
        None,
        "text",
        {"type": "nonsense"},
        {"$ref": "#"},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#/nowhere/at/all"},
        {"$ref": 7},
        {"anyOf": []},
        {"anyOf": "x"},
        {"enum": []},
        {"type": "integer", "minimum": 1e300},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "object", "properties": 7, "required": "x"},
        {"type": "string", "minLength": 10**9},
        {"type": "object", "properties": {"me": {"$ref": "#"}, "too": {"$ref": "#"}}, "required": ["me", "too"]},
        {"type": "array", "minItems": 10**9, "items": {"type": "array", "minItems": 10**9, "items": {"$ref": "#"}}},
        {"allOf": [{"allOf": [{"type": "string"}] * 1000}] * 1000},
    ],
)
def test_no_schema_keeps_us_busy(schema: Any) -> None:
    """Nonsense, contradictions, endless recursion and huge counts all give some small JSON soon."""
    began = time.process_time()
    assert len(orjson.dumps(make_instance(schema))) < 3_000_000
    assert time.process_time() - began < 2
