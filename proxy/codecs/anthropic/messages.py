"""A chat's messages as a system prompt and turns (floor 1a, pure; openrouter.md 8.3).

Anthropic knows two roles that take turns, and the user begins. System messages are gathered in front, wherever they
stood. Everything between two messages of the assistant is one turn of the user: first the results of the tools the
assistant called, then what was said. Every call has its result in the very next turn, or the request is refused: the
provider would refuse it too, in words about a request the client never wrote.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from itertools import count

import orjson

from proxy.codecs.anthropic.content import mark_cached, write_blocks
from proxy.codecs.anthropic.reasoning import write_thoughts
from proxy.codecs.anthropic.values import object_of, text_of
from proxy.codecs.wire import JsonObject, is_deeper
from proxy.errors import ClientError

FIRST_WORD = "."
"""What the user says where a chat has no words of theirs to begin with."""
ARGUMENTS_DEPTH_MAX = 64
"""Of a call's arguments, as of a request's body: what is nested deeper counts as text."""
_UNFIT_FOR_ID = re.compile(r"[^a-zA-Z0-9_-]")
_THOUGHTS = frozenset({"thinking", "redacted_thinking"})


@dataclass(frozen=True, slots=True)
class Chat:
    """A whole conversation in Anthropic's shape."""

    system: list[JsonObject]
    turns: list[JsonObject]
    called: tuple[str, ...] = ()
    """Names of the tools called in it."""

    @property
    def is_prefilled(self) -> bool:
        """Tell whether it ends with words of the assistant, to be gone on from."""
        return bool(self.turns) and self.turns[-1]["role"] == "assistant"

    @property
    def is_unthought(self) -> bool:
        """Tell whether it ends inside a tool loop whose last call came without thinking.

        Anthropic refuses a thinking budget there; such a call was made by another vendor, or without thinking.
        """
        if len(self.turns) < 2 or self.turns[-1]["content"][0]["type"] != "tool_result":
            return False
        return self.turns[-2]["content"][0]["type"] not in _THOUGHTS

    def without_prefill(self) -> Chat:
        """Leave out the assistant's words at the end."""
        return Chat(self.system, _begin_with_user(self.turns[:-1]), self.called)


def read_chat(messages: object, *, thinks: bool) -> Chat:
    """Translate messages; `thinks` says that the model takes earlier thinking back.

    Raises `ClientError` for what has no place in a chat of Anthropic's.
    """
    if not isinstance(messages, list):
        raise ClientError("A chat needs `messages`, a list.", param="messages")
    reader = _Reader(thinks=thinks)
    for number, message in enumerate(messages):
        reader.add(message, f"messages[{number}]")
    return reader.finish()


class _Reader:
    """Reads messages one by one; the user's turn under way is written when the assistant speaks, or at the end."""

    def __init__(self, *, thinks: bool) -> None:
        self._thinks = thinks
        self._system: list[JsonObject] = []
        self._turns: list[JsonObject] = []
        self._results: list[JsonObject] = []
        self._said: list[JsonObject] = []
        self._called: dict[str, None] = {}
        self._waiting: dict[str, deque[str]] = {}
        self._ids: set[str] = set()

    def add(self, message: object, place: str) -> None:
        fields = object_of(message)
        match fields.get("role"):
            case "system" | "developer":
                self._system += _speak(fields, place, is_seen=False)
            case "user":
                self._said += _speak(fields, place, is_seen=True)
            case "assistant":
                self._add_answer(fields, place)
            case "tool":
                self._add_result(fields, place)
            case _:
                raise ClientError(
                    "A message's role is one of system, developer, user, assistant and tool.", param=f"{place}.role"
                )

    def finish(self) -> Chat:
        self._end_user_turn()
        turns = self._turns
        if turns and turns[-1]["role"] == "assistant":
            _trim(turns[-1]["content"])
            turns = turns if turns[-1]["content"] else turns[:-1]
        return Chat(self._system, _begin_with_user(turns), tuple(self._called))

    def _add_answer(self, message: JsonObject, place: str) -> None:
        if message.get("function_call") is not None:
            raise ClientError("`function_call` has given way to `tool_calls`; use these.", param=place)
        thoughts = write_thoughts(message.get("reasoning_details")) if self._thinks else []
        said = _speak(message, place, is_seen=False)
        if not said and (refusal := text_of(message.get("refusal"))).strip():
            said = [{"type": "text", "text": refusal}]
        calls = message.get("tool_calls") or []
        if not isinstance(calls, list):
            raise ClientError("`tool_calls` is a list.", param=f"{place}.tool_calls")
        if not (thoughts or said or calls):
            return
        self._end_user_turn()
        if not (self._turns and self._turns[-1]["role"] == "assistant"):
            self._turns.append({"role": "assistant", "content": []})
        made = [self._make_call(call, f"{place}.tool_calls[{number}]") for number, call in enumerate(calls)]
        self._turns[-1]["content"] += [*thoughts, *said, *made]

    def _make_call(self, call: object, place: str) -> JsonObject:
        function = object_of(object_of(call).get("function"))
        name, given = function.get("name"), object_of(call).get("id")
        if not isinstance(name, str) or not name or not isinstance(given, str):
            raise ClientError("A tool call holds its `id` and its `function.name`.", param=place)
        self._called[name] = None
        written = self._make_id(given)
        self._waiting.setdefault(given, deque()).append(written)
        return {"type": "tool_use", "id": written, "name": name, "input": _read_arguments(function, place)}

    def _make_id(self, given: str) -> str:
        """Give a call an id Anthropic accepts, and no other call has: vendors count calls anew in every turn."""
        fit = _UNFIT_FOR_ID.sub("_", given) or "call"
        if fit in self._ids:
            fit = next(named for number in count(len(self._ids)) if (named := f"{fit}_{number}") not in self._ids)
        self._ids.add(fit)
        return fit

    def _add_result(self, message: JsonObject, place: str) -> None:
        waiting = self._waiting.get(text_of(message.get("tool_call_id")))
        if not waiting:
            raise ClientError(
                "A tool message answers a call of the assistant's message before it, by `tool_call_id`.",
                param=f"{place}.tool_call_id",
            )
        result: JsonObject = {"type": "tool_result", "tool_use_id": waiting.popleft()}
        if content := write_blocks(message.get("content"), f"{place}.content", is_seen=True):
            result["content"] = content
        if message.get("is_error") is True:
            result["is_error"] = True
        self._results.append(mark_cached(result, message))

    def _end_user_turn(self) -> None:
        if any(self._waiting.values()):
            raise ClientError(
                "Every tool call of an assistant's message needs its result, a tool message, right after it.",
                param="messages",
            )
        self._waiting.clear()
        if content := [*self._results, *self._said]:
            self._turns.append({"role": "user", "content": content})
        self._results, self._said = [], []


def _speak(message: JsonObject, place: str, *, is_seen: bool) -> list[JsonObject]:
    """Write what one message says, with the name of who says it in front (openrouter.md 1.1)."""
    blocks = write_blocks(message.get("content"), f"{place}.content", is_seen=is_seen)
    name = text_of(message.get("name")).strip()
    if name and blocks:
        if blocks[0]["type"] == "text":
            blocks[0] = {**blocks[0], "text": f"{name}: {blocks[0]['text']}"}
        else:
            blocks.insert(0, {"type": "text", "text": f"{name}:"})
    if blocks:
        blocks[-1] = mark_cached(blocks[-1], message)
    return blocks


def _read_arguments(function: JsonObject, place: str) -> JsonObject:
    """Read a call's arguments; what is no JSON object is kept as text, since a model wrote it and history is fixed."""
    arguments = function.get("arguments")
    if isinstance(arguments, dict):
        return arguments
    if arguments is not None and not isinstance(arguments, str):
        raise ClientError("A call's `arguments` is JSON in a text.", param=f"{place}.function.arguments")
    if not arguments or not arguments.strip():
        return {}
    try:
        parsed = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        parsed = None
    is_fit = isinstance(parsed, dict) and not is_deeper(parsed, ARGUMENTS_DEPTH_MAX)
    return object_of(parsed) if is_fit else {"arguments": arguments}


def _trim(content: list[JsonObject]) -> None:
    """Make the assistant's last words fit to be gone on from: no thinking at the end, no white space after them."""
    while content and content[-1]["type"] in _THOUGHTS:
        content.pop()
    if content:
        content[-1] = {**content[-1], "text": content[-1]["text"].rstrip()}


def _begin_with_user(turns: list[JsonObject]) -> list[JsonObject]:
    if turns and turns[0]["role"] == "user":
        return turns
    return [{"role": "user", "content": [{"type": "text", "text": FIRST_WORD}]}, *turns]
