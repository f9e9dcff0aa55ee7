"""The JSON Schema: what editors are told is what the loader does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from proxy.files import config_folder, routes_schema

SCHEMA = routes_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
TABLES = [config_folder().parent / "routes.yaml", *sorted((config_folder() / "examples").glob("*.yaml"))]


def members() -> Iterator[tuple[str, dict[str, Any]]]:
    """Give every member of every mapping."""
    for name, mapping in {"RoutesOptions": SCHEMA, **SCHEMA["$defs"]}.items():
        for form in (mapping, *mapping.get("anyOf", ())):
            for member, schema in form.get("properties", {}).items():
                yield f"{name}.{member}", schema


def test_it_is_a_schema() -> None:
    """Draft 2020-12."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_every_member_is_described() -> None:
    """An editor shows the description and the title while one types."""
    assert len(list(members())) > 50
    for name, schema in members():
        assert schema.get("description"), name


def test_every_member_that_is_text_or_a_unit_has_an_example() -> None:
    """Units are learnt by example; clocks and kinds of price speak by their pattern."""
    for name, schema in members():
        forms = [schema, *schema.get("anyOf", ())]
        is_plain = any(form.get("type") == "boolean" or "$ref" in form or "enum" in form for form in forms)
        has_example = any(form.get("examples") for form in forms)
        assert is_plain or has_example or any("pattern" in form for form in forms), name


def test_examples_and_patterns_agree() -> None:
    """What is shown as an example passes the pattern beside it."""
    for name, schema in members():
        for form in (schema, *schema.get("anyOf", ())):
            for example in form.get("examples", ()) if "pattern" in form else ():
                assert re.search(form["pattern"], example), name


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_shipped_tables_satisfy_it_and_name_it(path: Path) -> None:
    """Their first line leads an editor to the schema."""
    text = path.read_text()
    first = text.partition("\n")[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.partition("=")[2]).resolve() == config_folder() / "routes.schema.json"
    VALIDATOR.validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"models": {}, "tennants": {}},
        {"models": {"m": []}},
        {"models": {"m": 5}},
        {"models": {"m": {"targets": ["a/x"], "max_cost": "5"}}},
        {"models": {"m": {"two_tier": {}}}},
        {"models": {"m": [{"target": "a/x", "price": {"input": "$1/M"}}]}},
        {"models": {"m": "a/x"}, "keys": [{"name": "x", "budget": "$5/fortnight"}]},
        {"models": {"m": "a/x"}, "providers": {"p": {"dialect": "opnai"}}},
        {"models": {"m": "a/x"}, "providers": {"p": {"on_disconnect": "stay"}}},
        {"models": {"m": "a/x"}, "budget": ["$5/day", "$9/fortnight"]},
        {"models": {"m": "a/x"}, "budget": {"soft": True}},
        {"models": {"m": "a/x"}, "tenants": {"t": {"rate": 60}}},
        {"models": {"m": "a/x"}, "keys": [{"name": "x", "key": "abcdefgh", "users": {"wait": "2"}}]},
        {"models": {"m": "a/x"}, "providers": {"p": {"api_keys": []}}},
    ],
)
def test_it_refuses_what_the_loader_refuses_by_form(broken: dict[str, Any]) -> None:
    """Unknown words, units, missing members."""
    assert not VALIDATOR.is_valid(broken)
