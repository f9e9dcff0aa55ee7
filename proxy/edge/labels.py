"""What a request says about itself in headers (floor 5): the app it comes from, and tags of its own."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from proxy.edge.auth import RawHeaders, holds_key
from proxy.errors import ClientError

TAGS_HEADER = "x-turnpike-tags"
TAGS_MAX = 8
APP_CHARS_MAX = 100
TAG_VALUE_CHARS_MAX = 128

_TITLES = frozenset({b"x-title", b"x-openrouter-title"})
_REFERER = frozenset({b"http-referer", b"referer"})
_TAGS = TAGS_HEADER.encode()
LABELS = _TITLES | _REFERER | {_TAGS}
"""Headers that are looked at only when one of them is there."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def read_app(headers: RawHeaders) -> str | None:
    """Give the app's name as OpenRouter's clients send it, the title before the site's host; printable and short."""
    found: dict[bytes, str] = {}
    for name, value in headers:
        if (name in _TITLES or name in _REFERER) and not holds_key(headers, value):
            found.setdefault(b"title" if name in _TITLES else b"referer", value.decode("latin-1"))
    title = _clean(found.get(b"title", ""))
    return title or _clean(_host_of(found.get(b"referer", ""))) or None


def read_tags(headers: RawHeaders) -> tuple[tuple[str, str], ...]:
    """Read `x-turnpike-tags: job=42, customer=acme`, sorted by name; raises `ClientError` for anything else."""
    texts = [value for name, value in headers if name == _TAGS]
    if not texts:
        return ()
    if len(texts) > 1 or holds_key(headers, texts[0]):
        raise _bad("it was sent more than once, or holds the client key")
    tags: dict[str, str] = {}
    for part in texts[0].decode("latin-1").split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not _NAME.fullmatch(name) or not 0 < len(value) <= TAG_VALUE_CHARS_MAX:
            raise _bad("write it as `job=42, customer=acme`; a name has letters, digits and `_.-`")
        if not value.isascii() or not value.isprintable() or name in tags:
            raise _bad("a value is printable ASCII, and no name stands twice")
        tags[name] = value
    if len(tags) > TAGS_MAX:
        raise _bad(f"it has more than {TAGS_MAX} tags")
    return tuple(sorted(tags.items()))


def _host_of(url: str) -> str:
    """Give the host of a site's address; its path may hold what is nobody's business."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _clean(text: str) -> str:
    return "".join(char for char in text[:APP_CHARS_MAX] if char.isprintable()).strip()


def _bad(why: str) -> ClientError:
    return ClientError(f"The header `{TAGS_HEADER}` cannot be read: {why}.", param=TAGS_HEADER)
