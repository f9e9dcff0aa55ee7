"""A routing table as one tenant sees it (floor 1b, pure): providers named in its `provider_keys` are its own accounts.

Such a provider is called with the tenant's credential and with nothing of the operator's: not his keys, not the headers
that hold a credential or name his account. One whose credential is missing is not ready; it never falls back to his.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from proxy.routing.table import Provider, Route, Table, Tenant, holds_secret

_ACCOUNT_HEADER = re.compile(r"organi[sz]ation|project|account|tenant", re.IGNORECASE)
"""Headers that name an account (`OpenAI-Organization`): the operator's would not fit the tenant's key."""


def table_for(table: Table, tenant: Tenant | None) -> Table:
    """Give the table for the keys of a tenant; the same one when it has no account of its own anywhere."""
    own = _own_providers(table.providers, tenant) if tenant is not None else {}
    if not own:
        return table
    return replace(
        table,
        providers={**table.providers, **own},
        routes={name: _with_own(route, own) for name, route in table.routes.items()},
        globs=tuple(_with_own(route, own) for route in table.globs),
    )


def _own_providers(providers: Mapping[str, Provider], tenant: Tenant) -> dict[str, Provider]:
    names = providers.keys() & (tenant.provider_keys.keys() | tenant.not_ready.keys())
    return {name: _own_provider(providers[name], tenant) for name in names}


def _own_provider(provider: Provider, tenant: Tenant) -> Provider:
    headers = {
        name: value
        for name, value in provider.headers.items()
        if not holds_secret(name) and not _ACCOUNT_HEADER.search(name)
    }
    missing = tenant.not_ready.get(provider.name)
    return replace(
        provider,
        account=tenant.name,
        api_key=None if missing is not None else tenant.provider_keys[provider.name],
        pool=(),
        pool_missing=(),
        headers=headers,
        not_ready=missing,
    )


def _with_own(route: Route, own: Mapping[str, Provider]) -> Route:
    if not any(target.provider.name in own for target in route.targets):
        return route
    targets = (
        replace(target, provider=own[target.provider.name]) if target.provider.name in own else target
        for target in route.targets
    )
    return replace(route, targets=tuple(targets))
