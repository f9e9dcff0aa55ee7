"""Gemini's counts in OpenAI's shape, and that shape read for the books (part of the Google codec, pure).

`promptTokenCount` holds the cached tokens and leaves out those of tools that ran at Google, `candidatesTokenCount`
normally leaves out the thoughts (openrouter.md 7.2, 7.3). `total_tokens` is Google's own, so that figures which do not
add up show.
"""

from __future__ import annotations

from proxy.codecs.google.fields import is_whole, object_of, objects_of
from proxy.codecs.wire import JsonObject
from proxy.usage import Usage

TOKENS_MAX = 10**12
"""More is nonsense, not a count."""


def write_usage(metadata: JsonObject, *, searches: int, has_pictures: bool = False) -> JsonObject:
    """Give `usageMetadata` as OpenAI's `usage`.

    Tokens of tools are read like a prompt's and cost as much; those of `searches` cost nothing, because a search has
    its own fee, so they are left out. Pictures nobody counted are taken for all that was put out: they are the dearest.
    """
    prompt = _count(metadata, "promptTokenCount")
    candidates = _count(metadata, "candidatesTokenCount")
    thoughts = _count(metadata, "thoughtsTokenCount")
    tools = _count(metadata, "toolUsePromptTokenCount")
    total = _count(metadata, "totalTokenCount")
    unpaid = tools if searches else 0
    holds_thoughts = thoughts > 0 and prompt + tools + candidates == total
    completion = candidates if holds_thoughts else candidates + thoughts
    pictures = _modality(metadata, "candidatesTokensDetails", "IMAGE") or (candidates if has_pictures else 0)
    searched = {"server_tool_use_details": {"web_search_requests": searches}} if searches else {}
    return {
        "prompt_tokens": prompt + tools - unpaid,
        "completion_tokens": completion,
        "total_tokens": max(total - unpaid, 0) or prompt + tools - unpaid + completion,
        "prompt_tokens_details": {
            "cached_tokens": _count(metadata, "cachedContentTokenCount"),
            "audio_tokens": _modality(metadata, "promptTokensDetails", "AUDIO"),
            "cached_audio_tokens": _modality(metadata, "cacheTokensDetails", "AUDIO"),
        },
        "completion_tokens_details": {
            "reasoning_tokens": thoughts,
            "audio_tokens": _modality(metadata, "candidatesTokensDetails", "AUDIO"),
            "image_tokens": pictures,
        },
        **searched,
    }


def read_usage(reply: JsonObject) -> Usage | None:
    """Read the usage of a reply or chunk that this codec wrote, None when it has none."""
    usage = object_of(reply.get("usage"))
    if not usage:
        return None
    into, out = object_of(usage.get("prompt_tokens_details")), object_of(usage.get("completion_tokens_details"))
    input_tokens, output_tokens = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    cached, cached_audio = _count(into, "cached_tokens"), _count(into, "cached_audio_tokens")
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=cached,
        # What of it was cached is charged as that, and must not be taken for text instead.
        audio_input_tokens=max(0, _count(into, "audio_tokens") - cached_audio),
        reasoning_tokens=_count(out, "reasoning_tokens"),
        audio_output_tokens=_count(out, "audio_tokens"),
        anomalies=("total_tokens_differ",) if usage.get("total_tokens") != input_tokens + output_tokens else (),
        cached_audio_tokens=min(cached, cached_audio),
        image_output_tokens=_count(out, "image_tokens"),
        web_searches=_count(object_of(usage.get("server_tool_use_details")), "web_search_requests"),
    )


def _modality(metadata: JsonObject, details: str, modality: str) -> int:
    return sum(
        _count(one, "tokenCount") for one in objects_of(metadata.get(details)) if one.get("modality") == modality
    )


def _count(fields: JsonObject, name: str) -> int:
    value = fields.get(name)
    return value if is_whole(value) and 0 <= value <= TOKENS_MAX else 0
