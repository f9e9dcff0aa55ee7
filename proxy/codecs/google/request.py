"""One call to Gemini, written from a client's body (part of the Google codec, pure; openrouter.md 8.5).

The body is made anew, never copied: Gemini refuses fields it does not know. So each field of the client's is written,
or harmless to leave out, or named in `Call.dropped`.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

import orjson

from proxy.codecs.google.fields import object_of
from proxy.codecs.google.generation import read_limit, write_generation
from proxy.codecs.google.thinking import write_thinking
from proxy.codecs.google.tools import write_tools
from proxy.codecs.google.turns import Turns
from proxy.codecs.wire import Abilities, Call, JsonObject

_WRITTEN = frozenset(
    {
        "model",
        "messages",
        "stream",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "top_k",
        "stop",
        "seed",
        "n",
        "presence_penalty",
        "frequency_penalty",
        "logprobs",
        "top_logprobs",
        "response_format",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "reasoning",
        "reasoning_effort",
        "include_reasoning",
        "modalities",
        "audio",
        "image_config",
        "google",
        "extra_body",
        "safety_settings",
    }
)
_NO_CEILING = Abilities()
_USUAL_TIERS = (None, "auto", "default", "standard")
_HARMLESS = frozenset(
    {
        # about the caller, the books or a cache: the answer is the same without
        "metadata",
        "store",
        "user",
        "safety_identifier",
        "stream_options",
        "usage",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
        "cache_control",
        # for this gateway or for OpenRouter (openrouter.md 1.2)
        "turnpike",
        "models",
        "route",
        "provider",
        "plugins",
        "transforms",
        "preset",
        "session_id",
        "trace",
        "debug",
        "stop_server_tools_when",
    }
)


def _is_lost(name: str, value: object) -> bool:
    """Tell whether a field that changes the answer is left out; an empty `web_search_options` asks for a search."""
    if name in _WRITTEN or name in _HARMLESS or (name == "service_tier" and value in _USUAL_TIERS):
        return False
    return bool(value) or (name == "web_search_options" and value is not None)


def write_call(body: JsonObject, *, model: str, output_tokens_max: int | None, abilities: Abilities) -> Call:
    """Write the call; raises `ClientError` for what Gemini cannot be given."""
    dropped = [name for name, value in body.items() if _is_lost(name, value)]
    native = _native(body)
    turns = Turns()
    turns.read(body.get("messages"))
    if not abilities.prefill and turns.hand_over():
        dropped.append("messages")
    written: JsonObject = {"contents": turns.contents}
    if turns.system:
        written["systemInstruction"] = {"parts": turns.system}
    written |= write_tools(body, abilities, dropped)
    if config := _generation(body, native, output_tokens_max, abilities, dropped):
        written["generationConfig"] = config
    if safety := native.get("safety_settings"):
        written["safetySettings"] = safety
    if cached := native.get("cached_content"):
        written["cachedContent"] = cached
    is_stream = body.get("stream") is True
    return Call(
        path=path_of(model, is_stream=is_stream),
        body=orjson.dumps(written),
        is_stream=is_stream,
        dropped=tuple(dict.fromkeys(dropped)),
    )


def path_of(model: str, *, is_stream: bool) -> str:
    """Give the path that asks this model; its id is percent-encoded whole, so that it stays one segment."""
    method = "streamGenerateContent?alt=sse" if is_stream else "generateContent"
    return f"/models/{quote(model, safe='')}:{method}"


def model_of(path: str) -> str:
    """Give the model that a path asks."""
    return unquote(path.removeprefix("/models/").rpartition(":")[0])


def _native(body: JsonObject) -> JsonObject:
    """Gather Gemini's own settings: `google`, `extra_body.google` (openrouter.md 8.1), `safety_settings`."""
    named = object_of(object_of(body.get("extra_body")).get("google")) | object_of(body.get("google"))
    return {"safety_settings": body.get("safety_settings"), **named}


def _generation(
    body: JsonObject,
    native: JsonObject,
    output_tokens_max: int | None,
    abilities: Abilities,
    dropped: list[str],
) -> JsonObject:
    config = write_generation(body, abilities, dropped)
    limit = read_limit(body, output_tokens_max, abilities)
    if (
        abilities.output_tokens_max is not None
        and (read_limit(body, None, _NO_CEILING) or 0) > abilities.output_tokens_max
    ):
        dropped.append("max_tokens")
    if limit is not None:
        config["maxOutputTokens"] = limit
    own = object_of(native.get("thinking_config"))
    thinking = write_thinking(body, own, abilities=abilities, output_tokens=limit, dropped=dropped)
    return {**config, "thinkingConfig": thinking} if thinking else config
