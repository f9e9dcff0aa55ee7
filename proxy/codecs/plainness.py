"""What OpenRouter's users send and nobody else's API takes (floor 1a, pure): taken out, or said the common way.

OpenAI answers 400 to members it does not know, so a request made for OpenRouter would find no backup without this.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from itertools import repeat
from typing import Any, NamedTuple

from proxy.codecs.efforts import EFFORTS, OFF, nearest
from proxy.codecs.wire import Abilities, JsonObject
from proxy.errors import ClientError


class _Foreign(NamedTuple):
    """Members that a provider does not know, by where they stand."""

    messages: frozenset[str]
    parts: frozenset[str]
    calls: frozenset[str]


_FOREIGN_TO_GEMINI = _Foreign(
    frozenset({"reasoning_details", "reasoning", "annotations", "images", "cache_control", "is_error"}),
    frozenset({"cache_control", "prompt_cache_breakpoint"}),
    frozenset({"cache_control"}),
)
"""Members of answers that come back in the next turn; `reasoning_content` stays, as DeepSeek asks for it."""
_FOREIGN = _Foreign(*(names | {"extra_content"} for names in _FOREIGN_TO_GEMINI))
"""Gemini's signatures come with its tool calls and go back with them, at Google's address for OpenAI clients too."""
_OF_TOOLS = frozenset({"cache_control"})
_ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FITTING = re.compile(r"[0-9A-Za-z]*")


def plain_messages(messages: list[Any], *, model: str = "") -> list[Any]:
    """Give messages without members this provider's `model` cannot know; the very list when there are none."""
    foreign = _FOREIGN_TO_GEMINI if "gemini" in model else _FOREIGN
    if not any(map(_is_special, messages, repeat(foreign))):
        return messages
    return [_plain(message, foreign) if _is_special(message, foreign) else message for message in messages]


def plain_tools(tools: Any) -> Any:
    """Give tools without marks for a cache, on them or on their functions; the very list when there are none."""
    if tools.__class__ is not list or not any(map(_is_marked, tools)):
        return tools
    return [_unmarked(tool) if _is_marked(tool) else tool for tool in tools]


def fit_call_ids(messages: list[Any], chars: int) -> list[Any]:
    """Give messages whose ids of tool calls are `chars` letters and digits, as Mistral wants them (openrouter.md 8.1).

    An id that fits stays; any other becomes the same one wherever it stands, so answers still find their calls.
    """
    return [_with_fitting_ids(message, chars) for message in messages]


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
        return ("reasoning",) if effort != OFF else ()  # one that is not known to think does not
    return _say(effort, "reasoning", written, abilities)


def _say(effort: Any, name: str, written: JsonObject, abilities: Abilities) -> tuple[str, ...]:
    """Write the nearest effort known; a wish not to think that cannot be kept becomes the least, and is named."""
    if not abilities.efforts or effort not in EFFORTS:
        return ()
    written["reasoning_effort"] = nearest(effort, abilities.efforts)
    return (name,) if effort == OFF and effort not in abilities.efforts else ()


def _is_special(message: Any, foreign: _Foreign) -> bool:
    if not foreign.messages.isdisjoint(message):
        return True
    content, calls = message.get("content"), message.get("tool_calls")
    return (content.__class__ is list and _any_holds(content, foreign.parts)) or (
        calls.__class__ is list and _any_holds(calls, foreign.calls)
    )


def _any_holds(entries: list[Any], names: frozenset[str]) -> bool:
    return any(isinstance(one, dict) and not names.isdisjoint(one) for one in entries)


def _plain(message: JsonObject, foreign: _Foreign) -> JsonObject:
    kept = _without(message, foreign.messages)
    for name, own in (("content", foreign.parts), ("tool_calls", foreign.calls)):
        if isinstance(entries := kept.get(name), list):
            kept[name] = [_without(one, own) if isinstance(one, dict) else one for one in entries]
    return kept


def _with_fitting_ids(message: JsonObject, chars: int) -> JsonObject:
    calls, answered = message.get("tool_calls"), message.get("tool_call_id")
    if isinstance(calls, list):
        fitted = [{**call, "id": _fit(call.get("id"), chars)} if isinstance(call, dict) else call for call in calls]
        message = {**message, "tool_calls": fitted}
    return message if answered is None else {**message, "tool_call_id": _fit(answered, chars)}


def _fit(call_id: Any, chars: int) -> Any:
    if not isinstance(call_id, str) or (len(call_id) == chars and _FITTING.fullmatch(call_id)):
        return call_id
    number = int.from_bytes(blake2b(call_id.encode(errors="surrogatepass")).digest(), "big")
    base = len(_ALPHANUMERIC)
    return "".join(_ALPHANUMERIC[number // base**place % base] for place in range(chars))


def _is_marked(tool: Any) -> bool:
    if tool.__class__ is not dict:
        return False
    function = tool.get("function")
    return not _OF_TOOLS.isdisjoint(tool) or (function.__class__ is dict and not _OF_TOOLS.isdisjoint(function))


def _unmarked(tool: JsonObject) -> JsonObject:
    kept = _without(tool, _OF_TOOLS)
    if isinstance(function := kept.get("function"), dict):
        kept["function"] = _without(function, _OF_TOOLS)
    return kept


def _without(members: JsonObject, names: frozenset[str]) -> JsonObject:
    return {name: value for name, value in members.items() if name not in names}
