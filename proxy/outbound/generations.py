"""Asking a provider what a generation cost (part of `outbound`, floor 2).

The address is the provider's own `base_url`, the operator's word. No redirect is followed, nothing is taken from the
environment, and of an answer only so much is read as an honest one can have.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final

import httpx

from proxy import __version__
from proxy.codecs.generations import read_generation
from proxy.routing.table import Provider, Secret
from proxy.usage import Usage

CONNECT_S_MAX: Final = 5.0
TOTAL_S_MAX: Final = 10.0
"""For the whole of it: name, connection, question, answer."""
ANSWER_BYTES_MAX: Final = 64 * 1024
OK: Final = 200


class GenerationUnknownError(Exception):
    """The provider did not tell; the message says why, in words of ours."""


class Generations:
    """Asks; one for each process and event loop."""

    def __init__(self, *, total_s_max: float = TOTAL_S_MAX) -> None:
        """Nothing is opened before the first question."""
        self._total_s_max = total_s_max
        self._clients: dict[bool, httpx.AsyncClient] = {}

    async def find(self, provider: Provider, credential: Secret | None, generation_id: str) -> Usage:
        """Ask what a generation cost; raises `GenerationUnknownError` when the provider does not tell, yet or ever."""
        try:
            async with asyncio.timeout(self._total_s_max):
                body = await self._ask(provider, credential, generation_id)
        except TimeoutError as error:
            raise GenerationUnknownError("no answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise GenerationUnknownError("no answer") from error
        usage = read_generation(body)
        if usage is None:
            raise GenerationUnknownError("an answer without an amount")
        return usage

    async def close(self) -> None:
        """Let go of what is open."""
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    async def _ask(self, provider: Provider, credential: Secret | None, generation_id: str) -> bytes:
        request = self._client(provider).build_request(
            "GET",
            f"{provider.base_url}/generation",
            params={"id": generation_id},
            headers=_headers(provider, credential),
        )
        response = await self._client(provider).send(request, stream=True)
        try:
            if response.status_code != OK:
                raise GenerationUnknownError(f"HTTP {response.status_code}")
            body = b""
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > ANSWER_BYTES_MAX:
                    raise GenerationUnknownError("an answer beyond any sensible size")
            return body
        finally:
            await response.aclose()

    def _client(self, provider: Provider) -> httpx.AsyncClient:
        client = self._clients.get(provider.verify)
        if client is None:
            client = self._clients[provider.verify] = httpx.AsyncClient(
                verify=ssl.create_default_context() if provider.verify else False,
                trust_env=False,
                follow_redirects=False,
                timeout=httpx.Timeout(self._total_s_max, connect=CONNECT_S_MAX),
            )
        return client


def _headers(provider: Provider, credential: Secret | None) -> Mapping[str, str]:
    headers = {"user-agent": f"turnpike/{__version__}", "accept": "application/json"}
    if credential is not None:
        place, key = provider.flags.key_header, credential.reveal()
        headers[place] = f"Bearer {key}" if place == "authorization" else key
    headers.update((name.lower(), value) for name, value in provider.headers.items())
    headers["accept-encoding"] = "identity"
    return headers
