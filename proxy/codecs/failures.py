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
FINDINGS_MAX = 5
"""How many findings of a refused request are passed on."""
RETRY_AFTER_S_MAX = 60.0
"""A client is never told to stay away longer: what a provider asks of us is not what it asks of them."""
TAG_CHARS_MAX = 100

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
_OVERFLOW_TAGS = {"context_length_exceeded", "max_tokens_exceeded", "token_limit_exceeded", "string_too_long"}
_OVERFLOW_WORDS = re.compile(
    r"maximum context length|context[ _]length|context window|(?:prompt|input) is too long|too many (?:input )?tokens"
    r"|exceeds? the (?:maximum|available) (?:number of|context|input) ?(?:tokens|size|length)?|reduce the length",
    re.IGNORECASE,
)
_UNKNOWN_MODEL_WORDS = re.compile(r"is not a valid model", re.IGNORECASE)
_MODERATION_TAGS = {"content_policy_violation", "content_policy", "content_filter", "refusal"}
_OUT_OF_MONEY = re.compile(
    r"key limit exceeded|workspace.{0,40}budget|insufficient (?:credits|balance|quota)", re.IGNORECASE
)
_PASSING_LIMITS = {"openrouter_in_flight_budget"}
"""`limit_source` of a 402 that passes as soon as other requests end (reliability.md R43)."""


def read_failure(status: int, headers: Mapping[str, str], body: bytes, *, asked: bytes = b"") -> Failure:
    """Classify an HTTP reply that is not 200 to the call whose body was `asked`."""
    error = _error_of(body)
    return Failure(
        kind=_kind(status, error),
        message=message_of(error, asked=asked) or f"The provider answered with status {status}.",
        status=status,
        code=_tag(error.get("code")) or error_type_of(error),
        param=_tag(error.get("param")),
        retry_after_s=read_retry_after(headers.get("retry-after"), headers.get("date")),
        metadata=_public_metadata(error),
    )


def failure_inside(error: object) -> Failure:
    """Classify the error object found in a 200 reply or in a stream: always a failure of the answer itself."""
    fields = error if isinstance(error, dict) else {"message": str(error)}
    return Failure(
        kind=FailureKind.INVALID_REPLY,
        message=message_of(fields) or "The provider reported an error instead of an answer.",
        status=_named_status(fields) or 200,
        code=_tag(fields.get("code")) or error_type_of(fields),
        param=_tag(fields.get("param")),
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
    return _tag(_object(error.get("metadata")).get("error_type")) or _tag(error.get("error_type"))


def read_retry_after(value: str | None, date: str | None = None) -> float | None:
    """Read Retry-After in seconds or as a date (against the reply's own Date); nonsense and negatives are ignored."""
    if value is None:
        return None
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,6})?", value):
        return min(float(value), RETRY_AFTER_S_MAX)
    try:
        wait_s = (parsedate_to_datetime(value) - parsedate_to_datetime(date or "")).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(wait_s, RETRY_AFTER_S_MAX) if wait_s > 0 else None


def _kind(status: int, error: Mapping[str, Any]) -> FailureKind:
    kind = _BY_STATUS.get(status, FailureKind.INVALID_REPLY if status < 400 else FailureKind.SERVER_ERROR)
    tags = _tags_of(error)
    if kind is FailureKind.BAD_REQUEST:
        return _kind_of_bad_request(status, error, tags)
    if status == 403:
        return _kind_of_forbidden(error, tags)
    if status == 402 and _tag(_object(error.get("metadata")).get("limit_source")) in _PASSING_LIMITS:
        return FailureKind.RATE_LIMITED
    if status == 429 and "insufficient_quota" in tags:
        return FailureKind.CREDITS
    return kind


def _kind_of_bad_request(status: int, error: Mapping[str, Any], tags: set[str]) -> FailureKind:
    """Tell a request at fault from a prompt too long for this model, and from a model or key this target lacks."""
    words = f"{_text(error.get('message')) or ''} {_raw_message(error, NESTING_MAX)}"
    if tags & _OVERFLOW_TAGS or (status != 422 and _OVERFLOW_WORDS.search(words)):
        return FailureKind.CONTEXT_LENGTH
    if status == 400 and ("model_not_found" in tags or _UNKNOWN_MODEL_WORDS.search(words)):
        return FailureKind.NOT_FOUND
    if "API_KEY_INVALID" in tags:
        # Google says so with 400 (openrouter.md 8.5); our key is not the client's fault.
        return FailureKind.CREDENTIALS
    return FailureKind.BAD_REQUEST


def _kind_of_forbidden(error: Mapping[str, Any], tags: set[str]) -> FailureKind:
    """Tell the prompt's fault and an empty purse from a credential refused (openrouter.md 4.4)."""
    if _object(error.get("metadata")).get("reasons") or tags & _MODERATION_TAGS:
        return FailureKind.CONTENT_POLICY
    if _OUT_OF_MONEY.search(_text(error.get("message")) or ""):
        return FailureKind.CREDITS
    return FailureKind.CREDENTIALS


def _tags_of(error: Mapping[str, Any]) -> set[str]:
    """Gather the words vendors classify an error with."""
    details = error.get("details")
    named = [
        error.get("code"),
        error.get("type"),
        error.get("error_type"),
        _object(error.get("metadata")).get("error_type"),
        _object(error.get("availability")).get("code"),
        *(_object(detail).get("reason") for detail in (details if isinstance(details, list) else [])),
    ]
    return {name for name in named if isinstance(name, str)}


def _named_status(error: Mapping[str, Any]) -> int | None:
    """Give the status an error inside a 200 names for itself: its number is shown to OpenRouter's clients."""
    for name in ("code", "http_status"):
        status = error.get(name)
        if isinstance(status, int) and 400 <= status <= 599:
            return status
    return None


def _error_of(body: bytes) -> dict[str, Any]:
    """Find the error object in any shape seen: {"error": {}}, {"error": ""}, {"message": ""}, {"detail": []}, [{}].

    `detail` is what FastAPI servers such as vLLM answer, a text or a list of findings.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]
    if not isinstance(parsed, dict):
        return {}
    if "detail" in parsed and "error" not in parsed and "message" not in parsed:
        return {**parsed, "message": _detail_text(parsed["detail"])}
    error = parsed.get("error") or parsed
    if isinstance(error, str):
        return parsed if _text(parsed.get("message")) else {**parsed, "message": error}
    return _object(error)


def _detail_text(detail: object) -> str:
    found = detail if isinstance(detail, list) else [detail]
    texts = (_text(_object(one).get("msg")) or _text(one) for one in found[:FINDINGS_MAX])
    return "; ".join(text for text in texts if text)


def _raw_message(error: Mapping[str, Any], depth: int) -> str:
    """Find the message of the provider behind OpenRouter: text, an object, or text that holds one."""
    raw = _decoded(_object(error.get("metadata")).get("raw"))
    if isinstance(raw, str) or depth == 0:
        return raw if isinstance(raw, str) else ""
    fields = _object(raw)
    inner = fields.get("error") or fields
    if isinstance(inner, str):
        return inner
    return _raw_message(_object(inner), depth - 1) or _text(_object(inner).get("message")) or ""


def _decoded(raw: object) -> object:
    """Read JSON out of text that holds an object, or a list of one; other text stays what it is."""
    parsed = raw
    if isinstance(raw, str):
        try:
            parsed = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return raw
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]
    return parsed if isinstance(parsed, dict | str) else raw


def _public_metadata(error: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what helps the client: the provider's display name, moderation reasons, the stable error type."""
    metadata = _object(error.get("metadata"))
    names = ("provider_name", "error_type", "model_slug", "flagged_input")
    kept: dict[str, Any] = {name: tag for name in names if (tag := _tag(metadata.get(name))) is not None}
    reasons = metadata.get("reasons")
    if isinstance(reasons, list):
        kept["reasons"] = [scrub(str(reason))[:TAG_CHARS_MAX] for reason in reasons[:20]]
    return kept


def _tag(value: object) -> str | None:
    """Give a short text of the upstream, as fit for a client as its message."""
    text = _text(value)
    return scrub(text)[:TAG_CHARS_MAX] or None if text else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
