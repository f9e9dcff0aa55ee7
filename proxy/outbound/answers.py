"""What came back from a webhook (part of `outbound`, floor 2)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """How one message was received."""

    is_accepted: bool
    """2xx: it is never sent again."""
    status: int | None = None
    """HTTP status, None when there was no answer."""
    problem: str | None = None
    """Why it was not accepted, in our own words: no address, nothing the other end wrote."""
    said: str = ""
    """The first characters of the answer's body, for the person who asked for a test."""
