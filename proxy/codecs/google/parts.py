"""What a client's message holds, as Gemini's parts (part of the Google codec, pure; openrouter.md 1.1, 8.5).

Nothing is fetched here: what is behind an http link is Google's to read (`fileData.fileUri`), so that no client can
make this gateway call an address of its choosing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NoReturn

from proxy.codecs.google.fields import object_of, text_of
from proxy.codecs.wire import JsonObject
from proxy.errors import ClientError

_LINK = re.compile(r"https?://[^\s]+", re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+")
_OTHER_NAMES = {"image/jpg": "image/jpeg", "audio/x-wav": "audio/wav", "audio/wave": "audio/wav"}
_AUDIO = {
    "wav": "audio/wav",
    "mp3": "audio/mp3",
    "flac": "audio/flac",
    "m4a": "audio/m4a",
    "ogg": "audio/ogg",
    "aiff": "audio/aiff",
    "aac": "audio/aac",
    "pcm16": "audio/pcm",
}
_BY_ENDING = {
    **{name: kind for name, kind in _AUDIO.items() if name != "pcm16"},
    **{name: f"image/{name}" for name in ("png", "jpeg", "webp", "gif", "heic", "heif")},
    **{name: f"video/{name}" for name in ("mp4", "mpeg", "webm", "wmv")},
    **{name: f"text/{name}" for name in ("html", "css", "csv", "xml", "rtf")},
    "jpg": "image/jpeg",
    "mov": "video/quicktime",
    "pdf": "application/pdf",
    "json": "application/json",
    "txt": "text/plain",
    "md": "text/markdown",
}


def read_content(content: object, at: str) -> list[JsonObject]:
    """Give the parts of a message's content, a text or a list; empty texts are left out, as Gemini takes none.

    Raises `ClientError` for what Gemini cannot be given; `at` is its place in the request.
    """
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [{"text": content}]
    if not isinstance(content, list):
        refuse("must be a text or a list of parts", at)
    parts = (_read_part(part, f"{at}[{index}]") for index, part in enumerate(content))
    return [part for part in parts if part]


def read_link(link: object, at: str) -> JsonObject:
    """Give the part for a data URL or an http link, each a text or `{url}`."""
    url = text_of(link) or text_of(object_of(link).get("url"))
    if url[:5].lower() == "data:":
        return _inline(url, at)
    if not _LINK.fullmatch(url):
        refuse("must hold a data URL or an http link", at)
    kind = _kind_by_ending(url)
    return {"fileData": {"fileUri": url, "mimeType": kind} if kind else {"fileUri": url}}


def refuse(what: str, at: str) -> NoReturn:
    """Tell the client what is wrong with one place in its request."""
    raise ClientError(f"{at} {what}.", param=at)


def _read_part(part: object, at: str) -> JsonObject:
    fields = object_of(part)
    kind = text_of(fields.get("type"))
    reader = _READERS.get(kind)
    if reader is None:
        refuse("is not a part this target can be given; it takes text, images, audio, video and files", at)
    return reader(fields, at)


def _read_text(part: JsonObject, at: str) -> JsonObject:
    text = part.get(text_of(part.get("type")))
    if not isinstance(text, str):
        refuse("must hold a text", at)
    return {"text": text} if text else {}


def _read_image(part: JsonObject, at: str) -> JsonObject:
    return read_link(part.get("image_url"), f"{at}.image_url")


def _read_video(part: JsonObject, at: str) -> JsonObject:
    return read_link(part.get("video_url"), f"{at}.video_url")


def _read_audio(part: JsonObject, at: str) -> JsonObject:
    audio = object_of(part.get("input_audio"))
    data = text_of(audio.get("data"))
    if data[:5].lower() == "data:":
        return _inline(data, f"{at}.input_audio.data")
    kind = _AUDIO.get(text_of(audio.get("format")))
    if kind is None:
        refuse(f"must be one of {', '.join(_AUDIO)} for this target", f"{at}.input_audio.format")
    if not data:
        refuse("must hold base64", f"{at}.input_audio.data")
    return {"inlineData": {"mimeType": kind, "data": data}}


def _read_file(part: JsonObject, at: str) -> JsonObject:
    file = object_of(part.get("file"))
    data = text_of(file.get("file_data"))
    if not data:
        if file.get("file_id"):
            refuse("names a file kept at another provider; send it as file_data", f"{at}.file.file_id")
        refuse("must hold a data URL, an http link or base64", f"{at}.file.file_data")
    if data[:5].lower() == "data:" or _LINK.fullmatch(data):
        return read_link(data, f"{at}.file.file_data")
    kind = _kind_by_ending(text_of(file.get("filename")))
    if kind is None:
        refuse("must be a data URL, or file.filename must end in a known kind of file", f"{at}.file.file_data")
    return {"inlineData": {"mimeType": kind, "data": data}}


def _inline(url: str, at: str) -> JsonObject:
    head, _, data = url[5:].partition(",")
    kind, *parameters = head.lower().split(";")
    if "base64" not in parameters or not _MEDIA_TYPE.fullmatch(kind) or not data:
        refuse("must be a data URL with a media type and base64", at)
    return {"inlineData": {"mimeType": _OTHER_NAMES.get(kind, kind), "data": data}}


def _kind_by_ending(name: str) -> str | None:
    path = re.split(r"[?#]", name, maxsplit=1)[0]
    return _BY_ENDING.get(path.rpartition(".")[2].lower())


_READERS: dict[str, Callable[[JsonObject, str], JsonObject]] = {
    "text": _read_text,
    "refusal": _read_text,
    "image_url": _read_image,
    "video_url": _read_video,
    "input_audio": _read_audio,
    "file": _read_file,
}
