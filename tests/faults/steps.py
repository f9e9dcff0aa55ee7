"""What a fault upstream does to one request, as plain values: a mode plans steps, `upstream` carries them out.

Pure: no I/O here. A plan is a function of the request alone, so the same request always meets the same fault.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias


class Outcome(enum.Enum):
    """What a gateway has to make of a mode, seen from its client."""

    ANSWER = "answer"
    """A whole reply: the client gets it, however oddly it was written."""
    FALLBACK = "fallback"
    """A failure before anything meaningful: the next target is asked, and the client sees nothing of it."""
    REFUSED = "refused"
    """The request's own fault (400, 413, 422): the chain ends with the upstream's message."""
    CONTEXT = "context"
    """The request is too long for this target: only a target with a larger context is asked."""
    CONTENT = "content"
    """The prompt was refused by moderation: the next target is asked, else 403 `content_policy`."""
    CUT = "cut"
    """Broken after content was sent: no fallback, an error frame, never a clean end."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts of one reply, in the upstream's words."""

    prompt: int
    completion: int


@dataclass(frozen=True, slots=True)
class Send:
    """Write these bytes; `tokens` completion tokens were made for them, `usage` is what they report."""

    data: bytes
    tokens: int = 0
    usage: Tokens | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for `seconds` (0 yields to the event loop once), or until the peer has left."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hang:
    """Do nothing until the peer has left or the upstream is stopped."""


@dataclass(frozen=True, slots=True)
class Reset:
    """End the connection with a TCP RST."""


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection with a FIN once everything written is out."""


Step = Send | Wait | Hang | Reset | Close


@dataclass(frozen=True, slots=True)
class Ask:
    """What a plan may know of a request."""

    model: str = "made-up"
    is_stream: bool = False
    wants_usage: bool = False
    """`stream_options.include_usage` of a streaming request."""
    path: str = ""


Json: TypeAlias = Any
"""Whatever JSON holds: tests index it freely."""

Plan = Callable[[Ask], Iterable[Step]]


@dataclass(frozen=True, slots=True)
class Mode:
    """One scripted behaviour of an upstream, with what a gateway is expected to make of it."""

    name: str
    plan: Plan
    stream: Outcome
    json: Outcome
    status: int = 200
    is_slow: bool = False
    """The fault shows only after a timeout (or takes its time); all others fail or answer at once."""
    tokens: Tokens | None = None
    """What a right reading of the reply's usage gives; None: it reports none that can be trusted."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else a test of this mode needs, such as the `retry_after_s` it asks for."""

    def outcome(self, *, is_stream: bool) -> Outcome:
        """Give the expected outcome for a streaming or a plain request."""
        return self.stream if is_stream else self.json
