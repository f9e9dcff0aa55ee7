"""Kept answers, made up, and a place to keep them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from proxy.clock import Clock, ManualClock
from proxy.replies import Entry, Kind, Replies, Ticket, digest


class Warnings:
    """Stands in for the log."""

    def __init__(self) -> None:
        """Begin with none."""
        self.events: list[str] = []
        self.fields: list[dict[str, object]] = []

    def __call__(self, event: str, **fields: object) -> None:
        """Note one."""
        self.events.append(event)
        self.fields.append(fields)


def a_ticket(name: str = "a", *, kind: Kind = Kind.IDEMPOTENCY, body: str = "body") -> Ticket:
    """Ask for an answer."""
    slot = digest(kind, name)
    return Ticket(kind, slot, slot if kind is Kind.CACHE else digest(body))


def an_entry(at_s: float, *, content: bytes = b"{}", ttl_s: float = 60.0) -> Entry:
    """Make an answer."""
    return Entry(is_stream=False, content=content, model="m", cost_nano_usd=5, at_s=at_s, expires_at_s=at_s + ttl_s)


@asynccontextmanager
async def opened(
    folder: Path, *, clock: Clock | None = None, warnings: Warnings | None = None
) -> AsyncIterator[Replies]:
    """Open a data folder's kept answers."""
    replies = await Replies.open(folder, clock=clock or ManualClock(), warn=warnings or Warnings())
    try:
        yield replies
    finally:
        await replies.close()
