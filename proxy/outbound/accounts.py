"""What OpenRouter says of the account behind a credential (part of `outbound`, floor 2; openrouter.md 5).

`GET key` tells any credential what was billed to it and what its limit leaves. `GET credits`, what the account has
left, answers only some of them, so a refusal there is no failure. Redirects are refused, nothing is taken from the
environment, and an answer has a limit in time and size.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import httpx

from proxy import __version__
from proxy.money import AMOUNT_NANO_USD_MAX, NANO_PER_USD, to_nano_usd
from proxy.outbound.figures import AccountFigures, AccountUnreadable
from proxy.routing.table import Secret

ACCOUNT_S_MAX = 15.0
"""For both questions together."""
ANSWER_BYTES_MAX = 64 * 1024
_NOT_ALLOWED = frozenset({401, 403, 404})
_BILLED = ("usage", "byok_usage")
"""What was paid with credit, and what the account's own provider keys were charged elsewhere: both are booked here."""


class AccountReader:
    """Asks, each time over a connection of its own."""

    def __init__(self, *, total_s_max: float = ACCOUNT_S_MAX, verify: bool = True) -> None:
        """Trust what `httpx` trusts."""
        self._total_s_max = total_s_max
        self._client = httpx.AsyncClient(
            trust_env=False, follow_redirects=False, timeout=total_s_max / 2, verify=verify
        )

    async def read(self, base_url: str, credential: Secret) -> AccountFigures:
        """Ask for one account; raises `AccountUnreadable`."""
        try:
            async with asyncio.timeout(self._total_s_max):
                key = await self._ask(f"{base_url}/key", credential)
                if key is None:
                    raise AccountUnreadable("the credential was refused")
                credits_ = await self._ask(f"{base_url}/credits", credential)
        except (TimeoutError, httpx.TimeoutException):
            raise AccountUnreadable(f"no answer in {self._total_s_max:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL):
            raise AccountUnreadable("the connection failed, or the answer is not valid HTTP") from None
        billed = sum(_read_amount(key, name) or 0 for name in _BILLED)
        left = [_read_amount(key, "limit_remaining"), _find_balance(credits_ or {})]
        return AccountFigures(billed, min((amount for amount in left if amount is not None), default=None))

    async def close(self) -> None:
        """Let go of what is open."""
        await self._client.aclose()

    async def _ask(self, url: str, credential: Secret) -> Mapping[str, Any] | None:
        """Give the answer's `data`, None when the credential may not ask that."""
        headers = {
            "authorization": f"Bearer {credential.reveal()}",
            "user-agent": f"turnpike/{__version__}",
            "accept-encoding": "identity",
        }
        async with self._client.stream("GET", url, headers=headers) as response:
            if response.status_code in _NOT_ALLOWED:
                return None
            if response.status_code != httpx.codes.OK:
                raise AccountUnreadable(f"HTTP {response.status_code}")
            body = b""
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > ANSWER_BYTES_MAX:
                    raise AccountUnreadable("the answer is too long")
        return _read_data(body)


def _read_data(body: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(body, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise AccountUnreadable("the answer is no JSON") from None
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, dict):
        raise AccountUnreadable("the answer has no `data`")
    return data


def _refuse_constant(text: str) -> None:
    raise ValueError(text)


def _read_amount(data: Mapping[str, Any], name: str) -> int | None:
    value = data.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise AccountUnreadable(f"`{name}` is no number")
    amount = Decimal(value)
    if abs(amount) * NANO_PER_USD > AMOUNT_NANO_USD_MAX:
        raise AccountUnreadable(f"`{name}` is more than the books can hold")
    return to_nano_usd(amount)


def _find_balance(data: Mapping[str, Any]) -> int | None:
    total, used = (_read_amount(data, name) for name in ("total_credits", "total_usage"))
    return None if total is None or used is None else total - used
