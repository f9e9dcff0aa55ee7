"""Two `provider` objects as one (floor 1b, pure): what the operator sets as a default, a client can only tighten."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

NOBODY = "-"
"""A name nothing has: what is left when two lists of what is allowed have nothing in common."""
_LISTS = ("only", "quantizations")
"""What is not in them is not allowed."""
_TIGHT_WHEN_TRUE = ("zdr", "enforce_distillable_text", "require_parameters")


def tighten(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a client's conditions over the operator's; of two that limit, both hold."""
    theirs = {name: value for name, value in theirs.items() if value is not None}
    both = {**ours, **theirs}
    for name in _TIGHT_WHEN_TRUE:
        if ours.get(name) is True:
            both[name] = True
    if ours.get("allow_fallbacks") is False:
        both["allow_fallbacks"] = False
    if ours.get("data_collection") == "deny":
        both["data_collection"] = "deny"
    for name in _LISTS:
        if isinstance(mine := ours.get(name), list) and isinstance(asked := theirs.get(name), list) and mine:
            both[name] = [one for one in asked if one in mine] or ([NOBODY] if asked else mine)
    if isinstance(mine := ours.get("ignore"), list) and isinstance(asked := theirs.get("ignore"), list):
        both["ignore"] = [*mine, *(name for name in asked if name not in mine)]
    if isinstance(mine := ours.get("max_price"), dict) and isinstance(asked := theirs.get("max_price"), dict):
        both["max_price"] = {**mine, **asked, **{name: _lower(mine[name], asked[name]) for name in mine.keys() & asked}}
    return both


def _lower(mine: Any, asked: Any) -> Any:
    """Give the lower of two limits, as it was written; what is no number is left for its reader to refuse."""
    try:
        return asked if Decimal(str(asked)) < Decimal(str(mine)) else mine
    except InvalidOperation:
        return asked
