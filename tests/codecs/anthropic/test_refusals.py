"""Anthropic's errors: what each status, code and word means for the chain."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.errors import FailureKind
from tests.codecs.anthropic.reading import CODEC

LIMITS = "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."
POOR = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade."
LONG = "prompt is too long: 210000 tokens > 200000 maximum"
FULL = "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length"


def error(kind: str, message: str, **details: Any) -> bytes:
    """Write an error body."""
    fields = {"type": kind, "message": message} | ({"details": details} if details else {})
    return orjson.dumps({"type": "error", "error": fields, "request_id": "req_011CZabcdefghijklmnopqrs"})


@pytest.mark.parametrize(
    ("status", "kind", "message", "expected"),
    [
        (400, "invalid_request_error", "max_tokens: Field required", FailureKind.BAD_REQUEST),
        (400, "invalid_request_error", LONG, FailureKind.CONTEXT_LENGTH),
        (400, "invalid_request_error", FULL, FailureKind.CONTEXT_LENGTH),
        (400, "invalid_request_error", LIMITS, FailureKind.CREDITS),
        (400, "invalid_request_error", POOR, FailureKind.CREDITS),
        (400, "invalid_request_error", "This request would pass the spend limit set by you.", FailureKind.CREDITS),
        (400, "invalid_request_error", "Output blocked by content filtering policy", FailureKind.CONTENT_POLICY),
        (401, "authentication_error", "invalid x-api-key", FailureKind.CREDENTIALS),
        (402, "billing_error", "Payment required", FailureKind.CREDITS),
        (403, "permission_error", "Your API key may not use this.", FailureKind.CREDENTIALS),
        (404, "not_found_error", "model: claude-x", FailureKind.NOT_FOUND),
        (409, "conflict_error", "Conflict", FailureKind.SERVER_ERROR),
        (413, "request_too_large", "Request exceeds the maximum size", FailureKind.BAD_REQUEST),
        (429, "rate_limit_error", "Number of request tokens has exceeded your limit", FailureKind.RATE_LIMITED),
        (500, "api_error", "Internal server error", FailureKind.SERVER_ERROR),
        (504, "timeout_error", "Timeout", FailureKind.TIMEOUT),
        (529, "overloaded_error", "Overloaded", FailureKind.SERVER_ERROR),
    ],
)
def test_errors_by_status_and_words(status: int, kind: str, message: str, expected: FailureKind) -> None:
    """An empty account and a full context are told from a request at fault."""
    failure = CODEC.read_failure(status, {}, error(kind, message), asked=b"")
    assert (failure.kind, failure.status, failure.message) == (expected, status, message)
    assert not failure.may_have_cost


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"error_code": "enforced_spend_limit_reached"}, FailureKind.CREDITS),
        ({"error_code": "contract_spend_limit_reached"}, FailureKind.CREDITS),
        ({"error_code": "ramp_limit_exceeded"}, FailureKind.RATE_LIMITED),
        ({}, FailureKind.RATE_LIMITED),
    ],
)
def test_a_limit_on_spending_is_no_rate(details: dict[str, str], expected: FailureKind) -> None:
    """It lasts until the month is over: waiting does not help."""
    failure = CODEC.read_failure(
        429, {"retry-after": "7"}, error("rate_limit_error", "Slow down.", **details), asked=b""
    )
    assert (failure.kind, failure.retry_after_s) == (expected, 7)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'{"error":"x"}', b'{"error":{"details":[]}}'])
@pytest.mark.parametrize("status", [400, 429, 502])
def test_errors_of_other_shapes(status: int, body: bytes) -> None:
    """Whatever stands between us and Anthropic answers in its own way."""
    kinds = {400: FailureKind.BAD_REQUEST, 429: FailureKind.RATE_LIMITED, 502: FailureKind.SERVER_ERROR}
    assert CODEC.read_failure(status, {}, body, asked=b"").kind is kinds[status]


def test_words_are_scrubbed() -> None:
    """But for a link the client itself has sent."""
    message = "Cannot fetch https://pics.example/a.png with sk-ant-abc123456789"
    failure = CODEC.read_failure(400, {}, error("invalid_request_error", message), asked=b"https://pics.example/a.png")
    assert "https://pics.example/a.png" in failure.message
    assert "sk-ant" not in failure.message
