"""Middle-out: a conversation too long for a model loses its middle (floor 1b, pure; openrouter.md 2.2).

What can be lost is a unit: a message, or an assistant message with its tool calls and all their replies, since a call
without its reply is refused everywhere. Never lost are the leading system messages, the last user message with all
that follows it, and, if the rest can be made to fit, the message with the newest `cache_control`.

A provider's prompt cache only helps a conversation that begins as it did a turn ago, while the client sends all of it
each time and nothing is remembered here. So the cut is found by reading the conversation from its start, as it grew:
whenever it does not fit, units go from the centre of those that may go, outwards, until `KEPT_PERCENT` of the room is
filled; that cut holds until the conversation has outgrown it. Every longer conversation that still fits therefore has
the cut of the shorter one. Each cut is made anew, from the whole, so that a message which once filled the room alone
costs its neighbours nothing later.

When nothing is left that may go, the longest texts lose their middle (`texts`), in steps of a block for the same
reason.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

from proxy.routing.texts import Texts
from proxy.routing.transforms import PromptTokens

JsonObject = dict[str, Any]

KEPT_PERCENT = 85
"""What a cut leaves of the room that units may fill: the rest is for the turns that reuse it."""
_SYSTEM = ("system", "developer")
_REPLIES = ("tool", "function")


@dataclass(frozen=True, slots=True)
class Cut:
    """A conversation made to fit. One that cannot be is given back whole, with `fits` false."""

    messages: list[JsonObject]
    """Those kept, in their order; a message whose text was not shortened is the very object that came in."""
    tokens: int
    """Of these messages."""
    fits: bool
    dropped: int = 0
    truncated: int = 0
    """Texts that lost their middle."""

    @property
    def kept(self) -> int:
        """Give the number of messages kept."""
        return len(self.messages)

    @property
    def is_cut(self) -> bool:
        """Tell whether anything was left out."""
        return self.dropped > 0 or self.truncated > 0


class _Unit(NamedTuple):
    start: int
    end: int
    """Of its messages, as in a slice."""
    tokens: int
    role: object
    """Of its first message."""
    is_system: bool
    """It leads the conversation."""
    is_asked: bool
    """A user message is in it."""
    is_marked: bool
    """It carries the newest `cache_control`."""

    @property
    def is_pinned(self) -> bool:
        return self.is_system or self.is_marked


class _Goal(NamedTuple):
    room_tokens: int
    messages_max: int | None

    def is_met(self, units: Sequence[_Unit]) -> bool:
        """Tell whether these units are few and short enough."""
        return sum(unit.tokens for unit in units) <= self.room_tokens and self.allows(_size(units))

    def allows(self, messages: int) -> bool:
        """Tell whether so many messages may be sent."""
        return self.messages_max is None or messages <= self.messages_max


def middle_out(
    messages: Sequence[JsonObject], prompt: PromptTokens, *, room_tokens: int, messages_max: int | None = None
) -> Cut:
    """Make a conversation fit into so many tokens and messages; what fits already is not touched.

    `prompt` must have counted these very messages. Cutting twice changes nothing. Slow only where a text has to lose
    its middle, which means counting it again.
    """
    units = _units_of(messages, prompt.messages)
    whole = Cut(list(messages), sum(prompt.messages), fits=False)
    goal = _Goal(room_tokens, messages_max)
    kept = _choose(units, goal)
    if _has_marked(units) and not (goal.is_met(kept) and _has_marked(kept)):
        kept = _choose([unit._replace(is_marked=False) for unit in units], goal)
    if not goal.allows(_size(kept)):
        return whole
    indexes = [index for unit in kept for index in range(unit.start, unit.end)]
    texts = Texts([messages[index] for index in indexes], [prompt.messages[index] for index in indexes], prompt.model)
    truncated = texts.shorten(room_tokens, block_percent=100 - KEPT_PERCENT) if room_tokens > 0 else 0
    tokens = sum(texts.tokens)
    if tokens > room_tokens:
        return whole
    return Cut(texts.messages, tokens, fits=True, dropped=len(messages) - len(indexes), truncated=truncated)


# ---------------------------------------------------------------- units


def _units_of(messages: Sequence[JsonObject], tokens: Sequence[int]) -> list[_Unit]:
    starts = _starts_of(messages)
    leading = next(
        (index for index, message in enumerate(messages) if message.get("role") not in _SYSTEM), len(messages)
    )
    marked = max((index for index, message in enumerate(messages) if _has_mark(message)), default=-1)
    return [
        _Unit(
            start=start,
            end=end,
            tokens=sum(tokens[start:end]),
            role=messages[start].get("role"),
            is_system=start < leading,
            is_asked=any(message.get("role") == "user" for message in messages[start:end]),
            is_marked=start <= marked < end,
        )
        for start, end in zip(starts, [*starts[1:], len(messages)], strict=False)
    ]


def _starts_of(messages: Sequence[JsonObject]) -> list[int]:
    """Find where units begin: at each message but a reply, which belongs to its call and to all between the two.

    Some servers give every turn the same call ids, so an id means the latest call that has it. A reply nobody waits
    for joins the calls it follows, if it follows any.
    """
    starts: list[int] = []
    calls: dict[str, int] = {}
    is_after_call = False
    for index, message in enumerate(messages):
        owner = index
        if message.get("role") in _REPLIES:
            owner = calls.pop(str(message.get("tool_call_id")), index - 1 if is_after_call else index)
        else:
            ids = _call_ids(message)
            calls.update(dict.fromkeys(ids, index))
            is_after_call = bool(ids) or isinstance(message.get("function_call"), dict)
        while starts and starts[-1] > owner:
            starts.pop()
        if owner == index:
            starts.append(index)
    return starts


def _call_ids(message: JsonObject) -> list[str]:
    calls = message.get("tool_calls")
    return [str(call.get("id")) for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def _has_mark(message: JsonObject) -> bool:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return any(isinstance(part, dict) and part.get("cache_control") for part in (message, *parts))


def _has_marked(units: Sequence[_Unit]) -> bool:
    return any(unit.is_marked for unit in units)


def _size(units: Sequence[_Unit]) -> int:
    return sum(unit.end - unit.start for unit in units)


# ---------------------------------------------------------------- which units stay


def _choose(units: list[_Unit], goal: _Goal) -> list[_Unit]:
    """Give the units that stay; when they do not meet the goal, none is left that may go."""
    if goal.is_met(units):
        return units
    kept = _cut_by_tokens(_cut_by_count(units, goal.messages_max), goal.room_tokens)
    return _repair(units, kept) if len(kept) < len(units) else units


def _cut_by_count(units: list[_Unit], messages_max: int | None) -> list[_Unit]:
    """Keep half of the messages allowed from the start and half from the end, less where that would split a unit."""
    messages = _size(units)
    if messages_max is None or messages <= messages_max:
        return units
    head_end, tail_start = -(-messages_max // 2), messages - messages_max // 2
    last = _last_asked(units)
    ends = [
        unit
        for index, unit in enumerate(units)
        if unit.end <= head_end or unit.start >= tail_start or unit.is_pinned or index >= last
    ]
    # What is pinned in between takes the place of others.
    free = [unit for unit in ends if not unit.is_pinned and unit.start < units[last].start]
    sums = list(accumulate((unit.end - unit.start for unit in free), initial=0))
    return _without(ends, free, _centre(sums, len(free), _size(ends) - messages_max))


def _cut_by_tokens(units: list[_Unit], room_tokens: int) -> list[_Unit]:
    """Read the conversation as it grew, cutting where it does not fit; the last cut is the one."""
    free = [unit for unit in units if not unit.is_pinned]
    sums = list(accumulate((unit.tokens for unit in free), initial=0))
    cut = range(0)
    total = seen = before = 0
    has_asked = False
    for unit in units:
        has_asked = has_asked or unit.is_asked
        if unit.is_asked or not has_asked:
            before = seen
        seen += not unit.is_pinned
        total += unit.tokens
        if total - (sums[cut.stop] - sums[cut.start]) > room_tokens:
            free_tokens = sums[before]
            left = max(room_tokens - (total - free_tokens), 0)
            cut = _centre(sums, before, free_tokens - left * KEPT_PERCENT // 100)
    return _without(units, free, cut)


def _centre(sums: Sequence[int], size: int, need: int) -> range:
    """Find which of the first `size` items must go to weigh as much as needed, all when they do not.

    They go from the centre outwards, of two as far from it the older first. When a heavy one has gone last, those at
    either edge may have gone in vain: they come back, the older first. `sums` are the weights summed up.
    """

    def weigh(length: int) -> int:
        start = (size - length) // 2
        return sums[start + length] - sums[start]

    length = bisect_left(range(size), need, key=weigh)
    start = (size - length) // 2
    end = start + length
    start = max(start, bisect_right(sums, sums[end] - need, hi=end + 1) - 1)
    return range(start, min(end, bisect_left(sums, sums[start] + need, lo=start)))


def _without(units: list[_Unit], free: list[_Unit], cut: range) -> list[_Unit]:
    dropped = {free[index].start for index in cut}
    return [unit for unit in units if unit.start not in dropped]


def _last_asked(units: Sequence[_Unit]) -> int:
    """Find the last user message, the last message when no user has said anything."""
    return next((index for index in reversed(range(len(units))) if units[index].is_asked), len(units) - 1)


def _repair(units: list[_Unit], kept: list[_Unit]) -> list[_Unit]:
    """Let what is kept begin as the whole did: a user message first, if it was; never a reply (Anthropic, Gemini)."""
    first = next((unit.role for unit in units if unit.role not in _SYSTEM), None)
    misfits = set()
    for unit in kept[: _last_asked(kept)]:
        if unit.role in _SYSTEM:
            continue
        if unit.role not in _REPLIES and (first != "user" or unit.role == "user"):
            break
        misfits.add(unit.start)
    return [unit for unit in kept if unit.start not in misfits]
