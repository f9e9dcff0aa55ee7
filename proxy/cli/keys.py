"""`turnpike keys` (part of `cli`, floor 7): mint, list, revoke. A key's value is shown once and kept nowhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import typer

from proxy.cli.books import ask_ledger
from proxy.cli.output import Column, complain, print_json, print_table, say
from proxy.cli.places import Places
from proxy.edge.answers import iso_time
from proxy.edge.auth import mint_key
from proxy.files import parse_duration_s
from proxy.ledger.folder import digest_key, load_pepper
from proxy.ledger.records import BudgetState, KeyRecord, Ledger
from proxy.money import Budget, Period, format_usd, parse_budget
from proxy.policy.limits import NO_LIMITS, Limits

NAME_CHARS_MAX = 64
PATTERN_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class KeyWishes:
    """What `keys create` was told, as text."""

    name: str
    budget: str | None = None
    models: str | None = None
    expires: str | None = None


def create_key(places: Places, wishes: KeyWishes, *, as_json: bool) -> None:
    """Make a key and print it; raises `BadParameter` for a wish that cannot be read or a name that is taken."""
    key, now_s = mint_key(), time.time()
    record = _read_wishes(wishes, now_s)

    async def add(ledger: Ledger) -> bool:
        digest = digest_key(load_pepper(places.data), key)
        return await ledger.create_key(replace(record, digest=digest))

    if not ask_ledger(places, add, may_begin=True):
        raise typer.BadParameter(f"a key named {wishes.name!r} exists already", param_hint="NAME")
    if as_json:
        print_json({"name": record.name, "key": key, **_limits(record)})
        return
    say(key)
    budget = f"budget {show_budgets(record)}" if record.limits.budgets else "no budget"
    models = f"models {', '.join(record.models)}" if record.models is not None else "all models"
    ends = f"until {iso_time(record.expires_at_s)}" if record.expires_at_s is not None else "without end"
    complain(f"key {record.name!r}: {budget}, {models}, {ends}; it is shown this once")


def list_keys(places: Places, *, as_json: bool) -> None:
    """List all keys with how their budgets stand."""
    now_s = time.time()

    async def read(ledger: Ledger) -> list[tuple[KeyRecord, Sequence[BudgetState]]]:
        return [(key, await ledger.budgets(key.name, now_s)) for key in await ledger.list_keys()]

    found = ask_ledger(places, read)
    if as_json:
        print_json({"keys": [_key_json(key, budgets, now_s) for key, budgets in found]})
        return
    titles = ("NAME", "STATE", "FROM", "TENANT", "BUDGET", "LEFT", "MODELS", "EXPIRES")
    columns = [Column(title, is_number=title == "LEFT") for title in titles]
    print_table(columns, [_key_row(key, budgets, now_s) for key, budgets in found])


def revoke_key(places: Places, name: str, *, as_json: bool) -> int:
    """Disable a key; 1 when there is none of that name."""

    async def revoke(ledger: Ledger) -> KeyRecord | None:
        found = {key.name: key for key in await ledger.list_keys()}.get(name)
        return found if found is not None and await ledger.revoke_key(name) else None

    record = ask_ledger(places, revoke)
    if as_json:
        print_json({"name": name, "revoked": record is not None})
    if record is None:
        complain(f"there is no key named {name!r}; `turnpike keys list` shows all")
        return 1
    if not as_json:
        complain(f"key {name!r} is revoked: from its next request on it is refused")
    if record.is_declared:
        complain(f"{name!r} stands in the routes file too; take it out there, or the next load enables it again")
    return 0


def show_budget(budget: Budget) -> str:
    """Write a budget as routes.yaml has it."""
    amount = "$" + _short(budget.limit_nano_usd)
    return amount if budget.period is Period.TOTAL else f"{amount}/{budget.period.value}"


def show_budgets(key: KeyRecord) -> str:
    """Write all budgets of a key's own."""
    return ", ".join(show_budget(budget) for budget in key.limits.budgets)


def _read_wishes(wishes: KeyWishes, now_s: float) -> KeyRecord:
    name = wishes.name
    if not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable() or name != name.strip():
        raise typer.BadParameter(f"a name has 1 to {NAME_CHARS_MAX} visible characters", param_hint="NAME")
    try:
        # An empty text is what a shell makes of "$5": a wall was wished for, so it is never taken for none.
        budget = parse_budget(wishes.budget) if wishes.budget is not None else None
    except ValueError as error:
        remedy = "; in single quotes, or the shell reads $5 as a variable" if "$" not in (wishes.budget or "") else ""
        raise typer.BadParameter(f"{error}{remedy}", param_hint="--budget") from error
    try:
        expires_at_s = now_s + parse_duration_s(wishes.expires) if wishes.expires is not None else None
    except ValueError as error:
        raise typer.BadParameter(f"{error}", param_hint="--expires") from error
    return KeyRecord(
        name=name,
        digest="",
        limits=NO_LIMITS if budget is None else Limits(budgets=(budget,)),
        models=_read_models(wishes.models),
        created_at_s=now_s,
        expires_at_s=expires_at_s,
    )


def _read_models(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    patterns = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for pattern in patterns:
        if pattern.count("*") > 1 or len(pattern) > PATTERN_CHARS_MAX or not pattern.isprintable():
            raise typer.BadParameter(f"{pattern!r} is no model's name; one * may stand in it", param_hint="--models")
    if not patterns:
        raise typer.BadParameter("name at least one model, or leave the flag out for all", param_hint="--models")
    return patterns


def _state(key: KeyRecord, now_s: float) -> str:
    if not key.is_enabled:
        return "revoked"
    return "expired" if key.expires_at_s is not None and key.expires_at_s <= now_s else "active"


def _limits(key: KeyRecord) -> dict[str, Any]:
    return {
        "budget": show_budgets(key) if key.limits.budgets else None,
        "models": list(key.models) if key.models is not None else None,
        "expires_at": iso_time(key.expires_at_s),
    }


def _key_json(key: KeyRecord, budgets: Sequence[BudgetState], now_s: float) -> dict[str, Any]:
    return {
        "name": key.name,
        "state": _state(key, now_s),
        "declared": key.is_declared,
        "tenant": key.tenant,
        **_limits(key),
        "created_at": iso_time(key.created_at_s),
        "budgets": [
            {
                "scope": one.scope,
                "period": one.period,
                "limit_usd": format_usd(one.limit_nano_usd),
                "posted_usd": format_usd(one.posted_nano_usd),
                "held_usd": format_usd(one.held_nano_usd),
                "resets_at": iso_time(one.resets_at_s),
            }
            for one in budgets
        ],
    }


def _key_row(key: KeyRecord, budgets: Sequence[BudgetState], now_s: float) -> list[str]:
    left = min((one.limit_nano_usd - one.posted_nano_usd - one.held_nano_usd for one in budgets), default=None)
    return [
        key.name,
        _state(key, now_s),
        "routes file" if key.is_declared else "minted",
        key.tenant or "-",
        show_budgets(key) if key.limits.budgets else "-",
        "-" if left is None else "$" + _short(max(0, left)),
        ", ".join(key.models) if key.models is not None else "all",
        iso_time(key.expires_at_s) or "-",
    ]


def _short(nano_usd: int) -> str:
    """Write an amount without needless zeros: 5, 0.25, 0.000001."""
    return format_usd(nano_usd).rstrip("0").rstrip(".")
