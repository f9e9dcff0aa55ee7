"""Deltas put together as OpenAI's Python SDK does (openai 2.x, `lib/streaming/_deltas.py`), by its rule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from proxy.codecs.wire import JsonObject


def accumulate(chunks: Iterable[JsonObject]) -> JsonObject:
    """Give the message that a client keeps of a stream's chunks."""
    message: JsonObject = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            _add(message, choice["delta"])
    return message


def _add(kept: JsonObject, delta: JsonObject) -> None:
    """Join texts and numbers; `index` and `type` are replaced, and so is what was null or is new."""
    for name, value in delta.items():
        held = kept.get(name)
        if isinstance(value, list) and all(isinstance(one, dict) for one in value):
            _add_items(kept.setdefault(name, []), value)
        elif held is None or name in ("index", "type"):
            kept[name] = value
        elif isinstance(held, dict):
            _add(held, value)
        else:
            kept[name] = held + value


def _add_items(kept: list[Any], items: list[JsonObject]) -> None:
    """Join an item with the one that stands where its `index` says; past the end it is a new one."""
    for item in items:
        if item["index"] < len(kept):
            _add(kept[item["index"]], item)
        else:
            kept.insert(item["index"], {**item})
