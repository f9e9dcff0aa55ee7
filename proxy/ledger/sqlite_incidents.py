"""Incidents and figures of alerts on SQLite (floor 2): `incidents.sql`, run by the threads of the ledger."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from itertools import groupby
from sqlite3 import Cursor
from typing import Any

from proxy.ledger.incidents import (
    CLIENT_ERRORS,
    ENDED_S_MAX,
    LATE_S_MAX,
    NEUTRAL_ERRORS,
    Delivery,
    DeliveryState,
    Event,
    ProviderEndings,
    ProviderOddities,
    Recent,
    rank_p95,
)
from proxy.ledger.reports import Reports
from proxy.ledger.sql import STATEMENTS, parse_blocks
from proxy.ledger.standing import FOREVER_S, find_balance
from proxy.ledger.writer import Writer
from proxy.policy.calendar import Window
from proxy.policy.incidents import Incident

_STATEMENTS = parse_blocks(resources.files("proxy.ledger").joinpath("incidents.sql").read_text("utf-8"))
_NEUTRAL = json.dumps(sorted(NEUTRAL_ERRORS))
_CLIENTS = json.dumps(sorted(CLIENT_ERRORS))
_INCIDENT_COLUMNS = 10


class SqliteIncidents:
    """The `Incidents` of incidents.py."""

    def __init__(self, writer: Writer, reports: Reports) -> None:
        self._writer = writer
        self._reports = reports

    async def open(self, incident: Incident, *, webhooks: Sequence[str]) -> bool:
        """Begin an incident and its messages; False when one of its place is open."""
        return await self._writer.call(_open, (incident, webhooks))

    async def end(self, incident: Incident) -> bool:
        """End an incident and tell who was to be told of its beginning; False when it had ended before."""
        return await self._writer.call(_end, incident)

    async def list_open(self) -> Sequence[Incident]:
        """List open incidents, oldest first."""
        return [Incident(*row) for row in await self._reports.read(_STATEMENTS["list_open_incidents"], ())]

    async def list_deliveries(self, *, rows_max: int) -> Sequence[Delivery]:
        """List messages, the newest incidents first."""
        found = await self._reports.read(_STATEMENTS["list_deliveries"], (rows_max,))
        return [_read_delivery(row) for row in found]

    async def list_waiting(self, now_s: float) -> Sequence[str]:
        """List the webhooks for which something is due, by id."""
        return [name for (name,) in await self._reports.read(_STATEMENTS["list_waiting_webhooks"], (now_s,))]

    async def list_due(self, webhook: str, now_s: float, *, rows_max: int) -> Sequence[Delivery]:
        """List a webhook's messages that are due, oldest first; an ending waits while its beginning is pending."""
        found = await self._reports.read(_STATEMENTS["list_due_deliveries"], (webhook, now_s, rows_max))
        return [_read_delivery(row) for row in found]

    async def claim(self, delivery: Delivery, *, due_at_s: float) -> bool:
        """Take a message to send it; False when somebody else was quicker."""
        return await self._writer.call(_claim, replace(delivery, due_at_s=due_at_s))

    async def record(self, delivery: Delivery) -> None:
        """Write how a try ended."""
        await self._writer.call(_record, delivery)


class SqliteSignals:
    """The `Signals` of incidents.py."""

    def __init__(self, writer: Writer, reports: Reports) -> None:
        self._writer = writer
        self._reports = reports

    async def spend(self, scope: str, window: Window) -> int:
        """Read the window's balance; who asks first begins it, and from then on every attempt moves it."""
        ends_s = window.ends_s or FOREVER_S
        kept = await self._reports.read(STATEMENTS["find_balance"], (scope, ends_s, window.starts_s))
        return int(kept[0][0]) if kept else await self._writer.call(_begin_balance, (scope, window))

    async def recent(self, *, ended_s: float) -> Recent:
        """Sum up the last minutes."""
        since = (ended_s - LATE_S_MAX, ended_s)
        ((requests, failed, streams),) = await self._reports.read(_STATEMENTS["count_recent"], (*since, _CLIENTS))
        ranked = await self._reports.read(_STATEMENTS["rank_first_token"], (*since, rank_p95(streams)))
        return Recent(requests, failed, streams, ranked[0][0] if ranked else None)

    async def endings(self, *, ended_s: float, attempts_max: int) -> Sequence[ProviderEndings]:
        """Tell how each provider's last attempts ended."""
        parameters = (ended_s - LATE_S_MAX, ended_s, _NEUTRAL, _CLIENTS, attempts_max)
        found = await self._reports.read(_STATEMENTS["list_endings"], parameters)
        grouped = groupby(found, key=lambda row: str(row[0]))
        return [ProviderEndings(name, tuple(bool(answered) for _, answered in rows)) for name, rows in grouped]

    async def oddities(self, *, ended_s: float) -> Sequence[ProviderOddities]:
        """Count by provider what had no price and what cost more than was held."""
        found = await self._reports.read(_STATEMENTS["count_oddities"], (ended_s - LATE_S_MAX, ended_s))
        return [ProviderOddities(*row) for row in found]


def _begin_balance(cursor: Cursor, place: tuple[str, Window]) -> int:
    return find_balance(cursor, *place).posted_nano_usd


def _open(cursor: Cursor, opening: tuple[Incident, Sequence[str]]) -> bool:
    incident, webhooks = opening
    told = (incident.figure, incident.what, incident.advice, incident.opened_at_s)
    if cursor.execute(_STATEMENTS["open_incident"], (incident.id, *incident.place, *told)).rowcount == 0:
        return False
    for webhook in webhooks:
        cursor.execute(_STATEMENTS["insert_delivery"], (incident.id, webhook, incident.opened_at_s))
    return True


def _end(cursor: Cursor, incident: Incident) -> bool:
    ended_at_s = incident.ended_at_s
    assert ended_at_s is not None
    if cursor.execute(_STATEMENTS["end_incident"], (ended_at_s, incident.ending, incident.id)).rowcount == 0:
        return False
    cursor.execute(_STATEMENTS["insert_endings"], (ended_at_s, incident.id))
    cursor.execute(_STATEMENTS["forget_deliveries"], (ended_at_s - ENDED_S_MAX,))
    cursor.execute(_STATEMENTS["forget_incidents"], (ended_at_s - ENDED_S_MAX,))
    return True


def _claim(cursor: Cursor, delivery: Delivery) -> bool:
    parameters = (delivery.due_at_s, *_key(delivery), delivery.tries)
    return cursor.execute(_STATEMENTS["claim_delivery"], parameters).rowcount == 1


def _record(cursor: Cursor, delivery: Delivery) -> None:
    tried = (delivery.state.value, delivery.tried_at_s, delivery.status, delivery.problem)
    cursor.execute(_STATEMENTS["record_delivery"], (*tried, *_key(delivery)))


def _key(delivery: Delivery) -> tuple[str, str, str]:
    return delivery.incident.id, delivery.event.value, delivery.webhook


def _read_delivery(row: Sequence[Any]) -> Delivery:
    incident = Incident(*row[:_INCIDENT_COLUMNS])
    event, webhook, state, tries, *rest = row[_INCIDENT_COLUMNS:]
    return Delivery(incident, Event(event), webhook, DeliveryState(state), tries, *rest)
