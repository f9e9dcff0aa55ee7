"""What makes two requests equal, and what a hit says of its cost (part of the replies, floor 3): no I/O."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from proxy.usage import CostSource

_FORM = 1
"""Raised when answers are kept in another form: those kept before are then not found."""


def digest(*parts: Any) -> bytes:
    """Digest JSON values: the order of an object's members and the way the text was spaced make no difference."""
    return hashlib.sha256(orjson.dumps([_FORM, *parts], option=orjson.OPT_SORT_KEYS)).digest()


def zero_cost(content: bytes, *, is_stream: bool) -> bytes:
    """Give an answer as a cache hit tells it: its tokens as they were, its cost 0."""
    if not is_stream:
        return _zero(content)
    events = content.split(b"\n\n")
    return b"\n\n".join(_zero_event(event) if b'"usage"' in event else event for event in events)


def _zero_event(event: bytes) -> bytes:
    """Change the one line of an event that is written as ours are; any other passes as it is."""
    head, data = event[:6], event[6:]
    return head + _zero(data) if head == b"data: " and b"\n" not in data else event


def _zero(text: bytes) -> bytes:
    try:
        reply: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    usage = reply.get("usage") if isinstance(reply, dict) else None
    if not isinstance(usage, dict):
        return text
    usage["cost"] = 0
    usage["cost_source"] = CostSource.COMPUTED.value
    if "cost_details" in usage:
        del usage["cost_details"]
    return orjson.dumps(reply)
