"""The models a key may ask for (floor 5): aliases of the table, and what its globs let through as far as it is known.

Context and price are those of the target that would be tried first. Which target that is, `routing` says; an unknown
price is never shown as 0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from proxy.codecs.wire import Surface
from proxy.edge.answers import json_response
from proxy.edge.errors import surface_of
from proxy.edge.services import Services
from proxy.errors import ClientError
from proxy.pricing import ModelFacts, Prices
from proxy.routing.principal import Principal, fill
from proxy.routing.resolve import resolve
from proxy.routing.table import Table, Target

LISTED_MAX = 5_000
"""Models in one list; the globs of an operator can let through more than any client can show."""
PAGE_DEFAULT = 500
PAGE_MAX = 1_000
UNKNOWN_PRICE = "-1"
"""What OpenRouter shows for a price that varies."""
PARAMETERS = (
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "tools",
    "tool_choice",
    "response_format",
)
"""What is passed on to every upstream; some of it a model may refuse."""

_MILLION = Decimal(1_000_000)


class Models:
    """The endpoints."""

    def __init__(self, services: Services) -> None:
        """Answer from these."""
        self._services = services

    async def show_list(self, request: Request) -> Response:
        """`GET models`: all the key may ask for."""
        principal = await self._services.identify(request.scope["headers"])
        table = self._services.routes.current
        # In a thread: the first list turns every row of the catalogue that is shown into facts.
        entries = await asyncio.to_thread(self._entries, principal, table, surface_of(request.scope["path"]))
        if surface_of(request.scope["path"]) is Surface.OPENAI:
            return json_response({"object": "list", "data": entries})
        return json_response(_page(request, entries))

    async def show_one(self, request: Request) -> Response:
        """`GET models/{id}`: one of them; raises `NotFound` and `PermissionRefused` as a chat request would."""
        principal = await self._services.identify(request.scope["headers"])
        table = self._services.routes.current
        surface = surface_of(request.scope["path"])
        name = request.path_params["id"]
        target = self._first_target(name, principal, table)
        listed = self._openai_entry(name, target)
        if surface is Surface.OPENROUTER:
            return json_response({**listed, "data": self._openrouter_entry(name, target)})
        return json_response(listed)

    def _entries(self, principal: Principal, table: Table, surface: Surface) -> list[dict[str, Any]]:
        show = self._openai_entry if surface is Surface.OPENAI else self._openrouter_entry
        return [show(name, self._first_target(name, principal, table)) for name in self._names(principal, table)]

    def _names(self, principal: Principal, table: Table) -> list[str]:
        names: dict[str, None] = dict.fromkeys(name for name in table.routes if principal.may_ask(name))
        for name in self._let_through(table):
            if len(names) >= LISTED_MAX:
                break
            if principal.may_ask(name):
                names[name] = None
        return list(names)

    def _let_through(self, table: Table) -> Iterator[str]:
        """Give the names globs would pass on to models their provider is known to have."""
        for glob in table.globs:
            ready = [target for target in glob.targets if target.provider.not_ready is None and "*" in target.model]
            for target in ready:
                for model in self._services.known_models(target.provider.name):
                    star = fill(target.model, model)
                    if star is not None:
                        yield glob.name.replace("*", star, 1)

    def _first_target(self, name: str, principal: Principal, table: Table) -> Target | None:
        targets = resolve(name, principal=principal, table=table, facts=self._services.facts).targets
        ready = [target for target in targets if target.provider.not_ready is None]
        return next(iter(ready or targets), None)

    def _openai_entry(self, name: str, target: Target | None) -> dict[str, Any]:
        facts = target.facts if target is not None else ModelFacts()
        return {
            "id": name,
            "object": "model",
            "created": int(self._services.started_at_s),
            "owned_by": target.provider.name if target is not None else "turnpike",
            "ready": target is not None and target.provider.not_ready is None,
            "context_length": facts.context_tokens,
            "max_output_tokens": facts.output_tokens_max,
            "pricing": _pricing(facts.prices) if facts.prices is not None else None,
        }

    def _openrouter_entry(self, name: str, target: Target | None) -> dict[str, Any]:
        facts = target.facts if target is not None else ModelFacts()
        unknown = {"prompt": UNKNOWN_PRICE, "completion": UNKNOWN_PRICE}
        return {
            "id": name,
            "canonical_slug": name,
            "name": name,
            "created": int(self._services.started_at_s),
            "description": f"Served by {target.name}." if target is not None else "",
            "context_length": facts.context_tokens,
            "architecture": {
                "modality": "text->text",
                "input_modalities": ["text"],
                "output_modalities": ["text"],
                "tokenizer": "Other",
                "instruct_type": None,
            },
            "pricing": _pricing(facts.prices) if facts.prices is not None else unknown,
            "top_provider": {
                "context_length": facts.context_tokens,
                "max_completion_tokens": facts.output_tokens_max,
                "is_moderated": False,
            },
            "per_request_limits": None,
            "supported_parameters": list(PARAMETERS),
            "default_parameters": None,
            "supported_voices": None,
            "links": {"details": f"{Surface.OPENROUTER.value}/models/{name}"},
        }


def _pricing(prices: Prices) -> dict[str, str]:
    """Give prices as OpenRouter does: decimal strings, USD per token, and per request."""
    given = {
        "prompt": prices.input,
        "completion": prices.output,
        "input_cache_read": prices.cache_read,
        "input_cache_write": prices.cache_write,
        "input_cache_write_1h": prices.cache_write_1h,
        "audio": prices.audio_input,
        "audio_output": prices.audio_output,
    }
    shown = {name: _plain(price / _MILLION) for name, price in given.items() if price is not None}
    return {**shown, "request": _plain(prices.request)}


def _plain(price: Decimal) -> str:
    text = f"{price:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _page(request: Request, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Cut a page when one is asked for; without `offset` and `limit` the list is whole, as OpenRouter has it."""
    links: dict[str, str | None] = {"next": None}
    shown = entries
    if {"offset", "limit"} & request.query_params.keys():
        offset, limit = _count(request, "offset", 0), min(_count(request, "limit", PAGE_DEFAULT), PAGE_MAX)
        shown = entries[offset : offset + limit]
        if offset + limit < len(entries):
            links["next"] = f"{Surface.OPENROUTER.value}/models?offset={offset + limit}&limit={limit}"
    return {"data": shown, "total_count": len(entries), "links": links}


def _count(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ClientError(f"`{name}` must be a whole number of at most nine digits.", param=name)
    return int(text)
