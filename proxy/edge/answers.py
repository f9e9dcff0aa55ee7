"""Whole answers of the quiet endpoints (floor 5): JSON with exact numbers, and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from starlette.responses import Response

from proxy.money import format_usd

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def json_response(content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with JSON, which is never cached: figures and models differ by key and by moment."""
    given = {"cache-control": "no-store", **(headers or {})}
    return Response(orjson.dumps(content), status, given, media_type="application/json")


def usd_number(nano_usd: int) -> orjson.Fragment:
    """Write nano-USD as an exact JSON number of USD: the form of OpenRouter's shapes, without a float in between."""
    text = format_usd(nano_usd)
    return orjson.Fragment(text.rstrip("0").rstrip(".") or "0")


def iso_time(at_s: float | None) -> str | None:
    """Write seconds since the epoch as ISO 8601 in UTC, to the second; None stays None."""
    if at_s is None:
        return None
    return (_EPOCH + timedelta(seconds=int(at_s))).isoformat().replace("+00:00", "Z")
