"""Which method and path of administration leads where (floor 5); `routes` mounts them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from proxy.edge.admin import Admin
from proxy.edge.houses import Tenants
from proxy.edge.metrics import Metrics
from proxy.edge.provisioning import Provisioning
from proxy.edge.services import Services

Handlers = list[tuple[str, str, Callable[[Request], Awaitable[Response]]]]
"""Method, path behind the prefix, handler; the first that matches counts."""


def admin_handlers(services: Services) -> Handlers:
    """Give what stands under `/admin`."""
    admin, tenants = Admin(services), Tenants(services)
    credential = "tenants/{name:path}/provider_keys/{provider}"
    return [
        ("GET", "keys", admin.list_keys),
        ("POST", "keys", admin.create_key),
        ("POST", "keys/{name:path}/rotate", admin.rotate_key),
        ("POST", "keys/{name:path}/revoke", admin.revoke_key),
        ("GET", "keys/{name:path}", admin.show_key),
        ("PATCH", "keys/{name:path}", admin.update_key),
        ("DELETE", "keys/{name:path}", admin.revoke_key),
        ("GET", "tenants", tenants.list_tenants),
        ("POST", "tenants", tenants.create_tenant),
        ("PUT", credential, tenants.put_credential),
        ("DELETE", credential, tenants.drop_credential),
        ("GET", "tenants/{name:path}", tenants.show_tenant),
        ("PATCH", "tenants/{name:path}", tenants.update_tenant),
        ("DELETE", "tenants/{name:path}", tenants.delete_tenant),
        ("GET", "budgets", admin.list_budgets),
        ("PUT", "budgets/{place:path}", admin.set_limits),
        ("GET", "credits", admin.list_credits),
        ("POST", "credits", admin.grant_credits),
        ("GET", "audit", admin.list_audit),
    ]


def metrics_handlers(services: Services) -> Handlers:
    """Give `/metrics` on the clients' port: for the admin key alone."""
    metrics = Metrics(services.board)

    async def show(request: Request) -> Response:
        await services.guard.admit(request)
        return await metrics.show(request)

    return [("GET", "metrics", show)]


def provisioning_handlers(services: Services) -> Handlers:
    """Give OpenRouter's paths for keys, under both prefixes."""
    keys = Provisioning(services)
    return [
        ("GET", "keys", keys.list_keys),
        ("POST", "keys", keys.create_key),
        ("GET", "keys/{hash}", keys.show_key),
        ("PATCH", "keys/{hash}", keys.update_key),
        ("DELETE", "keys/{hash}", keys.delete_key),
    ]
