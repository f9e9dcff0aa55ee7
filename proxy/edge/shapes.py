"""What the admin API shows (floor 5, no I/O): keys, tenants, grants and audit lines as our own JSON, money as text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from proxy.edge.answers import iso_time
from proxy.ledger.audit import Entry, fingerprint
from proxy.ledger.records import BudgetState, KeyRecord
from proxy.ledger.tenancy import Grant, TenantRecord
from proxy.money import Budget, Period, format_usd
from proxy.policy.limits import NO_LIMITS, Limits, Measure, Rate

_UNITS = {1: "s", 60: "min", 3_600: "h", 86_400: "day"}


def key_object(key: KeyRecord, now_s: float) -> dict[str, Any]:
    """Show a key; never its value."""
    return {
        "name": key.name,
        "state": state_of(key, now_s),
        "declared": key.is_declared,
        "hash": key.digest,
        "fingerprint": fingerprint(key.digest),
        "tenant": key.tenant,
        "parent": key.parent,
        "may_create_keys": key.may_create_keys,
        **limits_object(key.limits),
        "models": None if key.models is None else list(key.models),
        "default_model": key.default_model,
        "params": dict(key.params),
        "max_cost": _money(key.max_cost_nano_usd),
        "created_at": iso_time(key.created_at_s),
        "updated_at": iso_time(key.updated_at_s or key.created_at_s),
        "expires_at": iso_time(key.expires_at_s),
        "former_value_until": iso_time(key.former_until_s),
    }


STATES = ("active", "disabled", "expired", "revoked")
"""What `state_of` tells."""


def state_of(key: KeyRecord, now_s: float) -> str:
    """Tell in a word what a key may do."""
    if key.is_revoked or (key.is_declared and not key.is_enabled):
        return "revoked"
    if not key.is_enabled:
        return "disabled"
    return "expired" if key.expires_at_s is not None and key.expires_at_s <= now_s else "active"


def tenant_object(tenant: TenantRecord, limits: Limits) -> dict[str, Any]:
    """Show a tenant; of one in routes.yaml only what is kept here. Credentials are fingerprints."""
    return {
        "name": tenant.name,
        "state": "active" if tenant.is_enabled else "disabled",
        "declared": tenant.is_declared,
        **limits_object(limits),
        "models": None if tenant.models is None else list(tenant.models),
        "default_model": tenant.default_model,
        "params": dict(tenant.params),
        "max_cost": _money(tenant.max_cost_nano_usd),
        "provider_keys": {
            one.provider: {"fingerprint": one.fingerprint, "created_at": iso_time(one.created_at_s)}
            for one in tenant.credentials
        },
        "created_at": iso_time(tenant.created_at_s),
        "updated_at": iso_time(tenant.updated_at_s),
    }


def limits_object(limits: Limits) -> dict[str, Any]:
    """Show limits in the words of routes.yaml."""
    users = {} if limits.users is None else _each_object(limits.users)
    tags = {name: _each_object(each) for name, each in limits.tags}
    return {**_each_object(limits), **({"users": users} if users else {}), **({"tags": tags} if tags else {})}


def budget_object(state: BudgetState) -> dict[str, Any]:
    """Show how a budget stands."""
    return {
        "scope": state.scope,
        "period": state.period,
        "soft": state.is_soft,
        "limit_usd": format_usd(state.limit_nano_usd),
        "posted_usd": format_usd(state.posted_nano_usd),
        "held_usd": format_usd(state.held_nano_usd),
        "left_usd": format_usd(max(0, state.limit_nano_usd - state.posted_nano_usd - state.held_nano_usd)),
        "resets_at": iso_time(state.resets_at_s),
    }


def grant_object(grant: Grant) -> dict[str, Any]:
    """Show one line of the prepaid credits."""
    return {
        "seq": grant.seq,
        "place": grant.place,
        "kind": grant.kind,
        "amount_usd": format_usd(grant.amount_nano_usd),
        "at": iso_time(grant.at_s),
        "actor": grant.actor,
        "note": grant.note,
    }


def prepaid_object(grants: Iterable[Grant]) -> dict[str, str]:
    """Sum the prepaid credits by place."""
    sums: dict[str, int] = {}
    for grant in grants:
        sums[grant.place] = sums.get(grant.place, 0) + grant.amount_nano_usd
    return {place: format_usd(total) for place, total in sums.items()}


def entry_object(entry: Entry) -> dict[str, Any]:
    """Show a line of the audit log."""
    return {
        "seq": entry.seq,
        "at": iso_time(entry.at_s),
        "actor": entry.actor,
        "address": entry.address,
        "request_id": entry.request_id,
        "action": entry.action,
        "target": entry.target,
        "before": None if entry.before is None else json.loads(entry.before),
        "after": None if entry.after is None else json.loads(entry.after),
        "hash": entry.hash,
    }


def show_budget(budget: Budget) -> str:
    """Write a budget as routes.yaml has it."""
    amount = "$" + short_usd(budget.limit_nano_usd)
    return amount if budget.period is Period.TOTAL else f"{amount}/{budget.period.value}"


def short_usd(nano_usd: int) -> str:
    """Write an amount without needless zeros: 5, 0.25, 0.000001."""
    return format_usd(nano_usd).rstrip("0").rstrip(".")


def _each_object(limits: Limits) -> dict[str, Any]:
    if limits == NO_LIMITS:
        return {"budget": None, "rate": None, "parallel": None}
    shown: dict[str, Any] = {
        "budget": [_budget(budget) for budget in limits.budgets] or None,
        "rate": [_rate(rate) for rate in limits.rates] or None,
        "parallel": limits.parallel,
    }
    return {**shown, "wait": f"{limits.wait_s:g}s"} if limits.wait_s else shown


def _budget(budget: Budget) -> str | Mapping[str, Any]:
    text = show_budget(budget)
    if not budget.is_soft and budget.when_spent is None and budget.timezone == Budget(0, Period.TOTAL).timezone:
        return text
    return {"limit": text, "soft": budget.is_soft, "when_spent": budget.when_spent, "timezone": budget.timezone}


def _rate(rate: Rate) -> str:
    unit = _UNITS.get(rate.window_s)
    words = " tokens" if rate.measure is Measure.TOKENS else ""
    return f"{rate.limit}{words}/{unit}" if unit is not None else f"{rate.limit}{words}/{rate.window_s}s"


def _money(nano_usd: int | None) -> str | None:
    return None if nano_usd is None else "$" + short_usd(nano_usd)
