"""How long the model may think, and whether it shows (part of the Google codec, pure; openrouter.md 1.4, 8.5).

Three ways to ask, OpenRouter's `reasoning`, OpenAI's `reasoning_effort` and Google's own `thinking_config`; two to say
it, a level (3.x) or a budget of tokens (2.5), never both: Gemini refuses that. Of a model nothing is known of, an
effort is said as a level, because such a model is newer than our data, and the new ones know levels. What a model is
known to take decides over all: an effort becomes the nearest of them, and one that cannot stop thinking thinks least.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.codecs.efforts import OFF, SHARES, nearest, room
from proxy.codecs.google.fields import is_whole, object_of, text_of
from proxy.codecs.google.parts import refuse
from proxy.codecs.wire import Abilities, JsonObject, Thinking

BUDGET_MIN = 512
"""The least that each model of 2.5 takes, save none at all."""
BUDGET_MAX = 24_576
"""The most that each of them takes; the base of an effort's share when the client caps no output."""
BUDGET_MIN_ALWAYS_ON = 128
"""The least of a model that cannot stop thinking (2.5 Pro)."""
DYNAMIC = -1
_LEVELS = ("minimal", "low", "medium", "high")
_DEFAULT_EFFORT = "medium"
"""What `reasoning: {"enabled": true}` alone means."""
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
    body: JsonObject, native: JsonObject, *, abilities: Abilities, output_tokens: int | None, dropped: list[str]
) -> JsonObject:
    """Give `thinkingConfig`, empty when there is nothing to say; raises `ClientError`.

    `native` is Google's own `thinking_config`, which wins; `output_tokens` is what the answer may have in all.
    """
    if native:
        return _read_native(native)
    wish, thinking = _read_wish(body), abilities.thinking
    if thinking is Thinking.NONE:
        # It refuses even to be told not to.
        if wish.asked and wish.effort != OFF:
            dropped.append(wish.asked)
        return {}
    config = _write(wish, abilities, output_tokens, dropped)
    if wish.is_shown and config.get("thinkingBudget") != 0 and (wish.asked or thinking is not None):
        config["includeThoughts"] = True
    return config


def _write(wish: Wish, abilities: Abilities, output_tokens: int | None, dropped: list[str]) -> JsonObject:
    """Say a wish as a budget or a level; where the output holds no budget beside an answer, as not to think."""
    is_budgeted = wish.budget is not None or abilities.thinking is Thinking.BUDGET
    if wish.effort == OFF:
        return _stop(wish, abilities, dropped)
    if wish.effort is None and wish.budget is None:
        return {}
    if not is_budgeted:
        levels = [level for level in _LEVELS if level in abilities.efforts]
        return {"thinkingLevel": nearest(wish.effort or _DEFAULT_EFFORT, levels or _LEVELS)}
    budget = _budget(wish, abilities, output_tokens)
    if budget is None:
        dropped.append(wish.asked or "reasoning")
        return _stop(wish, abilities, dropped)
    if wish.budget is not None and budget < wish.budget:
        dropped.append("reasoning.max_tokens")
    return {"thinkingBudget": budget}


def _stop(wish: Wish, abilities: Abilities, dropped: list[str]) -> JsonObject:
    """Say not to think; a model that cannot stop thinks the least it can, and the client is told.

    One is known not to by its efforts, or by its levels, among which there is no such thing.
    """
    if OFF in abilities.efforts or not (abilities.efforts or abilities.thinking is Thinking.LEVEL):
        return {"thinkingBudget": 0}
    dropped.append(wish.asked or "reasoning")
    if abilities.thinking is Thinking.BUDGET:
        return {"thinkingBudget": BUDGET_MIN_ALWAYS_ON}
    return {"thinkingLevel": next((level for level in _LEVELS if level in abilities.efforts), _LEVELS[0])}


def _budget(wish: Wish, abilities: Abilities, output_tokens: int | None) -> int | None:
    """Give the budget asked for, or an effort's share of the output, None when that leaves the answer no room."""
    if wish.budget == DYNAMIC:
        return DYNAMIC
    if wish.budget is None:
        effort = wish.effort or _DEFAULT_EFFORT
        least, asked = BUDGET_MIN, (output_tokens or BUDGET_MAX) * SHARES[effort] // 100
    else:
        effort, asked = None, wish.budget
        least = BUDGET_MIN_ALWAYS_ON if abilities.efforts and OFF not in abilities.efforts else 1
    most = BUDGET_MAX if output_tokens is None else min(BUDGET_MAX, room(output_tokens, effort))
    budget = max(asked, least)
    if budget > most and most < BUDGET_MIN:
        return None
    return min(budget, most)


def _read_wish(body: JsonObject) -> Wish:
    reasoning = body.get("reasoning")
    if reasoning is not None and not isinstance(reasoning, dict):
        refuse("must be an object", "reasoning")
    fields = object_of(reasoning)
    budget = fields.get("max_tokens")
    if budget is not None and not (is_whole(budget) and budget >= DYNAMIC):
        refuse("must be a whole number of tokens", "reasoning.max_tokens")
    return Wish(
        effort=OFF if budget == 0 else _effort(body, fields),
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
        if fields.get("enabled") is False:
            return OFF
        return _DEFAULT_EFFORT if fields.get("enabled") is True and fields.get("max_tokens") is None else None
    if effort not in (OFF, *SHARES):
        refuse(f"must be one of {', '.join((OFF, *SHARES))}", "reasoning.effort" if said else "reasoning_effort")
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
