"""OpenRouter's list of models, fetched for its prices (part of `outbound`, floor 2; openrouter.md 5).

It is public: no credential goes out. Its length and time are bounded, and no redirect is followed.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from proxy import __version__

LISTING_BYTES_MAX = 16 * 1024 * 1024
"""The whole list of 2026 has about 1 MB."""
LISTING_S_MAX = 30.0
"""For all of it: name, connection, body."""
CONNECT_S_MAX = 10.0
PATH = "/models?output_modalities=all"
"""Without the parameter only models that write text are listed, and with neither limit nor offset all of them."""


class FetchError(Exception):
    """The list could not be had; the message is a clause that names no address."""


async def fetch_listing(base_url: str, *, verify: bool = True, total_s_max: float = LISTING_S_MAX) -> Any:
    """Give the list as parsed JSON; raises `FetchError`."""
    # A quarter of a second and some megabytes, which only a gateway that fetches should pay.
    import httpx  # noqa: PLC0415

    timeout = httpx.Timeout(total_s_max, connect=CONNECT_S_MAX)
    try:
        async with (
            asyncio.timeout(total_s_max),
            httpx.AsyncClient(verify=verify, trust_env=False, follow_redirects=False, timeout=timeout) as client,
            client.stream("GET", base_url + PATH, headers={"user-agent": f"turnpike/{__version__}"}) as reply,
        ):
            if reply.status_code != httpx.codes.OK:
                raise FetchError(f"the answer was HTTP {reply.status_code}")
            body = bytearray()
            async for piece in reply.aiter_bytes():
                body += piece
                if len(body) > LISTING_BYTES_MAX:
                    raise FetchError(f"the list is longer than {LISTING_BYTES_MAX:,} bytes")
    except TimeoutError:
        raise FetchError(f"no whole answer in {total_s_max:g} s") from None
    except httpx.HTTPError as error:
        raise FetchError(f"it cannot be reached ({type(error).__name__})") from error
    try:
        return await asyncio.to_thread(orjson.loads, body)
    except orjson.JSONDecodeError as error:
        raise FetchError("the answer is no JSON") from error
