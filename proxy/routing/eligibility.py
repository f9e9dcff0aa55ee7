"""Which targets may serve a request (floor 1b, pure): the client's conditions, and what a model cannot do.

OpenRouter's targets are asked little: OpenRouter keeps the conditions itself. All others must be known to keep each of
them, and a condition about privacy that nobody vouches for in routes.yaml counts as broken (openrouter.md 1.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from proxy.pricing import Prices
from proxy.routing.extras import NO_EXTRAS, Extras, MaxPrice, Preferences
from proxy.routing.needs import find_lack
from proxy.routing.table import Dialect, Target

HARMLESS_PLUGINS = frozenset({"response-healing", "moderation"})
"""They look after an answer, which is an answer without them too."""
_NAMES = {"google-ai-studio": "google", "x-ai": "xai", "mistralai": "mistral"}
"""Slugs of OpenRouter's providers that we know by another name."""
_SERVER_TOOL = "openrouter:"


class Reason(StrEnum):
    """The kinds of reason to leave a target out; the client's error depends on them."""

    NOT_READY = "not ready"
    SUFFIX = "suffix"
    LIMIT = "limit"
    PRIVACY = "privacy"
    CONDITION = "condition"
    ABILITY = "ability"
    ONLY_OPENROUTER = "only at OpenRouter"
    CONTEXT = "context"
    MONEY = "money"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A target left out, and why: shown by `explain`."""

    target: Target
    reason: str
    kind: Reason = Reason.MONEY


def judge_target(target: Target, body: Mapping[str, Any], extras: Extras, needs: frozenset[str]) -> Skipped | None:
    """Tell why a target may not serve a request, None when it may."""
    if target.provider.not_ready is not None:
        return Skipped(target, target.provider.not_ready, Reason.NOT_READY)
    if target.provider.is_static:
        return None
    is_openrouter = target.provider.dialect is Dialect.OPENROUTER
    # OpenRouter reads documents out for models that cannot.
    needed = needs - {"pdf"} if is_openrouter else needs
    if needed and (lack := find_lack(needed, target)) is not None:
        return Skipped(target, f"it does not {lack}", Reason.ABILITY)
    if is_openrouter or (extras is NO_EXTRAS and not body.get("tools")):
        return None
    return _judge_direct(target, body, extras)


def sort_direct(targets: list[Target], preferences: Preferences) -> list[Target]:
    """Put direct targets into the order asked for, among the places they have; OpenRouter's stay where they are."""
    if not preferences.order:
        return targets
    places = [index for index, target in enumerate(targets) if target.provider.dialect is not Dialect.OPENROUTER]
    ranked = sorted((targets[place] for place in places), key=lambda target: _rank(target, preferences.order))
    ordered = list(targets)
    for place, target in zip(places, ranked, strict=True):
        ordered[place] = target
    return ordered


def _judge_direct(target: Target, body: Mapping[str, Any], extras: Extras) -> Skipped | None:
    alien = _only_at_openrouter(body, extras)
    if alien is not None:
        return Skipped(target, f"{alien} exists only at OpenRouter", Reason.ONLY_OPENROUTER)
    if extras is NO_EXTRAS:
        return None
    wanted = extras.preferences
    broken = _broken_privacy(target, wanted)
    if broken is not None:
        return Skipped(target, broken, Reason.PRIVACY)
    broken = _broken_choice(target, wanted) or _broken_price(target.facts.prices, wanted.max_price)
    if broken is None and wanted.distillable:
        broken = "nobody here knows whether its text may be distilled"
    if broken is None and wanted.quantizations and "unknown" not in wanted.quantizations:
        broken = "nobody here knows its quantization"
    if broken is None and wanted.unknown:
        broken = f"`provider.{wanted.unknown[0]}` is a condition not known here"
    return None if broken is None else Skipped(target, broken, Reason.CONDITION)


def _only_at_openrouter(body: Mapping[str, Any], extras: Extras) -> str | None:
    """Name what a request asks for that no other provider has."""
    if extras.preset is not None:
        return f"the preset {extras.preset!r}"
    for plugin in extras.plugins:
        if plugin["id"] not in HARMLESS_PLUGINS and not _reads_natively(plugin):
            return f"the plugin {str(plugin['id'])[:40]!r}"
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind.startswith(_SERVER_TOOL):
            return f"the tool {kind[:60]!r}"
    return None


def _reads_natively(plugin: Mapping[str, Any]) -> bool:
    """Tell whether it is the file parser left to the model itself, which is what direct targets do."""
    pdf = plugin.get("pdf")
    return plugin["id"] == "file-parser" and isinstance(pdf, dict) and pdf.get("engine") == "native"


def _broken_privacy(target: Target, wanted: Preferences) -> str | None:
    provider = target.provider
    if provider.dialect is Dialect.SIMULATED:
        return None  # it sends nothing anywhere
    if wanted.zdr and not provider.zdr:
        return f"`provider.zdr` is asked for, and routes.yaml does not say `zdr: true` of {provider.name}"
    if wanted.denies_collection and not (provider.zdr or provider.data_collection == "deny"):
        return f"data collection is denied, and routes.yaml does not say `data_collection: deny` of {provider.name}"
    return None


def _broken_choice(target: Target, wanted: Preferences) -> str | None:
    if wanted.only and not _is_named(target, wanted.only):
        return "it is not among `provider.only`"
    if _is_named(target, wanted.ignore):
        return "it is among `provider.ignore`"
    if wanted.order and not wanted.allow_fallbacks and not _is_named(target, wanted.order):
        return "it is not in `provider.order`, and fallbacks are not allowed"
    return None


def _broken_price(prices: Prices | None, most: MaxPrice | None) -> str | None:
    if most is None:
        return None
    if prices is None or most.has_others:
        return "its price is not known well enough for `provider.max_price`"
    limits = ((prices.input, most.prompt), (prices.output, most.completion), (prices.request, most.request))
    is_dearer = any(limit is not None and price > limit for price, limit in limits)
    return "it costs more than `provider.max_price`" if is_dearer else None


def _is_named(target: Target, slugs: tuple[str, ...]) -> bool:
    return any(_matches(target, slug) for slug in slugs)


def _rank(target: Target, order: tuple[str, ...]) -> int:
    return next((rank for rank, slug in enumerate(order) if _matches(target, slug)), len(order))


def _matches(target: Target, slug: str) -> bool:
    """Compare without regard to case, and take a display name such as "Google AI Studio" for the slug it stands for.

    A slug with a second part is one endpoint of a provider's (a region, a tier), and none of ours is known to be that.
    """
    base = slug.strip().lower().replace(" ", "-")
    provider = target.provider
    return _NAMES.get(base, base) in (provider.name.lower(), (provider.catalogue_name or "").lower())


def max_price_of(prices: Prices, wanted: MaxPrice | None) -> dict[str, float]:
    """Give the `max_price` that keeps OpenRouter to what is held, or lower where the client says so."""
    wanted = wanted or MaxPrice()
    most = {"prompt": _lower(prices.input, wanted.prompt), "completion": _lower(prices.output, wanted.completion)}
    if prices.request or wanted.request is not None:
        most["request"] = _lower(prices.request, wanted.request)
    return {name: float(price) for name, price in most.items()}


def _lower(own: Decimal, theirs: Decimal | None) -> Decimal:
    return own if theirs is None else min(own, theirs)
