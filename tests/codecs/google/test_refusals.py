"""Google's errors: whose fault each is, and when to come back."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.errors import FailureKind
from tests.codecs.google.calls import CODEC


def error(status: str, code: int, message: str = "m", **more: Any) -> bytes:
    """Write one of Google's errors."""
    return orjson.dumps({"error": {"code": code, "message": message, "status": status, **more}})


LONG = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
WAIT = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}


@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        (400, error("INVALID_ARGUMENT", 400), FailureKind.BAD_REQUEST),
        (400, error("INVALID_ARGUMENT", 400, LONG), FailureKind.CONTEXT_LENGTH),
        (400, error("INVALID_ARGUMENT", 400, "Token count 5 exceeds 4"), FailureKind.CONTEXT_LENGTH),
        (400, error("INVALID_ARGUMENT", 400, "Bad token count"), FailureKind.BAD_REQUEST),
        (400, error("INVALID_ARGUMENT", 400, "API key not valid. Please pass one."), FailureKind.CREDENTIALS),
        (400, error("INVALID_ARGUMENT", 400, details=[BAD_KEY]), FailureKind.CREDENTIALS),
        (400, error("FAILED_PRECONDITION", 400, "User location is not supported"), FailureKind.CREDENTIALS),
        (401, error("UNAUTHENTICATED", 401), FailureKind.CREDENTIALS),
        (403, error("PERMISSION_DENIED", 403), FailureKind.CREDENTIALS),
        (404, error("NOT_FOUND", 404), FailureKind.NOT_FOUND),
        (429, error("RESOURCE_EXHAUSTED", 429), FailureKind.RATE_LIMITED),
        (500, error("INTERNAL", 500), FailureKind.SERVER_ERROR),
        (503, error("UNAVAILABLE", 503), FailureKind.SERVER_ERROR),
        (504, error("DEADLINE_EXCEEDED", 504), FailureKind.TIMEOUT),
        (429, b"[" + error("RESOURCE_EXHAUSTED", 429) + b"]", FailureKind.RATE_LIMITED),
        (400, b"[" + error("INVALID_ARGUMENT", 400, LONG) + b"]", FailureKind.CONTEXT_LENGTH),
    ],
)
def test_errors(code: int, body: bytes, kind: FailureKind) -> None:
    """Each status of Google's, plain or in a list; a 400 only where the client can mend it."""
    failure = CODEC.read_failure(code, {}, body, asked=b"")
    parsed = orjson.loads(body)
    status = (parsed[0] if isinstance(parsed, list) else parsed)["error"]["status"]
    assert (failure.kind, failure.status, failure.code, failure.retry_after_s) == (kind, code, status, None)


@pytest.mark.parametrize(
    ("headers", "details", "expected"),
    [
        ({}, [BAD_KEY, WAIT], 34.5),
        ({"retry-after": "3"}, [WAIT], 3),
        ({}, [{**WAIT, "retryDelay": ""}, {**WAIT, "retryDelay": "7s"}], 7),
        ({}, [{**WAIT, "retryDelay": "soon"}], None),
        ({}, [{**WAIT, "retryDelay": "9999s"}], 60),
        ({}, ["x"], None),
        ({}, None, None),
    ],
)
def test_when_to_come_back(headers: dict[str, str], details: Any, expected: float | None) -> None:
    """By header, else by the error's details."""
    body = error("RESOURCE_EXHAUSTED", 429, details=details)
    assert CODEC.read_failure(429, headers, body, asked=b"").retry_after_s == expected


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"5", b'{"error":"x"}'])
def test_errors_in_no_known_shape(body: bytes) -> None:
    """The status alone tells."""
    failure = CODEC.read_failure(503, {}, body, asked=b"")
    assert (failure.kind, failure.code) == (FailureKind.SERVER_ERROR, None)
