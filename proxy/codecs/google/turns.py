"""A client's messages as Gemini's turns (part of the Google codec, pure; openrouter.md 8.5).

Gemini knows two roles that take turns, user first; system texts stand apart, wherever they came. What functions gave
back is the user's turn, each result under its function's name, all of one turn together and before anything else.
"""

from __future__ import annotations

import re

import orjson

from proxy.codecs.google.fields import list_of, object_of, objects_of, text_of
from proxy.codecs.google.parts import read_content, read_link, refuse
from proxy.codecs.google.signatures import SKIP_VALIDATION, Kept, read_details, sign, signature_beside
from proxy.codecs.wire import JsonObject, is_deeper

FILLER = "."
"""Stands where Gemini demands a turn of the user's that the client has not written; an empty text is refused."""
ARGUMENTS_DEPTH_MAX = 100
"""Deeper arguments of a call go as text: what is nested much deeper cannot be written again."""
_LONG_NUMBER = re.compile(r"\d{16}")
"""So many digits may not survive being read as a number; a result that holds them goes as the text it is."""


class Turns:
    """Reads messages one by one."""

    def __init__(self) -> None:
        """Begin an empty conversation."""
        self.system: list[JsonObject] = []
        """Parts of the system instruction."""
        self.contents: list[JsonObject] = []
        self._names: dict[str, str] = {}

    def read(self, messages: object) -> None:
        """Take all messages; raises `ClientError` for what Gemini cannot be given."""
        if not isinstance(messages, list):
            refuse("must be a list", "messages")
        for index, message in enumerate(messages):
            self._read(message, f"messages[{index}]")
        if not self.contents or self.contents[0]["role"] != "user":
            self.contents.insert(0, {"role": "user", "parts": [{"text": FILLER}]})

    def hand_over(self) -> bool:
        """Let the user have the last word, for a model that goes on from no text of its own; tell whether it had to."""
        if self.contents[-1]["role"] == "user":
            return False
        self._add("user", [{"text": FILLER}])
        return True

    def _read(self, message: object, at: str) -> None:
        if not isinstance(message, dict):
            refuse("must be an object", at)
        match message.get("role"):
            case "system" | "developer":
                self.system += self._system(message, at)
            case "user":
                self._add("user", _named(read_content(message.get("content"), f"{at}.content"), message))
            case "assistant":
                self._add("model", self._answer(message, at))
            case "tool" | "function":
                self._add_result(message, at)
            case _:
                refuse("must be system, developer, user, assistant or tool", f"{at}.role")

    def _add(self, role: str, parts: list[JsonObject]) -> None:
        if not parts:
            return
        if self.contents and self.contents[-1]["role"] == role:
            self.contents[-1]["parts"] += parts
        else:
            self.contents.append({"role": role, "parts": parts})

    def _system(self, message: JsonObject, at: str) -> list[JsonObject]:
        parts = read_content(message.get("content"), f"{at}.content")
        if any("text" not in part for part in parts):
            refuse("of a system message may hold text only", f"{at}.content")
        return _named(parts, message)

    def _answer(self, message: JsonObject, at: str) -> list[JsonObject]:
        """Give an earlier answer, its signatures where they stood."""
        kept = read_details(message.get("reasoning_details"))
        parts = read_content(message.get("content") or message.get("refusal"), f"{at}.content")
        calls = self._calls(message, kept, at)
        if not (parts or calls) and message.get("audio"):
            refuse("of an earlier turn is not kept by this target; send its transcript as content", f"{at}.audio")
        pictures = [
            sign(read_link(image.get("image_url"), f"{at}.images[{index}]"), kept.by_id.get(f"image_{index}"))
            for index, image in enumerate(objects_of(message.get("images")))
        ]
        return [*kept.thoughts, *kept.server, *_signed(_named(parts, message), kept), *pictures, *calls]

    def _calls(self, message: JsonObject, kept: Kept, at: str) -> list[JsonObject]:
        listed = [(call, f"{at}.tool_calls[{index}]") for index, call in enumerate(list_of(message.get("tool_calls")))]
        if isinstance(message.get("function_call"), dict):
            listed.append(({"function": message["function_call"]}, f"{at}.function_call"))
        parts = [self._call(object_of(call), kept, place) for call, place in listed]
        if parts and not any("thoughtSignature" in part for part in parts):
            # Gemini signs the first call of a step only; these come from elsewhere, or lost theirs on the way.
            parts[0] = sign(parts[0], SKIP_VALIDATION)
        return parts

    def _call(self, call: JsonObject, kept: Kept, at: str) -> JsonObject:
        function, identifier = object_of(call.get("function")), text_of(call.get("id"))
        name = text_of(function.get("name"))
        if not name:
            refuse("must name a function", at)
        written: JsonObject = {"name": name, "args": _arguments(function.get("arguments"))}
        if identifier:
            self._names[identifier] = name
            written["id"] = identifier
        return sign({"functionCall": written}, kept.by_id.get(identifier) or signature_beside(call))

    def _add_result(self, message: JsonObject, at: str) -> None:
        identifier = text_of(message.get("tool_call_id"))
        name = self._names.get(identifier) or text_of(message.get("name"))
        if not name:
            refuse("answers no tool call of an earlier message", f"{at}.tool_call_id")
        parts = read_content(message.get("content"), f"{at}.content")
        texts = [part["text"] for part in parts if "text" in part]
        others = [part for part in parts if "text" not in part]
        written: JsonObject = {"name": name, "response": _response("".join(texts))}
        if identifier:
            written["id"] = identifier
        # Files a function gave back stand behind the results: only the newest models take them inside.
        label = [{"text": f"Returned by {name}:"}] if others else []
        self._add("user", [{"functionResponse": written}, *label, *others])
        # The sort is stable: results first, each group in its order.
        self.contents[-1]["parts"].sort(key=lambda part: "functionResponse" not in part)


def _named(parts: list[JsonObject], message: JsonObject) -> list[JsonObject]:
    """Put the speaker's name in front of what is said, as OpenRouter does (openrouter.md 1.1)."""
    name = text_of(message.get("name"))
    if not name or not parts:
        return parts
    if "text" in parts[0]:
        return [{**parts[0], "text": f"{name}: {parts[0]['text']}"}, *parts[1:]]
    return [{"text": f"{name}: "}, *parts]


def _signed(parts: list[JsonObject], kept: Kept) -> list[JsonObject]:
    """Sign the text: the last signature is the last part's, earlier ones get an empty part each, as Gemini sends."""
    if not kept.of_text:
        return parts
    *earlier, last = kept.of_text
    *head, tail = parts or [{"text": ""}]
    return [*(sign({"text": ""}, signature) for signature in earlier), *head, sign(tail, last)]


def _arguments(arguments: object) -> JsonObject:
    """Read a call's arguments; what is no JSON object is kept as text, because the model wrote it and may mend it."""
    if isinstance(arguments, dict):
        return arguments
    text = text_of(arguments)
    parsed = _parsed(text)
    if parsed is not None:
        return parsed
    return {"arguments": text} if text.strip() else {}


def _response(text: str) -> JsonObject:
    """Give what a function returned as the object Gemini wants; what is none is wrapped."""
    parsed = None if _LONG_NUMBER.search(text) else _parsed(text)
    return {"result": text} if parsed is None else parsed


def _parsed(text: str) -> JsonObject | None:
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) and not is_deeper(parsed, ARGUMENTS_DEPTH_MAX) else None
