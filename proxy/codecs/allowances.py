"""What a provider says is left of its limits (floor 1a, pure): headers of any reply, and the window a 429 names.

Spellings, as seen (openrouter.md 4.4, 8.2, 8.6; ecosystem.md):

* OpenAI, Groq, xAI, Azure: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, a reset as `1s`, `6m0s`, `120ms`;
* Anthropic: `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}`, RFC 3339;
* OpenRouter: `x-ratelimit-{limit,remaining,reset}` on its own 429s alone, also inside the body, in epoch milliseconds;
* the IETF's draft: `ratelimit-{limit,remaining,reset}`, in seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson

_EPOCH_MS_MIN = 10.0**11
_EPOCH_S_MIN = 10.0**9
"""A bare reset above is a moment, below a duration in seconds."""
_FORMS = (
    "x-ratelimit-{}-requests",
    "x-ratelimit-{}-tokens",
    "x-ratelimit-{}",
    "ratelimit-{}",
    *(f"anthropic-ratelimit-{kind}-{{}}" for kind in ("requests", "tokens", "input-tokens", "output-tokens")),
)
"""To be filled with `limit`, `remaining` and `reset`."""
_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-", "ratelimit-")
_DURATION = re.compile(
    r"(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m(?!s))?(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)s)?"
)
_MILLISECONDS = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)ms")
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")
_FREE_WINDOW = re.compile(r"free-models-per-(min|day)")


class Allowance(NamedTuple):
    """What is left of one limit."""

    left: int
    limit: int | None = None
    returns_in_s: float | None = None
    """Until it is whole again; None: not told."""

    def share(self, begun: int) -> float:
        """Tell which part of it is left, 0 to 1, when so many calls have begun since."""
        left = max(0, self.left - begun)
        return min(1.0, left / self.limit) if self.limit else float(left > 0)


class Windowed(NamedTuple):
    """What a 429 says of the window that is used up."""

    is_free_window: bool = False
    """It is that of OpenRouter's free models, which their account shares."""
    is_daily: bool = False
    limit: int | None = None
    returns_in_s: float | None = None
    is_of_others: bool = False
    """The provider behind OpenRouter is limited, whoever asks: no other key of ours would be answered."""


NOTHING_SAID = Windowed()


def read_allowances(headers: Mapping[str, str], now_s: float) -> tuple[Allowance, ...]:
    """Read what a reply's headers (names in lower case) say is left; `now_s` is the wall clock."""
    if not any(name.startswith(_PREFIXES) for name in headers):
        return ()
    found = (_read_one(headers, form, now_s) for form in _FORMS)
    return tuple(allowance for allowance in found if allowance is not None)


def read_window(headers: Mapping[str, str], body: bytes, now_s: float) -> Windowed:
    """Read which window a refused call met, as far as its headers and body say; `now_s` is the wall clock."""
    error = _error_of(body)
    metadata = _object(error.get("metadata"))
    inner = {str(name).lower(): str(value) for name, value in _object(metadata.get("headers")).items()}
    told = inner if "x-ratelimit-reset" in inner else headers
    reset_s = _read_reset(told.get("x-ratelimit-reset"), now_s)
    limit = _read_count(told.get("x-ratelimit-limit"))
    message = error.get("message")
    window = _FREE_WINDOW.search(message) if isinstance(message, str) else None
    if window is not None:
        return Windowed(is_free_window=True, is_daily=window[1] == "day", limit=limit, returns_in_s=reset_s)
    waits = [reset_s, *(one.returns_in_s for one in read_allowances(headers, now_s) if not one.left)]
    wait_s = max((wait for wait in waits if wait is not None), default=None)
    is_of_others = bool(metadata.get("provider_name")) and wait_s is None
    return Windowed(limit=limit, returns_in_s=wait_s, is_of_others=is_of_others)


def read_wait_s(value: str | None) -> float | None:
    """Read Retry-After in seconds, however long; None for a date and for nonsense."""
    return float(value) if value is not None and _NUMBER.fullmatch(value.strip()) else None


def _read_one(headers: Mapping[str, str], form: str, now_s: float) -> Allowance | None:
    left = _read_count(headers.get(form.format("remaining")))
    if left is None:
        return None
    limit = _read_count(headers.get(form.format("limit")))
    return Allowance(left, limit, _read_reset(headers.get(form.format("reset")), now_s))


def _read_count(text: str | None) -> int | None:
    if text is None or not _NUMBER.fullmatch(text.strip()):
        return None
    return int(float(text))


def _read_reset(text: str | None, now_s: float) -> float | None:
    """Read when a limit is whole again, as seconds from now; None for what is past or cannot be read."""
    text = (text or "").strip()
    if not text:
        return None
    if _NUMBER.fullmatch(text):
        number = float(text)
        if number >= _EPOCH_MS_MIN:
            number = number / 1000 - now_s
        elif number >= _EPOCH_S_MIN:
            number -= now_s
        return max(0.0, number)
    if (milliseconds := _MILLISECONDS.fullmatch(text)) is not None:
        return float(milliseconds[1]) / 1000
    if (parts := _DURATION.fullmatch(text)) is not None:
        days, hours, minutes, seconds = (float(part or 0) for part in parts.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - now_s) if moment.tzinfo is not None else None


def _error_of(body: bytes) -> dict[str, Any]:
    try:
        return _object(_object(orjson.loads(body)).get("error"))
    except orjson.JSONDecodeError:
        return {}


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
