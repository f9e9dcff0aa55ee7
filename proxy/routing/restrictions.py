"""What a key with a list of models or a budget may not add to a request (floor 1b, pure).

Everything a client adds is checked as if it were asked for; what could pick a model past the list, or spend what nobody
here can price, is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from proxy.errors import ClientError, PermissionRefused
from proxy.routing.eligibility import HARMLESS_PLUGINS
from proxy.routing.extras import IN_NAME, Extras
from proxy.routing.principal import Principal
from proxy.routing.resolve import Resolved, shown
from proxy.routing.services import CHEAPER, asked_service, is_priced

FREE_ENGINES = ("native", "cloudflare-ai", "pdf-text")
"""Of the file parser; the other one charges by the page (openrouter.md 1.5)."""
CHOOSING: Mapping[str, tuple[str, ...]] = {
    "auto-router": ("allowed_models",),
    "auto-beta-router": ("allowed_models",),
    "pareto-router": ("allowed_models",),
    "fusion": ("model", "analysis_models"),
}
"""Plugins that choose models, and the members that say among which."""
OWN_TOOLS = ("function", "custom")
"""Tools the client runs itself; all others are the provider's, and have fees of their own."""
_SEARCHING = ":online"


def refuse_unpriced(
    body: Mapping[str, Any], extras: Extras, legs: Sequence[Resolved], *, principal: Principal, is_limited: bool
) -> None:
    """Refuse what could pick a model past the key's list, or spend past a limit in money (`is_limited`)."""
    if extras.preset is not None or any(IN_NAME in leg.asked for leg in legs):
        msg = "A preset kept at OpenRouter may choose any model and price: not under a limit in money or a list."
        raise ClientError(msg, param="preset")
    if principal.lists:
        _check_models(extras, principal)
    if is_limited:
        _check_prices(body, extras, legs)


def _check_models(extras: Extras, principal: Principal) -> None:
    for plugin in extras.plugins:
        naming = CHOOSING.get(plugin["id"], ())
        if plugin.get("preset") is not None or not all(plugin.get(name) for name in naming):
            told = " and ".join(f"`{name}`" for name in naming) or "no preset"
            msg = f"The plugin `{shown(plugin['id'])}` may choose any model; send {told}, with models of this key's."
            raise PermissionRefused(msg, param="plugins")
        for name in _models_of(plugin):
            if not principal.may_ask(name):
                raise PermissionRefused(f"This key may not ask for the model '{shown(name)}'.", param="plugins")


def _models_of(plugin: Mapping[str, Any]) -> Iterator[str]:
    """Give every model a plugin names (openrouter.md 1.5, 1.6)."""
    for field in ("model", "pin_model", "allowed_models", "analysis_models"):
        value = plugin.get(field)
        names = value if isinstance(value, list) else [value]
        yield from (name for name in names if isinstance(name, str))


def _check_prices(body: Mapping[str, Any], extras: Extras, legs: Sequence[Resolved]) -> None:
    if not _is_service_priced(body, legs):
        raise _unpriced("this `service_tier`; under a limit in money send auto, default or flex", "service_tier")
    for plugin in extras.plugins:
        if not _is_free(plugin):
            raise _unpriced(f"the plugin `{shown(str(plugin['id']))}`; under a limit in money leave it out", "plugins")
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        kind = tool.get("type", "function") if isinstance(tool, dict) else "function"
        if kind not in OWN_TOOLS:
            raise _unpriced(
                f"the tool `{shown(str(kind))}`, which the provider runs; under a limit in money leave it out", "tools"
            )
    if _names_cache(body):
        raise _unpriced("a prompt kept at Google; under a limit in money leave `cached_content` out", "google")
    if body.get("web_search_options") is not None:
        raise _unpriced("a provider's own search; under a limit in money leave it out", "web_search_options")
    for leg in legs:
        if leg.asked.endswith(_SEARCHING):
            raise _unpriced("the search behind `:online`; under a limit in money leave it out", "model")


def _is_service_priced(body: Mapping[str, Any], legs: Sequence[Resolved]) -> bool:
    """Tell whether what any target takes for the service asked for is known; a name nobody gave a service is not."""
    asked = body.get("service_tier")
    service = asked_service(body)
    if service is None:
        return asked is None or isinstance(asked, str)
    prices = (target.facts.prices for leg in legs for target in leg.targets)
    return service in CHEAPER or any(row is not None and is_priced(service, row) for row in prices)


def _names_cache(body: Mapping[str, Any]) -> bool:
    """Tell whether a prompt kept at Google is to be read, of whatever length (openrouter.md 8.1)."""
    extra = body.get("extra_body")
    places = (body.get("google"), extra.get("google") if isinstance(extra, dict) else None)
    return any(isinstance(place, dict) and place.get("cached_content") is not None for place in places)


def _is_free(plugin: Mapping[str, Any]) -> bool:
    if plugin["id"] in HARMLESS_PLUGINS:
        return True
    pdf = plugin.get("pdf")
    return plugin["id"] == "file-parser" and isinstance(pdf, dict) and pdf.get("engine") in FREE_ENGINES


def _unpriced(what: str, param: str) -> ClientError:
    return ClientError(f"Nobody here knows the price of {what}.", code="price_unknown", param=param)
