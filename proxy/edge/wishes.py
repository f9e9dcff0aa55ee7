"""What a request says of kept answers (part of the edge, floor 5): headers and body, checked once."""

from __future__ import annotations

from typing import Any

from proxy.codecs.wire import JsonObject
from proxy.edge.body import RawHeaders
from proxy.errors import ClientError
from proxy.routing.caching import NO_WISH, Wish

KEY_CHARS_MAX = 255
"""Of an `Idempotency-Key`, as Stripe has it."""
OURS = "turnpike"
"""The field of a body that is meant for us alone."""

_KEY = b"idempotency-key"
_CACHE = b"x-turnpike-cache"
_CONTROL = b"cache-control"
TELLING = frozenset({_KEY, _CACHE, _CONTROL})
"""Headers that are looked at only when one of them is there."""

_WORDS = {b"on": True, b"true": True, b"off": False, b"false": False}


def read_wish(headers: RawHeaders, body: JsonObject) -> Wish:
    """Read what a request wishes; of two words on the cache the one that forbids it wins. Raises `ClientError`."""
    words: list[bool] = []
    keys: list[str] = []
    for name, value in headers:
        if name == _KEY:
            keys.append(_read_key(value))
        elif name == _CACHE:
            words.append(_read_word(value))
        elif name == _CONTROL and _forbids(value):
            words.append(False)
    if OURS in body:
        words += _read_body(body[OURS])
    if len(keys) > 1:
        msg = "The header Idempotency-Key was sent more than once; send one."
        raise ClientError(msg)
    if not words and not keys:
        return NO_WISH
    return Wish(all(words) if words else None, keys[0] if keys else None)


def _read_key(value: bytes) -> str:
    text = value.decode("latin-1").strip()
    if not 0 < len(text) <= KEY_CHARS_MAX or not text.isascii() or not text.isprintable():
        msg = f"An Idempotency-Key has 1 to {KEY_CHARS_MAX} visible ASCII characters; a random UUID is a good one."
        raise ClientError(msg)
    return text


def _read_word(value: bytes) -> bool:
    word = _WORDS.get(value.strip().lower())
    if word is None:
        msg = "The header x-turnpike-cache is `on` or `off`."
        raise ClientError(msg)
    return word


def _forbids(value: bytes) -> bool:
    """Tell whether an answer is wanted that is fresh, and nobody else's later (RFC 9111 5.2.1)."""
    return not {b"no-store", b"no-cache"}.isdisjoint(part.strip() for part in value.lower().split(b","))


def _read_body(ours: Any) -> list[bool]:
    wanted = ours.get("cache") if isinstance(ours, dict) else None
    if wanted is None:
        return []
    if not isinstance(wanted, bool):
        msg = "`turnpike.cache` is true or false."
        raise ClientError(msg, param=OURS)
    return [wanted]
