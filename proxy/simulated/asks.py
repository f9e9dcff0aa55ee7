"""A chat request as far as the simulated provider reads it; it is as strict as OpenAI about what it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

JsonObject = Mapping[str, Any]

CHOICES_MAX: Final = 128
CHARS_PER_TOKEN: Final = 4


class AskError(ValueError):
    """A request OpenAI would answer with 400; `param` is the field at fault."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call."""

    name: str
    parameters: object
    """Its JSON Schema."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request for chat completions."""

    model: str
    messages: Sequence[JsonObject]
    choices: int
    output_tokens_max: int | None
    is_stream: bool
    wants_usage: bool
    """A stream was asked to end with its usage."""
    tools: Sequence[Tool]
    tool_choice: str
    """`auto`, `none`, `required`, or `=` and the name of a tool."""
    response_format: JsonObject

    @property
    def last_user_text(self) -> str:
        """Give the text of the last user message, empty when there is none."""
        users = (message for message in reversed(self.messages) if message.get("role") == "user")
        return text_of(next(users, {}))

    def count_prompt_tokens(self) -> int:
        """Count as cheaply as it can be done: four characters a token, at least one for each message."""
        counts = (-(-len(text_of(message)) // CHARS_PER_TOKEN) or 1 for message in self.messages)
        return sum(counts)


def read_ask(body: bytes) -> Ask:
    """Read a request body; raises `AskError`."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise AskError("The body is no JSON.") from error
    if not isinstance(fields, dict):
        raise AskError("The body is no JSON object.")
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(item, dict) for item in messages):
        raise AskError("'messages' must be a list of at least one message.", "messages")
    options = fields.get("stream_options")
    response_format = fields.get("response_format")
    return Ask(
        model=str(fields.get("model", "")),
        messages=messages,
        choices=_read_count(fields, "n", CHOICES_MAX) or 1,
        output_tokens_max=_read_cap(fields),
        is_stream=fields.get("stream") is True,
        wants_usage=isinstance(options, dict) and options.get("include_usage") is True,
        tools=tuple(_read_tools(fields.get("tools"))),
        tool_choice=_read_tool_choice(fields.get("tool_choice")),
        response_format=response_format if isinstance(response_format, dict) else {},
    )


def read_any(body: bytes) -> Ask:
    """Read what can be read of a body; nothing is wrong with any."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        fields = {}
    fields = fields if isinstance(fields, dict) else {}
    messages = fields.get("messages")
    options = fields.get("stream_options")
    return Ask(
        model=str(fields.get("model", "")),
        messages=[message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else [],
        choices=1,
        output_tokens_max=None,
        is_stream=fields.get("stream") is True,
        wants_usage=isinstance(options, dict) and options.get("include_usage") is True,
        tools=(),
        tool_choice="none",
        response_format={},
    )


def text_of(message: JsonObject) -> str:
    """Give a message's text, its parts joined; what is no text counts for nothing."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))


def _read_cap(fields: JsonObject) -> int | None:
    caps = [_read_count(fields, name) for name in ("max_completion_tokens", "max_tokens")]
    return min((cap for cap in caps if cap is not None), default=None)


def _read_count(fields: JsonObject, name: str, count_max: int | None = None) -> int | None:
    count = fields.get(name)
    if count is None:
        return None
    if not isinstance(count, int) or isinstance(count, bool) or count < 1 or (count_max and count > count_max):
        raise AskError(f"'{name}' is out of range.", name)
    return count


def _read_tools(tools: object) -> Iterator[Tool]:
    for entry in tools if isinstance(tools, list) else []:
        function = entry.get("function") if isinstance(entry, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            yield Tool(function["name"], function.get("parameters", {}))


def _read_tool_choice(choice: object) -> str:
    if isinstance(choice, str):
        return choice
    function = choice.get("function") if isinstance(choice, dict) else None
    return f"={function.get('name')}" if isinstance(function, dict) else "auto"
