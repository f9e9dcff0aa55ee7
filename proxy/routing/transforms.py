"""A prompt that may be too long: what the request says of it, how long it is, what is said back (floor 1b, pure).

OpenRouter's surface is openrouter.md section 2.1, the rules are 2.2.
There are two forms of the same wish: `transforms: ["middle-out"]`, the older one, and the plugin `context-compression`.
The cut itself is made in `middle_out`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from proxy.errors import ClientError
from proxy.tokens import REPLY_TOKENS, count, estimate_message, family_of

JsonObject = dict[str, Any]

ENGINE = "middle-out"
PLUGIN = "context-compression"
MARGIN_TOKENS = 64
MARGIN_PERCENT = 2
"""Left free of a context, the larger of the two: token counts are estimates."""
RESERVED_OUTPUT_TOKENS = 4_096
RESERVED_OUTPUT_SHARE = 4
"""Kept for an answer of no stated length: so many tokens, at most a fourth of the context."""


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """How long a prompt is for one model, part by part; all figures are estimates."""

    model: str
    messages: tuple[int, ...]
    """Of each message."""
    tools: int
    rest: int
    """The schema of the answer and the beginning of the reply."""

    @property
    def text(self) -> int:
        """Give all but the tools."""
        return sum(self.messages) + self.rest

    @property
    def fixed(self) -> int:
        """Give what no cut can shorten."""
        return self.tools + self.rest


def asked_middle_out(body: JsonObject) -> bool | None:
    """Tell whether a request wants its prompt shortened, None when it does not say; an explicit off always wins.

    Raises `ClientError` for a transform or an engine there is none of.
    """
    said = {*_said_by_transforms(body.get("transforms")), *_said_by_plugins(body.get("plugins"))}
    return all(said) if said else None


def drop_forms(body: JsonObject) -> JsonObject:
    """Give the body without either form; other plugins stay."""
    if "transforms" not in body and not _entries(body.get("plugins")):
        return body
    written = {name: value for name, value in body.items() if name != "transforms"}
    if _entries(body.get("plugins")):
        others = [plugin for plugin in body["plugins"] if not _is_entry(plugin)]
        written["plugins"] = others
        if not others:
            del written["plugins"]
    return written


def forbid_forms(body: JsonObject) -> JsonObject:
    """Give the body that tells OpenRouter to leave the prompt as it is, in the form its reference still has."""
    written = drop_forms(body)
    plugins = written.get("plugins")
    others = plugins if isinstance(plugins, list) else []
    return {**written, "plugins": [*others, {"id": PLUGIN, "enabled": False}]}


def count_prompt(body: JsonObject, model: str) -> PromptTokens:
    """Count a prompt as this model's tokenizer family does; slow, for a thread: see `tokens`."""
    family = family_of(model)
    tools = [body[name] for name in ("tools", "functions") if body.get(name)]
    schema = body.get("response_format")
    return PromptTokens(
        model=model,
        messages=tuple(estimate_message(message, model) for message in body["messages"]),
        tools=count(orjson.dumps(tools).decode(), family) if tools else 0,
        rest=REPLY_TOKENS + (count(orjson.dumps(schema).decode(), family) if schema else 0),
    )


def room_of(context_tokens: int, *, reserved_output_tokens: int | None, fixed_tokens: int) -> int:
    """Give the tokens a context leaves for messages; not positive when it leaves none.

    `reserved_output_tokens` is what the request may write, None when nobody has said; `fixed_tokens` is all of the
    prompt that is no message (`PromptTokens.fixed`).
    """
    if reserved_output_tokens is None:
        reserved_output_tokens = min(RESERVED_OUTPUT_TOKENS, context_tokens // RESERVED_OUTPUT_SHARE)
    margin = max(MARGIN_TOKENS, -(-context_tokens * MARGIN_PERCENT // 100))
    return context_tokens - reserved_output_tokens - margin - fixed_tokens


def overflow_message(context_tokens: int, *, text_tokens: int, tool_tokens: int, output_tokens: int | None) -> str:
    """Say that a prompt is too long, in OpenRouter's words, which agents look for (openrouter.md 2.1)."""
    parts = [f"{text_tokens} of text input"]
    if tool_tokens:
        parts.append(f"{tool_tokens} of tool input")
    if output_tokens is not None:
        parts.append(f"{output_tokens} in the output")
    total = text_tokens + tool_tokens + (output_tokens or 0)
    return (
        f"This endpoint's maximum context length is {context_tokens} tokens. However, you requested about {total} "
        f'tokens ({", ".join(parts)}). Please reduce the length of either one, or use the "{ENGINE}" transform to '
        "compress your prompt automatically."
    )


def _said_by_transforms(transforms: object) -> list[bool]:
    if transforms is None:
        return []
    if not isinstance(transforms, list) or any(name != ENGINE for name in transforms):
        msg = f'`transforms` knows "{ENGINE}" only: send ["{ENGINE}"] to shorten a long prompt, [] to forbid it.'
        raise ClientError(msg, param="transforms")
    return [bool(transforms)]


def _said_by_plugins(plugins: object) -> list[bool]:
    said = []
    for plugin in _entries(plugins):
        if plugin.get("engine") not in (None, ENGINE):
            msg = f'The plugin `{PLUGIN}` has one engine, "{ENGINE}": name it or leave `engine` out.'
            raise ClientError(msg, param="plugins")
        if plugin.get("enabled") not in (None, True, False):
            msg = f"`enabled` of the plugin `{PLUGIN}` must be true or false."
            raise ClientError(msg, param="plugins")
        said.append(plugin.get("enabled") is not False)
    return said


def _entries(plugins: object) -> list[JsonObject]:
    """Give the plugin's own entries; what else stands in `plugins` is not ours to judge."""
    return [plugin for plugin in plugins if _is_entry(plugin)] if isinstance(plugins, list) else []


def _is_entry(plugin: object) -> bool:
    return isinstance(plugin, dict) and plugin.get("id") == PLUGIN
