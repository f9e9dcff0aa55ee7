"""Thinking blocks and the `reasoning_details` they travel as (floor 1a, pure; openrouter.md 1.4, 8.3, 8.4).

A block's text and signature belong together byte for byte: Anthropic refuses a tool loop whose thinking has changed. A
client gets a streamed block in pieces, and may send them back as it got them or put together; both give the block.

OpenAI's SDK puts pieces together by joining every text but `type` (openai 2.x, `lib/streaming/_deltas.py`), so only
the first piece of a block names the format, and a format said several times over is read as said once.
"""

from __future__ import annotations

from proxy.codecs.anthropic.values import objects_of, text_of
from proxy.codecs.wire import JsonObject

FORMAT = "anthropic-claude-v1"


def detail_of_text(number: int, **pieces: str) -> JsonObject:
    """Write thinking, or the first piece of it: `text`, `signature` or both."""
    return {**more_of_text(number, **pieces), "format": FORMAT}


def more_of_text(number: int, **pieces: str) -> JsonObject:
    """Write a piece of thinking that goes on from an earlier one."""
    return {"type": "reasoning.text", **pieces, "index": number}


def detail_of_data(number: int, data: str) -> JsonObject:
    """Write thinking that only Anthropic can read."""
    return {"type": "reasoning.encrypted", "data": data, "format": FORMAT, "index": number}


def write_thoughts(details: object) -> list[JsonObject]:
    """Give the thinking blocks of an assistant's message, in their order.

    Details of other vendors are left out, and thinking without a signature, which Anthropic would refuse.
    """
    thoughts: list[_Thought] = []
    is_ours = False
    for detail in objects_of(details):
        thought = _Thought(detail)
        named = text_of(detail.get("format"))
        if named:
            is_ours = not named.replace(FORMAT, "")
        if not is_ours or (thoughts and thoughts[-1].is_joined_by(thought)):
            continue
        # A piece that goes on from nothing is nobody's.
        is_ours = bool(named)
        thoughts += [thought] if is_ours else []
    return [block for thought in thoughts if (block := thought.block()) is not None]


class _Thought:
    """One block, put together from the details it came in."""

    def __init__(self, detail: JsonObject) -> None:
        self._kind = detail.get("type")
        self._number = detail.get("index")
        self._texts = [text_of(detail.get("text"))]
        self._signature = text_of(detail.get("signature"))
        self._data = text_of(detail.get("data"))

    def is_joined_by(self, piece: _Thought) -> bool:
        """Take a piece of the same block in, and tell whether it was one: after its signature a block is whole."""
        is_same = self._kind == piece._kind == "reasoning.text" and self._number == piece._number
        if not is_same or (self._signature and any(piece._texts)):
            return False
        self._texts += piece._texts
        self._signature = piece._signature or self._signature
        return True

    def block(self) -> JsonObject | None:
        if self._kind == "reasoning.text" and self._signature:
            return {"type": "thinking", "thinking": "".join(self._texts), "signature": self._signature}
        if self._kind == "reasoning.encrypted" and self._data:
            return {"type": "redacted_thinking", "data": self._data}
        return None
