"""What an upstream's refusal means (floor 1a, pure): one reading for all who answer in OpenAI's error shape.

The status comes first, then structured codes, words only where vendors give nothing better (openrouter.md 3.4, 4.4).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from proxy.codecs.scrub import scrub
from proxy.errors import Failure, FailureKind

NESTING_MAX = 4
"""How deep an error may be wrapped in `metadata.raw` before we stop unwrapping."""
RETRY_AFTER_S_MAX = 86_400.0

_BY_STATUS = {
    401: FailureKind.CREDENTIALS,
    402: FailureKind.CREDITS,
    403: FailureKind.CREDENTIALS,
    404: FailureKind.NOT_FOUND,
    410: FailureKind.NOT_FOUND,
    400: FailureKind.BAD_REQUEST,
    413: FailureKind.BAD_REQUEST,
    422: FailureKind.BAD_REQUEST,
    408: FailureKind.TIMEOUT,
    504: FailureKind.TIMEOUT,
    524: FailureKind.TIMEOUT,
    429: FailureKind.RATE_LIMITED,
}
_OVERFLOW_CODES = {"context_length_exceeded", "max_tokens_exceeded", "token_limit_exceeded", "string_too_long"}
_OVERFLOW_WORDS = re.compile(
    r"maximum context length|context[ _]length|context window|(?:prompt|input) is too long|too many (?:input )?tokens"
    r"|exceeds? the (?:maximum|available) (?:number of|context|input) ?(?:tokens|size|length)?|reduce the length",
    re.IGNORECASE,
)
_OUT_OF_MONEY = re.compile(
    r"key limit exceeded|workspace.{0,40}budget|insufficient (?:credits|balance|quota)", re.IGNORECASE
)


def read_failure(status: int, headers: Mapping[str, str], body: bytes, *, asked: bytes = b"") -> Failure:
    """Classify an HTTP reply that is not 200 to the call whose body was `asked`."""
    error = _error_of(body)
    return Failure(
        kind=_kind(status, error),
        message=message_of(error, asked=asked) or f"The provider answered with status {status}.",
        status=status,
        code=_text(error.get("code")) or error_type_of(error),
        param=_text(error.get("param")),
        retry_after_s=read_retry_after(headers.get("retry-after"), headers.get("date")),
        metadata=_public_metadata(error),
    )


def failure_inside(error: object) -> Failure:
    """Classify the error object found in a 200 reply or in a stream: always a failure of the answer itself."""
    fields = error if isinstance(error, dict) else {"message": str(error)}
    return Failure(
        kind=FailureKind.INVALID_REPLY,
        message=message_of(fields) or "The provider reported an error instead of an answer.",
        status=200,
        code=_text(fields.get("code")) or error_type_of(fields),
        param=_text(fields.get("param")),
        metadata=_public_metadata(fields),
    )


def find_fault(reply: Mapping[str, Any]) -> Failure | None:
    """Find the failure inside a 200, of a whole reply or of a chunk, both in OpenAI's shape (openrouter.md 4.6)."""
    error = reply.get("error")
    choices = reply.get("choices")
    if not error and isinstance(choices, list):
        error = next((choice["error"] for choice in choices if isinstance(choice, dict) and choice.get("error")), None)
        if error is None and any(isinstance(c, dict) and c.get("finish_reason") == "error" for c in choices):
            error = {"message": "The provider ended its answer with an error."}
    return failure_inside(error) if error else None


def message_of(error: Mapping[str, Any], *, asked: bytes = b"") -> str:
    """Find the most telling message, unwrapping OpenRouter's `metadata.raw`, and scrub it."""
    message = _text(error.get("message")) or ""
    inner = _raw_message(error, NESTING_MAX)
    if inner and inner not in message:
        message = f"{message}: {inner}" if message else inner
    return scrub(message, asked=asked)


def error_type_of(error: Mapping[str, Any]) -> str | None:
    """Give OpenRouter's stable `error_type`, wherever it stands."""
    metadata = error.get("metadata")
    nested = metadata.get("error_type") if isinstance(metadata, dict) else None
    return _text(nested) or _text(error.get("error_type"))


def read_retry_after(value: str | None, date: str | None = None) -> float | None:
    """Read Retry-After in seconds or as a date (against the reply's own Date); nonsense and negatives are ignored."""
    if value is None:
        return None
    value = value.strip()
    if re.fullmatch(r"\d{1,9}(?:\.\d{1,6})?", value):
        return min(float(value), RETRY_AFTER_S_MAX)
    try:
        wait_s = (parsedate_to_datetime(value) - parsedate_to_datetime(date or "")).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(wait_s, RETRY_AFTER_S_MAX) if wait_s > 0 else None


def _kind(status: int, error: Mapping[str, Any]) -> FailureKind:
    kind = _BY_STATUS.get(status, FailureKind.INVALID_REPLY if status < 400 else FailureKind.SERVER_ERROR)
    code, text = str(error.get("code") or ""), str(error.get("message") or "")
    tags = {code, error_type_of(error) or ""}
    if kind is FailureKind.BAD_REQUEST and (tags & _OVERFLOW_CODES or (status != 422 and _is_overflow(error))):
        return FailureKind.CONTEXT_LENGTH
    if status == 400 and "model_not_found" in tags:
        return FailureKind.NOT_FOUND
    if status == 403 and isinstance(error.get("metadata"), dict) and error["metadata"].get("reasons"):
        return FailureKind.CONTENT_POLICY
    if (status == 403 and _OUT_OF_MONEY.search(text)) or (
        status == 429 and "insufficient_quota" in {*tags, error.get("type")}
    ):
        return FailureKind.CREDITS
    return kind


def _is_overflow(error: Mapping[str, Any]) -> bool:
    text = f"{_text(error.get('message')) or ''} {_raw_message(error, NESTING_MAX)}"
    return bool(_OVERFLOW_WORDS.search(text))


def _error_of(body: bytes) -> dict[str, Any]:
    """Find the error object in any of the shapes seen: {"error": {}}, {"error": ""}, {"message": ""}, [{}]."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]
    if not isinstance(parsed, dict):
        return {}
    error = parsed.get("error", parsed)
    if isinstance(error, str):
        return {**parsed, "message": error}
    return error if isinstance(error, dict) else {}


def _raw_message(error: Mapping[str, Any], depth: int) -> str:
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if isinstance(raw, str):
        try:
            raw = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return str(raw)
    if not isinstance(raw, dict) or depth == 0:
        return ""
    inner = raw.get("error", raw)
    if isinstance(inner, str):
        return inner
    if not isinstance(inner, dict):
        return ""
    return _raw_message(inner, depth - 1) or _text(inner.get("message")) or ""


def _public_metadata(error: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what helps the client: the provider's display name, moderation reasons, the stable error type."""
    metadata = error.get("metadata")
    if not isinstance(metadata, dict):
        return {}
    kept = {
        name: metadata[name]
        for name in ("provider_name", "error_type", "model_slug")
        if isinstance(metadata.get(name), str)
    }
    reasons = metadata.get("reasons")
    if isinstance(reasons, list):
        kept["reasons"] = [scrub(str(reason))[:100] for reason in reasons[:20]]
    if isinstance(metadata.get("flagged_input"), str):
        kept["flagged_input"] = metadata["flagged_input"][:100]
    return kept


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
