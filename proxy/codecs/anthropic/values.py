"""JSON read with suspicion (floor 1a, pure): what is not of the kind expected counts as absent."""

from __future__ import annotations

from proxy.codecs.wire import JsonObject


def object_of(value: object) -> JsonObject:
    """Give an object, empty for anything else."""
    return value if isinstance(value, dict) else {}


def objects_of(value: object) -> list[JsonObject]:
    """Give the objects of a list, none for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text_of(value: object) -> str:
    """Give a text, empty for anything else."""
    return value if isinstance(value, str) else ""
