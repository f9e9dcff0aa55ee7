"""`turnpike keys` (part of `cli`, floor 7): a key's value is shown once, when it is made, and kept nowhere."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import typer

from proxy.cli.books import CLI, ask_ledger, ask_registry
from proxy.cli.output import Column, complain, print_json, print_table, say
from proxy.cli.places import Places
from proxy.edge.admin import read_grace
from proxy.edge.answers import iso_time
from proxy.edge.auth import mint_key
from proxy.edge.shapes import key_object, short_usd, show_budget, state_of
from proxy.edge.terms import NAME_CHARS_MAX, PATTERN_CHARS_MAX, edit_key, read_sha256
from proxy.errors import ClientError, NotFound
from proxy.files import load_table, parse_duration_s
from proxy.ledger import deeds
from proxy.ledger.audit import Act
from proxy.ledger.deeds import Conflict
from proxy.ledger.folder import digest_key, digest_key_sha256, load_pepper
from proxy.ledger.protocol import Ledger
from proxy.ledger.records import BudgetState, KeyRecord
from proxy.ledger.registry import Store
from proxy.ledger.tenancy import TenantRecord
from proxy.money import format_usd, parse_budget
from proxy.policy.limits import NO_LIMITS, Limits
from proxy.routing.table import Catalogue


@dataclass(frozen=True, slots=True)
class KeyWishes:
    """What `keys create` and `keys import` were told, as text."""

    name: str
    budget: Sequence[str] | None = None
    models: str | None = None
    expires: str | None = None
    tenant: str | None = None
    sha256: str | None = None
    """Of a key that clients have already."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """In the words of the admin API."""


def create_key(places: Places, wishes: KeyWishes, *, as_json: bool) -> None:
    """Make a key and print it; raises `BadParameter` for a wish that cannot be read or a name that is taken."""
    key, now_s = None if wishes.sha256 is not None else mint_key(), time.time()
    record = _read_wishes(wishes, now_s)
    declared = declared_tenants(places) if wishes.tenant is not None else frozenset()

    async def add(ledger: Ledger) -> KeyRecord:
        pepper = load_pepper(places.data)
        digest = digest_key(pepper, key) if key is not None else digest_key_sha256(pepper, wishes.sha256 or "")
        deed = partial(make_key, key=replace(record, digest=digest), declared=declared, act=Act(CLI, now_s))
        return await ledger.registry.write(deed)

    try:
        made = ask_ledger(places, add, may_begin=True)
    except Conflict as error:
        raise typer.BadParameter(error.message, param_hint="NAME") from error
    if as_json:
        shown = {} if key is None else {"key": key}
        print_json({"name": made.name, **shown, **_limits(made)})
        return
    if key is not None:
        say(key)
    budget = f"budget {show_budgets(made)}" if made.limits.budgets else "no budget"
    models = f"models {', '.join(made.models)}" if made.models is not None else "all models"
    ends = f"until {iso_time(made.expires_at_s)}" if made.expires_at_s is not None else "without end"
    told = "it is shown this once" if key is not None else "its clients keep the value they have"
    complain(f"key {made.name!r}: {budget}, {models}, {ends}; {told}")


def make_key(store: Store, key: KeyRecord, declared: frozenset[str], act: Act) -> KeyRecord:
    """Add a key; its tenant may stand in a routes.yaml that no server has put in force yet."""
    if key.tenant in declared and store.find_tenant(key.tenant or "") is None:
        store.put_tenant(TenantRecord(key.tenant or "", is_declared=True, created_at_s=act.at_s))
    return deeds.create_key(store, key, act)


def update_key(places: Places, name: str, wishes: Mapping[str, Any], *, as_json: bool) -> None:
    """Change a key as wished; raises `BadParameter` for a wish that cannot be read."""
    now_s = time.time()
    edit = partial(edit_key, fields=wishes, now_s=now_s)
    deed = partial(deeds.update_key, name=name, edit=edit, act=Act(CLI, now_s))
    changed = ask_registry(places, deed)
    if as_json:
        print_json(key_object(changed, now_s))
    else:
        complain(f"key {name!r} is changed: {show_budgets(changed) or 'no budget'}; it holds from its next request on")


def rotate_key(places: Places, name: str, grace: str | None, *, as_json: bool) -> None:
    """Give a key another value and print it."""
    key, now_s = mint_key(), time.time()

    async def rotate(ledger: Ledger) -> KeyRecord:
        digest = digest_key(load_pepper(places.data), key)
        until_s = read_grace(grace, now_s)
        deed = partial(deeds.rotate_key, name=name, digest=digest, former_until_s=until_s, act=Act(CLI, now_s))
        return await ledger.registry.write(deed)

    changed = ask_ledger(places, rotate)
    until = iso_time(changed.former_until_s)
    if as_json:
        print_json({"name": name, "key": key, "former_value_until": until})
        return
    say(key)
    complain(f"key {name!r} has another value; the former one {'ends ' + until if until else 'has ended'}")


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
        try:
            return await ledger.registry.write(partial(deeds.revoke_key, name=name, act=Act(CLI, time.time())))
        except NotFound:
            return None

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


def show_budgets(key: KeyRecord) -> str:
    """Write all budgets of a key's own."""
    return ", ".join(show_budget(budget) for budget in key.limits.budgets)


def declared_tenants(places: Places) -> frozenset[str]:
    """Name the tenants of routes.yaml."""
    return frozenset(load_table(places.config, environ=os.environ, catalogue=Catalogue()).tenants)


def _read_wishes(wishes: KeyWishes, now_s: float) -> KeyRecord:
    name = wishes.name
    if not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable() or name != name.strip():
        raise typer.BadParameter(f"a name has 1 to {NAME_CHARS_MAX} visible characters", param_hint="NAME")
    try:
        # An empty text is what a shell makes of "$5": a wall was wished for, so it is never taken for none.
        budgets = tuple(parse_budget(text) for text in wishes.budget or ())
    except ValueError as error:
        said = "".join(wishes.budget or ())
        remedy = "; in single quotes, or the shell reads $5 as a variable" if "$" not in said else ""
        raise typer.BadParameter(f"{error}{remedy}", param_hint="--budget") from error
    try:
        expires_at_s = now_s + parse_duration_s(wishes.expires) if wishes.expires is not None else None
    except ValueError as error:
        raise typer.BadParameter(f"{error}", param_hint="--expires") from error
    record = KeyRecord(
        name=name,
        digest="",
        tenant=wishes.tenant,
        limits=Limits(budgets=budgets) if budgets else NO_LIMITS,
        models=_read_models(wishes.models),
        created_at_s=now_s,
        expires_at_s=expires_at_s,
    )
    try:
        if wishes.sha256 is not None:
            read_sha256(wishes.sha256)
        return edit_key(record, wishes.more, now_s)
    except ClientError as error:
        raise typer.BadParameter(error.message) from error


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


def _limits(key: KeyRecord) -> dict[str, Any]:
    return {
        "budget": show_budgets(key) if key.limits.budgets else None,
        "models": list(key.models) if key.models is not None else None,
        "expires_at": iso_time(key.expires_at_s),
    }


def _key_json(key: KeyRecord, budgets: Sequence[BudgetState], now_s: float) -> dict[str, Any]:
    return {
        "name": key.name,
        "state": state_of(key, now_s),
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
        state_of(key, now_s),
        "routes file" if key.is_declared else "minted",
        key.tenant or "-",
        show_budgets(key) if key.limits.budgets else "-",
        "-" if left is None else "$" + short_usd(max(0, left)),
        ", ".join(key.models) if key.models is not None else "all",
        iso_time(key.expires_at_s) or "-",
    ]
