"""Incidents and figures of alerts in plain dicts (floor 2): the twins of `sqlite_incidents`, nothing durable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from proxy.ledger.incidents import (
    CLIENT_ERRORS,
    ENDED_S_MAX,
    NEUTRAL_ERRORS,
    Delivery,
    DeliveryState,
    Event,
    ProviderEndings,
    ProviderOddities,
    Recent,
    rank_p95,
)
from proxy.ledger.records import AttemptRow, AttemptState
from proxy.policy.calendar import Window
from proxy.policy.incidents import Incident
from proxy.policy.limits import Balance
from proxy.policy.scopes import PAYER_GATEWAY
from proxy.usage import CostSource

_Key = tuple[str, Event, str]
_MILLISECOND_S = 0.001


@dataclass(slots=True)
class MemoryIncidents:
    """The `Incidents` of incidents.py; every owner of the same books shares one."""

    _incidents: dict[str, Incident] = field(default_factory=dict)
    _deliveries: dict[_Key, Delivery] = field(default_factory=dict)
    """Its incident is as it was when the message was made: `_incidents` has it as it is."""

    async def open(self, incident: Incident, *, webhooks: Sequence[str]) -> bool:
        """Begin an incident and its messages; False when one of its place is open."""
        if any(one.place == incident.place and one.ended_at_s is None for one in self._incidents.values()):
            return False
        self._incidents[incident.id] = incident
        for webhook in webhooks:
            self._add(Delivery(incident, Event.OPENED, webhook, DeliveryState.PENDING, 0, incident.opened_at_s))
        return True

    async def end(self, incident: Incident) -> bool:
        """End an incident and tell who was to be told of its beginning; False when it had ended before."""
        ended_at_s = incident.ended_at_s
        assert ended_at_s is not None
        known = self._incidents.get(incident.id)
        if known is None or known.ended_at_s is not None:
            return False
        self._incidents[incident.id] = replace(known, ended_at_s=ended_at_s, ending=incident.ending)
        for one in [one for one in self._deliveries.values() if one.incident.id == incident.id]:
            self._add(Delivery(incident, Event.ENDED, one.webhook, DeliveryState.PENDING, 0, ended_at_s))
        self._forget(ended_at_s - ENDED_S_MAX)
        return True

    async def list_open(self) -> Sequence[Incident]:
        """List open incidents, oldest first."""
        found = [one for one in self._incidents.values() if one.ended_at_s is None]
        return sorted(found, key=lambda one: (one.opened_at_s, one.id))

    async def list_deliveries(self, *, rows_max: int) -> Sequence[Delivery]:
        """List messages, the newest incidents first."""

        def moment(one: Delivery) -> tuple[float, str]:
            at_s = one.incident.opened_at_s if one.event is Event.OPENED else one.incident.ended_at_s
            assert at_s is not None
            return at_s, one.incident.id

        found = sorted(self._current(), key=lambda one: (one.event, one.webhook))
        return sorted(found, key=moment, reverse=True)[:rows_max]

    async def list_waiting(self, now_s: float) -> Sequence[str]:
        """List the webhooks for which something is due, by id."""
        pending = (one for one in self._deliveries.values() if one.state is DeliveryState.PENDING)
        return sorted({one.webhook for one in pending if one.due_at_s <= now_s})

    async def list_due(self, webhook: str, now_s: float, *, rows_max: int) -> Sequence[Delivery]:
        """List a webhook's messages that are due, oldest first; an ending waits while its beginning is pending."""
        mine = [one for one in self._current() if one.webhook == webhook]
        pending = [one for one in mine if one.state is DeliveryState.PENDING]
        begun = {(one.incident.id, one.webhook) for one in pending if one.event is Event.OPENED}
        due = [
            one
            for one in pending
            if one.due_at_s <= now_s and not (one.event is Event.ENDED and (one.incident.id, one.webhook) in begun)
        ]
        due.sort(key=lambda one: (one.due_at_s, one.incident.id, one.event is not Event.OPENED, one.webhook))
        return due[:rows_max]

    async def claim(self, delivery: Delivery, *, due_at_s: float) -> bool:
        """Take a message to send it; False when somebody else was quicker."""
        known = self._deliveries.get(_key(delivery))
        if known is None or known.state is not DeliveryState.PENDING or known.tries != delivery.tries:
            return False
        self._add(replace(known, tries=known.tries + 1, due_at_s=due_at_s))
        return True

    async def record(self, delivery: Delivery) -> None:
        """Write how a try ended."""
        known = self._deliveries.get(_key(delivery))
        if known is not None and known.state is DeliveryState.PENDING:
            tried = {"tried_at_s": delivery.tried_at_s, "status": delivery.status, "problem": delivery.problem}
            self._add(replace(known, state=delivery.state, **tried))  # type: ignore[arg-type]  # three of its fields

    def _add(self, delivery: Delivery) -> None:
        self._deliveries[_key(delivery)] = delivery

    def _current(self) -> list[Delivery]:
        return [replace(one, incident=self._incidents[one.incident.id]) for one in self._deliveries.values()]

    def _forget(self, before_s: float) -> None:
        gone = {one.id for one in self._incidents.values() if one.ended_at_s is not None and one.ended_at_s < before_s}
        self._incidents = {key: one for key, one in self._incidents.items() if key not in gone}
        self._deliveries = {key: one for key, one in self._deliveries.items() if key[0] not in gone}


class MemorySignals:
    """The `Signals` of incidents.py, worked out from rows."""

    def __init__(
        self, rows: Callable[[], Sequence[AttemptRow]], find_balance: Callable[[str, Window], Balance]
    ) -> None:
        """Ask `rows` for all attempts, in order."""
        self._rows = rows
        self._find_balance = find_balance

    async def spend(self, scope: str, window: Window) -> int:
        """Sum the window's attempts."""
        return self._find_balance(scope, window).posted_nano_usd

    async def recent(self, *, ended_s: float) -> Recent:
        """Sum up the last minutes."""
        ended = self._ended(ended_s)
        last = {row.request_id: row.attempt for row in self._rows()}
        requests = [row for row in ended if row.attempt == last[row.request_id]]
        failed = sum(row.error is not None and row.error not in CLIENT_ERRORS for row in requests)
        first = sorted(row.first_token_ms for row in ended if row.is_stream and row.first_token_ms is not None)
        return Recent(len(requests), failed, len(first), first[rank_p95(len(first))] if first else None)

    async def endings(self, *, ended_s: float, attempts_max: int) -> Sequence[ProviderEndings]:
        """Tell how each provider's last attempts ended."""
        found: dict[str, list[bool]] = {}
        for row in sorted(self._ended(ended_s), key=lambda row: (_ended_s(row), row.seq), reverse=True):
            if row.error not in NEUTRAL_ERRORS and row.payer == PAYER_GATEWAY:
                is_answered = row.error is None or row.error in CLIENT_ERRORS
                found.setdefault(row.provider, []).append(is_answered)
        return [ProviderEndings(name, tuple(found[name][:attempts_max])) for name in sorted(found)]

    async def oddities(self, *, ended_s: float) -> Sequence[ProviderOddities]:
        """Count by provider what had no price and what cost more than was held."""
        posted = [row for row in self._ended(ended_s) if row.state is AttemptState.POSTED]
        unknown = [row for row in posted if row.cost_source is CostSource.UNKNOWN]
        overruns = [row for row in posted if row.is_overrun]
        return [
            ProviderOddities(name, *_count(unknown, name), *_count(overruns, name))
            for name in sorted({row.provider for row in (*unknown, *overruns)})
        ]

    def _ended(self, since_s: float) -> list[AttemptRow]:
        over = (AttemptState.POSTED, AttemptState.VOIDED)
        return [row for row in self._rows() if row.state in over and _ended_s(row) >= since_s]


def _ended_s(row: AttemptRow) -> float:
    return row.at_s + (row.latency_ms or 0) * _MILLISECOND_S


def _count(rows: Sequence[AttemptRow], provider: str) -> tuple[int, str]:
    models = [row.model for row in rows if row.provider == provider]
    return len(models), max(models, default="")


def _key(delivery: Delivery) -> _Key:
    return delivery.incident.id, delivery.event, delivery.webhook
