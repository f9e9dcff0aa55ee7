"""What a request says in OpenRouter's own words (floor 1b, pure), parsed and checked once (openrouter.md 1.2 to 1.5).

OpenRouter's targets get these fields as they were sent. What is read here is what every other target must heed as well:
further models, and conditions on who may serve them. A condition nobody here can keep is never forgotten: the target is
left out, or the field refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from proxy.errors import ClientError
from proxy.routing.transforms import PLUGIN, asked_middle_out

ENTRIES_MAX = 100
"""Of any list in these fields."""
NAME_CHARS_MAX = 500
FIELDS = frozenset({"models", "route", "provider", "plugins", "transforms", "preset"})
"""Most requests have none of them."""
SORTS = ("price", "throughput", "latency", "exacto")
IN_NAME = "@preset/"
"""How a preset stands in `model`: alone, or behind a model (openrouter.md 1.7)."""
_KNOWN = frozenset(
    {
        "order", "only", "ignore", "allow_fallbacks", "require_parameters", "data_collection", "zdr",
        "enforce_distillable_text", "quantizations", "sort", "max_price", "preferred_min_throughput",
        "preferred_max_latency",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MaxPrice:
    """The most a target may cost: USD per million tokens, and USD per request; None is no limit."""

    prompt: Decimal | None = None
    completion: Decimal | None = None
    request: Decimal | None = None
    has_others: bool = False
    """Limits of kinds no price here has: images, audio."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """The field `provider`."""

    order: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    allow_fallbacks: bool = True
    require_parameters: bool = False
    denies_collection: bool = False
    zdr: bool = False
    distillable: bool = False
    quantizations: tuple[str, ...] = ()
    max_price: MaxPrice | None = None
    unknown: tuple[str, ...] = ()
    """Names OpenRouter may know and we do not."""


class Extras(NamedTuple):
    """All of them."""

    models: tuple[str, ...] = ()
    """To be tried behind `model`, in this order."""
    preset: str | None = None
    preferences: Preferences = Preferences()
    plugins: tuple[Mapping[str, Any], ...] = ()
    """Those switched on, the one for middle-out left out."""
    middle_out: bool | None = None
    """None: the request says nothing about it."""


NO_EXTRAS = Extras()


def take_preset(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the request with a preset where it is looked for, in the field `preset` beside a model, else as the model.

    The three ways to write one mean the same (openrouter.md 1.7).
    """
    model, alone = body.get("model"), body.get("preset")
    if model is None and isinstance(alone, str) and not body.get("models"):
        return {**body, "model": f"{IN_NAME}{alone}"}
    if not isinstance(model, str) or IN_NAME not in model:
        return body
    named, _, preset = model.partition(IN_NAME)
    return {**body, "preset": preset, **({"model": named} if named else {})}


def read_extras(body: Mapping[str, Any]) -> Extras:
    """Read the fields of a request; raises `ClientError` naming the one that cannot be understood."""
    if FIELDS.isdisjoint(body):
        return NO_EXTRAS
    route, preset = body.get("route"), body.get("preset")
    if route not in (None, "fallback", "sort"):
        raise ClientError("`route` must be fallback, sort or left out.", param="route")
    if preset is not None and not (isinstance(preset, str) and 0 < len(preset) <= NAME_CHARS_MAX):
        raise ClientError("`preset` must be a preset's name.", param="preset")
    models = _names(body.get("models"), "models")
    if models and _sorts_across_models(body):
        msg = "Sorting the endpoints of several models together is not available; `models` are tried in their order."
        raise ClientError(msg, param="route" if route == "sort" else "provider")
    return Extras(
        models=models,
        preset=preset,
        preferences=_read_preferences(body.get("provider")),
        plugins=_read_plugins(body.get("plugins")),
        middle_out=asked_middle_out(dict(body)),
    )


def _sorts_across_models(body: Mapping[str, Any]) -> bool:
    provider = body.get("provider")
    sort = provider.get("sort") if isinstance(provider, dict) else None
    return body.get("route") == "sort" or (isinstance(sort, dict) and sort.get("partition") == "none")


def _check_sort(value: object) -> None:
    by = value.get("by") if isinstance(value, dict) else value
    if by is not None and by not in SORTS:
        raise ClientError(f"`provider.sort` must be one of {', '.join(SORTS)}.", param="provider")


def _read_preferences(value: object) -> Preferences:
    if value is None:
        return Preferences()
    if not isinstance(value, dict):
        raise ClientError("`provider` must be an object.", param="provider")
    if value.get("data_collection") not in (None, "allow", "deny"):
        raise ClientError("`provider.data_collection` must be allow or deny.", param="provider")
    _check_sort(value.get("sort"))
    return Preferences(
        order=_names(value.get("order"), "provider.order"),
        only=_names(value.get("only"), "provider.only"),
        ignore=_names(value.get("ignore"), "provider.ignore"),
        allow_fallbacks=_flag(value, "allow_fallbacks", default=True),
        require_parameters=_flag(value, "require_parameters"),
        denies_collection=value.get("data_collection") == "deny",
        zdr=_flag(value, "zdr"),
        distillable=_flag(value, "enforce_distillable_text"),
        quantizations=_names(value.get("quantizations"), "provider.quantizations"),
        max_price=read_max_price(value.get("max_price")),
        unknown=tuple(sorted(str(name)[:NAME_CHARS_MAX] for name in value.keys() - _KNOWN)),
    )


def read_max_price(value: object) -> MaxPrice | None:
    """Read `provider.max_price`; raises `ClientError`."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ClientError("`provider.max_price` must be an object.", param="provider")
    prices = {name: _price(value.get(name)) for name in ("prompt", "completion", "request", "image", "audio")}
    return MaxPrice(
        prices["prompt"],
        prices["completion"],
        prices["request"],
        has_others=prices["image"] is not None or prices["audio"] is not None,
    )


def _price(value: object) -> Decimal | None:
    """Read a limit, which the guide writes as a number and the reference as text."""
    if value is None:
        return None
    try:
        price = Decimal(str(value)) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except InvalidOperation:
        price = None
    if price is None or not price.is_finite() or price < 0:
        raise ClientError("`provider.max_price` holds prices in USD, such as 1.5.", param="provider")
    return price


def _read_plugins(value: object) -> tuple[Mapping[str, Any], ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > ENTRIES_MAX:
        raise ClientError(f"`plugins` must be a list of at most {ENTRIES_MAX} plugins.", param="plugins")
    for plugin in value:
        if not isinstance(plugin, dict) or not isinstance(plugin.get("id"), str):
            raise ClientError("Each of `plugins` must be an object with an `id`.", param="plugins")
    return tuple(plugin for plugin in value if plugin["id"] != PLUGIN and plugin.get("enabled") is not False)


def _names(value: object, param: str) -> tuple[str, ...]:
    if value is None:
        return ()
    is_good = isinstance(value, list) and len(value) <= ENTRIES_MAX
    if not is_good or not all(isinstance(name, str) and 0 < len(name) <= NAME_CHARS_MAX for name in value):  # type: ignore[attr-defined]
        raise ClientError(f"`{param}` must be a list of at most {ENTRIES_MAX} names.", param=param.partition(".")[0])
    return tuple(dict.fromkeys(value))  # type: ignore[call-overload]


def _flag(fields: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ClientError(f"`provider.{name}` must be true or false.", param="provider")
    return value
