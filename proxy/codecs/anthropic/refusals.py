"""What Anthropic's errors mean (floor 1a, pure; openrouter.md 8.4).

Their shape is OpenAI's but for the code, which stands in `details`; so most of the reading is shared. Some meanings
hide in the words of an `invalid_request_error`: an empty account, a limit on spending, a prompt too long, content that
was blocked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import orjson

from proxy.codecs import failures
from proxy.codecs.anthropic.values import object_of, text_of
from proxy.codecs.scrub import scrub
from proxy.codecs.wire import JsonObject
from proxy.errors import Failure, FailureKind

_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_SPENT_CODES = frozenset(
    {
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
        "linked_organization_spend_limit_reached",
        "linked_organization_billing_unavailable",
    }
)
"""Codes in `details` that no waiting helps against: the first comes with 429 and lasts until the month ends.

As Anthropic's own SDK names them (anthropic 2.11, `types/shared`).
"""
_MEANINGS = (
    (
        re.compile(r"credit balance|spend(?:ing)? limit|usage limits?\b.{0,40}\bregain", re.IGNORECASE),
        FailureKind.CREDITS,
    ),
    (re.compile(r"exceed(?:s|ed)? (?:the )?context limit", re.IGNORECASE), FailureKind.CONTEXT_LENGTH),
    (re.compile(r"blocked by (?:our )?content filter", re.IGNORECASE), FailureKind.CONTENT_POLICY),
)
"""What the words of a 400 say, where they say more than that the request is at fault."""


def read_failure(status: int, headers: Mapping[str, str], body: bytes, *, asked: bytes = b"") -> Failure:
    """Classify an HTTP reply that is not 200 to the call whose body was `asked`."""
    failure = failures.read_failure(status, headers, body, asked=asked)
    return replace(failure, kind=_kind(failure, body))


def failure_inside(event: JsonObject, *, has_begun: bool) -> Failure:
    """Classify an error that came as an event, or in place of an answer, by the status its type stands for.

    `has_begun` says that the message had begun: its input is billed.
    """
    kind = text_of(object_of(event.get("error")).get("type"))
    status = _STATUS_OF_TYPE.get(kind, 500)
    failure = read_failure(status, {}, orjson.dumps(event))
    message = failure.message if text_of(object_of(event.get("error")).get("message")) else "The provider gave up."
    code = failure.code or scrub(kind)[: failures.TAG_CHARS_MAX] or None
    return replace(failure, message=message, code=code, may_have_cost=has_begun)


def _kind(failure: Failure, body: bytes) -> FailureKind:
    if _details_code(body) in _SPENT_CODES:
        return FailureKind.CREDITS
    if failure.kind is FailureKind.BAD_REQUEST:
        return next((kind for words, kind in _MEANINGS if words.search(failure.message)), failure.kind)
    return failure.kind


def _details_code(body: bytes) -> str:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    return text_of(object_of(object_of(object_of(parsed).get("error")).get("details")).get("error_code"))
