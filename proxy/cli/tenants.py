"""`turnpike tenants` and `secrets` (part of `cli`, floor 7): on the files, whether or not a server runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import typer

from proxy.app import open_vault
from proxy.cli.books import CLI, ask_ledger, ask_registry
from proxy.cli.output import Column, complain, print_json, print_table
from proxy.cli.places import Places
from proxy.cli.tables import read_table
from proxy.edge.houses import list_with_limits, read_secret
from proxy.edge.shapes import tenant_object
from proxy.edge.terms import edit_tenant, read_name
from proxy.errors import ClientError, NotFound
from proxy.ledger import tenant_deeds
from proxy.ledger.audit import Act, fingerprint
from proxy.ledger.registry import Store
from proxy.ledger.tenancy import CredentialRecord, TenantRecord
from proxy.policy.limits import NO_LIMITS


def create_tenant(places: Places, name: str, wishes: Mapping[str, Any], *, as_json: bool) -> None:
    """Make a tenant; raises `BadParameter` for a wish that cannot be read, `Conflict` for a name that is taken."""
    try:
        tenant, limits = edit_tenant(TenantRecord(read_name(name)), NO_LIMITS, wishes)
    except ClientError as error:
        raise typer.BadParameter(error.message) from error
    deed = partial(tenant_deeds.create_tenant, tenant=tenant, limits=limits, act=_act())
    made = ask_registry(places, deed, may_begin=True)
    _tell(tenant_object(made, limits), f"tenant {name!r} is made", as_json=as_json)


def list_tenants(places: Places, *, as_json: bool) -> None:
    """List the tenants with what holds for them."""
    found = [tenant_object(*pair) for pair in ask_ledger(places, lambda ledger: ledger.registry.read(list_with_limits))]
    if as_json:
        print_json({"tenants": found})
        return
    titles = ("NAME", "STATE", "FROM", "BUDGET", "RATE", "MODELS", "OWN ACCOUNTS")
    print_table([Column(title) for title in titles], [_row(tenant) for tenant in found])


def update_tenant(places: Places, name: str, wishes: Mapping[str, Any], *, as_json: bool) -> None:
    """Change a tenant as wished."""
    edit = partial(edit_tenant, fields=wishes)
    ask_registry(places, partial(tenant_deeds.update_tenant, name=name, edit=edit, act=_act()))
    _tell({"name": name, "changed": True}, f"tenant {name!r} is changed from the next request on", as_json=as_json)


def delete_tenant(places: Places, name: str, *, as_json: bool) -> None:
    """End a tenant for good."""
    ask_registry(places, partial(tenant_deeds.delete_tenant, name=name, act=_act()))
    _tell({"name": name, "deleted": True}, f"tenant {name!r} is gone, its keys are revoked", as_json=as_json)


def set_provider_key(places: Places, name: str, provider: str, *, as_json: bool) -> None:
    """Store a tenant's own key of a provider, read from stdin."""
    table = read_table(places)
    if provider not in table.providers:
        raise NotFound(f"There is no provider {provider!r} in the routing table.", code="provider_not_found")
    secret = read_secret(sys.stdin.readline().strip())
    sealed = open_vault(places.config).seal(secret)
    record = CredentialRecord(name, provider, sealed, fingerprint(secret))
    deed = partial(_put_credential, credential=record, declared=frozenset(table.tenants), act=_act())
    kept = ask_registry(places, deed)
    shown = {"tenant": name, "provider": provider, "fingerprint": kept.fingerprint}
    _tell(shown, f"{provider} is called with the own key of tenant {name!r} from now on", as_json=as_json)


def drop_provider_key(places: Places, name: str, provider: str, *, as_json: bool) -> None:
    """Forget a tenant's own key of a provider."""
    ask_registry(places, partial(tenant_deeds.drop_credential, name=name, provider=provider, act=_act()))
    shown = {"tenant": name, "provider": provider, "deleted": True}
    _tell(shown, f"{provider} is called with the operator's key for tenant {name!r} from now on", as_json=as_json)


def rotate_secrets(places: Places, *, as_json: bool) -> None:
    """Encrypt every stored credential anew; raises `VaultClosed` when one cannot be read."""
    seal_again = open_vault(places.config).seal_again
    count = ask_registry(places, partial(tenant_deeds.reseal, seal_again=seal_again, act=_act()))
    _tell({"resealed": count}, f"{count} stored credentials are encrypted under the first key", as_json=as_json)


def _put_credential(store: Store, credential: CredentialRecord, declared: frozenset[str], act: Act) -> CredentialRecord:
    if credential.tenant in declared and store.find_tenant(credential.tenant) is None:
        store.put_tenant(TenantRecord(credential.tenant, is_declared=True, created_at_s=act.at_s))
    return tenant_deeds.put_credential(store, credential, act)


def _act() -> Act:
    return Act(CLI, time.time())


def _tell(shown: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(shown)
    else:
        complain(text)


def _row(tenant: Mapping[str, Any]) -> list[str]:
    return [
        tenant["name"],
        tenant["state"],
        "routes file" if tenant["declared"] else "made",
        ", ".join(one if isinstance(one, str) else one["limit"] for one in tenant["budget"] or ()) or "-",
        ", ".join(tenant["rate"] or ()) or "-",
        ", ".join(tenant["models"]) if tenant["models"] is not None else "all",
        ", ".join(tenant["provider_keys"]) or "-",
    ]
