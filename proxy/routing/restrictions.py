"""What a key with a list of models or a budget may not add to a request (floor 1b, pure).

Everything a client adds is checked as if it were asked for; what could pick a model past the list, or spend what nobody
here can price, is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from proxy.errors import ClientError, PermissionRefused
from proxy.routing.eligibility import HARMLESS_PLUGINS
from proxy.routing.extras import Extras
from proxy.routing.principal import Principal
from proxy.routing.resolve import Resolved, shown

PRICED_TIERS = (None, "auto", "default", "flex")
"""Service tiers that cost no more than the prices known here (openrouter.md 7.3); others have prices of their own."""
FREE_ENGINES = ("native", "cloudflare-ai", "pdf-text")
"""Of the file parser; the other one charges by the page (openrouter.md 1.5)."""
ROUTERS = frozenset({"auto-router", "auto-beta-router", "pareto-router"})
_SERVER_TOOL = "openrouter:"
_SEARCHING = ":online"


def refuse_unpriced(body: Mapping[str, Any], extras: Extras, principal: Principal, legs: Sequence[Resolved]) -> None:
    """Refuse what could pick a model past the key's list or spend past its budget inside OpenRouter."""
    if principal.models is None and not principal.has_budget:
        return
    if extras.preset is not None:
        msg = "A preset kept at OpenRouter may choose any model and price; this key has a budget or a list of models."
        raise ClientError(msg, param="preset")
    if principal.models is not None:
        _check_models(extras, principal)
    if principal.has_budget:
        _check_prices(body, extras, legs)


def _check_models(extras: Extras, principal: Principal) -> None:
    for plugin in extras.plugins:
        if plugin["id"] in ROUTERS and not plugin.get("allowed_models"):
            msg = f"The plugin `{plugin['id']}` may choose any model; name some of this key's in `allowed_models`."
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
    if body.get("service_tier") not in PRICED_TIERS:
        raise _unpriced("this `service_tier`; with a budget send auto, default or flex", "service_tier")
    for plugin in extras.plugins:
        if not _is_free(plugin):
            raise _unpriced(f"the plugin `{shown(str(plugin['id']))}`; a key with a budget cannot use it", "plugins")
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind.startswith(_SERVER_TOOL):
            raise _unpriced(f"the tool `{shown(kind)}`; a key with a budget cannot use it", "tools")
    for leg in legs:
        if leg.asked.endswith(_SEARCHING):
            raise _unpriced("the search behind `:online`; a key with a budget cannot use it", "model")


def _is_free(plugin: Mapping[str, Any]) -> bool:
    if plugin["id"] in HARMLESS_PLUGINS:
        return True
    pdf = plugin.get("pdf")
    return plugin["id"] == "file-parser" and isinstance(pdf, dict) and pdf.get("engine") in FREE_ENGINES


def _unpriced(what: str, param: str) -> ClientError:
    return ClientError(f"Nobody here knows the price of {what}.", code="price_unknown", param=param)
