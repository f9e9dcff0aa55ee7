"""What stands in foreign JSON, as the type it should have (part of the Google codec, pure)."""

from __future__ import annotations

from typing import Any, TypeGuard

from proxy.codecs.wire import JsonObject


def object_of(value: object) -> JsonObject:
    """Give an object, empty when it is none."""
    return value if isinstance(value, dict) else {}


def objects_of(value: object) -> list[JsonObject]:
    """Give the objects of a list."""
    return [one for one in list_of(value) if isinstance(one, dict)]


def list_of(value: object) -> list[Any]:
    """Give a list, empty when it is none."""
    return value if isinstance(value, list) else []


def text_of(value: object) -> str:
    """Give a text, empty when it is none."""
    return value if isinstance(value, str) else ""


def is_whole(value: object) -> TypeGuard[int]:
    """Tell whether it is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether it is a number, whole or not."""
    return isinstance(value, int | float) and not isinstance(value, bool)
