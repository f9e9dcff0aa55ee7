"""What a fault upstream writes down: connections and exchanges, with monotonic times in seconds."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass, field
from typing import Any, Self

from tests.faults.steps import Send, Tokens


class End(enum.Enum):
    """How an exchange ended, seen from the upstream."""

    DONE = "done"
    """The plan was carried out; the connection serves on."""
    CLOSED = "closed"
    RESET = "reset"
    PEER_LEFT = "peer left"
    """The peer closed before the plan was through."""
    STOPPED = "stopped"
    """The upstream was stopped before the plan was through."""


@dataclass(slots=True)
class Connection:
    """One accepted connection."""

    number: int
    accepted_at: float
    shut_at: float | None = None
    """When the upstream itself ended it; a peer's close after that is no departure."""
    peer_closed_at: float | None = None
    peer_closed_by: str | None = None
    """`fin` or `rst`."""
    closed_at: float | None = None
    bytes_sent: int = 0

    @property
    def is_open(self) -> bool:
        """Whether neither side has ended it."""
        return self.closed_at is None and self.shut_at is None and self.peer_closed_at is None

    def shut(self) -> None:
        """Note that the upstream ends it; the first time counts."""
        self.shut_at = self.shut_at or time.monotonic()


@dataclass(slots=True)
class Exchange:
    """One request and what became of it."""

    number: int
    connection: Connection
    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case; of a repeated header the last value."""
    raw: bytes = b""
    body: Any = None
    """The parsed JSON body; None when there is none."""
    mode: str = ""
    """The name of the mode it met; empty for a GET."""
    received_at: float = 0.0
    first_byte_at: float | None = None
    last_byte_at: float | None = None
    ended_at: float | None = None
    end: End | None = None
    bytes_sent: int = 0
    made_tokens: int = 0
    """Completion tokens written to the socket so far."""
    reported: Tokens | None = None
    """The usage the reply reported, once that was written."""
    sends: list[float] = field(default_factory=list)
    """When each piece had been written."""

    @classmethod
    def parse(cls, block: bytes, *, number: int, connection: Connection) -> Self:
        """Read a request head; what has no request line gets an empty method."""
        first, *lines = block.decode("latin-1").split("\r\n")
        method, _, rest = first.partition(" ")
        path, _, version = rest.rpartition(" ")
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        return cls(number, connection, method if version.startswith("HTTP/1.") else "", path, headers)

    @property
    def model(self) -> str | None:
        """The `model` of the request body."""
        return self.body.get("model") if isinstance(self.body, dict) else None

    def billed(self, *, prompt_tokens: int) -> Tokens:
        """Give what this upstream would bill: its report, else the prompt and the tokens made before the end."""
        return self.reported or Tokens(prompt_tokens, self.made_tokens)

    def note_sent(self, step: Send) -> None:
        """Book a piece that has been written."""
        moment = time.monotonic()
        if step.data:
            self.first_byte_at = self.first_byte_at or moment
            self.last_byte_at = moment
            self.sends.append(moment)
        self.bytes_sent += len(step.data)
        self.connection.bytes_sent += len(step.data)
        self.made_tokens += step.tokens
        self.reported = step.usage or self.reported
