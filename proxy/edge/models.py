"""The endpoints that tell which models there are (floor 5): lists, one model, its endpoints, the providers.

`GET /v1/models` has OpenAI's shape, everything else OpenRouter's. A key is shown what it may ask for, and nothing else.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from proxy.codecs.wire import Surface
from proxy.edge.answers import json_response
from proxy.edge.entries import (
    STATUS_DEGRADED,
    STATUS_OFF,
    STATUS_OK,
    architecture_object,
    describe,
    endpoint_entry,
    openai_entry,
    openrouter_entry,
    provider_entry,
)
from proxy.edge.errors import surface_of
from proxy.edge.listing import cut_page, select
from proxy.edge.offers import Offer, find_offer, list_offers, list_providers
from proxy.edge.services import Services
from proxy.routing.table import Target

DEGRADED_FAILURES = 3
"""A target that failed so often in a row is shown as degraded."""


class Models:
    """The endpoints."""

    def __init__(self, services: Services) -> None:
        """Answer from these."""
        self._services = services

    async def show_list(self, request: Request) -> Response:
        """`GET models`: all the key may ask for."""
        if surface_of(request.scope["path"]) is Surface.OPENROUTER:
            return await self.show_page(request)
        offers = await self._list(request)
        data = [openai_entry(offer, created_s=self._created_s) for offer in offers]
        return json_response({"object": "list", "data": data})

    async def show_page(self, request: Request) -> Response:
        """`GET models/user`: the same in OpenRouter's shape, filtered, sorted and cut as asked."""
        offers = select(await self._list(request), request.query_params)
        shown, following = cut_page(offers, request.query_params, request.scope["path"])
        data = [openrouter_entry(offer, created_s=self._created_s) for offer in shown]
        return json_response({"data": data, "total_count": len(offers), "links": {"next": following}})

    async def show_count(self, request: Request) -> Response:
        """`GET models/count`: how many there are, under the same filters."""
        return json_response({"data": {"count": len(select(await self._list(request), request.query_params))}})

    async def show_one(self, request: Request) -> Response:
        """`GET models/{id}`: one of them; raises `NotFound` for what the key may not ask for."""
        offer = await self._find(request)
        listed = openai_entry(offer, created_s=self._created_s)
        if surface_of(request.scope["path"]) is Surface.OPENROUTER:
            return json_response({**listed, "data": openrouter_entry(offer, created_s=self._created_s)})
        return json_response(listed)

    async def show_model(self, request: Request) -> Response:
        """`GET model/{id}`: one of them in OpenRouter's shape."""
        return json_response({"data": openrouter_entry(await self._find(request), created_s=self._created_s)})

    async def show_endpoints(self, request: Request) -> Response:
        """`GET models/{id}/endpoints`: the targets behind a model, in the order to try, each at its own price."""
        offer = await self._find(request)
        data = {
            "id": offer.name,
            "name": offer.name,
            "created": self._created_s,
            "description": describe(offer),
            "architecture": architecture_object(offer),
            "endpoints": [
                endpoint_entry(offer.name, target, status=self._status_of(target)) for target in offer.targets
            ],
        }
        return json_response({"data": data})

    async def show_providers(self, request: Request) -> Response:
        """`GET providers`: those that are ready and that the key's models lead to."""
        principal = await self._services.identify(request.scope["headers"])
        providers = list_providers(principal, self._services.table_for(principal))
        return json_response({"data": [provider_entry(provider) for provider in providers]})

    @property
    def _created_s(self) -> int:
        """When models came into being is not known; a client that sorts by it gets the table's order."""
        return int(self._services.started_at_s)

    async def _list(self, request: Request) -> list[Offer]:
        principal = await self._services.identify(request.scope["headers"])
        # In a thread: the first list turns every row of the catalogue that is shown into facts.
        return await asyncio.to_thread(list_offers, principal, self._services.table_for(principal), self._services)

    async def _find(self, request: Request) -> Offer:
        principal = await self._services.identify(request.scope["headers"])
        name: Any = request.path_params["id"]
        return find_offer(name, principal, self._services.table_for(principal), self._services)

    def _status_of(self, target: Target) -> int:
        """Tell how a target does, as far as this process has seen it."""
        if target.provider.not_ready is not None:
            return STATUS_OFF
        health = self._services.health.find(target.account_name)
        is_failing = health is not None and health.consecutive_failures >= DEGRADED_FAILURES
        return STATUS_DEGRADED if is_failing else STATUS_OK
