"""What the operator reads (floor 2): JSON log lines, one per finished request, free of secrets and of prompts.

A log line must never fail a request and never leak: values are bounded, control characters escaped by JSON itself, and
secrets masked twice, by the name of the field and by the value. Lines go to stderr; stdout belongs to the ready line.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, TextIO

import orjson
import structlog

from proxy.money import format_usd
from proxy.usage import CostSource

VALUE_CHARS_MAX = 2_000
"""A longer text is cut: a log is no place for a prompt or an upstream's page."""
SECRETS_MAX = 10_000
SECRET_CHARS_MIN = 6
"""A shorter value is too common to be looked for: masking it would garble ordinary words."""
MASK = "***"

_SECRET_NAMES = re.compile(r"key$|secret|token$|authorization|password|pepper|cookie|credential", re.IGNORECASE)
_PLAIN_NAMES = frozenset({"key", "input_tokens", "output_tokens"})
"""`key` is the name of a client key, which is no secret."""
_SECRET_VALUES = re.compile(
    r"\b(?:sk|pk|gsk|xai|rk)-[A-Za-z0-9_-]{8,}|\bAIza[A-Za-z0-9_-]{20,}|(?i:\bbearer\s+)[^\s\"']+"
)
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

Event = MutableMapping[str, Any]


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """One client request when all is over."""

    request_id: str
    key: str
    tenant: str | None
    route: str | None
    """The alias asked for, None when it never came to a plan."""
    provider: str | None
    model: str | None
    status: int
    """As the client saw it; 499 when it had gone."""
    attempts: int
    input_tokens: int
    output_tokens: int
    cost_nano_usd: int | None
    cost_source: CostSource | None
    latency_ms: int
    first_token_ms: int | None
    error: str | None


class Telemetry:
    """Writes log lines; one of it per process, made by `app`."""

    def __init__(self, *, log_format: str = "json", level: str = "info", stream: TextIO | None = None) -> None:
        """Write to `stream` (stderr) as `json` or `console`, from `level` upwards."""
        self._secrets: tuple[str, ...] = ()
        render = structlog.dev.ConsoleRenderer(colors=False) if log_format == "console" else _render_json
        self._log = structlog.wrap_logger(
            structlog.WriteLogger(stream or sys.stderr),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
                structlog.processors.format_exc_info,
                self._mask,
                render,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(_LEVELS.get(level.lower(), logging.INFO)),
            cache_logger_on_first_use=True,
        )

    def hide(self, *secrets: str) -> None:
        """Mask these values wherever they turn up, from now on."""
        known = dict.fromkeys((*self._secrets, *(secret for secret in secrets if len(secret) >= SECRET_CHARS_MIN)))
        self._secrets = tuple(known)[-SECRETS_MAX:]

    def request_finished(self, finished: FinishedRequest) -> None:
        """Write the one line of a request that came to the gateway."""
        cost = finished.cost_nano_usd
        self._log.info(
            "request",
            request_id=finished.request_id,
            key=finished.key,
            tenant=finished.tenant,
            route=finished.route,
            provider=finished.provider,
            model=finished.model,
            status=finished.status,
            attempts=finished.attempts,
            input_tokens=finished.input_tokens,
            output_tokens=finished.output_tokens,
            cost_usd=None if cost is None else format_usd(cost),
            cost_source=finished.cost_source,
            latency_ms=finished.latency_ms,
            first_token_ms=finished.first_token_ms,
            error=finished.error,
        )

    def request_refused(self, request_id: str, status: int, code: str) -> None:
        """Write the one line of a request refused at the door."""
        self._log.info("request", request_id=request_id, status=status, attempts=0, error=code)

    def request_crashed(self, request_id: str, error: BaseException) -> None:
        """Write what a bug of ours looks like, with its stack: the only line that has one."""
        self._log.error("crash", request_id=request_id, exc_info=error)

    def table_loaded(self, table_id: str, notes: tuple[str, ...]) -> None:
        """Tell which routing table is in force from now on."""
        self._log.info("routes_loaded", config=table_id, notes=list(notes))

    def table_refused(self, problems: str) -> None:
        """Tell why an edit of routes.yaml is not used; the old table goes on."""
        self._log.error("routes_refused", problems=problems)

    def holds_resolved(self, attempts: int) -> None:
        """Tell that holds of a dead process were posted in full."""
        self._log.warning("holds_resolved", attempts=attempts)

    def noticed(self, what: str, **facts: object) -> None:
        """Write anything else worth knowing."""
        self._log.info(what, **facts)

    def _mask(self, _: object, __: str, event: Event) -> Event:
        for name, value in event.items():
            if value is None or isinstance(value, int | float):
                continue
            if name not in _PLAIN_NAMES and _SECRET_NAMES.search(name):
                event[name] = MASK
            else:
                event[name] = self._mask_value(value)
        return event

    def _mask_value(self, value: object) -> object:
        if isinstance(value, list | tuple):
            return [self._mask_value(item) for item in value]
        if isinstance(value, dict):
            return {str(name): self._mask_value(item) for name, item in value.items()}
        if not isinstance(value, str):
            value = str(value)
        text = value[:VALUE_CHARS_MAX]
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        return _SECRET_VALUES.sub(MASK, text)


def _render_json(_: object, __: str, event: Event) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode("utf-8", "replace")
