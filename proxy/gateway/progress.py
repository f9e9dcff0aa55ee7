"""How far open attempts have come (part of the gateway, floor 4), noted from time to time in case the process dies.

Nothing is counted while a stream is relayed. A pass looks at the newest of what each transcript has kept since the last
one, and takes it for all of it: exact while few streams run, and cheap however many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from proxy.gateway.attempt import Attempt, Seen
from proxy.ledger.resolution import Progress
from proxy.metering import text_of_events
from proxy.tokens import Family, count, family_of

CHECKPOINT_S: Final = 2.0
"""Time between two passes: what came after the last is not known of a process that dies."""
EVENTS_PER_PASS: Final = 2_000
"""Events that are read in one pass, of all streams together."""
EVENTS_PER_STREAM_MIN: Final = 4


class Reporting(Protocol):
    """An exchange that has something open."""

    request_id: str

    @property
    def newest(self) -> Attempt | None:
        """Give its newest attempt."""
        ...

    @property
    def body_bytes(self) -> int:
        """Tell how long its request is."""
        ...


class _Sample(NamedTuple):
    seen: Seen
    events: Sequence[bytes]
    total: int
    """Of all events since the stream began."""
    family: Family


async def take_stock(under_way: Iterable[Reporting]) -> list[Progress]:
    """Count what has come since the last time, in a thread, and tell how far everything open has come."""
    exchanges = list(under_way)
    streams = [attempt for one in exchanges if (attempt := one.newest) is not None and attempt.is_streaming]
    if streams:
        events_max = max(EVENTS_PER_STREAM_MIN, EVENTS_PER_PASS // len(streams))
        await asyncio.to_thread(_count, [_sample(attempt, events_max) for attempt in streams])
    told = [_report(one) for one in exchanges]
    return [progress for progress in told if progress is not None]


def _report(exchange: Reporting) -> Progress | None:
    attempt = exchange.newest
    return None if attempt is None else attempt.report(exchange.request_id, body_bytes=exchange.body_bytes)


def _sample(attempt: Attempt, events_max: int) -> _Sample:
    seen, transcript = attempt.seen, attempt.relay.transcript
    total = transcript.event_count
    events = transcript.newest(min(events_max, total - seen.events))
    return _Sample(seen, events, total, family_of(attempt.candidate.target.model))


def _count(samples: Iterable[_Sample]) -> None:
    for seen, events, total, family in samples:
        come = total - seen.events
        # An event whose text is put away already is taken for a token, which most are.
        tokens = count(text_of_events(events), family) if events else come
        seen.tokens += -(-tokens * come // max(1, len(events) or come))
        seen.events = total
