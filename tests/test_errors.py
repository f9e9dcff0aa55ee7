"""The vocabulary of errors: status, type and code of each, and what a failed attempt keeps."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from proxy import errors
from proxy.errors import (
    ClientError,
    ConfigError,
    ConfigProblem,
    Failure,
    FailureKind,
    RequestError,
    UpstreamError,
    UpstreamRejected,
)

# design.md section 6, row by row: class, status, type, code, x-should-retry.
TABLE = [
    (errors.ClientError, 400, "invalid_request_error", "invalid_value", False),
    (errors.InvalidJson, 400, "invalid_request_error", "invalid_json", False),
    (errors.UnknownParameter, 400, "invalid_request_error", "unknown_parameter", False),
    (errors.ContextLengthExceeded, 400, "invalid_request_error", "context_length_exceeded", False),
    (errors.PriceUnknown, 400, "invalid_request_error", "price_unknown", False),
    (errors.Unauthenticated, 401, "authentication_error", "invalid_api_key", False),
    (errors.PermissionRefused, 403, "permission_error", "model_not_allowed", False),
    (errors.PolicyRefusal, 402, "insufficient_quota", "budget_exceeded", False),
    (errors.NotFound, 404, "not_found_error", "model_not_found", False),
    (errors.PayloadTooLarge, 413, "invalid_request_error", "payload_too_large", False),
    (errors.UnsupportedMediaType, 415, "invalid_request_error", "unsupported_media_type", False),
    (errors.IdempotencyKeyReused, 422, "invalid_request_error", "idempotency_key_reused", False),
    (errors.IdempotencyInProgress, 409, "api_error", "idempotency_in_progress", None),
    (errors.RepliesUnavailable, 503, "api_error", "replies_unavailable", None),
    (errors.RateLimited, 429, "rate_limit_error", "rate_limit_exceeded", None),
    (errors.UpstreamFailed, 502, "api_error", "upstream_error", None),
    (errors.UpstreamUnusable, 503, "api_error", "upstream_credentials", False),
    (errors.LedgerUnavailable, 503, "api_error", "ledger_unavailable", None),
    (errors.Overloaded, 503, "api_error", "overloaded", None),
    (errors.UpstreamTimeout, 504, "api_error", "upstream_timeout", None),
    (errors.RequestError, 500, "api_error", "internal_error", None),
]


@pytest.mark.parametrize(("kind", "status", "type_", "code", "should_retry"), TABLE)
def test_each_error_has_its_row(
    kind: type[RequestError], status: int, type_: str, code: str, should_retry: bool | None
) -> None:
    """Status, type, code and the word to the client's SDK are those of the table; nothing else is set."""
    error = kind("What, and the remedy.")
    assert (error.status, error.type, error.code, error.should_retry) == (status, type_, code, should_retry)
    assert (error.message, error.param, error.metadata, error.retry_after_s) == (
        "What, and the remedy.",
        None,
        {},
        None,
    )
    assert str(error) == "What, and the remedy."


def test_no_error_is_missing_in_the_table() -> None:
    """A new child of the family gets a row here, or says itself that it passes an upstream's status on."""
    family = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, RequestError)}
    assert family == {row[0] for row in TABLE} | {UpstreamRejected}


def test_what_is_told_can_be_told_more_exactly() -> None:
    """Code, parameter, figures and a wait are each request's own and never the next one's."""
    error = errors.PolicyRefusal(
        "m", code="max_cost_exceeded", param="max_tokens", metadata={"left": "0"}, retry_after_s=2.5
    )
    assert (error.code, error.param, error.metadata, error.retry_after_s) == (
        "max_cost_exceeded",
        "max_tokens",
        {"left": "0"},
        2.5,
    )
    assert errors.PolicyRefusal("m").code == "budget_exceeded"
    ClientError("m").metadata["mine"] = True
    assert ClientError("m").metadata == {}


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_rejection_keeps_the_upstream_s_status(status: int) -> None:
    """The request is at fault: the client gets the status it would have got without us, and need not try again."""
    error = UpstreamRejected("m", status=status, code="c", param="p", metadata={"a": 1})
    assert (error.status, error.code, error.param, error.metadata) == (status, "c", "p", {"a": 1})
    assert (error.type, error.should_retry) == ("invalid_request_error", False)
    assert isinstance(error, ClientError)


def test_an_attempt_s_failure_is_no_client_s_error() -> None:
    """The two families never mix: an upstream's failure has to be judged before anyone is told."""
    failure = Failure(FailureKind.TIMEOUT, "The provider sent no answer.")
    error = UpstreamError(failure)
    assert not isinstance(error, RequestError)
    assert error.failure is failure
    assert str(error) == "timeout: The provider sent no answer."


def test_a_failure_supposes_nothing() -> None:
    """Without being told so, nothing was spent and nothing is known; a value cannot be changed."""
    failure = Failure(FailureKind.CONNECT, "m")
    assert (failure.status, failure.code, failure.param, failure.retry_after_s) == (None, None, None, None)
    assert (failure.may_have_cost, failure.metadata) == (False, {})
    with pytest.raises(FrozenInstanceError):
        failure.status = 200  # type: ignore[misc]


def test_findings_point_into_the_file() -> None:
    """Editors can jump to `file:line:column`; a finding about no member leaves the path out; all stand together."""
    first = ConfigProblem("routes.yaml", 3, 7, "models.chat", "unknown provider `opnai`")
    second = ConfigProblem("routes.yaml", 1, 1, "", "the file is empty")
    assert str(first) == "routes.yaml:3:7: models.chat: unknown provider `opnai`"
    assert str(second) == "routes.yaml:1:1: the file is empty"
    error = ConfigError((first, second))
    assert error.problems == (first, second)
    assert str(error) == f"{first}\n{second}"
