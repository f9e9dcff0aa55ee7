"""The job: look, open and end incidents, deliver what is due (part of `alerts`, floor 4).

It keeps nothing between two passes, so whichever process runs it next goes on where this one stopped. A message is
claimed before it is sent and recorded after: a process that dies in between has its message sent once more by the
next, under the same id. Nothing that was accepted is sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from proxy.alerts.figures import Accounts, NoAccounts, read_figures
from proxy.alerts.messages import describe, write_message
from proxy.clock import Clock
from proxy.errors import LedgerUnavailable
from proxy.ledger.incidents import Delivery, DeliveryState, Event
from proxy.ledger.protocol import Ledger
from proxy.outbound.answers import Answer
from proxy.policy.figures import Figures
from proxy.policy.incidents import Incident, Reading, judge
from proxy.policy.readings import ENDINGS, measure
from proxy.routing.table import Table, Webhook
from proxy.telemetry import Telemetry

EVERY_S = 15.0
"""Time between two passes."""
DELIVERIES_MAX = 20
"""Messages one webhook is sent in one pass: Slack takes about one a second."""
PASS_S_MAX = 30.0
"""How long a pass goes on beginning tries at one webhook, so that a slow one does not keep the next look waiting."""
TRIES_MAX = 8
"""Tries of one message, over about three quarters of an hour."""
BACKOFF_FIRST_S = 30.0
"""Doubled after each try. Longer than a try may take, so that no other process begins one beside it."""
BACKOFF_S_MAX = 900.0

Send = Callable[[Webhook, bytes, Mapping[str, str]], Awaitable[Answer]]
Place = tuple[str, str, int]


@dataclass(frozen=True)
class AlertWatch:
    """Everything a pass needs; `run` is one pass."""

    ledger: Ledger
    table: Callable[[], Table]
    send: Send
    telemetry: Telemetry
    clock: Clock
    new_id: Callable[[], str]
    """Makes the id of an incident; a reader of messages tells them apart by it."""
    accounts: Accounts = field(default_factory=NoAccounts)

    async def run(self) -> None:
        """Look once and deliver what is due; while the ledger cannot be used, nothing is told and nothing is lost."""
        table = self.table()
        try:
            await self._look(table)
            await self._deliver(table)
        except LedgerUnavailable as error:
            self.telemetry.warn("alerts_wait_for_ledger", reason=error.message)

    async def _look(self, table: Table) -> None:
        """Open what holds, end what does not."""
        known = await self.ledger.incidents.list_open()
        rules = [rule for alert in table.alerts for rule in alert.rules]
        if not rules and not known:
            return
        figures = await read_figures(
            rules, self.ledger, self.accounts, providers=table.providers, now_s=self.clock.now_s()
        )
        measured, told = _hold(table, figures)
        changes = judge(measured, known, endings=ENDINGS)
        for reading in changes.opened:
            await self._open(reading, sorted(told[reading.place]))
        for incident, ending in changes.ended:
            await self._end(incident, ending)

    async def _open(self, reading: Reading, webhooks: Sequence[str]) -> None:
        incident = Incident(
            id=self.new_id(),
            rule=reading.rule,
            subject=reading.subject,
            turn=reading.turn,
            figure=reading.figure,
            what=reading.what,
            advice=reading.advice,
            opened_at_s=self.clock.now_s(),
        )
        if await self.ledger.incidents.open(incident, webhooks=webhooks):
            self.telemetry.warn("incident_opened", incident=incident.id, text=describe(incident, Event.OPENED))

    async def _end(self, incident: Incident, ending: str) -> None:
        ended = replace(incident, ended_at_s=self.clock.now_s(), ending=ending)
        if await self.ledger.incidents.end(ended):
            self.telemetry.info("incident_ended", incident=ended.id, text=describe(ended, Event.ENDED))

    async def _deliver(self, table: Table) -> None:
        """Send what is due, to all webhooks at the same time and to each in order."""
        webhooks = {alert.webhook.id: alert.webhook for alert in table.alerts if alert.webhook is not None}
        due = await self.ledger.incidents.list_waiting(self.clock.now_s())
        async with asyncio.TaskGroup() as group:
            for name in due:
                group.create_task(self._deliver_to(name, webhooks.get(name)))

    async def _deliver_to(self, name: str, webhook: Webhook | None) -> None:
        """Send one webhook its messages; the first that fails ends the pass for it, the others would fail too."""
        begun_s = self.clock.monotonic_s()
        try:
            for delivery in await self.ledger.incidents.list_due(name, self.clock.now_s(), rows_max=DELIVERIES_MAX):
                if webhook is None:
                    await self._drop(delivery)
                elif self.clock.monotonic_s() - begun_s > PASS_S_MAX or not await self._try(delivery, webhook):
                    return
        except LedgerUnavailable as error:
            self.telemetry.warn("alerts_wait_for_ledger", reason=error.message)

    async def _drop(self, delivery: Delivery) -> None:
        problem, now_s = "its webhook has left routes.yaml", self.clock.now_s()
        gone = replace(delivery, state=DeliveryState.GIVEN_UP, tried_at_s=now_s, status=None, problem=problem)
        await self.ledger.incidents.record(gone)
        told = {"message": delivery.message_id, "to": delivery.webhook, "tries": delivery.tries}
        self.telemetry.fail("alert_given_up", None, **told, problem=problem)

    async def _try(self, delivery: Delivery, webhook: Webhook) -> bool:
        """Send one message; False when the webhook did not take it."""
        now_s = self.clock.now_s()
        backoff_s = min(BACKOFF_FIRST_S * 2**delivery.tries, BACKOFF_S_MAX)
        if not await self.ledger.incidents.claim(delivery, due_at_s=now_s + backoff_s):
            return True  # somebody else sends it
        message = write_message(webhook, delivery.incident, delivery.event, message_id=delivery.message_id, now_s=now_s)
        answer = await self.send(webhook, message.body, message.headers)
        state = _conclude(answer, delivery.tries + 1)
        await self.ledger.incidents.record(
            replace(delivery, state=state, tried_at_s=now_s, status=answer.status, problem=answer.problem)
        )
        self._tell(delivery, webhook, answer, state)
        return answer.is_accepted

    def _tell(self, delivery: Delivery, webhook: Webhook, answer: Answer, state: DeliveryState) -> None:
        told = {"message": delivery.message_id, "to": webhook.id, "tries": delivery.tries + 1, "status": answer.status}
        if state is DeliveryState.DELIVERED:
            self.telemetry.info("alert_delivered", **told)
        elif state is DeliveryState.GIVEN_UP:
            self.telemetry.fail("alert_given_up", None, **told, problem=answer.problem)
        else:
            self.telemetry.warn("alert_not_delivered", **told, problem=answer.problem)


def _hold(table: Table, figures: Figures) -> tuple[dict[str, list[Reading] | None], dict[Place, set[str]]]:
    """Hold every rule against the figures: what it gives by the rule's text, and which webhooks watch each place."""
    measured: dict[str, list[Reading] | None] = {}
    told: dict[Place, set[str]] = {}
    for alert in table.alerts:
        watching = set() if alert.webhook is None else {alert.webhook.id}
        for rule in alert.rules:
            found = measure(rule, figures)
            measured[rule.text] = None if found is None else [*(measured.get(rule.text) or ()), *found]
            for one in found or ():
                told.setdefault(one.place, set()).update(watching)
    return measured, told


def _conclude(answer: Answer, tries: int) -> DeliveryState:
    if answer.is_accepted:
        return DeliveryState.DELIVERED
    return DeliveryState.GIVEN_UP if tries >= TRIES_MAX else DeliveryState.PENDING
