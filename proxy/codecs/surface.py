"""What a client sees (floor 1a, pure): the few rewrites that turn upstream frames into ours, per surface.

Everything not listed in design.md section 4 passes as it was sent. `/v1` is OpenAI's face, `/api/v1` OpenRouter's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import orjson

from proxy.codecs.wire import Frame, JsonObject, Surface
from proxy.errors import Failure, FailureKind
from proxy.money import NANO_PER_USD, to_nano_usd
from proxy.sse import event
from proxy.usage import CostSource

OUR_OWN = (401, 402)
"""Statuses about our own credential and credit: a client would take them for its key's."""
ERROR_TYPES = {
    400: "invalid_request",
    401: "authentication",
    402: "payment_required",
    403: "permission_denied",
    404: "not_found",
    408: "timeout",
    412: "precondition_failed",
    413: "payload_too_large",
    422: "unprocessable",
    429: "rate_limit_exceeded",
    502: "provider_unavailable",
    503: "provider_overloaded",
    504: "timeout",
    524: "timeout",
    529: "provider_overloaded",
}
"""OpenRouter's `error_type` of a status (openrouter.md 4.4); the statuses it names no word for are the server's."""
TYPED_CODES = {
    "content_policy": "content_policy_violation",
    "context_length_exceeded": "context_length_exceeded",
    "rate_limit_exceeded": "rate_limit_exceeded",
    "timeout": "timeout",
    "upstream_timeout": "timeout",
}
"""Codes of ours that say more than their status."""


class Cost(NamedTuple):
    """What goes beside the token counts: nano-USD, None when unknown, and where the figure comes from."""

    nano_usd: int | None
    source: CostSource

    @property
    def usd(self) -> float | None:
        """Give the amount as the JSON number OpenRouter's clients expect."""
        return None if self.nano_usd is None else self.nano_usd / NANO_PER_USD


class View(NamedTuple):
    """One client's view of one upstream's answer."""

    surface: Surface
    provider: str
    """Name of the provider in the routing table."""
    is_openrouter: bool
    """The upstream speaks OpenRouter's dialect already."""
    wants_usage: bool
    """The client asked for `stream_options.include_usage`."""
    metadata: JsonObject | None = None
    """What goes out as `openrouter_metadata`, with the reply or with the last chunk; None when it was not asked for."""

    @property
    def needs_every_chunk(self) -> bool:
        """Tell whether every chunk must be parsed: OpenRouter's own SDKs demand keys that others leave out."""
        return self.surface is Surface.OPENROUTER and not self.is_openrouter

    def hides(self, chunk: JsonObject) -> bool:
        """Tell whether a usage chunk is left out: a client of `/v1` that did not ask may index `choices[0]`."""
        return (
            self.surface is Surface.OPENAI
            and not self.wants_usage
            and not chunk.get("choices")
            and bool(chunk.get("usage"))
        )


def show_frame(frame: Frame, view: View, *, cost: Cost | None, is_first: bool) -> bytes:
    """Write one frame for the client; empty when it is left out."""
    chunk = frame.chunk
    if chunk is None:
        return frame.raw
    if view.hides(chunk):
        return b""
    changed = _add_cost(chunk, cost)
    if view.metadata is not None and not chunk.get("choices") and chunk.get("usage"):
        chunk["openrouter_metadata"] = view.metadata
        changed = True
    if view.needs_every_chunk:
        changed = _fill_chunk(chunk, view, is_first=is_first) or changed
    return event(orjson.dumps(chunk)) if changed else frame.raw


def show_reply(reply: JsonObject, view: View, *, cost: Cost | None) -> bytes:
    """Write a whole JSON reply for the client."""
    _add_cost(reply, cost)
    if view.surface is Surface.OPENROUTER:
        reply.setdefault("system_fingerprint", None)
        if not view.is_openrouter:
            reply.setdefault("provider", view.provider)
            for choice in _choices(reply):
                choice.setdefault("finish_reason", None)
    if view.metadata is not None:
        reply["openrouter_metadata"] = view.metadata
    return orjson.dumps(reply)


def show_error(failure: Failure, view: View, *, seed: JsonObject, status: int) -> bytes:
    """Write the last event of a stream that broke: the error alone on `/v1`, OpenRouter's frame on `/api/v1`.

    `seed` is an earlier chunk, for id, model and created. No client reads both shapes: `@ai-sdk/openai` takes a frame
    with `choices` for a normal answer, OpenRouter's SDK rejects one without (ecosystem.md B2).
    """
    code = failure.code or ("upstream_timeout" if failure.kind is FailureKind.TIMEOUT else "upstream_error")
    if view.surface is Surface.OPENAI:
        error: dict[str, Any] = {"message": failure.message, "type": "api_error", "param": None, "code": code}
        return event(orjson.dumps({"error": error}))
    named = failure.status or 0
    number = named if named >= 400 and named not in OUR_OWN else status
    metadata = {"error_type": error_type(number, code), **failure.metadata, "error_code": code}
    frame = {
        "id": seed.get("id") or "",
        "object": "chat.completion.chunk",
        "created": seed.get("created") or 0,
        "model": seed.get("model") or "",
        "provider": seed.get("provider") or view.provider,
        "error": {"code": number, "message": failure.message, "metadata": metadata},
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "error"}],
    }
    return event(orjson.dumps(frame))


def error_type(status: int, code: str) -> str:
    """Give OpenRouter's word for an error: its SDKs refuse to read the metadata of a broken stream without one."""
    return TYPED_CODES.get(code) or ERROR_TYPES.get(status, "server" if status >= 500 else "invalid_request")


def split_reply(reply: JsonObject) -> Iterator[JsonObject]:
    """Turn a whole reply into chunks for a client that wanted a stream: content, finish, usage."""
    head = {name: reply.get(name) for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    head |= {
        name: reply[name] for name in ("provider", "system_fingerprint", "service_tier") if reply.get(name) is not None
    }
    for choice in _choices(reply):
        message = choice.get("message")
        delta = _numbered(message) if isinstance(message, dict) else {}
        shown = {"index": choice.get("index", 0), "delta": delta, "finish_reason": None}
        yield {**head, "choices": [shown | {"logprobs": choice.get("logprobs")}]}
    for choice in _choices(reply):
        finish = {"index": choice.get("index", 0), "delta": {}, "finish_reason": choice.get("finish_reason") or "stop"}
        yield {**head, "choices": [finish]}
    if isinstance(reply.get("usage"), dict):
        yield {**head, "choices": [], "usage": reply["usage"]}


def _numbered(message: JsonObject) -> JsonObject:
    """Give a message as a delta: tool calls carry their index there."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    return {
        **message,
        "tool_calls": [{"index": index, **call} for index, call in enumerate(calls) if isinstance(call, dict)],
    }


def _add_cost(reply: JsonObject, cost: Cost | None) -> bool:
    usage = reply.get("usage")
    if cost is None or not isinstance(usage, dict):
        return False
    sent = usage.get("cost")
    is_finite = isinstance(sent, float) and math.isfinite(sent)
    if not (is_finite and to_nano_usd(Decimal(repr(sent))) == cost.nano_usd):
        # The provider's own figure stays as it was sent where it is what we book; for BYOK it is only the fee.
        usage["cost"] = cost.usd
    usage["cost_source"] = cost.source.value
    return True


def _fill_chunk(chunk: JsonObject, view: View, *, is_first: bool) -> bool:
    """Add the keys OpenRouter's SDKs demand, take out the null they reject."""
    changed = False
    if is_first and "provider" not in chunk:
        chunk["provider"] = view.provider
        changed = True
    if "system_fingerprint" in chunk and chunk["system_fingerprint"] is None:
        del chunk["system_fingerprint"]
        changed = True
    for choice in _choices(chunk):
        if "finish_reason" not in choice:
            choice["finish_reason"] = None
            changed = True
    return changed


def _choices(reply: JsonObject) -> list[JsonObject]:
    choices = reply.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
