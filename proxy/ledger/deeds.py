"""What may be done to keys, limits and credits, and what is written down about it (floor 2, pure over a `Store`).

Every deed looks first and writes last: one that is refused raises a `ClientError` and has changed nothing. What stands
in routes.yaml is changed there. Tenants and their credentials have `tenant_deeds`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from proxy.errors import ClientError, NotFound, PermissionRefused
from proxy.ledger.audit import START, Act, fingerprint, make_entry
from proxy.ledger.records import KeyRecord
from proxy.ledger.registry import Store
from proxy.ledger.rules import show_limits
from proxy.ledger.subsets import find_excess
from proxy.ledger.tenancy import Grant
from proxy.policy.limits import Limits
from proxy.policy.scopes import parse_scope

CHILDREN_MAX = 10_000
"""Keys one key may make."""
UNLIMITABLE = frozenset({"user", "tag"})
"""Scopes whose limits stand at a key, a tenant or the whole gateway."""


class Conflict(ClientError):
    """It is there already, or it is not to be changed here."""

    status = 409
    code = "conflict"


def note(store: Store, act: Act, action: str, target: str, change: tuple[Any, Any] = (None, None)) -> None:
    """Write a line into the audit log; `change` is what was there and what is now."""
    store.add_entry(make_entry(store.find_head() or START, act, action, target, change))


def note_declaration(store: Store, act: Act, action: str, *, changed: Iterable[str], gone: Iterable[str]) -> None:
    """Write down what a routes.yaml changed, if it changed anything."""
    change = {"changed": sorted(changed), "gone": sorted(gone)}
    if any(change.values()):
        note(store, act, action, "routes.yaml", (None, change))


# ---------------------------------------------------------------- keys


def create_key(store: Store, key: KeyRecord, act: Act) -> KeyRecord:
    """Add a key; its name is free, its tenant there, and it may do no more than the key that makes it."""
    if store.find_key(key.name) is not None:
        raise Conflict(f"A key named {key.name!r} exists already; names stay taken. Give another one.", param="name")
    _check_value(store, key)
    _check_tenant(store, key)
    if key.parent is not None:
        _check_subset(key, _find_maker(store, key.parent))
        if sum(other.parent == key.parent for other in store.list_keys()) >= CHILDREN_MAX:
            raise Conflict(f"A key can make {CHILDREN_MAX} keys; ask the operator for another one.")
    made = replace(key, updated_at_s=act.at_s)
    store.insert_key(made)
    store.put_limits(f"key:{key.name}", key.limits)
    note(store, act, "key.create", f"key:{key.name}", (None, show_key(made)))
    return made


def update_key(store: Store, name: str, edit: Callable[[KeyRecord], KeyRecord], act: Act) -> KeyRecord:
    """Change a key as `edit` says; holds from its next request on."""
    known = find_own_key(store, name)
    if known.is_revoked:
        raise Conflict(f"The key {name!r} is revoked for good; make another one.")
    wanted = replace(edit(known), updated_at_s=act.at_s)
    _check_tenant(store, wanted)
    if wanted.parent is not None:
        _check_subset(wanted, _find_maker(store, wanted.parent))
    store.replace_key(wanted)
    store.put_limits(f"key:{name}", wanted.limits)
    note(store, act, "key.update", f"key:{name}", (show_key(known), show_key(wanted)))
    return wanted


def rotate_key(store: Store, name: str, digest: str, former_until_s: float | None, act: Act) -> KeyRecord:
    """Give a key another value; the former one ends at once, or is good until then."""
    known = find_own_key(store, name)
    if known.is_revoked:
        raise Conflict(f"The key {name!r} is revoked for good; make another one.")
    former = None if former_until_s is None else known.digest
    changed = replace(known, digest=digest, former_digest=former, former_until_s=former_until_s, updated_at_s=act.at_s)
    store.replace_key(changed)
    note(store, act, "key.rotate", f"key:{name}", (show_key(known), show_key(changed)))
    return changed


def revoke_key(store: Store, name: str, act: Act) -> KeyRecord:
    """Disable a key for good; one of routes.yaml comes back with the next load that declares it."""
    known = find_key(store, name)
    gone = replace(known, is_enabled=False, is_revoked=True, former_digest=None, former_until_s=None)
    gone = replace(gone, updated_at_s=act.at_s)
    if known.is_enabled or not known.is_revoked:
        store.replace_key(gone)
        note(store, act, "key.revoke", f"key:{name}", (show_key(known), show_key(gone)))
    return gone


def find_key(store: Store, name: str) -> KeyRecord:
    """Give a key of whatever origin; `NotFound` when there is none."""
    known = store.find_key(name)
    if known is None:
        raise NotFound(f"There is no key named {name!r}.", code="key_not_found")
    return known


def find_own_key(store: Store, name: str) -> KeyRecord:
    """Give a key that may be changed here."""
    known = find_key(store, name)
    if known.is_declared:
        raise declared(f"The key {name!r}")
    return known


def declared(what: str) -> Conflict:
    """Say that something is not to be changed here."""
    return Conflict(f"{what} stands in routes.yaml; change it there.", code="declared_in_routes")


def show_key(key: KeyRecord) -> Mapping[str, Any]:
    """Give a key as the audit log has it."""
    return {
        "fingerprint": fingerprint(key.digest),
        "tenant": key.tenant,
        "parent": key.parent,
        "limits": show_limits(key.limits),
        "models": None if key.models is None else list(key.models),
        "default_model": key.default_model,
        "params": dict(key.params),
        "max_cost_nano_usd": key.max_cost_nano_usd,
        "may_create_keys": key.may_create_keys,
        "expires_at_s": key.expires_at_s,
        "former_until_s": key.former_until_s,
        "is_enabled": key.is_enabled,
    }


def _check_value(store: Store, key: KeyRecord) -> None:
    """Refuse a value another key has, or had when it was revoked: one value never leads to two keys' books.

    What has left routes.yaml is no key's any more.
    """
    for other in store.list_keys():
        is_former = other.former_digest == key.digest and (other.former_until_s or 0) > key.created_at_s
        if is_former or (other.digest == key.digest and (other.is_enabled or not other.is_declared)):
            is_gone = " is revoked for good and" if other.is_revoked else ""
            raise Conflict(f"The key {other.name!r}{is_gone} has this value; take another one.", param="key_sha256")


def _check_tenant(store: Store, key: KeyRecord) -> None:
    tenant = None if key.tenant is None else store.find_tenant(key.tenant)
    if key.tenant is not None and (tenant is None or tenant.is_deleted):
        raise ClientError(f"There is no tenant {key.tenant!r}; make it first.", param="tenant")


def _find_maker(store: Store, name: str) -> KeyRecord:
    maker = store.find_key(name)
    if maker is None or not maker.may_create_keys or maker.parent is not None:
        raise PermissionRefused("This key may not make keys; ask the operator of this gateway.", code="not_allowed")
    return maker


def _check_subset(key: KeyRecord, maker: KeyRecord) -> None:
    excess = find_excess(key, maker)
    if excess is not None:
        raise PermissionRefused(f"A key can only make keys that may do no more than itself: {excess}.", code="too_wide")


# ---------------------------------------------------------------- limits and credits


def set_limits(store: Store, place: str, edit: Callable[[Limits], Limits], act: Act) -> Limits:
    """Change what holds for a place from the next admission on; gives what does now."""
    known, is_declared = store.find_limits(place)
    _check_place(store, place)
    if is_declared:
        raise declared(f"What holds for {place}")
    limits = edit(known)
    store.put_limits(place, limits)
    renew(store, place)
    note(store, act, "limits.set", place, (show_limits(known), show_limits(limits)))
    return limits


def grant(store: Store, given: Grant, act: Act) -> int:
    """Add prepaid credit to a key or a tenant; gives what was prepaid in all, nano-USD.

    Their sum is a wall for all time. What was spent before the first grant is added to it, so that a grant of $10 lets
    $10 be spent.
    """
    if parse_scope(given.place).kind not in {"key", "tenant"}:
        raise ClientError("Credits are granted to a key or a tenant.", param="place")
    _check_place(store, given.place, may_be_declared=True)
    lines = [replace(given, at_s=act.at_s, actor=act.actor, kind="grant")]
    before = store.list_grants(given.place)
    spent = 0 if before else store.find_posted(given.place)
    if spent:
        lines.insert(0, replace(lines[0], kind="opening", amount_nano_usd=spent, note="spent before"))
    former = sum(line.amount_nano_usd for line in before)
    total = former + sum(line.amount_nano_usd for line in lines)
    if total < 0:
        raise ClientError("That is more than there is to take back.", param="amount")
    for line in lines:
        store.add_grant(line, total_nano_usd=total)
    renew(store, given.place)
    change = {"prepaid_nano_usd": former}, {"prepaid_nano_usd": total, "note": given.note}
    note(store, act, "credits.grant", given.place, change)
    return total


def renew(store: Store, place: str) -> None:
    """Make plans stale that were made under what held for a place."""
    kind, _, name = place.partition(":")
    key = store.find_key(name) if kind == "key" else None
    if key is not None:
        store.replace_key(key)
    else:
        store.renew_all_keys()


def _check_place(store: Store, place: str, *, may_be_declared: bool = False) -> None:
    try:
        scope = parse_scope(place)
    except ValueError as error:
        raise ClientError(f"{place[:80]!r} is no place for limits; write it as key:NAME or global.") from error
    if scope.kind in UNLIMITABLE:
        raise ClientError("Limits of users and tags stand at a key, a tenant or the whole gateway: `users`, `tags`.")
    if scope.kind == "key":
        key = find_key(store, scope.name)
        if key.is_declared and not may_be_declared:
            raise declared(f"The key {scope.name!r}")
    if scope.kind == "tenant":
        tenant = store.find_tenant(scope.name)
        if tenant is None or tenant.is_deleted:
            raise NotFound(f"There is no tenant {scope.name!r}.", code="tenant_not_found")
        if tenant.is_declared and not may_be_declared:
            raise declared(f"The tenant {scope.name!r}")
