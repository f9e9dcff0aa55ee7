"""Our errors as HTTP (floor 5): body, status and headers on both surfaces.

It decides nothing: what went wrong and whose fault it is stands in `proxy.errors`. Whatever is not a `RequestError` is
shown as a bare 500, without a word of what it said.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from proxy.codecs.surface import error_type
from proxy.codecs.wire import JsonObject, Surface
from proxy.errors import LedgerUnavailable, Overloaded, RequestError, Unauthenticated, UpstreamUnusable

Headers = list[tuple[bytes, bytes]]
Attempts = Sequence[Mapping[str, Any]]
"""What was tried: `provider`, `model`, `reason`, `status`, `ms` of each attempt, oldest first."""

OVERLOAD_RETRY_AFTER_S = 1
"""What a client is asked to wait when we are the ones who cannot: short, because these states pass quickly."""
RETRY_AFTER_S_MAX = 31 * 86_400
"""Longest wait ever asked for: nothing here is refused for longer than a month's budget."""

_INTERNAL = RequestError("The gateway met an internal error; its log names it under this request id.")


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """A whole HTTP answer, ready to be sent."""

    status: int
    headers: Headers
    body: bytes


def surface_of(path: str) -> Surface:
    """Tell from a request's path which dialect its client reads."""
    if path == Surface.OPENROUTER or path.startswith(Surface.OPENROUTER + "/"):
        return Surface.OPENROUTER
    return Surface.OPENAI


def error_status(error: BaseException, surface: Surface) -> int:
    """Give the HTTP status of an error on a surface.

    Our own refused credential is 503 on `/v1`, but 402 on `/api/v1`: OpenRouter's Python SDK retries every 5xx for up
    to an hour.
    """
    if isinstance(error, UpstreamUnusable) and surface is Surface.OPENROUTER:
        return 402
    return _shown(error).status


def error_object(error: BaseException, surface: Surface, attempts: Attempts = ()) -> JsonObject:
    """Give the value of `error` in a body or frame: the code is a string on `/v1`, an integer on `/api/v1`."""
    shown = _shown(error)
    metadata = dict(shown.metadata)
    if attempts:
        metadata["attempts"] = [dict(attempt) for attempt in attempts]
    code: str | int = shown.code
    if surface is Surface.OPENROUTER:
        code = error_status(error, surface)
        metadata = {"error_type": error_type(code, shown.code), **metadata, "error_code": shown.code}
    fields: JsonObject = {"message": shown.message, "type": shown.type, "param": shown.param, "code": code}
    if metadata:
        fields["metadata"] = metadata
    return fields


def error_body(error: BaseException, surface: Surface, attempts: Attempts = ()) -> bytes:
    """Write the JSON body of an error."""
    return orjson.dumps({"error": error_object(error, surface, attempts)}, default=_name_type)


def error_headers(error: BaseException, *, request_id: str | None = None) -> Headers:
    """Give the headers that belong to an error: when and whether to try again, and how to authenticate."""
    shown = _shown(error)
    headers: Headers = []
    if request_id is not None:
        headers.append((b"x-request-id", request_id.encode("latin-1", "replace")))
    wait_s = _retry_after_s(shown)
    if wait_s is not None:
        headers.append((b"retry-after", b"%d" % wait_s))
    if shown.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if shown.should_retry else b"false"))
    if isinstance(shown, Unauthenticated):
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


def error_reply(
    error: BaseException, surface: Surface, attempts: Attempts = (), *, request_id: str | None = None
) -> ErrorReply:
    """Give the whole HTTP answer for an error."""
    body = error_body(error, surface, attempts)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += error_headers(error, request_id=request_id)
    return ErrorReply(error_status(error, surface), headers, body)


async def send_reply(send: Callable[[dict[str, Any]], Awaitable[None]], reply: ErrorReply) -> None:
    """Send an answer through ASGI."""
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    await send({"type": "http.response.body", "body": reply.body})


def _shown(error: BaseException) -> RequestError:
    """Give what a client may see of an error: itself when it is ours, else the bare internal one."""
    return error if isinstance(error, RequestError) else _INTERNAL


def _retry_after_s(error: RequestError) -> int | None:
    if error.retry_after_s is not None:
        return min(max(1, math.ceil(error.retry_after_s)), RETRY_AFTER_S_MAX)
    if isinstance(error, LedgerUnavailable | Overloaded):
        return OVERLOAD_RETRY_AFTER_S
    return None


def _name_type(value: object) -> str:
    """Keep an odd value in metadata from turning an error into another one."""
    return f"<{type(value).__name__}>"
