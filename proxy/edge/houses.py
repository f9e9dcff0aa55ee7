"""`/admin/tenants` (floor 5): tenants, their limits, and their own credentials at providers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from proxy.edge import shapes, terms
from proxy.edge.admin import CREATED, read_object
from proxy.edge.answers import json_response
from proxy.edge.services import Services
from proxy.errors import ClientError, NotFound
from proxy.ledger import tenant_deeds
from proxy.ledger.audit import fingerprint
from proxy.ledger.registry import Store
from proxy.ledger.tenancy import CredentialRecord, TenantRecord
from proxy.policy.limits import NO_LIMITS, Limits

SECRET_CHARS_MAX = 4_096


class Tenants:
    """The endpoints."""

    def __init__(self, services: Services) -> None:
        """Answer from these."""
        self._services = services
        self._registry = services.ledger.registry

    async def list_tenants(self, request: Request) -> Response:
        """`GET /admin/tenants`: those of routes.yaml too."""
        await self._services.guard.admit(request)
        found = [shapes.tenant_object(*pair) for pair in await self._registry.read(list_with_limits)]
        return json_response({"object": "list", "data": found, "total": len(found)})

    async def create_tenant(self, request: Request) -> Response:
        """`POST /admin/tenants`."""
        act = await self._services.guard.admit(request)
        fields = await read_object(request)
        terms.check_fields(fields, terms.TENANT_FIELDS | {"name"})
        asked = {name: value for name, value in fields.items() if name != "name"}
        tenant, limits = terms.edit_tenant(TenantRecord(terms.read_name(fields.get("name"))), NO_LIMITS, asked)
        made = await self._registry.write(partial(tenant_deeds.create_tenant, tenant=tenant, limits=limits, act=act))
        return json_response(shapes.tenant_object(made, limits), status=CREATED)

    async def show_tenant(self, request: Request) -> Response:
        """`GET /admin/tenants/{name}`."""
        await self._services.guard.admit(request)
        return json_response(await self._show(request))

    async def update_tenant(self, request: Request) -> Response:
        """`PATCH /admin/tenants/{name}`: holds from the next request of its keys on."""
        act = await self._services.guard.admit(request)
        fields = await read_object(request)
        terms.check_fields(fields, terms.TENANT_FIELDS)
        edit = partial(terms.edit_tenant, fields=fields)
        name = request.path_params["name"]
        await self._registry.write(partial(tenant_deeds.update_tenant, name=name, edit=edit, act=act))
        return json_response(await self._show(request))

    async def delete_tenant(self, request: Request) -> Response:
        """`DELETE /admin/tenants/{name}`: for good; its keys are revoked, its figures stay."""
        act = await self._services.guard.admit(request)
        name = request.path_params["name"]
        await self._registry.write(partial(tenant_deeds.delete_tenant, name=name, act=act))
        return json_response({"name": name, "deleted": True})

    async def put_credential(self, request: Request) -> Response:
        """`PUT /admin/tenants/{name}/provider_keys/{provider} {"key": "..."}`: stored encrypted, shown never again."""
        act = await self._services.guard.admit(request)
        fields = await read_object(request)
        terms.check_fields(fields, frozenset({"key"}))
        provider, name = request.path_params["provider"], request.path_params["name"]
        self._check_provider(name, provider)
        secret = read_secret(fields.get("key"))
        self._services.authenticator.hide(secret)
        record = CredentialRecord(name, provider, self._services.vault.seal(secret), fingerprint(secret))
        kept = await self._registry.write(partial(tenant_deeds.put_credential, credential=record, act=act))
        return json_response({"tenant": name, "provider": provider, "fingerprint": kept.fingerprint})

    async def drop_credential(self, request: Request) -> Response:
        """`DELETE /admin/tenants/{name}/provider_keys/{provider}`: from then on the operator's is used there."""
        act = await self._services.guard.admit(request)
        provider, name = request.path_params["provider"], request.path_params["name"]
        await self._registry.write(partial(tenant_deeds.drop_credential, name=name, provider=provider, act=act))
        return json_response({"tenant": name, "provider": provider, "deleted": True})

    async def _show(self, request: Request) -> dict[str, object]:
        name = request.path_params["name"]
        pairs = await self._registry.read(list_with_limits)
        pair = next((pair for pair in pairs if pair[0].name == name), None)
        if pair is None:
            raise NotFound(f"There is no tenant {name!r}.", code="tenant_not_found")
        return shapes.tenant_object(*pair)

    def _check_provider(self, name: str, provider: str) -> None:
        table = self._services.routes.current
        if provider not in table.providers:
            raise NotFound(f"There is no provider {provider[:80]!r} in the routing table.", code="provider_not_found")
        declared = table.tenants.get(name)
        if declared is not None and provider in (*declared.provider_keys, *declared.not_ready):
            msg = f"The credential of {name!r} at {provider} stands in routes.yaml (`provider_keys`); change it there."
            raise ClientError(msg, code="declared_in_routes")


def list_with_limits(store: Store) -> Sequence[tuple[TenantRecord, Limits]]:
    """List the tenants that are not deleted, each with what holds for it."""
    return [
        (tenant, store.find_limits(f"tenant:{tenant.name}")[0])
        for tenant in store.list_tenants()
        if not tenant.is_deleted
    ]


def read_secret(value: object) -> str:
    """Read a provider's credential: what a header can carry."""
    is_good = isinstance(value, str) and 0 < len(value) <= SECRET_CHARS_MAX and value.isascii() and value.isprintable()
    if not isinstance(value, str) or not is_good or " " in value:
        raise ClientError("`key` must be the provider's key as it is, without blanks.", param="key")
    return value
