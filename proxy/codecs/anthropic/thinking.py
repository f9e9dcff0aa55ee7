"""How long a model is to think (floor 1a, pure; openrouter.md 1.4, 8.3).

A request says it in one of two ways, an effort or a number of tokens, and so does a model: newer ones are told an
effort and decide for themselves (adaptive), older ones are given a budget. With a model nothing is known of, the budget
is tried: it is what most models that think understand. A budget must leave a share of `max_tokens` for the answer,
and `max_tokens` is never raised for it, because it is what the client agreed to pay for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from proxy.codecs.anthropic.values import object_of
from proxy.codecs.efforts import OFF, SHARES, nearest, room
from proxy.codecs.wire import Abilities, JsonObject, Thinking
from proxy.errors import ClientError

BUDGET_TOKENS_MIN = 1_024
BUDGET_TOKENS_MAX = 128_000
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
"""What Anthropic has words for; what an adaptive model is taken to know where nothing is known of it."""
_DEFAULT_EFFORT = "medium"
"""What `reasoning: {"enabled": true}` alone means."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the client asks for."""

    effort: str | None = None
    budget_tokens: int | None = None
    is_hidden: bool = False
    """It shall think, and keep it to itself."""
    verbosity: str | None = None
    named: str = "reasoning"
    """The field that asks."""


@dataclass(frozen=True, slots=True)
class Thought:
    """What the model is told."""

    thinking: JsonObject | None = None
    effort: str | None = None
    dropped: tuple[str, ...] = ()

    @property
    def is_on(self) -> bool:
        """Tell whether the model thinks: then it takes neither sampling parameters nor a forced tool."""
        return self.thinking is not None and self.thinking.get("type", "disabled") != "disabled"

    @property
    def is_budgeted(self) -> bool:
        """Tell whether it thinks by a budget: then a tool loop must hold its thinking."""
        return self.thinking is not None and self.thinking.get("type") == "enabled"

    def without(self, name: str) -> Thought:
        """Leave thinking out, for what cannot go together with it; an adaptive model may have to be told."""
        is_adaptive = self.thinking is not None and self.thinking.get("type") == "adaptive"
        return replace(self, thinking={"type": "disabled"} if is_adaptive else None, dropped=(*self.dropped, name))


def read_wish(body: JsonObject) -> Wish:
    """Read `reasoning`, `reasoning_effort`, `include_reasoning` and `verbosity`; raises `ClientError`."""
    reasoning = body.get("reasoning")
    if reasoning is not None and not isinstance(reasoning, dict):
        raise ClientError("`reasoning` is an object.", param="reasoning")
    asked, short = object_of(reasoning), _level(body.get("reasoning_effort"), "reasoning_effort")
    effort = _level(asked.get("effort"), "reasoning.effort")
    if short and effort and short != effort:
        raise ClientError("`reasoning_effort` and `reasoning.effort` contradict each other.", param="reasoning_effort")
    budget_tokens = asked.get("max_tokens")
    if budget_tokens is not None and (type(budget_tokens) is not int or budget_tokens < 0):
        raise ClientError("`reasoning.max_tokens` is a whole number of tokens.", param="reasoning.max_tokens")
    effort = effort or short
    if asked.get("enabled") is False or budget_tokens == 0:
        effort, budget_tokens = OFF, None
    elif asked.get("enabled") is True and effort is None and budget_tokens is None:
        effort = _DEFAULT_EFFORT
    return Wish(
        effort=effort,
        budget_tokens=budget_tokens,
        is_hidden=asked.get("exclude") is True or (body.get("include_reasoning") is False and not asked),
        verbosity=_level(body.get("verbosity"), "verbosity"),
        named="reasoning" if asked or not short else "reasoning_effort",
    )


def take(thinking: JsonObject, abilities: Abilities, *, output_tokens: int) -> Thought:
    """Take Anthropic's own `thinking` from a client that sent it; a budget not below `max_tokens` leaves it a share."""
    budget_tokens = thinking.get("budget_tokens")
    # Others send a field of this name too (Z.ai), without a budget.
    is_foreign = thinking.get("type") == "enabled" and type(budget_tokens) is not int
    if abilities.thinking is Thinking.NONE or is_foreign:
        return Thought(dropped=("thinking",))
    if type(budget_tokens) is not int or budget_tokens < output_tokens:
        return Thought(thinking)
    if room(output_tokens) < BUDGET_TOKENS_MIN:
        return Thought(dropped=("thinking",))
    return Thought({**thinking, "budget_tokens": room(output_tokens)}, dropped=("thinking",))


def tell(wish: Wish, abilities: Abilities, *, output_tokens: int) -> Thought:
    """Tell a model to think as wished, within `max_tokens` of `output_tokens`."""
    if abilities.thinking is Thinking.ADAPTIVE:
        known = tuple(effort for effort in _EFFORTS if effort in abilities.efforts)
        return _tell_effort(wish, known or _EFFORTS, output_tokens)
    dropped = ("verbosity",) if wish.verbosity else ()
    if wish.effort == OFF or (wish.effort is None and wish.budget_tokens is None):
        return Thought(dropped=dropped)
    asked, most = wish.budget_tokens, room(output_tokens)
    if asked is None:
        asked = output_tokens * SHARES[wish.effort or _DEFAULT_EFFORT] // 100
        most = room(output_tokens, wish.effort)
    budget_tokens = min(max(asked, BUDGET_TOKENS_MIN), BUDGET_TOKENS_MAX, most)
    if abilities.thinking is Thinking.NONE or budget_tokens < BUDGET_TOKENS_MIN:
        return Thought(dropped=(*dropped, wish.named))
    if wish.budget_tokens is not None and budget_tokens < wish.budget_tokens:
        dropped = (*dropped, "reasoning.max_tokens")
    thinking: JsonObject = {"type": "enabled", "budget_tokens": budget_tokens}
    return Thought(thinking | ({"display": "omitted"} if wish.is_hidden else {}), dropped=dropped)


def _tell_effort(wish: Wish, efforts: tuple[str, ...], output_tokens: int) -> Thought:
    """Tell an adaptive model the nearest of its efforts; a budget becomes the effort that would have given it.

    That a budget is not kept is told to the client. Not to think is no effort here but `disabled`.
    """
    dropped: tuple[str, ...] = ()
    asked = None if wish.effort == OFF else wish.effort
    if wish.budget_tokens is not None and asked is None:
        asked = _effort_of(wish.budget_tokens, output_tokens)
        dropped = ("reasoning.max_tokens",)
    effort = nearest(asked, efforts) if asked else None
    verbosity = nearest(wish.verbosity, efforts) if wish.verbosity else None
    if verbosity and effort and verbosity != effort:
        dropped = (*dropped, "verbosity")
    if wish.effort == OFF:
        return Thought({"type": "disabled"}, verbosity, dropped)
    if effort is None:
        return Thought(None, verbosity, dropped)
    display = "omitted" if wish.is_hidden else "summarized"
    return Thought({"type": "adaptive", "display": display}, effort, dropped)


def _effort_of(budget_tokens: int, output_tokens: int) -> str:
    """Give the lowest effort whose share of the output holds a budget; above `high` only some models have a name."""
    shares = ((effort, SHARES[effort]) for effort in ("low", "medium"))
    return next((effort for effort, percent in shares if budget_tokens * 100 <= output_tokens * percent), "high")


def _level(value: object, name: str) -> str | None:
    """Read an effort; a verbosity has the same levels (openrouter.md 1.1) and nothing to turn off."""
    if value is None:
        return None
    levels = [*SHARES] if name == "verbosity" else [OFF, *SHARES]
    if not isinstance(value, str) or value not in levels:
        raise ClientError(f"`{name}` is one of {', '.join(levels)}.", param=name)
    return value
