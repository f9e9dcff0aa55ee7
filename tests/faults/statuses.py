"""Refusals an upstream tells by status before it answers, in the wordings of OpenAI, OpenRouter and edge proxies.

The texts are protocol facts (openrouter.ai error handling, platform.openai.com error codes) with made-up names in them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from tests.faults.framing import HTML, Framing, Headers, framed
from tests.faults.replies import plain
from tests.faults.steps import Ask, Mode, Outcome, Send, Step

# Planted so that tests can look for them in replies and logs.
SECRET_HOST: Final = "llm-7.internal.example"
SECRET_KEY: Final = "sk-or-v1-planted0000000000000000000000000000000000000000000000000"
SECRET_USER: Final = "user_planted2mXo"
SECRETS: Final = (SECRET_HOST, SECRET_KEY, SECRET_USER)

# The codes of RFC 9110 and of edge proxies that say nothing but "not now".
SERVER_FAULTS: Final = (408, 500, 502, 503, 504, 520, 522, 524, 529)

RETRY_AFTER: Final[Mapping[str, tuple[str, float | None]]] = {
    "seconds": ("2", 2.0),
    "fraction": ("0.5", 0.5),
    "zero": ("0", 0.0),
    "past_date": ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    "far_date": ("Fri, 31 Dec 2999 23:59:59 GMT", None),
    "huge": ("1000000000", None),
    "negative": ("-5", None),
    "text": ("soon", None),
    "empty": ("", None),
}
"""Values of Retry-After: what is written, and the seconds it asks for (None: not to be taken at its word)."""


def openai_error(
    message: str, *, kind: str | None, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """Write OpenAI's error body."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def openrouter_error(message: str, code: int, **metadata: object) -> dict[str, Any]:
    """Write OpenRouter's error body, with the account's user id beside it."""
    return {"error": {"message": message, "code": code, "metadata": metadata}, "user_id": SECRET_USER}


def refusing(
    name: str,
    status: int,
    body: object,
    *,
    outcome: Outcome = Outcome.FALLBACK,
    headers: Headers = (),
    facts: Mapping[str, Any] | None = None,
) -> Mode:
    """Name a mode that answers streaming and plain requests with the same JSON refusal."""
    return Mode(
        name,
        lambda _ask: plain(body, status=status, headers=headers),
        stream=outcome,
        json=outcome,
        status=status,
        facts=facts or {},
    )


def bad_request() -> Mode:
    """400: a parameter the model does not take."""
    body = openai_error(
        "Unsupported value: 'temperature' does not support 9.",
        kind="invalid_request_error",
        code="unsupported_value",
        param="temperature",
    )
    return refusing("bad_request", 400, body, outcome=Outcome.REFUSED)


def context_openai() -> Mode:
    """400: the prompt is longer than the context, as OpenAI says it."""
    message = (
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens. "
        "Please reduce the length of the messages."
    )
    body = openai_error(message, kind="invalid_request_error", code="context_length_exceeded", param="messages")
    return refusing("context_openai", 400, body, outcome=Outcome.CONTEXT)


def context_openrouter() -> Mode:
    """400: the prompt is longer than the context, as OpenRouter says it, integer code and no error type."""
    message = (
        "This endpoint's maximum context length is 8192 tokens. However, you requested about 9001 tokens "
        "(8001 of text input, 1000 in the output). "
        'Please reduce the length of either one, or use the "middle-out" transform '
        "to compress your prompt automatically."
    )
    return refusing(
        "context_openrouter", 400, openrouter_error(message, 400, provider_name=None), outcome=Outcome.CONTEXT
    )


def context_wrapped() -> Mode:
    """400: OpenRouter's "Provider returned error" around a provider's context error in `metadata.raw`."""
    raw = json.dumps(
        openai_error(
            "maximum context length is 8192 tokens", kind="invalid_request_error", code="context_length_exceeded"
        )
    )
    body = openrouter_error(
        "Provider returned error", 400, raw=raw, provider_name="Made Up", error_type="context_length_exceeded"
    )
    return refusing("context_wrapped", 400, body, outcome=Outcome.CONTEXT)


def unauthorized() -> Mode:
    """401: our key is unknown to OpenRouter."""
    return refusing("unauthorized", 401, openrouter_error("User not found.", 401))


def unauthorized_openai() -> Mode:
    """401: our key is wrong at OpenAI, whose message quotes it."""
    body = openai_error(
        f"Incorrect API key provided: {SECRET_KEY}.", kind="invalid_request_error", code="invalid_api_key"
    )
    return refusing("unauthorized_openai", 401, body)


def payment_required() -> Mode:
    """402: our account at OpenRouter cannot pay for it."""
    message = (
        "This request requires more credits, or fewer max_tokens. You requested up to 4096 tokens, "
        "but can only afford 120. "
        "To increase, visit https://openrouter.ai/settings/credits and upgrade to a paid account"
    )
    return refusing("payment_required", 402, openrouter_error(message, 402, provider_name=None))


def payment_in_flight() -> Mode:
    """402: our account's money is held by other requests; soon over."""
    body = openrouter_error(
        "Insufficient credits for requests in flight.", 402, limit_source="openrouter_in_flight_budget"
    )
    return refusing("payment_in_flight", 402, body, headers=[("retry-after", "1")], facts={"retry_after_s": 1.0})


def forbidden() -> Mode:
    """403: our credential may not use this model."""
    body = openai_error(
        "Project proj_made_up does not have access to this model.", kind="invalid_request_error", code="model_not_found"
    )
    return refusing("forbidden", 403, body)


def forbidden_key_limit() -> Mode:
    """403: our OpenRouter key has reached its own limit."""
    return refusing(
        "forbidden_key_limit",
        403,
        openrouter_error("Key limit exceeded (total limit). Manage it at https://openrouter.ai/keys", 403),
    )


def forbidden_moderation() -> Mode:
    """403: moderation flagged the prompt."""
    body = openrouter_error(
        "Input was flagged",
        403,
        reasons=["violence"],
        flagged_input="how to ... a thing",
        provider_name="Made Up",
        model_slug="made/up",
    )
    return refusing("forbidden_moderation", 403, body, outcome=Outcome.CONTENT)


def not_found() -> Mode:
    """404: OpenAI does not know the model."""
    body = openai_error(
        "The model `made-up` does not exist or you do not have access to it.",
        kind="invalid_request_error",
        code="model_not_found",
    )
    return refusing("not_found", 404, body)


def no_endpoints() -> Mode:
    """404: OpenRouter has nobody who serves the request."""
    return refusing("no_endpoints", 404, openrouter_error("No endpoints found that support tool use.", 404))


def too_large() -> Mode:
    """413: the body is too large for the upstream's edge, which answers in HTML."""
    page = b"<html><head><title>413 Request Entity Too Large</title></head><body>nginx</body></html>"

    def plan(_ask: Ask) -> Iterator[Step]:
        return framed([Send(page)], framing=Framing.LENGTH, content_type=HTML, status=413)

    return Mode("too_large", plan, stream=Outcome.REFUSED, json=Outcome.REFUSED, status=413)


def unprocessable() -> Mode:
    """422: the body is well formed but not accepted; FastAPI's shape, without an `error`."""
    body = {"detail": [{"loc": ["body", "messages"], "msg": "field required", "type": "value_error.missing"}]}
    return refusing("unprocessable", 422, body, outcome=Outcome.REFUSED)


def rate_limited(retry_after: str | None = None) -> Mode:
    """429, with a Retry-After of `RETRY_AFTER` when one is named."""
    body = openai_error(
        "Rate limit reached for made-up on requests per min.", kind="requests", code="rate_limit_exceeded"
    )
    if retry_after is None:
        return refusing("rate_limited", 429, body, facts={"retry_after_s": None})
    written, seconds = RETRY_AFTER[retry_after]
    return refusing(
        f"rate_limited_{retry_after}", 429, body, headers=[("retry-after", written)], facts={"retry_after_s": seconds}
    )


def rate_limited_wrapped() -> Mode:
    """429: a provider's limit behind OpenRouter."""
    body = openrouter_error(
        "Provider returned error", 429, raw="made/up is temporarily rate-limited upstream.", provider_name="Made Up"
    )
    return refusing("rate_limited_wrapped", 429, body)


def quota_exhausted() -> Mode:
    """429: OpenAI's word for an empty account, which waiting does not cure."""
    body = openai_error(
        "You exceeded your current quota, please check your plan and billing details.",
        kind="insufficient_quota",
        code="insufficient_quota",
    )
    return refusing("quota_exhausted", 429, body)


def server_fault(status: int) -> Mode:
    """A fault of the server or of the edge before it; its message names a host and a key of ours."""
    message = f"upstream https://{SECRET_HOST}:8443/v1 refused key {SECRET_KEY}"
    return refusing(f"status_{status}", status, openai_error(message, kind="server_error"))


def unavailable_later() -> Mode:
    """503 with a Retry-After."""
    body = openai_error("The engine is currently overloaded.", kind="server_error")
    return refusing("unavailable_later", 503, body, headers=[("retry-after", "3")], facts={"retry_after_s": 3.0})


def redirect() -> Mode:
    """302 to a cloud's metadata address, which must not be followed."""
    headers = [("location", "http://169.254.169.254/latest/meta-data/")]
    return refusing("redirect", 302, {}, headers=headers)


STATUS_MODES: Final[Sequence[Callable[[], Mode]]] = (
    bad_request,
    context_openai,
    context_openrouter,
    context_wrapped,
    unauthorized,
    unauthorized_openai,
    payment_required,
    payment_in_flight,
    forbidden,
    forbidden_key_limit,
    forbidden_moderation,
    not_found,
    no_endpoints,
    too_large,
    unprocessable,
    rate_limited,
    rate_limited_wrapped,
    quota_exhausted,
    unavailable_later,
    redirect,
)
