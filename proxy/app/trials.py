"""One request, thought through or made (part of `app`, floor 6), for `turnpike explain` and `turnpike test`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

import orjson

from proxy.app.parts import OPERATOR_KEY, Gateway, Settings, make_codec, open_gateway
from proxy.catalogue import REFRESHED_FILE, load_catalogue
from proxy.codecs.wire import Surface
from proxy.edge.auth import build_principal, mint_key
from proxy.edge.chat import new_id
from proxy.errors import RequestError
from proxy.files import load_table
from proxy.gateway import Asked, Exchange, cap_bounds, fit_plan
from proxy.ledger.folder import digest_key
from proxy.ledger.records import KeyRecord
from proxy.routing.explain import as_json
from proxy.routing.holds import size
from proxy.routing.plan import make_plan
from proxy.routing.principal import Principal


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
        record = await _operator_key(gateway)
        asked = Asked(
            body={"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 64},
            body_bytes=256,
            surface=Surface.OPENAI,
            principal=build_principal(record, gateway.routes.current),
            table=gateway.routes.current,
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
