"""What an exchange tells of itself (part of the gateway, floor 4): the form of its answer, and its line in the log."""

from __future__ import annotations

from typing import NamedTuple

from proxy.codecs.surface import View
from proxy.codecs.wire import JsonObject
from proxy.gateway.attempt import Attempt
from proxy.gateway.errands import Asked
from proxy.routing.table import Dialect
from proxy.telemetry import FinishedRequest


class Ending(NamedTuple):
    """How an exchange went, as far as only it knows."""

    request_id: str
    alias: str | None
    attempts: int
    spent_nano_usd: int | None
    latency_ms: int
    error: str | None
    overhead_us: int | None
    is_draining: bool


def find_view(asked: Asked, attempt: Attempt, metadata: JsonObject | None) -> View:
    """Tell in which form the client wants the answer of an attempt; `metadata` is our word on its routing.

    OpenRouter tells its own routing.
    """
    body = asked.body
    # OpenAI's way to ask for usage, and OpenRouter's, which its users send through OpenAI's SDKs as well.
    options, usage = body.get("stream_options"), body.get("usage")
    wants_usage = isinstance(options, dict) and options.get("include_usage") is True
    provider = attempt.candidate.target.provider
    is_openrouter = provider.dialect is Dialect.OPENROUTER
    return View(
        asked.surface,
        provider.name,
        is_openrouter=is_openrouter,
        wants_usage=wants_usage or (isinstance(usage, dict) and usage.get("include") is True),
        metadata=None if is_openrouter else metadata,
    )


def write_record(asked: Asked, attempt: Attempt | None, ending: Ending, *, status: int) -> FinishedRequest:
    """Give the one log line of a request; `attempt` is its newest, None when it was never let in."""
    end = attempt.end if attempt is not None else None
    target = attempt.candidate.target if attempt is not None else None
    return FinishedRequest(
        request_id=ending.request_id,
        key=asked.principal.name,
        tenant=asked.principal.tenant,
        route=ending.alias,
        provider=target.provider.name if target is not None else None,
        model=target.model if target is not None else None,
        status=status,
        attempts=ending.attempts,
        input_tokens=end.usage.input_tokens if end is not None else 0,
        output_tokens=end.usage.output_tokens if end is not None else 0,
        cost_nano_usd=ending.spent_nano_usd,
        cost_source=end.cost_source if end is not None else None,
        latency_ms=ending.latency_ms,
        first_token_ms=attempt.first_token_ms if attempt is not None else None,
        error=ending.error,
        overhead_us=ending.overhead_us,
        is_overrun=end is not None and end.is_overrun,
        is_draining=ending.is_draining,
    )
