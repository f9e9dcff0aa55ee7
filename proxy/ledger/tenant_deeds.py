"""What may be done to tenants and their credentials (floor 2, pure over a `Store`); the manner is that of `deeds`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from proxy.errors import NotFound
from proxy.ledger.audit import Act
from proxy.ledger.deeds import Conflict, declared, note, revoke_key
from proxy.ledger.registry import Store
from proxy.ledger.rules import show_limits
from proxy.ledger.tenancy import CredentialRecord, TenantRecord
from proxy.policy.limits import NO_LIMITS, Limits

LOADED = "routes.load"
"""The action of a routes.yaml that is put in force; its target is the table's id."""


def create_tenant(store: Store, tenant: TenantRecord, limits: Limits, act: Act) -> TenantRecord:
    """Add a tenant; its name was never in use."""
    if store.find_tenant(tenant.name) is not None:
        raise Conflict(
            f"A tenant {tenant.name!r} exists, or existed: names stay taken. Give another one.", param="name"
        )
    made = replace(tenant, created_at_s=act.at_s, updated_at_s=act.at_s)
    store.put_tenant(made)
    store.put_limits(f"tenant:{tenant.name}", limits)
    note(store, act, "tenant.create", f"tenant:{tenant.name}", (None, show_tenant(made, limits)))
    return made


def update_tenant(
    store: Store,
    name: str,
    edit: Callable[[TenantRecord, Limits], tuple[TenantRecord, Limits]],
    act: Act,
) -> TenantRecord:
    """Change a tenant and its limits; holds from the next request of its keys on."""
    known = _find_own(store, name)
    limits, _ = store.find_limits(f"tenant:{name}")
    wanted, new_limits = edit(known, limits)
    changed = _touch(store, wanted, act)
    store.put_limits(f"tenant:{name}", new_limits)
    note(store, act, "tenant.update", f"tenant:{name}", (show_tenant(known, limits), show_tenant(changed, new_limits)))
    return changed


def delete_tenant(store: Store, name: str, act: Act) -> TenantRecord:
    """End a tenant for good: its keys are revoked, its credentials and limits go, what it used stays in the books."""
    known = _find_own(store, name)
    limits, _ = store.find_limits(f"tenant:{name}")
    for key in store.list_keys():
        if key.tenant == name and not key.is_revoked:
            revoke_key(store, key.name, act)
    for credential in known.credentials:
        store.drop_credential(name, credential.provider)
    store.put_limits(f"tenant:{name}", NO_LIMITS)
    gone = _touch(store, replace(known, is_enabled=False, is_deleted=True, credentials=()), act)
    note(store, act, "tenant.delete", f"tenant:{name}", (show_tenant(known, limits), None))
    return gone


def put_credential(store: Store, credential: CredentialRecord, act: Act) -> CredentialRecord:
    """Give a tenant its own credential at a provider, one of routes.yaml too."""
    tenant = _find(store, credential.tenant)
    kept = replace(credential, created_at_s=act.at_s)
    store.put_credential(kept)
    _touch(store, tenant, act)
    former = next((one for one in tenant.credentials if one.provider == credential.provider), None)
    note(store, act, "credential.set", _place(credential), (_show(former), _show(kept)))
    return kept


def drop_credential(store: Store, name: str, provider: str, act: Act) -> None:
    """Take a tenant's own credential away: from then on it is the operator's there."""
    tenant = _find(store, name)
    former = next((one for one in tenant.credentials if one.provider == provider), None)
    if former is None:
        raise NotFound(f"The tenant {name!r} has no credential of {provider!r} stored.", code="credential_not_found")
    store.drop_credential(name, provider)
    _touch(store, tenant, act)
    note(store, act, "credential.drop", _place(former), (_show(former), None))


def reseal(store: Store, seal_again: Callable[[str], str], act: Act) -> int:
    """Encrypt every stored credential anew; gives how many."""
    tenants = [tenant for tenant in store.list_tenants() if tenant.credentials]
    credentials = [credential for tenant in tenants for credential in tenant.credentials]
    resealed = [replace(credential, sealed=seal_again(credential.sealed)) for credential in credentials]
    for credential in resealed:
        store.put_credential(credential)
    for tenant in tenants:
        _touch(store, tenant, act)
    note(store, act, "credential.reseal", "credentials", (None, {"count": len(resealed)}))
    return len(resealed)


def declare_tenants(store: Store, names: Iterable[str], table_id: str, act: Act) -> None:
    """Make the declared tenants exactly these, and write down that a table is in force if it is another one."""
    wanted = frozenset(names)
    known = {tenant.name: tenant for tenant in store.list_tenants()}
    for name in sorted(wanted):
        tenant = known.get(name)
        if tenant is None:
            store.put_tenant(TenantRecord(name, is_declared=True, created_at_s=act.at_s, updated_at_s=act.at_s))
        elif not (tenant.is_declared and tenant.is_enabled):
            _touch(store, replace(tenant, is_declared=True, is_enabled=True, is_deleted=False), act)
    for name in sorted(known.keys() - wanted):
        if known[name].is_declared and known[name].is_enabled:
            _touch(store, replace(known[name], is_enabled=False), act)
    former = store.find_last_of(LOADED)
    if former != table_id:
        note(store, act, LOADED, table_id, (None if former is None else {"config": former}, {"config": table_id}))


def find_tenant(store: Store, name: str) -> TenantRecord:
    """Give a tenant that is not deleted."""
    return _find(store, name)


def show_tenant(tenant: TenantRecord, limits: Limits) -> Mapping[str, Any]:
    """Give a tenant as the audit log has it."""
    return {
        "models": None if tenant.models is None else list(tenant.models),
        "default_model": tenant.default_model,
        "params": dict(tenant.params),
        "max_cost_nano_usd": tenant.max_cost_nano_usd,
        "is_enabled": tenant.is_enabled,
        "limits": show_limits(limits),
        "credentials": {one.provider: one.fingerprint for one in tenant.credentials},
    }


def _find(store: Store, name: str) -> TenantRecord:
    known = store.find_tenant(name)
    if known is None or known.is_deleted:
        raise NotFound(f"There is no tenant {name!r}.", code="tenant_not_found")
    return known


def _find_own(store: Store, name: str) -> TenantRecord:
    known = _find(store, name)
    if known.is_declared:
        raise declared(f"The tenant {name!r}")
    return known


def _touch(store: Store, tenant: TenantRecord, act: Act) -> TenantRecord:
    """Write a tenant under a new revision, which makes its keys' plans stale."""
    changed = replace(tenant, revision=tenant.revision + 1, updated_at_s=act.at_s)
    store.put_tenant(changed)
    return changed


def _place(credential: CredentialRecord) -> str:
    return f"credential:{credential.tenant}/{credential.provider}"


def _show(credential: CredentialRecord | None) -> Mapping[str, str] | None:
    return None if credential is None else {"fingerprint": credential.fingerprint}
