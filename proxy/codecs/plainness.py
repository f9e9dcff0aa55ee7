"""What OpenRouter's users send and nobody else's API takes (floor 1a, pure): taken out, or said the common way.

OpenAI answers 400 to members it does not know, so a request made for OpenRouter would find no backup without this.
"""

from __future__ import annotations

from typing import Any

from proxy.codecs.wire import Abilities, JsonObject
from proxy.errors import ClientError

_OF_MESSAGES = frozenset({"reasoning_details", "reasoning", "annotations", "images"})
"""Members of answers that come back in the next turn; `reasoning_content` stays, as DeepSeek asks for it."""
_OF_PARTS = frozenset({"cache_control", "prompt_cache_breakpoint"})
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""From least to most (openrouter.md 1.4)."""


def plain_messages(messages: list[Any]) -> list[Any]:
    """Give messages without OpenRouter's own members; the very list when there are none."""
    if not any(map(_is_special, messages)):
        return messages
    return [_plain(message) if _is_special(message) else message for message in messages]


def check_effort(body: JsonObject) -> str | None:
    """Read how hard `reasoning` wants the model to think, None when it does not say; "none" is not at all.

    Raises `ClientError` for an effort there is not, and when `reasoning_effort` says another (openrouter.md 1.4).
    """
    wish = body.get("reasoning")
    if not isinstance(wish, dict):
        return None
    effort, said = wish.get("effort"), body.get("reasoning_effort")
    if effort is None and wish.get("enabled") is False:
        effort = "none"
    if effort is not None and effort not in EFFORTS:
        raise ClientError(f"`reasoning.effort` must be one of {', '.join(EFFORTS)}.", param="reasoning")
    if effort is not None and said is not None and said != effort:
        raise ClientError("`reasoning.effort` and `reasoning_effort` say two things; send one.", param="reasoning")
    return effort


def say_effort(body: JsonObject, written: JsonObject, abilities: Abilities) -> tuple[str, ...]:
    """Say how hard to think as an effort the model is known to take, the nearest to the one asked for; names losses.

    Of a model whose efforts are not known, `reasoning_effort` goes as it came, and OpenRouter's `reasoning` is lost.
    """
    wish, said = body.get("reasoning"), body.get("reasoning_effort")
    if said is None and not isinstance(wish, dict):
        return ()
    effort = check_effort(body)
    budget = ("reasoning",) if isinstance(wish, dict) and wish.get("max_tokens") is not None else ()
    if said is not None:
        return (*_say(said, "reasoning_effort", written, abilities), *budget)
    if effort is None:
        return budget
    if not abilities.efforts:
        return ("reasoning",) if effort != "none" else ()  # one that is not known to think does not
    return _say(effort, "reasoning", written, abilities)


def _say(effort: Any, name: str, written: JsonObject, abilities: Abilities) -> tuple[str, ...]:
    """Write the nearest effort known; a wish not to think that cannot be kept becomes the least, and is named."""
    if not abilities.efforts or effort not in EFFORTS:
        return ()
    rank = EFFORTS.index(effort)
    written["reasoning_effort"] = min(abilities.efforts, key=lambda known: abs(EFFORTS.index(known) - rank))
    return (name,) if effort == "none" and effort not in abilities.efforts else ()


def _is_special(message: Any) -> bool:
    if not _OF_MESSAGES.isdisjoint(message):
        return True
    content = message.get("content")
    return content.__class__ is list and any(
        isinstance(part, dict) and not _OF_PARTS.isdisjoint(part) for part in content
    )


def _plain(message: JsonObject) -> JsonObject:
    kept = {name: value for name, value in message.items() if name not in _OF_MESSAGES}
    content = kept.get("content")
    if isinstance(content, list):
        kept["content"] = [_plain_part(part) if isinstance(part, dict) else part for part in content]
    return kept


def _plain_part(part: JsonObject) -> JsonObject:
    return {name: value for name, value in part.items() if name not in _OF_PARTS}
