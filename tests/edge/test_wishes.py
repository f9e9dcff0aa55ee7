"""What a request says of kept answers."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.edge.wishes import KEY_CHARS_MAX, read_wish
from proxy.errors import ClientError
from proxy.routing.caching import NO_WISH, Wish

Headers = list[tuple[bytes, bytes]]
ON = [(b"x-turnpike-cache", b"on")]


@pytest.mark.parametrize(
    ("headers", "body", "wish"),
    [
        ([], {}, NO_WISH),
        ([(b"accept", b"*/*")], {"turnpike": {"other": 1}}, NO_WISH),
        ([], {"turnpike": "text"}, NO_WISH),
        ([], {"turnpike": {"cache": None}}, NO_WISH),
        ([(b"cache-control", b"max-age=60")], {}, NO_WISH),
        ([(b"cache-control", b"max-age=0, No-Store")], {}, Wish(cache=False)),
        ([(b"cache-control", b"no-cache")], {}, Wish(cache=False)),
        ([(b"x-turnpike-cache", b" On ")], {}, Wish(cache=True)),
        ([(b"x-turnpike-cache", b"off")], {}, Wish(cache=False)),
        ([], {"turnpike": {"cache": True}}, Wish(cache=True)),
        ([(b"x-turnpike-cache", b"on")], {"turnpike": {"cache": False}}, Wish(cache=False)),
        ([(b"x-turnpike-cache", b"on"), (b"cache-control", b"no-store")], {}, Wish(cache=False)),
        ([(b"idempotency-key", b" abc ")], {}, Wish(None, "abc")),
        ([(b"idempotency-key", b"x" * KEY_CHARS_MAX), *ON], {}, Wish(True, "x" * KEY_CHARS_MAX)),
    ],
)  # fmt: skip
def test_a_wish_is_read(headers: Headers, body: dict[str, Any], wish: Wish) -> None:
    """Of two words on the cache the one that forbids it wins."""
    assert read_wish(headers, body) == wish


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([(b"x-turnpike-cache", b"10m")], {}),
        ([(b"x-turnpike-cache", b"")], {}),
        ([], {"turnpike": {"cache": "on"}}),
        ([], {"turnpike": {"cache": 1}}),
        ([(b"idempotency-key", b" ")], {}),
        ([(b"idempotency-key", b"x" * (KEY_CHARS_MAX + 1))], {}),
        ([(b"idempotency-key", b"caf\xe9")], {}),
        ([(b"idempotency-key", b"a\x7fb")], {}),
        ([(b"idempotency-key", b"a"), (b"idempotency-key", b"a")], {}),
    ],
)
def test_an_unclear_wish_is_refused(headers: Headers, body: dict[str, Any]) -> None:
    """Rather than guessed at: it is about money."""
    with pytest.raises(ClientError):
        read_wish(headers, body)
