"""One request, thought through or made (part of `app`, floor 6), for `turnpike explain` and `turnpike test`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from proxy.app.parts import OPERATOR_KEY, Gateway, Settings, make_codec, open_gateway
from proxy.catalogue import REFRESHED_FILE, load_catalogue
from proxy.codecs.wire import Surface
from proxy.edge.auth import build_principal, mint_key
from proxy.edge.chat import new_id
from proxy.errors import NotFound, RequestError
from proxy.files import load_table
from proxy.gateway import Asked, Exchange, cap_bounds, fit_plan
from proxy.ledger.folder import digest_key
from proxy.ledger.records import KeyRecord
from proxy.routing.explain import as_json
from proxy.routing.holds import size
from proxy.routing.plan import make_plan
from proxy.routing.principal import Principal
from proxy.routing.resolve import resolve
from proxy.routing.table import Retry, Route, Table, Target

TRIAL = "turnpike-trial"
"""The alias of a table of one target."""


def explain(settings: Settings, model: str, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Think a short request for a model through, calling nobody; raises `RequestError` when nobody may ask for it."""
    catalogue = load_catalogue(refreshed=settings.data / REFRESHED_FILE)
    table = load_table(settings.config, environ=os.environ if environ is None else environ, catalogue=catalogue)
    body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}]}
    plan = make_plan(body, principal=Principal(OPERATOR_KEY), table=table, facts=catalogue.find)
    plan, bounds = asyncio.run(fit_plan(plan, body_bytes=len(orjson.dumps(body)), codec_of=make_codec))
    return as_json(size(plan, cap_bounds(plan, bounds), room_nano_usd=plan.max_cost_nano_usd))


async def test_model(settings: Settings, model: str) -> dict[str, Any]:
    """Send one short request through the real chain and book it under a key of the operator's own."""
    async with open_gateway(settings) as gateway:
        table = gateway.routes.current
        principal = build_principal(await _operator_key(gateway), table)
        return await _try(gateway, model, principal, table)


async def test_tenant(settings: Settings, name: str, model: str | None) -> list[dict[str, Any]]:
    """Send one short request over each of a tenant's own accounts; of a model, or of the first that leads there.

    Raises `NotFound` for a tenant nobody knows.
    """
    async with open_gateway(settings) as gateway:
        table = gateway.routes.current
        house = await gateway.ledger.registry.read(lambda store: store.find_tenant(name))
        if name not in table.tenants and (house is None or house.is_deleted):
            raise NotFound(f"There is no tenant {name!r}.", code="tenant_not_found")
        record = replace(await _operator_key(gateway), tenant=name, house=house)
        principal = gateway.authenticator.principal_of(record, table)
        view = principal.view or table
        targets = resolve(model, principal=principal, table=view, facts=gateway.service.facts).targets if model else ()
        principal = replace(principal, tenant_models=None)
        return [
            await _try_target(gateway, target, principal, view)
            for target in (targets or _first_targets(view))
            if target.provider.account is not None
        ]


def _first_targets(view: Table) -> list[Target]:
    """Give a target of each of a tenant's own accounts that some model leads to."""
    found: dict[str, Target] = {}
    for route in view.routes.values():
        for target in route.targets:
            if target.provider.account is not None:
                found.setdefault(target.provider.name, target)
    return list(found.values())


async def _try_target(gateway: Gateway, target: Target, principal: Principal, view: Table) -> dict[str, Any]:
    """Send one short request to one target and nowhere else."""
    if target.provider.not_ready is not None:
        return {"model": target.name, "ok": False, "error": target.provider.not_ready, "code": "not_ready"}
    alone = replace(view, routes={TRIAL: Route(TRIAL, (replace(target, wants_backup=False),))}, retry=Retry(1))
    return await _try(gateway, TRIAL, principal, alone) | {"model": target.name}


async def _try(gateway: Gateway, model: str, principal: Principal, table: Table) -> dict[str, Any]:
    asked = Asked(
        body={"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 64},
        body_bytes=256,
        surface=Surface.OPENAI,
        principal=principal,
        table=table,
        request_id=new_id(),
        app="turnpike test",
        received_s=gateway.clock.monotonic_s(),
    )
    exchange = Exchange(asked, gateway.service)
    found: dict[str, Any] = {"model": model, "ok": False}
    try:
        async with exchange:
            answer = await exchange.answer()
    except RequestError as error:
        found |= {"error": error.message, "code": error.code, "attempts": error.metadata.get("attempts", [])}
    else:
        headers = answer.headers
        target = f"{headers['x-turnpike-provider']}/{headers['x-turnpike-model']}"
        found |= {"ok": True, "target": target, "cost_usd": headers.get("x-turnpike-cost")}
        found |= {"cost_source": headers["x-turnpike-cost-source"], "attempts": exchange.attempts}
    latency_s = gateway.clock.monotonic_s() - asked.received_s
    return found | {"request_id": exchange.request_id, "latency_ms": round(latency_s * 1000)}


async def _operator_key(gateway: Gateway) -> KeyRecord:
    """Find or make the key of the operator's trials; its digest is that of a key nobody has."""
    record = KeyRecord(
        name=OPERATOR_KEY, digest=digest_key(gateway.pepper, mint_key()), created_at_s=gateway.clock.now_s()
    )
    await gateway.ledger.create_key(record)
    known = {key.name: key for key in await gateway.ledger.list_keys()}
    return known[OPERATOR_KEY]
