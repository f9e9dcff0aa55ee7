"""Texts that lose their middle, where every message must stay (floor 1b, pure; openrouter.md 2.2, point 6)."""

from __future__ import annotations

from typing import Any, NamedTuple

from proxy.tokens import count, estimate_message, family_of

JsonObject = dict[str, Any]

TEXT_CHARS_MIN = 256
"""What a text keeps at least; one less than twice as long is left whole."""
MARKER = "\n\n[... {chars:,} characters left out to fit the model's context ...]\n\n"
MARKER_TOKENS = 24
"""What the marker adds, roughly: the first guess of how much must go."""


class _Place(NamedTuple):
    """Where a text stands; longest first when sorted, of equals the older."""

    minus_chars: int
    message: int
    part: int
    """Index into a list of parts, -1 for a content that is the text itself."""


class Texts:
    """The texts of messages that all stay: contents and text parts, nothing else is ever shortened."""

    def __init__(self, messages: list[JsonObject], tokens: list[int], model: str) -> None:
        """Take the messages and how long each is; both lists are changed in place."""
        self.messages = messages
        self.tokens = tokens
        self._model = model

    def shorten(self, room_tokens: int, *, block_percent: int) -> int:
        """Take the middle out of the longest text, then of the next, until the messages fit; gives how many.

        The excess is rounded up to blocks of so much of the room, so that turns that follow shorten the texts alike.
        """
        block = max(room_tokens * block_percent // 100, 1)
        excess = -(-(sum(self.tokens) - room_tokens) // block) * block
        shortened = 0
        for place in self._places() if excess > 0 else ():
            message, tokens = self._cut(place, excess)
            gain = self.tokens[place.message] - tokens
            if gain > 0:
                self.messages[place.message], self.tokens[place.message] = message, tokens
                shortened += 1
                excess -= gain
            if excess <= 0:
                break
        return shortened

    def _places(self) -> list[_Place]:
        places = []
        for index, message in enumerate(self.messages):
            content = message.get("content")
            if isinstance(content, str):
                places.append(_Place(-len(content), index, -1))
            for at, part in enumerate(content if isinstance(content, list) else ()):
                if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
                    places.append(_Place(-len(part["text"]), index, at))
        return sorted(place for place in places if -place.minus_chars >= 2 * TEXT_CHARS_MIN)

    def _cut(self, place: _Place, excess: int) -> tuple[JsonObject, int]:
        """Give the message, and its tokens, with one text shortened by `excess` tokens or to the least it keeps."""
        message, goal = self.messages[place.message], self.tokens[place.message] - excess
        content = message["content"]
        text = content if place.part < 0 else content[place.part]["text"]
        tokens = count(text, family_of(self._model))
        chars = len(text) * max(tokens - excess - MARKER_TOKENS, 0) // tokens
        while True:
            chars = max(chars, TEXT_CHARS_MIN)
            written = _with_text(message, place.part, _take_middle(text, chars))
            found = estimate_message(written, self._model)
            if found <= goal or chars == TEXT_CHARS_MIN:
                return written, found
            # The ends of a text may weigh more than its middle: an eighth less each time comes to an end soon.
            chars -= chars // 8


def _take_middle(text: str, chars: int) -> str:
    """Keep so many characters, half of them from the start and half from the end."""
    tail = chars // 2
    return text[: chars - tail] + MARKER.format(chars=len(text) - chars) + text[-tail:]


def _with_text(message: JsonObject, part: int, text: str) -> JsonObject:
    if part < 0:
        return {**message, "content": text}
    parts = [{**old, "text": text} if at == part else old for at, old in enumerate(message["content"])]
    return {**message, "content": parts}
