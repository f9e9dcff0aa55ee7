"""JSON objects as providers write them (floor 1a, pure): strict JSON first, and what is nearly that is mended."""

from __future__ import annotations

import json
import math

import orjson

from proxy import sse
from proxy.codecs.wire import Frame, JsonObject, is_deeper
from proxy.errors import Failure, FailureKind, UpstreamError

DEPTH_MAX = 200
"""Of a reply; what is nested much deeper cannot be written again."""
INTEGER_DIGITS_MAX = 19
"""Longer whole numbers are read as doubles, as a strict reader does."""


def parse_object(data: bytes) -> JsonObject:
    """Parse a JSON object; what some servers write and JSON does not know is mended.

    NaN, infinities and numbers no double can hold become null, bytes that are not UTF-8 and halves of surrogate pairs
    U+FFFD. Raises `UpstreamError` for what is no object or nested too deep to be written again.
    """
    return _parse(data)[0]


def parse_event(event: bytes, data: bytes) -> Frame:
    """Parse the data of an event; one that had to be mended is written again, because clients are strict."""
    chunk, is_mended = _parse(data)
    return Frame(sse.event(orjson.dumps(chunk)) if is_mended else event, chunk)


def _parse(data: bytes) -> tuple[JsonObject, bool]:
    is_mended = False
    try:
        parsed = orjson.loads(data)
    except orjson.JSONDecodeError:
        parsed, is_mended = _parse_leniently(data), True
    if not isinstance(parsed, dict):
        raise UpstreamError(Failure(FailureKind.INVALID_REPLY, "The provider's answer is not JSON."))
    if data.count(b"{") + data.count(b"[") > DEPTH_MAX and is_deeper(parsed, DEPTH_MAX):
        raise UpstreamError(Failure(FailureKind.INVALID_REPLY, "The provider's answer is nested too deep."))
    return parsed, is_mended


def _parse_leniently(data: bytes) -> object:
    try:
        parsed = json.loads(
            data.decode(errors="replace"), parse_constant=lambda _: None, parse_float=_number, parse_int=_number
        )
        text = json.dumps(parsed, ensure_ascii=False)
        return orjson.loads(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    except (ValueError, RecursionError):
        return None


def _number(text: str) -> float | int | None:
    if len(text) < INTEGER_DIGITS_MAX and text.removeprefix("-").isdigit():
        return int(text)
    number = float(text)
    return number if math.isfinite(number) else None
