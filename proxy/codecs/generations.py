"""What OpenRouter tells afterwards of one generation (floor 1a, pure): `GET /generation?id=` (openrouter.md 5, 7.1)."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import orjson

from proxy.codecs.wire import JsonObject
from proxy.money import to_nano_usd
from proxy.usage import Usage

COST_USD_MAX: Final = 1_000_000
"""A reported cost above a million dollars is nonsense, not a bill."""
_TOKENS_MAX: Final = 10**12


def read_generation(body: bytes) -> Usage | None:
    """Read what a generation cost and used; None when it says no amount that can be believed.

    The total is OpenRouter's charge. With a key of the operator's own at the maker that is only the fee, and the
    maker's charge is added; without that figure nobody knows the bill. An amount of 0 is one: cancelled in time, or
    insured. Counts are the maker's own (`native_tokens_*`), which are what is billed.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, dict):
        return None
    cost, is_byok = _amount(data.get("total_cost")), data.get("is_byok") is True
    upstream = _amount(data.get("upstream_inference_cost")) if is_byok else 0
    if cost is None or upstream is None:
        return None
    return Usage(
        input_tokens=_count(data, "native_tokens_prompt", "tokens_prompt"),
        output_tokens=_count(data, "native_tokens_completion", "tokens_completion"),
        cached_tokens=_count(data, "native_tokens_cached"),
        reasoning_tokens=_count(data, "native_tokens_reasoning"),
        cost_nano_usd=cost + upstream,
        is_byok=is_byok,
    )


def _amount(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= COST_USD_MAX:
        return None
    return to_nano_usd(Decimal(repr(value)))


def _count(data: JsonObject, *names: str) -> int:
    for name in names:
        value = data.get(name)
        if type(value) is int and 0 <= value <= _TOKENS_MAX:
            return value
    return 0
