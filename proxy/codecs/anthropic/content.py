"""Parts of a chat message as blocks of Anthropic's (floor 1a, pure; openrouter.md 1.1, 8.3).

Text that is only white space is left out, because Anthropic refuses it. A part that no block can hold is refused with
its place in the request: what a client shows a model is never dropped silently.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from proxy.codecs.anthropic.values import object_of, text_of
from proxy.codecs.wire import JsonObject
from proxy.errors import ClientError

IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
TITLE_CHARS_MAX = 500
"""Of a document's title; Anthropic refuses a longer one."""
_PDF_BASE64 = "JVBERi0"
"""How a PDF begins in base64: some clients send it without the data URL around it."""
_TEXT_TYPES = frozenset({"application/json", "application/xml", "application/yaml"})
"""Types beside `text/*` that are text."""


def write_blocks(content: object, place: str, *, is_seen: bool) -> list[JsonObject]:
    """Translate a message's content, a text or a list of parts; `is_seen` lets images and documents in.

    Raises `ClientError` naming `place` for what cannot be said.
    """
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    if not isinstance(content, list):
        raise ClientError("A message's content is a text or a list of parts.", param=place)
    blocks = [_write_part(part, f"{place}[{number}]", is_seen=is_seen) for number, part in enumerate(content)]
    return [block for block in blocks if block is not None]


def mark_cached(block: JsonObject, source: JsonObject) -> JsonObject:
    """Carry a cache breakpoint over from the part, message or tool that has one."""
    mark = source.get("cache_control")
    return {**block, "cache_control": mark} if isinstance(mark, dict) else block


def _write_part(part: object, place: str, *, is_seen: bool) -> JsonObject | None:
    kind = text_of(object_of(part).get("type"))
    write = _WRITERS.get(kind) if is_seen or kind in _SAID else None
    if write is None or not isinstance(part, dict):
        shown = kind[:40] if kind.isprintable() and kind else "none"
        reason = _UNHEARD.get(kind, "Anthropic's models take no such part here; send text instead.")
        raise ClientError(f"Content of type {shown!r}: {reason}", param=place)
    block = write(part, place)
    return mark_cached(block, part) if block is not None else None


def _write_text(part: JsonObject, place: str) -> JsonObject | None:
    text = part.get("text", part.get("refusal"))
    if not isinstance(text, str):
        raise ClientError("A text part holds its text under `text`.", param=place)
    return {"type": "text", "text": text} if text.strip() else None


def _write_image(part: JsonObject, place: str) -> JsonObject:
    image = part.get("image_url")
    url = object_of(image).get("url") if isinstance(image, dict) else image
    return _image_of(text_of(url), f"{place}.image_url")


def _image_of(url: str, place: str) -> JsonObject:
    if url.startswith(("https://", "http://")):
        return {"type": "image", "source": {"type": "url", "url": url}}
    data = _parse_data_url(url, place)
    media_type = "image/jpeg" if data.media_type == "image/jpg" else data.media_type
    if media_type not in IMAGE_TYPES or not data.is_base64:
        raise ClientError("Anthropic takes images as base64 of JPEG, PNG, GIF or WebP.", param=place)
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data.payload}}


def _write_file(part: JsonObject, place: str) -> JsonObject | None:
    file = object_of(part.get("file"))
    data = text_of(file.get("file_data"))
    if not data:
        raise ClientError(
            "A file kept at another provider (`file_id`) cannot be read here; send its `file_data`.",
            param=f"{place}.file",
        )
    if data.startswith("data:image/"):
        return _image_of(data, f"{place}.file.file_data")
    source = _document_source(data, f"{place}.file.file_data")
    if source is None:
        return None
    title = text_of(file.get("filename")).strip()[:TITLE_CHARS_MAX]
    return {"type": "document", "source": source} | ({"title": title} if title else {})


def _document_source(data: str, place: str) -> JsonObject | None:
    if data.startswith(("https://", "http://")):
        return {"type": "url", "url": data}
    if data.startswith(_PDF_BASE64):
        data = f"data:application/pdf;base64,{data}"
    url = _parse_data_url(data, place)
    if url.media_type == "application/pdf" and url.is_base64:
        return {"type": "base64", "media_type": "application/pdf", "data": url.payload}
    if url.media_type.startswith("text/") or url.media_type in _TEXT_TYPES:
        text = _read_text(url, place)
        return {"type": "text", "media_type": "text/plain", "data": text} if text.strip() else None
    raise ClientError("Anthropic takes documents as PDF or plain text.", param=place)


class _DataUrl(NamedTuple):
    media_type: str
    is_base64: bool
    payload: str


def _parse_data_url(url: str, place: str) -> _DataUrl:
    """Take a data URL apart (RFC 2397)."""
    head, comma, payload = url.partition(",")
    if not head.startswith("data:") or not comma or not payload:
        raise ClientError("Expected a data URL or a link (`https://...`).", param=place)
    media_type, *options = (option.strip().lower() for option in head.removeprefix("data:").split(";"))
    return _DataUrl(media_type or "text/plain", "base64" in options, payload)


def _read_text(url: _DataUrl, place: str) -> str:
    try:
        if url.is_base64:
            return base64.b64decode(url.payload, validate=True).decode()
        return unquote_to_bytes(url.payload).decode()
    except (binascii.Error, ValueError) as error:
        raise ClientError("The document is not UTF-8 text in base64.", param=place) from error


_SAID = frozenset({"text", "refusal"})
"""What a system message and an assistant can say."""
_WRITERS: dict[str, Callable[[JsonObject, str], JsonObject | None]] = {
    "text": _write_text,
    "refusal": _write_text,
    "image_url": _write_image,
    "file": _write_file,
}
_UNHEARD = {
    "input_audio": "Anthropic's models cannot hear; send a transcript as text.",
    "video_url": "Anthropic's models cannot watch; send single frames as images.",
}
