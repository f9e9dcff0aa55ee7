"""What goes wrong on the way to a provider and back: the kind of each fault, what it may cost, and no secret told."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import FailureKind, UpstreamError
from proxy.routing.table import Secret
from proxy.upstream import HttpUpstream
from proxy.upstream.faults import read_connect_fault
from tests.faults.ports import blackhole_port, closed_port
from tests.faults.upstream import FaultUpstream
from tests.upstream.conftest import CONNECT_S, answering, ask, call_of, fail, provider_at, raw_server, read_request


async def test_a_closed_port_costs_nothing(adapter: HttpUpstream) -> None:
    """Refused at once, and said so."""
    with closed_port() as base_url:
        failure = await fail(adapter, provider_at(base_url))
    assert (failure.kind, failure.may_have_cost) == (FailureKind.CONNECT, False)
    assert failure.message == "The provider refused the connection."


async def test_a_connect_that_nobody_answers_ends_with_its_clock(adapter: HttpUpstream) -> None:
    """The connect clock is ours, and nothing was sent when it ends."""
    with blackhole_port() as base_url, pytest.raises(UpstreamError) as caught:
        await adapter.open(provider_at(base_url), call_of(), connect_timeout_s=0.05)
    assert (caught.value.failure.kind, caught.value.failure.may_have_cost) == (FailureKind.TIMEOUT, False)


async def test_a_name_that_nobody_knows_costs_nothing(adapter: HttpUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS is asked and says no; the message does not repeat the name."""

    def refuse(*_question: object, **_options: object) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    failure = await fail(adapter, provider_at("http://api.example.invalid/v1"))
    assert (failure.kind, failure.may_have_cost) == (FailureKind.CONNECT, False)
    assert failure.message == "The provider's host name was not found."


@pytest.mark.parametrize("name", ["reset_before_headers", "close_before_headers", "close_inside_headers"])
async def test_a_connection_that_ends_without_an_answer_may_cost(adapter: HttpUpstream, name: str) -> None:
    """The request had gone out: the provider may have begun to work."""
    async with FaultUpstream() as up:
        failure = await fail(adapter, provider_at(up.base_url), call_of(f"fault:{name}"))
    assert (failure.kind, failure.may_have_cost) == (FailureKind.BROKEN_STREAM, True)


@pytest.mark.parametrize("name", ["garbage", "header_flood", "nul_in_header"])
async def test_what_is_no_http_is_an_invalid_reply(adapter: HttpUpstream, name: str) -> None:
    """The bytes are not quoted."""
    async with FaultUpstream() as up:
        failure = await fail(adapter, provider_at(up.base_url), call_of(f"fault:{name}"))
    assert (failure.kind, failure.may_have_cost) == (FailureKind.INVALID_REPLY, True)
    assert failure.message == "The provider's reply is not valid HTTP."


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    "name", ["reset_after_headers", "close_after_headers", "reset_mid_stream", "close_mid_event", "length_too_long"]
)
async def test_a_body_that_breaks_is_never_a_clean_end(adapter: HttpUpstream, name: str, is_stream: bool) -> None:
    """By reset, by close, or by less than was promised."""
    async with FaultUpstream() as up:
        failure = await fail(adapter, provider_at(up.base_url), call_of(f"fault:{name}", is_stream=is_stream))
    assert (failure.kind, failure.may_have_cost) == (FailureKind.BROKEN_STREAM, True)


@pytest.mark.parametrize(
    "fields",
    [
        {"base_url": "http://[broken/v1"},
        {"base_url": "http:///v1"},
        {"base_url": "gopher://127.0.0.1/v1"},
        {"base_url": "http://127.0.0.1:99999/v1"},
        {"api_key": Secret("sk-with-a-line-end\n")},
        {"headers": {"x-title": "a\r\nx-evil: b"}},
    ],
)
async def test_an_entry_that_cannot_be_written_as_a_request_says_so(
    adapter: HttpUpstream, fields: dict[str, Any]
) -> None:
    """A key read with its line end is the common case; nothing is sent, and the remedy is named."""
    async with FaultUpstream() as up:
        failure = await fail(adapter, provider_at(**({"base_url": up.base_url} | fields)))
        assert not up.exchanges
    assert (failure.kind, failure.may_have_cost) == (FailureKind.CONNECT, False)
    assert "base_url, api_key and headers" in failure.message


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a self-signed certificate and its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    options = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(["openssl", "req", *options, *files, "-subj", "/CN=localhost"], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return both


async def test_a_certificate_nobody_signed_is_refused_unless_told_otherwise(
    adapter: HttpUpstream, certificate: Path
) -> None:
    """`verify: false` is one provider's, and both kinds of call live beside each other."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    handler = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    async with raw_server(handler, tls=context) as base_url:
        failure = await fail(adapter, provider_at(base_url))
        trusting = provider_at(base_url, name="trusting", verify=False)
        assert await ask(adapter, trusting) == b"{}"
        assert (await fail(adapter, provider_at(base_url))).kind is FailureKind.CONNECT
        await (await adapter.open(trusting, call_of(), connect_timeout_s=CONNECT_S)).close()
    assert (failure.kind, failure.may_have_cost) == (FailureKind.CONNECT, False)
    assert failure.message == "The provider's TLS certificate is self-signed."


async def test_tls_to_a_port_that_speaks_none_costs_nothing(adapter: HttpUpstream) -> None:
    """A wrong scheme in base_url fails in the handshake."""

    async def answer_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with raw_server(answer_plainly) as base_url:
        failure = await fail(adapter, provider_at(base_url.replace("http:", "https:")))
    assert (failure.kind, failure.may_have_cost) == (FailureKind.CONNECT, False)
    assert "TLS handshake" in failure.message


async def test_a_handshake_that_stalls_falls_under_the_connect_clock(adapter: HttpUpstream) -> None:
    """A port that accepts and says nothing holds nobody up."""

    async def say_nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_server(say_nothing) as base_url:
        provider = provider_at(base_url.replace("http:", "https:"))
        with pytest.raises(UpstreamError) as caught:
            await adapter.open(provider, call_of(), connect_timeout_s=0.05)
    assert (caught.value.failure.kind, caught.value.failure.may_have_cost) == (FailureKind.TIMEOUT, False)


async def test_interim_answers_are_not_the_answer(adapter: HttpUpstream) -> None:
    """Early hints come and go; a connection that ends after them ends without an answer."""

    async def hint(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")

    async with raw_server(hint) as base_url:
        failure = await fail(adapter, provider_at(base_url))
    assert failure.kind is FailureKind.BROKEN_STREAM


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (9, "is not valid yet"),
        (10, "has expired"),
        (18, "is self-signed"),
        (20, "is signed by an authority that is not trusted here"),
        (62, "is for another host name"),
        (1, "is not trusted"),
    ],
)
def test_a_certificates_fault_is_named_without_the_host(code: int, words: str) -> None:
    """OpenSSL's number becomes our words; its own text names the host."""
    error = ssl.SSLCertVerificationError(1, "hostname mismatch, certificate is not valid for 'secret.example'")
    error.verify_code = code
    failure = read_connect_fault(error)
    assert failure.message == f"The provider's TLS certificate {words}."


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENETUNREACH, "network cannot be reached"), (errno.EPERM, "could be made"), (None, "could be made")],
)
def test_a_systems_refusal_is_named(number: int | None, words: str) -> None:
    """By its number; the system's text holds the address."""
    error = OSError(number, "Connect call failed ('10.1.2.3', 443)")
    failure = read_connect_fault(error)
    assert words in failure.message
    assert "10.1.2.3" not in failure.message
    assert not failure.may_have_cost


async def test_a_reply_over_tls_closed_early_ends_its_connection_at_once(
    adapter: HttpUpstream, certificate: Path
) -> None:
    """Without the polite goodbye of TLS, for which a provider might not be listening; a whole one is kept as any."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    connections = 0
    left = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n{")
        try:
            await reader.read()
        finally:
            left.set()

    async with raw_server(hang, tls=context) as base_url:
        provider = provider_at(base_url, verify=False)
        assert await ask(adapter, provider) == b"{}"
        got = await adapter.open(provider, call_of(), connect_timeout_s=CONNECT_S)
        assert await got.read() == b"{"
        await got.close()
        async with asyncio.timeout(0.05):
            await left.wait()
    assert connections == 1
