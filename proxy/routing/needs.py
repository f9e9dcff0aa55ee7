"""What a request needs of a model (floor 1b, pure): tools, pictures, documents, sound (openrouter.md 8.7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.routing.table import Target

TOOLS = "tools"
_KINDS = {
    "image_url": "image",
    "input_image": "image",
    "file": "pdf",
    "input_file": "pdf",
    "input_audio": "audio",
    "audio_url": "audio",
    "video_url": "video",
    "input_video": "video",
}
_TOLD = {
    TOOLS: "support tool use",
    "image": "support image input",
    "pdf": "support file input",
    "audio": "support audio input",
    "video": "support video input",
}
_NOTHING: frozenset[str] = frozenset()


def needs_of(body: Mapping[str, Any]) -> frozenset[str]:
    """Find what the model must be able to take beside text."""
    needs = {TOOLS} if body.get("tools") else set()
    for message in body["messages"]:
        content = message.get("content")
        if content.__class__ is list:
            needs.update(_kinds_of(content))
    return frozenset(needs) if needs else _NOTHING


def count_images(body: Mapping[str, Any]) -> int:
    """Count the pictures in a prompt, for those who charge by the piece."""
    contents = (message.get("content") for message in body["messages"])
    return sum(kind == "image" for content in contents if content.__class__ is list for kind in _kinds_of(content))


def find_lack(needs: frozenset[str], target: Target) -> str | None:
    """Give what a target is known not to take, in OpenRouter's words for it; None: it may take all of it."""
    known = target.facts.capabilities
    if not needs or not known:
        return None
    if TOOLS in needs and known.get("tools") is False:
        return _TOLD[TOOLS]
    taken = known.get("input")
    if not isinstance(taken, tuple):
        return None
    return next((_TOLD[need] for need in sorted(needs - {TOOLS}) if need not in taken), None)


def _kinds_of(content: list[Any]) -> Iterator[str]:
    for part in content:
        kind = _KINDS.get(str(part.get("type"))) if isinstance(part, dict) else None
        if kind is not None:
            yield kind
