"""Two `provider` objects as one (floor 1b, pure): what the operator sets as a default, a client can only tighten."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

NOBODY = "-"
"""A name nothing has: what is left when two lists of what is allowed have nothing in common."""
_ALLOWING = ("only", "quantizations")
"""What is not in them is not allowed."""
_TIGHT_WHEN_TRUE = ("zdr", "enforce_distillable_text", "require_parameters")


def tighten(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a client's conditions over the operator's; of two that limit, both hold, and a null says nothing."""
    asked = {name: value for name, value in theirs.items() if value is not None}
    both = {**ours, **asked}
    for name in _TIGHT_WHEN_TRUE:
        if ours.get(name) is True:
            both[name] = True
    if ours.get("data_collection") == "deny":
        both["data_collection"] = "deny"
    allowing = list(_ALLOWING)
    if ours.get("allow_fallbacks") is False:
        both["allow_fallbacks"] = False
        allowing.append("order")  # beside it, who is not in the order is not allowed
    for name in allowing:
        if isinstance(mine := ours.get(name), list) and isinstance(wished := asked.get(name), list) and mine:
            both[name] = [one for one in wished if one in mine] or ([NOBODY] if wished else mine)
    if isinstance(mine := ours.get("ignore"), list) and isinstance(wished := asked.get("ignore"), list):
        both["ignore"] = [*mine, *(name for name in wished if name not in mine)]
    if isinstance(most := ours.get("max_price"), dict) and isinstance(limits := asked.get("max_price"), dict):
        both["max_price"] = _lowest(most, limits)
    return both


def _lowest(mine: Mapping[str, Any], wished: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: limit for name, limit in wished.items() if limit is not None}
    return {**mine, **said, **{name: _lower(mine[name], said[name]) for name in mine.keys() & said}}


def _lower(mine: Any, asked: Any) -> Any:
    """Give the lower of two limits, as it was written; what is no number is left for its reader to refuse."""
    try:
        return asked if Decimal(str(asked)) < Decimal(str(mine)) else mine
    except InvalidOperation:
        return asked
