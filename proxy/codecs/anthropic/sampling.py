"""Temperature and its kin (floor 1a, pure; openrouter.md 8.3)."""

from __future__ import annotations

from proxy.codecs.wire import JsonObject
from proxy.errors import ClientError

TEMPERATURE_MAX = 1
"""OpenAI's goes up to 2; what is above becomes this."""
TOP_P_MIN_THINKING = 0.95
"""A model that thinks takes no less."""
_DEFAULT = 1
"""Of temperature and top_p: naming it changes nothing."""


def read_sampling(body: JsonObject, *, takes: bool, thinks: bool) -> tuple[JsonObject, tuple[str, ...]]:
    """Give the sampling parameters this model takes while it does or does not think, and the names of those lost.

    Newer models refuse temperature and top_p together: the temperature stays. Raises `ClientError` for no number.
    """
    given = {name: number for name in ("temperature", "top_p", "top_k") if (number := _number(body, name)) is not None}
    kept: JsonObject = dict(given)
    lost: list[str] = []
    if "temperature" in kept and kept["temperature"] > TEMPERATURE_MAX:
        kept["temperature"] = TEMPERATURE_MAX
        lost.append("temperature")
    if kept.get("top_k") == 0:
        del kept["top_k"]
    if not takes or thinks:
        is_mild = takes and kept.get("top_p", 0) >= TOP_P_MIN_THINKING
        refused = [name for name in kept if not (name == "top_p" and is_mild)]
        lost += [name for name in refused if name == "top_k" or kept[name] != _DEFAULT]
        kept = {name: number for name, number in kept.items() if name not in refused}
    elif "temperature" in kept and "top_p" in kept:
        spare = "temperature" if kept["temperature"] == _DEFAULT and kept["top_p"] != _DEFAULT else "top_p"
        lost += [spare] if kept[spare] != _DEFAULT else []
        del kept[spare]
    return kept, tuple(lost)


def _number(body: JsonObject, name: str) -> float | int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ClientError(f"`{name}` is a number, 0 or more.", param=name)
    return value
