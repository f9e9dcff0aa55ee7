"""What one target is sent of a request (floor 1b, pure): defaults in, alien fields out, conditions of ours added.

The codec writes the body for its dialect; here only what depends on the route, the key and this very model is settled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from proxy.routing.eligibility import max_price_of
from proxy.routing.extras import IN_NAME, Extras, read_max_price
from proxy.routing.principal import OUTPUT_CAPS
from proxy.routing.services import asked_service, dearest_of
from proxy.routing.table import Dialect, Target
from proxy.routing.transforms import ENGINE, PLUGIN, forbid_forms

OPENROUTER_CUTS_BELOW_TOKENS = 8_192
"""Up to this context OpenRouter cuts a prompt unless told not to (openrouter.md 2.1)."""
MiddleOut = Literal["off", "ours", "theirs"]
"""Who may cut a prompt that is too long: nobody, the gateway, OpenRouter."""


class Written(NamedTuple):
    """A body for one target."""

    body: Mapping[str, Any]
    dropped: tuple[str, ...] = ()
    """Fields of the request that this model or its provider does not take."""


def write_body(body: Mapping[str, Any], target: Target, extras: Extras, *, middle_out: MiddleOut) -> Written:
    """Write what a target gets, in the words it knows, of a request laid over its defaults."""
    if target.provider.dialect is Dialect.OPENROUTER:
        return Written(_for_openrouter(body, target, extras, middle_out))
    renamed, unsupported = target.renamed, target.unsupported
    if renamed:
        body = _rename(body, renamed)
    if unsupported and not unsupported.isdisjoint(body):
        dropped = tuple(sorted(name for name in unsupported if body.get(name) is not None))
        return Written({name: value for name, value in body.items() if name not in unsupported}, dropped)
    return Written(body)


def hold_to_price(body: Mapping[str, Any], target: Target) -> Mapping[str, Any]:
    """Have OpenRouter refuse every endpoint dearer than what is held for this target (openrouter.md 5)."""
    prices = target.facts.prices
    if prices is None or target.provider.dialect is not Dialect.OPENROUTER:
        return body
    preferences = body.get("provider")
    given = preferences if isinstance(preferences, dict) else {}
    most = given.get("max_price")
    kept = most if isinstance(most, dict) else {}
    dearest = max_price_of(dearest_of(prices, asked_service(body)), read_max_price(most))
    return {**body, "provider": {**given, "max_price": {**kept, **dearest}}}


def _for_openrouter(
    body: Mapping[str, Any], target: Target, extras: Extras, middle_out: MiddleOut
) -> Mapping[str, Any]:
    """Leave the fields as they were sent but for those we act on ourselves."""
    if "models" in body or extras.models:
        body = {name: value for name, value in body.items() if name not in ("models", "route")}
    if "preset" in body and (extras.preset is None or IN_NAME in target.model):
        body = {name: value for name, value in body.items() if name != "preset"}
    if middle_out == "ours" or (extras.middle_out is False and _says_on(body)):
        return forbid_forms(dict(body))
    if middle_out == "theirs":
        return body if extras.middle_out else _with_plugin(body)
    context_tokens = target.facts.context_tokens
    if extras.middle_out is None and context_tokens is not None and context_tokens <= OPENROUTER_CUTS_BELOW_TOKENS:
        return forbid_forms(dict(body))
    return body


def _says_on(body: Mapping[str, Any]) -> bool:
    """Tell whether one of the two forms asks for it: beside an explicit off, which wins here, that must not go out."""
    plugins = body.get("plugins")
    entries = [one for one in plugins if isinstance(one, dict) and one.get("id") == PLUGIN] if plugins else []
    return bool(body.get("transforms")) or any(one.get("enabled") is not False for one in entries)


def _with_plugin(body: Mapping[str, Any]) -> Mapping[str, Any]:
    plugins = body.get("plugins")
    others = plugins if isinstance(plugins, list) else []
    return {**body, "plugins": [*others, {"id": PLUGIN, "engine": ENGINE}]}


def _rename(body: Mapping[str, Any], renamed: Mapping[str, str]) -> Mapping[str, Any]:
    """Call fields by the names they have here; of two output caps for one name the higher counts, as in `holds`."""
    if renamed.keys().isdisjoint(body):
        return body
    written: dict[str, Any] = {name: value for name, value in body.items() if name not in renamed}
    for ours, theirs in renamed.items():
        if ours not in body:
            continue
        value, known = body[ours], written.get(theirs)
        if known is None:
            written[theirs] = value
        elif theirs in OUTPUT_CAPS and isinstance(known, int) and isinstance(value, int):
            written[theirs] = max(known, value)
    return written
