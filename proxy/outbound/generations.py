"""Asking a provider what a generation cost (part of `outbound`, floor 2).

The address is the provider's own `base_url`, the operator's word. No redirect is followed, nothing is taken from the
environment, and of an answer only so much is read as an honest one can have.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Final

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
    """Asks, over a connection of its own each time; one for each process."""

    def __init__(self, *, total_s_max: float = TOTAL_S_MAX) -> None:
        """Nothing is opened before the first question."""
        self._total_s_max = total_s_max
        self._trust: ssl.SSLContext | None = None
        """Reading the certificates takes longer than asking."""

    async def find(self, provider: Provider, credential: Secret | None, generation_id: str) -> Usage:
        """Ask what a generation cost; raises `GenerationUnknownError` when the provider does not tell, yet or ever."""
        # Imported when the first look-up is due: it takes longer than the rest of a server's start.
        import httpx  # noqa: PLC0415

        if self._trust is None:
            self._trust = ssl.create_default_context()
        client = httpx.AsyncClient(
            verify=self._trust if provider.verify else False,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(self._total_s_max, connect=CONNECT_S_MAX),
        )
        url, params, headers = f"{provider.base_url}/generation", {"id": generation_id}, _headers(provider, credential)
        try:
            async with (
                asyncio.timeout(self._total_s_max),
                client,
                client.stream("GET", url, params=params, headers=headers) as response,
            ):
                if response.status_code != OK:
                    raise GenerationUnknownError(f"HTTP {response.status_code}")
                body = await _read_all(response.aiter_raw())
        except TimeoutError as error:
            raise GenerationUnknownError("no answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise GenerationUnknownError("no answer") from error
        usage = read_generation(body)
        if usage is None:
            raise GenerationUnknownError("an answer without an amount")
        return usage


async def _read_all(pieces: AsyncIterator[bytes]) -> bytes:
    body = b""
    async for piece in pieces:
        body += piece
        if len(body) > ANSWER_BYTES_MAX:
            raise GenerationUnknownError("an answer beyond any sensible size")
    return body


def _headers(provider: Provider, credential: Secret | None) -> Mapping[str, str]:
    headers = {"user-agent": f"turnpike/{__version__}", "accept": "application/json"}
    if credential is not None:
        place, key = provider.flags.key_header, credential.reveal()
        headers[place] = f"Bearer {key}" if place == "authorization" else key
    headers.update((name.lower(), value) for name, value in provider.headers.items())
    headers["accept-encoding"] = "identity"
    return headers
