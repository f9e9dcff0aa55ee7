"""How long the model may think, and whether it shows (part of the Google codec, pure; openrouter.md 1.4, 8.5).

Three ways to ask, OpenRouter's `reasoning`, OpenAI's `reasoning_effort` and Google's own `thinking_config`; two to say
it, a level (3.x) or a budget of tokens (2.5), never both: Gemini refuses that. Of a model nothing is known of, an
effort is said as a level, because such a model is newer than our data, and the new ones know levels.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.codecs.google.fields import is_whole, object_of, text_of
from proxy.codecs.google.parts import refuse
from proxy.codecs.wire import JsonObject, Thinking

BUDGET_MIN = 512
"""The least that each model of 2.5 takes, save none at all."""
BUDGET_MAX = 24_576
"""The most that each of them takes; the base of an effort's share when the client caps no output."""
DYNAMIC = -1
OFF = "none"
_SHARES = {"minimal": 10, "low": 20, "medium": 50, "high": 80, "xhigh": 95, "max": 95}
"""Per cent of the output, by effort."""
_LEVELS = {"minimal": "minimal", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_FIELDS = ("reasoning", "reasoning_effort", "include_reasoning")
_NATIVE = {
    "thinking_budget": "thinkingBudget",
    "thinking_level": "thinkingLevel",
    "include_thoughts": "includeThoughts",
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What the client asks for, whichever way it said so."""

    effort: str | None
    budget: int | None
    is_shown: bool
    asked: str | None
    """The field it said it in, None when it said nothing."""


def write_thinking(
    body: JsonObject, native: JsonObject, *, thinking: Thinking | None, output_tokens: int | None, dropped: list[str]
) -> JsonObject:
    """Give `thinkingConfig`, empty when there is nothing to say; raises `ClientError`.

    `native` is Google's own `thinking_config`, which wins; `output_tokens` is what the answer may have in all.
    """
    if native:
        return _read_native(native)
    wish = _read_wish(body)
    if thinking is Thinking.NONE:
        # It refuses even to be told not to.
        if wish.asked and wish.effort != OFF:
            dropped.append(wish.asked)
        return {}
    if wish.budget is not None:
        config: JsonObject = {"thinkingBudget": min(wish.budget, BUDGET_MAX)}
    elif wish.effort is None:
        config = {}
    elif thinking is Thinking.BUDGET:
        config = {"thinkingBudget": _budget(wish.effort, output_tokens)}
    else:
        config = _level(wish, thinking, dropped)
    if wish.is_shown and config.get("thinkingBudget") != 0 and (wish.asked or thinking is not None):
        config["includeThoughts"] = True
    return config


def _level(wish: Wish, thinking: Thinking | None, dropped: list[str]) -> JsonObject:
    """Say an effort as a level; none is no level: unknown models are told a budget of 0, known ones think a little."""
    if wish.effort != OFF:
        return {"thinkingLevel": _LEVELS[wish.effort or "medium"]}
    if thinking is None:
        return {"thinkingBudget": 0}
    dropped.append(wish.asked or "reasoning")
    return {"thinkingLevel": "minimal"}


def _budget(effort: str, output_tokens: int | None) -> int:
    """Give an effort's share of the output, within what each model of 2.5 takes."""
    if effort == OFF:
        return 0
    share = (output_tokens or BUDGET_MAX) * _SHARES[effort] // 100
    return min(max(share, BUDGET_MIN), BUDGET_MAX)


def _read_wish(body: JsonObject) -> Wish:
    reasoning = body.get("reasoning")
    if reasoning is not None and not isinstance(reasoning, dict):
        refuse("must be an object", "reasoning")
    fields = object_of(reasoning)
    budget = fields.get("max_tokens")
    if budget is not None and not (is_whole(budget) and budget >= DYNAMIC):
        refuse("must be a whole number of tokens", "reasoning.max_tokens")
    return Wish(
        effort=_effort(body, fields),
        budget=budget,
        is_shown=fields.get("exclude") is not True and body.get("include_reasoning") is not False,
        asked=next((name for name in _FIELDS if body.get(name) is not None), None),
    )


def _effort(body: JsonObject, fields: JsonObject) -> str | None:
    said, short = fields.get("effort"), body.get("reasoning_effort")
    if said is not None and short is not None and said != short:
        refuse("says something else than reasoning.effort", "reasoning_effort")
    effort = said if said is not None else short
    if effort is None:
        enabled = fields.get("enabled")
        return OFF if enabled is False else "medium" if enabled is True and fields.get("max_tokens") is None else None
    if effort not in (OFF, *_SHARES):
        refuse(f"must be one of {', '.join((OFF, *_SHARES))}", "reasoning.effort" if said else "reasoning_effort")
    return text_of(effort)


def _read_native(native: JsonObject) -> JsonObject:
    """Give Google's own settings under the names of its JSON, whichever way they were spelled."""
    config = {
        written: native.get(name, native.get(written))
        for name, written in _NATIVE.items()
        if native.get(name, native.get(written)) is not None
    }
    if "thinkingBudget" in config and "thinkingLevel" in config:
        refuse("may hold a budget or a level, not both", "google.thinking_config")
    return config
