"""Limits as the ledger's text, and back (floor 2, pure).

The text is read in every admission, and most often it is the one of last time: what it means is remembered, never
whether it still holds.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from typing import Any

from proxy.money import UTC_NAME, Budget, Period
from proxy.policy.limits import Limits, Measure, Rate

_TEXTS_KEPT_MAX = 4_096


def write_limits(limits: Limits) -> str:
    """Write limits as JSON, the same text for the same limits; what is not said is left out."""
    return json.dumps(show_limits(limits), separators=(",", ":"), sort_keys=True)


@lru_cache(maxsize=_TEXTS_KEPT_MAX)
def read_limits(text: str, prepaid_nano_usd: int | None = None) -> Limits:
    """Read what `write_limits` wrote, with the wall of what was prepaid; ValueError or KeyError for anything else."""
    return add_prepaid(_read_limits(json.loads(text)), prepaid_nano_usd)


def add_prepaid(limits: Limits, prepaid_nano_usd: int | None) -> Limits:
    """Put prepaid credits beside what is written: one more hard budget for all time; None: nothing was prepaid."""
    if prepaid_nano_usd is None:
        return limits
    return replace(limits, budgets=(*limits.budgets, Budget(max(0, prepaid_nano_usd), Period.TOTAL)))


def show_limits(limits: Limits) -> dict[str, Any]:
    """Give limits as JSON has them; what is not said is left out."""
    shown: dict[str, Any] = {
        "budgets": [_show_budget(budget) for budget in limits.budgets],
        "rates": [[rate.measure.value, rate.limit, rate.window_s] for rate in limits.rates],
        "parallel": limits.parallel,
        "wait_s": limits.wait_s,
        "users": limits.users and show_limits(limits.users),
        "tags": {name: show_limits(of_tag) for name, of_tag in limits.tags},
    }
    return {name: value for name, value in shown.items() if value or (name == "parallel" and value is not None)}


def _show_budget(budget: Budget) -> dict[str, Any]:
    shown: dict[str, Any] = {"limit_nano_usd": budget.limit_nano_usd, "period": budget.period.value}
    if budget.timezone != UTC_NAME:
        shown["timezone"] = budget.timezone
    if budget.is_soft:
        shown["is_soft"] = True
    if budget.when_spent is not None:
        shown["when_spent"] = budget.when_spent
    return shown


def _read_limits(shown: dict[str, Any]) -> Limits:
    users = shown.get("users")
    return Limits(
        budgets=tuple(_read_budget(budget) for budget in shown.get("budgets", ())),
        rates=tuple(Rate(Measure(measure), limit, window_s) for measure, limit, window_s in shown.get("rates", ())),
        parallel=shown.get("parallel"),
        wait_s=shown.get("wait_s", 0.0),
        users=None if users is None else _read_limits(users),
        tags=tuple((name, _read_limits(of_tag)) for name, of_tag in sorted(shown.get("tags", {}).items())),
    )


def _read_budget(shown: dict[str, Any]) -> Budget:
    return Budget(
        limit_nano_usd=shown["limit_nano_usd"],
        period=Period(shown["period"]),
        timezone=shown.get("timezone", UTC_NAME),
        is_soft=shown.get("is_soft", False),
        when_spent=shown.get("when_spent"),
    )
