"""What a request head must look like: one way only to read it."""

from __future__ import annotations

import orjson
import pytest

from proxy.edge.framing import MALFORMED, TOO_MANY_CONNECTIONS, check_head, write_refusal

HOST = (b"host", b"gateway.example:4000")


@pytest.mark.parametrize(
    "value",
    [b"a", b"a.example", b"a_b.example:80", b"127.0.0.1:4000", b"[::1]:4000", b"[fe80::1]", b"localhost:", b"x%41"],
)
def test_a_usual_host_is_accepted(value: bytes) -> None:
    """Names, addresses, with and without a port."""
    assert check_head(b"/v1/models", "1.1", [(b"host", value)]) is None


@pytest.mark.parametrize(
    "value", [b"", b"a/x?", b"a#", b"a b", b"a@b", b"a\\b", b"[::1", b"a:80:81", b"a:port", b"\xff"]
)
def test_an_odd_host_is_refused(value: bytes) -> None:
    """S12: it must not become part of a URL anywhere."""
    refusal = check_head(b"/v1/models", "1.1", [(b"host", value)])
    assert refusal is not None
    assert refusal.status == 400


@pytest.mark.parametrize(
    ("version", "hosts", "is_fine"),
    [("1.1", 0, False), ("1.1", 1, True), ("1.1", 2, False), ("1.0", 0, True), ("1.0", 1, True), ("1.0", 2, False)],
)
def test_http_1_1_has_exactly_one_host(version: str, hosts: int, *, is_fine: bool) -> None:
    """RFC 9112 section 3.2; HTTP/1.0 may have none."""
    assert (check_head(b"/", version, [HOST] * hosts) is None) is is_fine


@pytest.mark.parametrize("target", [b"http://evil/admin", b"evil:443", b"*", b"", b"v1/models", b"/v1#x"])
def test_only_a_path_is_a_target(target: bytes) -> None:
    """Absolute, authority and asterisk forms are for proxies of another kind."""
    assert check_head(target, "1.1", [HOST]) is not None


@pytest.mark.parametrize("version", ["0.9", "1.2", "2.0"])
def test_other_versions_are_refused(version: str) -> None:
    """505 names it."""
    refusal = check_head(b"/", version, [HOST])
    assert refusal is not None
    assert refusal.status == 505


@pytest.mark.parametrize(
    "headers",
    [
        [(b"transfer-encoding", b"gzip, chunked")],
        [(b"transfer-encoding", b"xchunked")],
        [(b"transfer-encoding", b"")],
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"chunked"), (b"content-length", b"5")],
        [(b"content-length", b"5"), (b"content-length", b"5")],
        [(b"content-length", b"5, 5")],
        [(b"content-length", b"+5")],
        [(b"content-length", b"")],
        [(b"content-length", "\u0665".encode())],
    ],
)
def test_a_body_framed_in_two_ways_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    """S11, whatever the parser thinks of it."""
    assert check_head(b"/", "1.1", [HOST, *headers]) is not None


@pytest.mark.parametrize(
    "headers", [[], [(b"transfer-encoding", b"Chunked")], [(b"content-length", b"0")], [(b"content-length", b"12")]]
)
def test_a_body_framed_in_one_way_is_accepted(headers: list[tuple[bytes, bytes]]) -> None:
    """Chunks, a length, or no body."""
    assert check_head(b"/", "1.1", [HOST, *headers]) is None


def test_http_1_0_has_no_chunks() -> None:
    """RFC 9112 section 6.1: such a message is faulty."""
    assert check_head(b"/", "1.0", [HOST, (b"transfer-encoding", b"chunked")]) is not None


def test_a_refusal_is_a_whole_answer_that_closes() -> None:
    """The body is our error shape, in the dialect of the path."""
    head, _, body = write_refusal(MALFORMED, b"/v1/models").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"connection: close" in head
    assert b"content-length: %d" % len(body) in head
    assert orjson.loads(body)["error"]["code"] == "invalid_http"
    body = write_refusal(MALFORMED, b"/api/v1/models").partition(b"\r\n\r\n")[2]
    assert orjson.loads(body)["error"]["code"] == 400


def test_a_full_gateway_asks_to_come_back() -> None:
    """503 with Retry-After, and the type says that it is our fault."""
    head, _, body = write_refusal(TOO_MANY_CONNECTIONS, b"").partition(b"\r\n\r\n")
    assert b"retry-after: 1" in head
    assert orjson.loads(body)["error"]["type"] == "api_error"
