"""What alerts keep in the ledger and ask of it (floor 2): incidents, their deliveries, and figures of the last minutes.

Both halves are the ledger's, so that what was told stays told across a restart, and so that figures are true for all
processes that serve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from proxy.errors import FailureKind
from proxy.policy.calendar import Window
from proxy.policy.incidents import Incident

ENDED_S_MAX = 90 * 86_400
"""How long an incident that is over is kept."""
LATE_S_MAX = 1_200
"""How long an attempt may have run to be found by the time at which it ended: past the 15 minutes of `total`."""

NEUTRAL_ERRORS = frozenset({"client_left", "unsettled", "owner_died", FailureKind.RATE_LIMITED.value})
"""Endings that do not tell whether a provider is up."""
CLIENT_ERRORS = frozenset(
    {
        "client_left",
        FailureKind.BAD_REQUEST.value,
        FailureKind.CONTEXT_LENGTH.value,
        FailureKind.CONTENT_POLICY.value,
        FailureKind.NOT_FOUND.value,
    }
)
"""Endings that are the request's own doing: no failure of the gateway, and a sign of life of the provider."""


class Event(StrEnum):
    """What an incident's message tells."""

    OPENED = "opened"
    ENDED = "ended"


class DeliveryState(StrEnum):
    """Where a message stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message of one incident to one webhook."""

    incident: Incident
    event: Event
    webhook: str
    """Id of the webhook."""
    state: DeliveryState
    tries: int
    """How often it was begun to be sent."""
    due_at_s: float
    """When it is sent next; also of a try that is under way."""
    tried_at_s: float | None = None
    status: int | None = None
    """HTTP status of the last try."""
    problem: str | None = None
    """Why the last try failed, in our own words."""

    @property
    def message_id(self) -> str:
        """Give what tells a repeated message from another."""
        return f"{self.incident.id}-{self.event}"


@dataclass(frozen=True, slots=True)
class Recent:
    """The attempts and requests that ended since a moment; an attempt ends at its start plus its latency."""

    requests: int
    failed: int
    """Requests whose last attempt failed by no fault of the client."""
    streams: int
    first_token_ms_p95: int | None
    """Over the attempts that streamed; the nearest rank."""


@dataclass(frozen=True, slots=True)
class ProviderEndings:
    """How a provider's attempts ended since a moment."""

    provider: str
    answered: tuple[bool, ...]
    """Newest first; those that say nothing about the provider are left out."""


@dataclass(frozen=True, slots=True)
class ProviderOddities:
    """Attempts of a provider that ended since a moment and cost what nobody knew before."""

    provider: str
    unknown_prices: int
    unknown_model: str
    """One of the models, "" when there is none."""
    overruns: int
    overrun_model: str


class Incidents(Protocol):
    """What was told, and what is to be told. Every write is durable when its await returns."""

    async def open(self, incident: Incident, *, webhooks: Sequence[str]) -> bool:
        """Begin an incident and its messages; False when one of its place is open (nothing is written)."""
        ...

    async def end(self, incident: Incident) -> bool:
        """End an incident, as its `ended_at_s` and `ending` say, and tell who was to be told of its beginning.

        False when it had ended before (nothing is written). What ended `ENDED_S_MAX` ago is forgotten.
        """
        ...

    async def list_open(self) -> Sequence[Incident]:
        """List open incidents, oldest first."""
        ...

    async def list_deliveries(self, *, rows_max: int) -> Sequence[Delivery]:
        """List messages, the newest incidents first."""
        ...

    async def list_waiting(self, now_s: float) -> Sequence[str]:
        """List the webhooks for which something is due, by id."""
        ...

    async def list_due(self, webhook: str, now_s: float, *, rows_max: int) -> Sequence[Delivery]:
        """List a webhook's messages that are due, oldest first; an ending waits while its beginning is pending."""
        ...

    async def claim(self, delivery: Delivery, *, due_at_s: float) -> bool:
        """Take a message to send it, and say when it is due again; False when somebody else was quicker."""
        ...

    async def record(self, delivery: Delivery) -> None:
        """Write how a try ended: state, time, status, problem."""
        ...


class Signals(Protocol):
    """Figures that alerts are told by. `ended_s`: only attempts that ended at that moment or later."""

    async def spend(self, scope: str, window: Window) -> int:
        """Tell what a scope (`global`, `key:NAME`) has posted in a window; only the first to ask waits for a sum."""
        ...

    async def recent(self, *, ended_s: float) -> Recent:
        """Sum up the last minutes."""
        ...

    async def endings(self, *, ended_s: float, attempts_max: int) -> Sequence[ProviderEndings]:
        """Tell how each provider's last attempts ended."""
        ...

    async def oddities(self, *, ended_s: float) -> Sequence[ProviderOddities]:
        """Count by provider what had no price and what cost more than was held; only providers with any."""
        ...


def rank_p95(count: int) -> int:
    """Give how many of so many sorted values stand before their 95th percentile, by nearest rank; 0 of none."""
    return max(0, (count * 95 + 99) // 100 - 1)
