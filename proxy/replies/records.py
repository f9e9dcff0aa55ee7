"""What is kept of an answer, and what is told about one (part of the replies, floor 3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import NamedTuple

CONTENT_BYTES_MAX = 8 << 20
"""A longer answer is not kept: given once, it is gone."""
BYTES_MAX = 512 << 20
"""Of all answers together; then the oldest go, those of the cache before those of an `Idempotency-Key`."""
ENTRIES_MAX = 200_000
ROW_BYTES = 300
"""What a row takes besides its content, counted against `BYTES_MAX`."""
RUNNING_S_MAX = 3_600.0
"""A claim older than this holds nobody up any more, whatever its owner does: no request may take so long."""


class Kind(StrEnum):
    """Why an answer is kept; in the order in which they go when there are too many."""

    CACHE = "cache"
    IDEMPOTENCY = "idempotency"


class Ticket(NamedTuple):
    """What an answer answers."""

    kind: Kind
    slot: bytes
    """SHA-256 of what it is found by: of the request, or of the `Idempotency-Key`, and in either case of its scope."""
    fingerprint: bytes
    """SHA-256 of the request; another one in the same slot is a mistake of the client's."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One whole, successful answer."""

    is_stream: bool
    content: bytes
    """The JSON body, or all bytes of the stream, `[DONE]` included."""
    model: str
    """As sent upstream."""
    cost_nano_usd: int | None
    """What it cost when it was made, all attempts together; None is unknown."""
    at_s: float
    """When it was kept, seconds since the epoch."""
    expires_at_s: float

    def lasting(self, at_s: float, ttl_s: float) -> Entry:
        """Give it as kept from this moment on."""
        return replace(self, at_s=at_s, expires_at_s=at_s + ttl_s)


class Claim(Enum):
    """What a request is told that finds no answer."""

    FIRST = "first"
    """None is known: the caller makes it, keeps it or lets go of the claim."""
    ELSEWHERE = "elsewhere"
    """A living process is about to make it."""
    REUSED = "reused"
    """The slot belongs to another request."""


class Pruned(NamedTuple):
    """What a pruning took away."""

    expired: int = 0
    evicted: int = 0
    """Answers of the cache that went before their time, because there were too many."""
    lost: int = 0
    """The same of an `Idempotency-Key`: that promise is broken."""
