"""Services of other prices than the usual one: `service_tier` (floor 1b, pure; openrouter.md 7.3).

What a request asks for may be given or not (priority is served as usual when there is too much of it), and the reply
says which it was: the hold covers both, and what the reply says is booked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from proxy.codecs.wire import USUAL_SERVICES
from proxy.pricing import Prices
from proxy.routing.table import Dialect, Target

CHEAPER = frozenset({"flex", "batch"})
"""Services that nobody sells above the usual price: without a price of their own that one covers them."""
_LEFT_TO_THE_ACCOUNT = (None, "auto")
_FIELD = "service_tier"


def asked_service(body: Mapping[str, Any]) -> str | None:
    """Give the service asked for, None for the usual one, and for what the account is set to."""
    asked = body.get(_FIELD)
    return asked if isinstance(asked, str) and asked not in USUAL_SERVICES else None


def is_priced(service: str, prices: Prices) -> bool:
    """Tell whether it is known what a service costs at most."""
    return service in CHEAPER or service in prices.scale.services


def dearest_of(prices: Prices, service: str | None) -> Prices:
    """Give a row with the dearer of the usual price and that of a service, for plain tokens and requests."""
    row = next((one.prices for one in prices.service_tiers if one.name == service), None)
    if row is None:
        return prices
    return replace(
        prices,
        input=max(prices.input, row.input),
        output=max(prices.output, row.output),
        request=max(prices.request, row.request),
    )


def hold_to_service(body: Mapping[str, Any], target: Target) -> Mapping[str, Any]:
    """Ask for the usual service where a request leaves it to the account, which may be set to a dearer one.

    Only of models that are known to be sold at several prices: nobody else need know the field.
    """
    prices = target.facts.prices
    if prices is None or not prices.service_tiers or target.provider.dialect is not Dialect.OPENAI:
        return body
    return {**body, _FIELD: "default"} if body.get(_FIELD) in _LEFT_TO_THE_ACCOUNT else body
