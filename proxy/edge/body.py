"""A request's body at the door (floor 5): bounded, strictly parsed, and its routed fields checked.

Everything else in the body is none of our business and passes through. What goes upstream is always this parsed object
written again, so that what was checked is what is sent.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import orjson
from starlette.types import Receive

from proxy.codecs.wire import JsonObject, is_deeper
from proxy.errors import ClientError, InvalidJson, PayloadTooLarge, UnknownParameter, UnsupportedMediaType

BODY_BYTES_MAX = 20 << 20
MODEL_CHARS_MAX = 500
DEPTH_MAX = 64
"""Of objects and lists within each other (reliability.md 1g): what is nested deeper is an attack."""
MESSAGES_MAX = 10_000
TOKENS_MAX = 10_000_000
"""No model writes this much: a larger `max_tokens` is a mistake."""
CHOICES_MAX = 128
OFF_LOOP_BYTES = 1 << 20
"""A larger body is parsed in a thread, or every other request would wait for it."""
OFF_LOOP_BRACKETS = 10_000
"""So is one with more objects and lists: however small, they take most of the time."""

ROUTED_FIELDS = (
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "models",
    "plugins",
    "provider",
    "preset",
    "transforms",
    "route",
    "reasoning",
    "service_tier",
    "tools",
)
FOREIGN_FIELDS = frozenset({"api_base", "base_url", "api_key", "custom_llm_provider", "extra_headers", "extra_query"})
"""Fields with which other gateways let a client choose the upstream or its credential (S8)."""

_ESCAPED_LETTER = re.compile(rb"\\u00(?:5[fF]|[67][0-9A-Fa-f])")
"""Nobody escapes letters, unless to hide the name of a field."""
_ROUTED_NAME = re.compile(rb'"(' + "|".join(ROUTED_FIELDS).encode() + rb')"\s*+:')
"""Cheap to look for; whether a name that stands twice stands so at the top is asked only then."""

RawHeaders = list[tuple[bytes, bytes]]


class ClientLeft(Exception):
    """The client went away before its request was complete."""


async def read_body(headers: RawHeaders, receive: Receive) -> bytes:
    """Read the whole body; raises `UnsupportedMediaType`, `PayloadTooLarge` or `ClientLeft`."""
    _check_headers(headers)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        return _bounded(message.get("body", b""))
    parts, length = [], 0
    while message["type"] == "http.request":
        part = message.get("body", b"")
        parts.append(part)
        length += len(part)
        if length > BODY_BYTES_MAX:
            raise _too_large()
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()
    raise ClientLeft


async def parse_body(data: bytes) -> JsonObject:
    """Parse and check a chat request; raises `ClientError`."""
    # Each bracket is a byte at least: a short body need not be counted.
    if len(data) > OFF_LOOP_BRACKETS and (len(data) > OFF_LOOP_BYTES or _count_brackets(data) > OFF_LOOP_BRACKETS):
        return await asyncio.to_thread(parse_chat, data)
    return parse_chat(data)


def parse_chat(data: bytes) -> JsonObject:
    """Parse strictly (no NaN, no lone surrogates, UTF-8 only) and check the routed fields."""
    if not data:
        raise InvalidJson("The body is empty; send a JSON object with `model` and `messages`.")
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        msg = f"The body is not valid JSON: {error.msg} at character {error.pos}."
        raise InvalidJson(msg) from error
    if not isinstance(body, dict):
        raise InvalidJson("The body must be a JSON object.")
    if _count_brackets(data) > DEPTH_MAX and is_deeper(body, DEPTH_MAX):
        raise InvalidJson(f"The body is nested more than {DEPTH_MAX} deep, the most this gateway takes.")
    # What is written again as it came repeats nothing; clients that write compactly, and most do, are through by that.
    if orjson.dumps(body) != data and (_has_name_twice(data) or _ESCAPED_LETTER.search(data)):
        _refuse_repeated(data)
    check_chat(body)
    return body


def check_chat(body: JsonObject) -> None:
    """Check the fields we read; raises `ClientError` naming the field."""
    if not FOREIGN_FIELDS.isdisjoint(body):
        name = min(FOREIGN_FIELDS.intersection(body))
        msg = f"`{name}` is not accepted: upstreams and their credentials are set by the gateway's operator."
        raise UnknownParameter(msg, param=name)
    _check_messages(body)
    for name, is_good, wanted in _CHECKS:
        value = body.get(name)
        if value is not None and not is_good(value):
            msg = f"`{name}` must be {wanted}."
            raise ClientError(msg, param=name)


def _count_brackets(data: bytes) -> int:
    """Bound the number of objects and lists; brackets in texts count too, which does no harm."""
    return data.count(b"{") + data.count(b"[")


def _check_messages(body: JsonObject) -> None:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise ClientError("`messages` must be a list of at least one message.", param="messages")
    if len(messages) > MESSAGES_MAX:
        msg = f"`messages` holds {len(messages):,} messages; {MESSAGES_MAX:,} are the most."
        raise ClientError(msg, param="messages")


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


_CHECKS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("model", lambda value: isinstance(value, str) and 0 < len(value) <= MODEL_CHARS_MAX, "a model's name"),
    ("stream", lambda value: isinstance(value, bool), "true or false"),
    ("stream_options", lambda value: isinstance(value, dict), "an object"),
    ("max_tokens", lambda value: _is_count(value, TOKENS_MAX), f"a whole number from 1 to {TOKENS_MAX:,}"),
    ("max_completion_tokens", lambda value: _is_count(value, TOKENS_MAX), f"a whole number from 1 to {TOKENS_MAX:,}"),
    ("n", lambda value: _is_count(value, CHOICES_MAX), f"a whole number from 1 to {CHOICES_MAX}"),
)


def _has_name_twice(data: bytes) -> bool:
    named = _ROUTED_NAME.findall(data)
    return len(named) > len(set(named))


def _refuse_repeated(data: bytes) -> None:
    """Refuse a routed field that stands twice at the top: an upstream might read the one we did not check."""

    def note(pairs: list[tuple[str, Any]]) -> list[str]:
        return [name for name, _ in pairs]

    names = json.loads(data, object_pairs_hook=note)
    for name in ROUTED_FIELDS:
        if names.count(name) > 1:
            msg = f"`{name}` stands more than once in the body; send it once."
            raise ClientError(msg, param=name)


def _check_headers(headers: RawHeaders) -> None:
    for name, value in headers:
        if name == b"content-type" and not _is_json(value):
            raise UnsupportedMediaType("The body must be JSON; send `content-type: application/json`.")
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise UnsupportedMediaType("A compressed body is not accepted; send it as it is.")
        if name == b"content-length" and value.isdigit() and int(value[:20]) > BODY_BYTES_MAX:
            raise _too_large()


def _is_json(value: bytes) -> bool:
    kind = value.partition(b";")[0].strip().lower()
    return kind in (b"application/json", b"text/json") or kind.endswith(b"+json")


def _bounded(body: bytes) -> bytes:
    if len(body) > BODY_BYTES_MAX:
        raise _too_large()
    return body


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is longer than {BODY_BYTES_MAX >> 20} MiB, the most this gateway takes.")
