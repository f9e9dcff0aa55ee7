"""One message to one webhook (part of `outbound`, floor 2).

The socket is connected to an address that was checked, TLS is spoken in the name that was written, every redirect is
refused, no proxy and no credential is taken from the environment, and of the answer only its beginning is read.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

import httpx

from proxy import __version__
from proxy.outbound.addresses import AddressRefused, Resolve, ask_system, find_addresses
from proxy.outbound.answers import Answer
from proxy.routing.table import Webhook

CONNECT_S_MAX = 3.0
TOTAL_S_MAX = 10.0
"""For the whole of it: name, connection, message, answer."""
ANSWER_BYTES_MAX = 2_048
"""Read of an answer; the rest is left and the connection closed."""
SAID_CHARS_MAX = 200
PORTS = {"http": 80, "https": 443}


class WebhookSender:
    """Sends messages, each over a connection of its own."""

    def __init__(
        self, *, resolve: Resolve = ask_system, total_s_max: float = TOTAL_S_MAX, tls: ssl.SSLContext | None = None
    ) -> None:
        """Trust the certificates that the system trusts, unless told whom."""
        self._resolve = resolve
        self._total_s_max = total_s_max
        self._client = httpx.AsyncClient(
            verify=tls or ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            # Below the whole: httpcore closes the socket of a handshake that times out, not of one that is cancelled.
            timeout=httpx.Timeout(total_s_max, connect=min(CONNECT_S_MAX, total_s_max / 2)),
            # A connection is never used twice: two names may share an address, and TLS was spoken for one of them.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def send(self, webhook: Webhook, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Post one message; never raises for what the other end does."""
        parts = urlsplit(webhook.url.reveal())
        if parts.scheme != "https" and not webhook.allow_private:
            return Answer(is_accepted=False, problem="it is plain http")
        try:
            async with asyncio.timeout(self._total_s_max):
                return await self._send(parts, webhook, body, headers)
        except TimeoutError:
            return Answer(is_accepted=False, problem=f"no answer in {self._total_s_max:g} s")

    async def close(self) -> None:
        """Let go of what is open."""
        await self._client.aclose()

    async def _send(self, parts: SplitResult, webhook: Webhook, body: bytes, headers: Mapping[str, str]) -> Answer:
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        try:
            addresses = await find_addresses(host, port, allow_private=webhook.allow_private, resolve=self._resolve)
        except AddressRefused as refused:
            return Answer(is_accepted=False, problem=str(refused))
        answer = Answer(is_accepted=False)
        for address in addresses:
            try:
                return await self._post(_address_url(parts, address, port), parts, body, headers)
            except httpx.ConnectError as error:  # nothing was sent: the next address may do
                answer = Answer(is_accepted=False, problem=_explain_connect(error))
            except httpx.TimeoutException:
                return Answer(is_accepted=False, problem="no answer in time")
            except httpx.HTTPError:
                return Answer(is_accepted=False, problem="the connection broke, or the answer is not valid HTTP")
        return answer

    async def _post(self, url: str, parts: SplitResult, body: bytes, headers: Mapping[str, str]) -> Answer:
        own = {
            "host": parts.netloc,
            "content-type": "application/json",
            "user-agent": f"turnpike/{__version__}",
            "accept-encoding": "identity",
        }
        request = self._client.build_request(
            "POST",
            url,
            headers={**own, **headers},
            content=body,
            extensions={"sni_hostname": (parts.hostname or "").rstrip(".")},
        )
        response = await self._client.send(request, stream=True)
        try:
            return await _read_answer(response)
        finally:
            await response.aclose()


async def _read_answer(response: httpx.Response) -> Answer:
    status, said = response.status_code, b""
    async for chunk in response.aiter_raw():
        said += chunk[:ANSWER_BYTES_MAX]
        if len(said) >= ANSWER_BYTES_MAX:
            break
    problem = None
    if response.is_redirect or 300 <= status < 400:
        problem = f"HTTP {status}: redirects are not followed, give the address it leads to"
    elif not response.is_success:
        problem = f"HTTP {status}"
    text = " ".join(said.decode("utf-8", "replace").split())[:SAID_CHARS_MAX]
    printable = "".join(char for char in text if char.isprintable())
    return Answer(is_accepted=problem is None, status=status, problem=problem, said=printable)


def _address_url(parts: SplitResult, address: str, port: int) -> str:
    """Write the URL with the checked address in the name's place."""
    host = f"[{address}]" if ":" in address else address
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{host}:{port}{parts.path or '/'}{query}"


def _explain_connect(error: httpx.ConnectError) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY" in str(cause):
            return "its TLS certificate is not valid for its name, or not trusted"
        cause = cause.__cause__ or cause.__context__
    return "no connection"
