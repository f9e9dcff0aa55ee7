"""Schemas as Anthropic's structured output takes them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.codecs.anthropic.schema import restrict

REFUSED = {
    "minItems": 2,
    "maxItems": 5,
    "uniqueItems": True,
    "contains": {"type": "string"},
    "prefixItems": [{"type": "string"}],
    "minimum": 1,
    "maximum": 9,
    "exclusiveMinimum": 0,
    "exclusiveMaximum": 10,
    "multipleOf": 2,
    "minLength": 1,
    "maxLength": 9,
    "patternProperties": {"^x": {}},
    "propertyNames": {"maxLength": 3},
    "dependentRequired": {"a": ["b"]},
    "dependentSchemas": {"a": {}},
    "dependencies": {"a": ["b"]},
    "if": {"minimum": 1},
    "then": {},
    "else": {},
    "not": {"type": "null"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_keyword_anthropic_refuses_moves_into_the_description(name: str) -> None:
    """Where the model still reads it."""
    found = restrict({"type": "string", name: REFUSED[name]})
    assert set(found) == {"type", "description"}
    assert found["description"].startswith(f"({name}: ")


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "enum": ["a"], "format": "date"}, {"type": "string", "enum": ["a"], "format": "date"}),
        ({"type": "string", "format": "iban"}, {"type": "string", "description": '(format: "iban")'}),
        ({"type": "string", "format": 5}, {"type": "string", "description": "(format: 5)"}),
        ({"type": "array", "minItems": 1}, {"type": "array", "minItems": 1}),
        ({"type": "array", "minItems": 0}, {"type": "array", "minItems": 0}),
        (
            {"description": "Age.", "minimum": 0, "maximum": 9},
            {"description": "Age.\n\n(minimum: 0, maximum: 9)"},
        ),
        ({"oneOf": [{"minimum": 1}, True]}, {"anyOf": [{"description": "(minimum: 1)"}, True]}),
        ({"oneOf": [5], "anyOf": [{}]}, {"anyOf": [{}], "description": "(oneOf: [5])"}),
        ({"anyOf": 5}, {"anyOf": 5}),
        ({"properties": 5}, {"properties": 5, "additionalProperties": False}),
        ({"type": "object"}, {"type": "object", "additionalProperties": False}),
        ({"type": "object", "additionalProperties": False}, {"type": "object", "additionalProperties": False}),
        (
            {"type": ["object", "null"], "additionalProperties": {"type": "string"}},
            {
                "type": ["object", "null"],
                "additionalProperties": False,
                "description": '(additionalProperties: {"type":"string"})',
            },
        ),
        (
            {"properties": {"minimum": {"type": "integer", "minimum": 1}, "not": True}},
            {
                "properties": {"minimum": {"type": "integer", "description": "(minimum: 1)"}, "not": True},
                "additionalProperties": False,
            },
        ),
        (
            {"$defs": {"a": {"maxLength": 1}}, "definitions": {"b": {"maxLength": 2}}, "$ref": "#/$defs/a"},
            {
                "$defs": {"a": {"description": "(maxLength: 1)"}},
                "definitions": {"b": {"description": "(maxLength: 2)"}},
                "$ref": "#/$defs/a",
            },
        ),
        ({"items": {"maxLength": 1}}, {"items": {"description": "(maxLength: 1)"}}),
        ({"allOf": [{"maxLength": 1}]}, {"allOf": [{"description": "(maxLength: 1)"}]}),
        ({"const": {"minimum": 1}, "default": {"not": 1}}, {"const": {"minimum": 1}, "default": {"not": 1}}),
        (True, True),
    ],
)
def test_a_schema_is_restricted_where_schemas_stand(schema: Any, expected: Any) -> None:
    """Objects are closed, choices are `anyOf`, and a property may be called as it likes."""
    before = deepcopy(schema)
    assert restrict(schema) == expected
    assert schema == before


names = st.sampled_from([*REFUSED, "type", "properties", "items", "anyOf", "oneOf", "allOf", "$defs", "description"])
schemas: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["object", "string"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)


@given(schemas)
def test_restricting_twice_is_restricting_once(schema: Any) -> None:
    """Whatever is called a schema."""
    once = restrict(schema)
    assert restrict(once) == once
