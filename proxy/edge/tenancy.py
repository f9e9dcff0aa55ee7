"""What a tenant is to a request (floor 5): the file's word and the ledger's joined, and its own view of the table.

Of a tenant that stands in routes.yaml the file says everything but what is stored; of another one the ledger does. A
stored credential that cannot be decrypted leaves its provider not ready: the operator's never takes its place.
"""

from __future__ import annotations

from collections.abc import Callable

from proxy.ledger.records import KeyRecord
from proxy.routing.table import Secret, Table, Tenant
from proxy.routing.views import table_for
from proxy.vault import Vault

VIEWS_KEPT_MAX = 1_024
"""Of tenants with accounts of their own; beyond it they are made anew."""


def say_nothing(_secret: str) -> None:
    """Hide nothing, where there is no log."""


class Tenancy:
    """Joins and remembers views; whether a tenant has changed is asked by whoever asks here."""

    def __init__(self, vault: Vault, hide: Callable[[str], None] = say_nothing) -> None:
        """Decrypt with this vault, and tell `hide` what must never stand in a log."""
        self._vault = vault
        self.hide = hide
        self._views: dict[str, tuple[Table, Tenant, Table]] = {}

    def find(self, record: KeyRecord, table: Table) -> Tenant | None:
        """Give the tenant of a key; None when it has none, or one that neither knows."""
        if record.tenant is None:
            return None
        house = record.house
        declared = table.tenants.get(record.tenant)
        if house is None:
            return declared
        tenant = declared or Tenant(
            house.name,
            default_model=house.default_model,
            params=house.params,
            models=house.models,
            max_cost_nano_usd=house.max_cost_nano_usd,
        )
        keys, missing = dict(tenant.provider_keys), dict(tenant.not_ready)
        for credential in house.credentials:
            if credential.provider in tenant.provider_keys or credential.provider in tenant.not_ready:
                continue
            secret = self._vault.unseal(credential.sealed)
            if secret is None:
                missing[credential.provider] = f"the stored credential of {tenant.name} cannot be decrypted"
            else:
                self.hide(secret)
                keys[credential.provider] = Secret(secret)
        return Tenant(
            name=tenant.name,
            default_model=tenant.default_model,
            params=tenant.params,
            models=tenant.models,
            max_cost_nano_usd=tenant.max_cost_nano_usd,
            provider_keys=keys,
            not_ready=missing,
        )

    def view(self, table: Table, tenant: Tenant | None) -> Table:
        """Give the table as a tenant sees it, the same object as long as neither changes."""
        if tenant is None or not (tenant.provider_keys or tenant.not_ready):
            return table
        known = self._views.get(tenant.name)
        if known is not None and known[0] is table and known[1] == tenant:
            return known[2]
        if len(self._views) >= VIEWS_KEPT_MAX:
            self._views.clear()
        view = table_for(table, tenant)
        self._views[tenant.name] = (table, tenant, view)
        return view
