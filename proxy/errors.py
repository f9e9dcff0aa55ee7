"""Everything that can go wrong, by whose fault it is and in which phase (floor 0, pure).

Two families, never mixed:

* `RequestError` and its children end a client's request. They carry what the client is told: status, type, code,
  message.
* `UpstreamError` ends one attempt. It never reaches a client by itself: `policy.retry` decides what follows it, and
  only when no target is left does `routing.steps` turn the attempts into one `RequestError`.

Foreign exceptions (httptools, sqlite3, yaml) become one of these at the adapter that met them, with the cause kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class RequestError(Exception):
    """A request that ends without an answer; each child says whose fault it is."""

    status = 500
    type = "api_error"
    code = "internal_error"
    should_retry: bool | None = None
    """`x-should-retry` sent to the client's SDK; None leaves the decision to it."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        metadata: dict[str, Any] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Keep what the client is told; `message` must name the cause and the remedy, never a host or a secret."""
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.param = param
        self.metadata = metadata or {}
        self.retry_after_s = retry_after_s


class ClientError(RequestError):
    """The client's own doing: sending it again unchanged cannot help."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"
    should_retry = False


class InvalidJson(ClientError):
    """The body is not the JSON object we can read."""

    code = "invalid_json"


class UnknownParameter(ClientError):
    """A field that would redirect the call or carry a foreign credential."""

    code = "unknown_parameter"


class ContextLengthExceeded(ClientError):
    """The prompt is longer than every target can read."""

    code = "context_length_exceeded"


class PriceUnknown(ClientError):
    """A limit in money cannot be kept, because a target's price is not known."""

    code = "price_unknown"


class Unauthenticated(ClientError):
    """No client key, or one we do not know."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class PermissionRefused(ClientError):
    """A known key that may not do this (model_not_allowed, content_policy)."""

    status = 403
    type = "permission_error"
    code = "model_not_allowed"


class NotFound(ClientError):
    """No such model, or no such thing of this client's."""

    status = 404
    type = "not_found_error"
    code = "model_not_found"


class PayloadTooLarge(ClientError):
    """The body passes a named limit."""

    status = 413
    code = "payload_too_large"


class UnsupportedMediaType(ClientError):
    """The body is not JSON by its own headers."""

    status = 415
    code = "unsupported_media_type"


class IdempotencyKeyReused(ClientError):
    """The same `Idempotency-Key` came with another request before."""

    status = 422
    code = "idempotency_key_reused"


class IdempotencyInProgress(RequestError):
    """The first request with this `Idempotency-Key` still runs, and was waited for long enough."""

    status = 409
    code = "idempotency_in_progress"


class RepliesUnavailable(RequestError):
    """Kept answers cannot be read or written, so an `Idempotency-Key` cannot be honoured."""

    status = 503
    code = "replies_unavailable"


class PolicyRefusal(RequestError):
    """The money says no (budget_exceeded, max_cost_exceeded); metadata holds needed, left and resets_at."""

    status = 402
    type = "insufficient_quota"
    code = "budget_exceeded"
    should_retry: bool | None = False


class RateLimited(RequestError):
    """Too many requests: ours or, when every target says so, theirs."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class UpstreamFailed(RequestError):
    """Every target failed and no kinder word fits."""

    status = 502
    code = "upstream_error"


class UpstreamRejected(ClientError):
    """An upstream refused the request itself; its status and (scrubbed) words are passed on."""

    def __init__(self, message: str, *, status: int, code: str, param: str | None, metadata: dict[str, Any]) -> None:
        """Keep the upstream's own status, one of 400, 413 and 422."""
        super().__init__(message, code=code, param=param, metadata=metadata)
        self.status = status


class UpstreamUnusable(RequestError):
    """Our own credential or credit upstream is refused: the operator's matter, never the client's."""

    status = 503
    code = "upstream_credentials"
    should_retry = False


class UpstreamTimeout(RequestError):
    """Every target took too long."""

    status = 504
    code = "upstream_timeout"


class LedgerUnavailable(RequestError):
    """The books cannot be written, so nothing that costs money may start."""

    status = 503
    code = "ledger_unavailable"


class Overloaded(RequestError):
    """A named limit of this process is reached."""

    status = 503
    code = "overloaded"


class FailureKind(StrEnum):
    """Why one attempt failed: the `reason` in `error.metadata.attempts`."""

    CONNECT = "connect_error"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    CREDENTIALS = "credentials"
    CREDITS = "credits"
    NOT_FOUND = "not_found"
    BAD_REQUEST = "bad_request"
    CONTEXT_LENGTH = "context_length"
    CONTENT_POLICY = "content_policy"
    SERVER_ERROR = "server_error"
    INVALID_REPLY = "invalid_reply"
    BROKEN_STREAM = "broken_stream"


@dataclass(frozen=True, slots=True)
class Failure:
    """One attempt's end, as a value that pure code can decide on."""

    kind: FailureKind
    message: str
    """Scrubbed: no host, key, account id or stack; fit to be shown to a client."""
    status: int | None = None
    """HTTP status of the upstream, or the one an error inside a 200 names; None when there was none."""
    code: str | None = None
    param: str | None = None
    retry_after_s: float | None = None
    may_have_cost: bool = False
    """True when the upstream may have taken the request and bill for it (timeout, reset after sending)."""
    metadata: dict[str, Any] = field(default_factory=dict)


class UpstreamError(Exception):
    """One attempt failed; what the adapter raises and the gateway records."""

    def __init__(self, failure: Failure) -> None:
        """Carry the failure as a value."""
        super().__init__(f"{failure.kind}: {failure.message}")
        self.failure = failure


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One finding in routes.yaml: where, what, and the remedy. Lines and columns count from 1; 0 in no file."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        """Show it as `file:line:column: path: message`, the form editors can jump to."""
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class ConfigError(Exception):
    """A routes.yaml that cannot be used; all findings of the file together."""

    def __init__(self, problems: tuple[ConfigProblem, ...]) -> None:
        """Keep every finding, in the order of the file."""
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
