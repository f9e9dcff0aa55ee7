"""Stored and in-flight answers (floor 3): the response cache, single flight, and `Idempotency-Key`.

`records` are the values, `shelf` the statements on `cache.db`, `shelving` opening that file, `replies` what the gateway
asks: is there an answer, does one come, or is the caller the first? It knows nothing of planning, money or HTTP.
"""

from __future__ import annotations

from proxy.replies.digests import digest, zero_cost
from proxy.replies.records import CONTENT_BYTES_MAX, Entry, Kind, Ticket
from proxy.replies.replies import Flight, Replies

__all__ = ["CONTENT_BYTES_MAX", "Entry", "Flight", "Kind", "Replies", "Ticket", "digest", "zero_cost"]
