"""The bytes of a request: where it goes, what it carries, and that nothing can be smuggled into it."""

from __future__ import annotations

from typing import Any

import pytest

from proxy import __version__
from proxy.codecs.wire import Call
from proxy.upstream import request
from proxy.upstream.request import Envelope, Origin
from tests.upstream.conftest import SECRET, provider_at


def head_of(path: str = "/chat/completions", base_url: str = "https://api.example/v1", **fields: Any) -> list[str]:
    """Write a head and give its lines."""
    headers = fields.pop("call_headers", {})
    call = Call(path, b"{}", is_stream=False, headers=headers)
    return Envelope(provider_at(base_url, **fields)).head(call).decode().split("\r\n")


def test_a_head_is_written_once_and_ends_before_the_length() -> None:
    """Every line of it."""
    assert head_of(headers={"X-Title": "Example"}) == [
        "POST /v1/chat/completions HTTP/1.1",
        "host: api.example",
        f"user-agent: turnpike/{__version__}",
        "accept: */*",
        "content-type: application/json",
        f"authorization: Bearer {SECRET}",
        "x-title: Example",
        "accept-encoding: identity",
        "content-length: ",
    ]


@pytest.mark.parametrize(
    ("base_url", "origin", "host"),
    [
        ("http://api.example/v1", (False, "api.example", 80), "api.example"),
        ("https://api.example", (True, "api.example", 443), "api.example"),
        ("https://API.example:8443/v1", (True, "api.example", 8443), "API.example:8443"),
        ("http://[::1]:8000/v1", (False, "::1", 8000), "[::1]:8000"),
    ],
)
def test_an_origin_is_where_connections_lead(base_url: str, origin: tuple[bool, str, int], host: str) -> None:
    """Scheme, host and port, the port of the scheme when none is written."""
    assert Envelope(provider_at(base_url)).origin == Origin(*origin, verify=True)
    assert head_of(base_url=base_url)[1] == f"host: {host}"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/models/gemini-3:stream?alt=sse&x=%20", "/v1/models/gemini-3:stream?alt=sse&x=%20"),
        ("/models/a b#c", "/v1/models/a%20b%23c"),
        ("/models/é", "/v1/models/%C3%A9"),
        ("/x HTTP/1.1\r\nx-evil: 1\r\n\r\n", "/v1/x%20HTTP/1.1%0D%0Ax-evil:%201%0D%0A%0D%0A"),
    ],
)
def test_a_path_stays_one_word(path: str, target: str) -> None:
    """What may not stand in a target is written as its percent code: a model's name can be anything."""
    lines = head_of(path)
    assert lines[0] == f"POST {target} HTTP/1.1"
    assert len(lines) == 8


def test_a_calls_headers_win_and_do_not_stay() -> None:
    """Whatever their case; calls with others have heads of their own."""
    envelope = Envelope(provider_at("http://a/v1", headers={"x-version": "1"}))
    heads = [envelope.head(Call("/x", b"", is_stream=False, headers=headers)) for headers in ({"X-Version": "2"}, {})]
    assert [b"x-version: 2" in head for head in heads] == [True, False]
    assert [b"x-version: 1" in head for head in heads] == [False, True]


@pytest.mark.parametrize("place", ["headers", "call_headers"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("x", "a\nb"), ("x", "a\rb"), ("x", "a\x00b"), ("x y", "a"), ("x:", "a"), ("", "a"), ("Content-Length", "1")],
)
def test_a_header_that_cannot_be_sent_is_refused(place: str, name: str, value: str) -> None:
    """Line ends above all, and what says where the body ends."""
    fields: dict[str, Any] = {place: {name: value}}
    with pytest.raises(ValueError, match="header"):
        head_of(**fields)


def test_only_so_many_heads_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths may hold a model's name; then they are written anew."""
    monkeypatch.setattr(request, "HEADS_MAX", 2)
    envelope = Envelope(provider_at("http://a/v1"))
    heads = [envelope.head(Call(f"/{number % 3}", b"", is_stream=False)) for number in range(6)]
    assert heads[:3] == heads[3:]
    assert heads[0] is not heads[3]
