"""What Google's errors mean (part of the Google codec, pure; openrouter.md 8.5)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import orjson

from proxy.codecs import failures
from proxy.codecs.google.fields import is_whole, object_of, objects_of, text_of
from proxy.codecs.wire import JsonObject
from proxy.errors import Failure, FailureKind

_TOO_LONG = re.compile(r"token count|tokens? (?:allowed|limit)", re.IGNORECASE)
_EXCEEDS = re.compile(r"exceed", re.IGNORECASE)
_KEY = re.compile(r"API key (?:not valid|not found|expired)", re.IGNORECASE)
_RETRY = "google.rpc.RetryInfo"
_STATUS_OF_NAME = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNKNOWN": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""HTTP statuses that Google's own names stand for (google.rpc.Code)."""


def read_failure(status: int, headers: Mapping[str, str], body: bytes, *, asked: bytes) -> Failure:
    """Classify a reply that is not 200: what all vendors share first, then what only Google says."""
    error = _error_of(body)
    failure = failures.read_failure(status, headers, body, asked=asked)
    wait_s = failure.retry_after_s
    if wait_s is None:
        wait_s = failures.read_retry_after(_retry_delay(error))
    code = text_of(error.get("status")) or failure.code
    return replace(failure, kind=_kind(failure.kind, error), code=code, retry_after_s=wait_s)


def failure_inside(reply: JsonObject, *, has_begun: bool) -> Failure:
    """Classify an error that came in place of an answer, or of its end, by the status it names.

    `has_begun` says that the answer had begun: its input is billed.
    """
    error = object_of(reply.get("error"))
    code = error.get("code")
    status = _STATUS_OF_NAME.get(text_of(error.get("status")))
    if status is None and is_whole(code) and 400 <= code <= 599:
        status = code
    if status is None:
        failure = failures.failure_inside(reply.get("error"))
    else:
        failure = read_failure(status, {}, orjson.dumps({"error": error}), asked=b"")
    return replace(failure, may_have_cost=has_begun)


def _kind(kind: FailureKind, error: JsonObject) -> FailureKind:
    """Tell what a 400 is about: INVALID_ARGUMENT stands for a bad request, a bad key and too long a prompt alike."""
    message = text_of(error.get("message"))
    if kind is not FailureKind.BAD_REQUEST:
        return kind
    if _KEY.search(message) or error.get("status") == "FAILED_PRECONDITION":
        # No billing, or a place Google does not serve: the operator's matter, never the client's.
        return FailureKind.CREDENTIALS
    if _TOO_LONG.search(message) and _EXCEEDS.search(message):
        return FailureKind.CONTEXT_LENGTH
    return kind


def _retry_delay(error: JsonObject) -> str | None:
    delays = (
        text_of(detail.get("retryDelay"))
        for detail in objects_of(error.get("details"))
        if text_of(detail.get("@type")).endswith(_RETRY)
    )
    return next((delay.removesuffix("s") for delay in delays if delay), None)


def _error_of(body: bytes) -> JsonObject:
    """Find the error, which a stream's endpoint puts into a list."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    first = parsed[0] if isinstance(parsed, list) and parsed else parsed
    return object_of(object_of(first).get("error"))
