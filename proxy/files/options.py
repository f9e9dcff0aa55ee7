"""What every mapping of routes.yaml has in common, and lists written as their one entry (part of `files`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

ENTRIES_MAX = 8
"""Budgets, or rates, of one place."""


class Options(BaseModel):
    """A mapping of routes.yaml: unknown members are refused, values are never bent into another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    later: ClassVar[tuple[str, ...]] = ()
    """Words of a later release, refused by name."""
    elsewhere: ClassVar[Mapping[str, str]] = {}
    """Words that mean something in another mapping, and where they belong."""


class OneOrMany:
    """Annotates a list that may be written as its one entry."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read one entry as a list of it."""
        return core_schema.no_info_before_validator_function(_as_list, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Tell editors that one entry will do."""
        many = {**handler(schema), "maxItems": ENTRIES_MAX}
        return {"anyOf": [many["items"], many]}


def _as_list(value: Any) -> list[Any]:
    entries = value if isinstance(value, list) else [value]
    if len(entries) > ENTRIES_MAX:
        raise ValueError(f"at most {ENTRIES_MAX} may stand in one place")
    return entries
