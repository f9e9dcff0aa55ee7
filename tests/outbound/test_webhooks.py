"""One message to one webhook over real sockets: what is sent, and what does not get through."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.outbound.answers import Answer
from proxy.outbound.webhooks import ANSWER_BYTES_MAX, SAID_CHARS_MAX, WebhookSender
from proxy.routing.table import Secret, Webhook
from tests.outbound.hooks import Hook, hooking, status

BODY = b'{"text":"hello"}'


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    """A webhook's other end."""
    async with hooking() as hook:
        yield hook


@pytest.fixture
async def sender() -> AsyncIterator[WebhookSender]:
    """A sender that does not wait for long, and asks no name server."""

    async def resolve(host: str, _port: int) -> list[str]:
        return {"gone.example": ["127.0.0.1"], "two.internal": ["127.0.0.2", "127.0.0.1"]}.get(host, ["127.0.0.1"])

    sender = WebhookSender(resolve=resolve, total_s_max=1.0)
    yield sender
    await sender.close()


def webhook(url: str, *, allow_private: bool = True) -> Webhook:
    """A webhook at this address."""
    return Webhook("id", Secret(url), allow_private=allow_private)


async def test_a_message_is_posted_as_it_is(hook: Hook, sender: WebhookSender) -> None:
    """With its headers, to the path and query that were written, under the name that was written."""
    answer = await sender.send(webhook(hook.url), BODY, {"x-turnpike-delivery": "i-opened"})
    assert answer == Answer(is_accepted=True, status=200, said="ok")
    (one,) = hook.received
    assert (one.path, one.body) == ("/hook/s3cret-token?x=1", BODY)
    assert one.headers["host"] == f"127.0.0.1:{hook.port}"
    assert one.headers["content-type"] == "application/json"
    assert one.headers["x-turnpike-delivery"] == "i-opened"
    assert one.headers["user-agent"].startswith("turnpike/")
    assert "authorization" not in one.headers


async def test_the_socket_is_connected_to_the_address_that_was_checked(hook: Hook) -> None:
    """The name server is asked once, and what it would say a moment later does not count."""
    answers = [["127.0.0.1"], ["10.255.255.1"]]

    async def resolve(_host: str, _port: int) -> list[str]:
        return answers.pop(0)

    sender = WebhookSender(resolve=resolve, total_s_max=1.0)
    answer = await sender.send(webhook(f"http://hooks.internal:{hook.port}/"), BODY, {})
    await sender.close()
    assert answer.is_accepted
    assert hook.received[0].headers["host"] == f"hooks.internal:{hook.port}"
    assert len(answers) == 1


async def test_the_next_address_is_tried_while_nothing_was_sent(hook: Hook, sender: WebhookSender) -> None:
    """A name may have several."""
    answer = await sender.send(webhook(f"http://two.internal:{hook.port}/"), BODY, {})
    assert answer.is_accepted
    assert len(hook.received) == 1


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://hooks.example/x", "it is plain http"),
        ("https://127.0.0.1/x", "its host is not a public address"),
        ("https://localhost/x", "its host is a private name"),
        ("https://rebound.example/x", "its name leads to what is not a public address"),
    ],
)
async def test_what_may_not_be_called_is_refused_again_when_it_is_sent(
    hook: Hook, sender: WebhookSender, url: str, problem: str
) -> None:
    """A table is no promise of what its names lead to today."""
    answer = await sender.send(webhook(url, allow_private=False), BODY, {})
    assert answer == Answer(is_accepted=False, problem=problem)
    assert hook.received == []


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308, 300])
async def test_no_redirect_is_followed(hook: Hook, sender: WebhookSender, code: int) -> None:
    """Not even to itself: whatever it leads to was never checked."""
    hook.replies = [status(code, f"location: {hook.url}\r\n")]
    answer = await sender.send(webhook(hook.url), BODY, {})
    assert (answer.is_accepted, answer.status) == (False, code)
    assert "redirects are not followed" in (answer.problem or "")
    assert len(hook.received) == 1


@pytest.mark.parametrize("code", [400, 404, 410, 429, 500, 503])
async def test_a_refusal_is_told_by_its_status(hook: Hook, sender: WebhookSender, code: int) -> None:
    """And by the beginning of what it says, for who asked for a test."""
    hook.replies = [status(code, body="invalid_payload\n\x1b[2J <b>")]
    answer = await sender.send(webhook(hook.url), BODY, {})
    assert answer == Answer(is_accepted=False, status=code, problem=f"HTTP {code}", said="invalid_payload [2J <b>")


@pytest.mark.parametrize("code", [200, 201, 202, 204])
async def test_any_2xx_is_taken(hook: Hook, sender: WebhookSender, code: int) -> None:
    """Discord answers 204, others 202."""
    hook.replies = [status(code, body="")]
    assert (await sender.send(webhook(hook.url), BODY, {})).is_accepted


async def test_a_huge_answer_is_left_unread(hook: Hook, sender: WebhookSender) -> None:
    """Its beginning is enough; the connection is closed."""
    sent = 0

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n")
        while sent < 64 * 1024 * 1024:
            writer.write(b"x" * 65_536)
            sent += 65_536
            await writer.drain()

    hook.replies = [flood]
    answer = await sender.send(webhook(hook.url), BODY, {})
    assert answer.is_accepted
    assert len(answer.said) == SAID_CHARS_MAX < ANSWER_BYTES_MAX
    assert sent < 64 * 1024 * 1024


async def test_a_packed_answer_is_not_unpacked(hook: Hook, sender: WebhookSender) -> None:
    """None was asked for, and a small one may be huge inside."""
    hook.replies = [status(200, "content-encoding: gzip\r\n", body="not gzip at all")]
    assert (await sender.send(webhook(hook.url), BODY, {})).said == "not gzip at all"


async def hang(_writer: asyncio.StreamWriter) -> None:
    """Say nothing for long."""
    await asyncio.sleep(5)


async def drip(writer: asyncio.StreamWriter) -> None:
    """Never be silent for long, and never be done."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("reply", [hang, drip])
async def test_the_whole_of_it_has_one_deadline(hook: Hook, sender: WebhookSender, reply: object) -> None:
    """However it is that an answer does not come."""
    hook.replies = [reply]  # type: ignore[list-item]  # one of two
    begun_s = time.monotonic()
    answer = await sender.send(webhook(hook.url), BODY, {})
    assert answer.problem in {"no answer in 1 s", "no answer in time"}
    assert not answer.is_accepted
    assert time.monotonic() - begun_s < 3


@pytest.mark.parametrize("reply", [b"", b"no HTTP at all\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"])
async def test_an_answer_that_is_none_is_a_failure(hook: Hook, sender: WebhookSender, reply: bytes) -> None:
    """Closed, garbled, cut."""
    hook.replies = [reply]
    answer = await sender.send(webhook(hook.url), BODY, {})
    assert answer == Answer(is_accepted=False, problem="the connection broke, or the answer is not valid HTTP")


async def test_nobody_there(sender: WebhookSender, hook: Hook) -> None:
    """No connection, and no address in the words for it."""
    answer = await sender.send(webhook("http://127.0.0.1:9/hook"), BODY, {})
    assert answer == Answer(is_accepted=False, problem="no connection")


async def test_plain_http_behind_https_is_no_connection(sender: WebhookSender, hook: Hook) -> None:
    """Whoever cannot speak TLS is not told anything."""
    answer = await sender.send(webhook(f"https://127.0.0.1:{hook.port}/"), BODY, {})
    assert not answer.is_accepted
    assert hook.received == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a self-signed certificate for `hooks.internal` and its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    options = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    names = ["-subj", "/CN=hooks.internal", "-addext", "subjectAltName=DNS:hooks.internal"]
    subprocess.run(["openssl", "req", *options, *files, *names], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return both


async def test_tls_is_spoken_in_the_name_that_was_written(certificate: Path) -> None:
    """Though an address is called: the name is sent in the greeting, and the certificate has to be for it."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(certificate)
    greeted: list[str | None] = []
    serving.sni_callback = lambda _socket, name, _context: greeted.append(name)

    async def resolve(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    trusting = ssl.create_default_context(cafile=certificate)
    async with hooking(serving) as hook:
        sender = WebhookSender(resolve=resolve, total_s_max=2.0, tls=trusting)
        good = await sender.send(webhook(f"https://hooks.internal:{hook.port}/x"), BODY, {})
        other = await sender.send(webhook(f"https://other.internal:{hook.port}/x"), BODY, {})
        await sender.close()
        unknown = WebhookSender(resolve=resolve, total_s_max=2.0)
        stranger = await unknown.send(webhook(f"https://hooks.internal:{hook.port}/x"), BODY, {})
        await unknown.close()
    assert good.is_accepted
    for refused in (other, stranger):
        assert refused.problem == "its TLS certificate is not valid for its name, or not trusted"
    assert greeted == ["hooks.internal", "other.internal", "hooks.internal"]
    assert len(hook.received) == 1


async def test_nothing_of_the_environment_is_used(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a proxy nor a password of ~/.netrc."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    sender = WebhookSender(total_s_max=1.0)
    answer = await sender.send(webhook(hook.url), BODY, {})
    await sender.close()
    assert answer.is_accepted


async def test_each_message_has_a_connection_of_its_own(hook: Hook, sender: WebhookSender) -> None:
    """Two names may share an address; what was agreed with one must not carry the other's message."""
    for name in ("a.internal", "b.internal"):
        answer = await sender.send(replace(webhook(f"http://{name}:{hook.port}/"), id=name), BODY, {})
        assert answer.is_accepted
    assert [one.headers["host"].split(":")[0] for one in hook.received] == ["a.internal", "b.internal"]
