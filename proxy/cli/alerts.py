"""`turnpike alerts` (part of `cli`, floor 7): what is watched, what holds, what was told, and a test of who is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from proxy.alerts.messages import describe
from proxy.app import TestResult, send_tests
from proxy.cli.books import ask_ledger
from proxy.cli.output import BAD, Column, complain, print_json, print_table, say
from proxy.cli.places import LEDGER, Places
from proxy.cli.tables import read_table
from proxy.clock import SystemClock
from proxy.edge.answers import iso_time
from proxy.ledger.incidents import Delivery, Event
from proxy.ledger.protocol import Ledger
from proxy.policy.incidents import Incident
from proxy.routing.table import Alert, Table

DELIVERIES_SHOWN_MAX = 20


def show_alerts(places: Places, *, as_json: bool) -> None:
    """Print the rules of the table, and of the ledger, when there is one, the open incidents and the last messages."""
    table = read_table(places)
    incidents, deliveries = _read_ledger(places)
    if as_json:
        print_json(
            {
                "alerts": [_alert_json(alert) for alert in table.alerts],
                "incidents": [_incident_json(incident) for incident in incidents],
                "deliveries": [_delivery_json(delivery) for delivery in deliveries],
            }
        )
        return
    if not table.alerts:
        say("nothing is watched; `alerts: [{when: [spend > 80%, provider_down]}]` in the routes file begins it")
    else:
        print_table([Column("WATCHED"), Column("OF"), Column("TOLD TO")], _rule_rows(table))
    say("")
    say(f"open incidents: {len(incidents) or 'none'}")
    for incident in incidents:
        say(f"  {incident.id}  {describe(incident, Event.OPENED)}")
    say("")
    say(f"last messages: {'' if deliveries else 'none'}".rstrip())
    if deliveries:
        titles = ("TIME", "MESSAGE", "TO", "STATE", "TRIES", "ANSWER")
        columns = [Column(title, is_number=title == "TRIES") for title in titles]
        print_table(columns, [_delivery_row(delivery) for delivery in deliveries])


def try_alerts(places: Places, *, as_json: bool) -> int:
    """Send the tests; 0 when every webhook took its message, 1 when one did not or there is none."""
    table = read_table(places)
    results = asyncio.run(send_tests(table, SystemClock()))
    is_good = bool(results) and all(result.answer.is_accepted for result in results)
    if as_json:
        print_json({"ok": is_good, "webhooks": [_result_json(result) for result in results]})
    elif not results:
        complain('no alert has a webhook; name one: `alerts: [{webhook: "${ALERT_URL}", when: [spend > 80%]}]`')
    else:
        for result in results:
            say(_show_result(result))
    return 0 if is_good else BAD


def _read_ledger(places: Places) -> tuple[Sequence[Incident], Sequence[Delivery]]:
    """Read what was told; before a first start there is no ledger, and nothing was."""
    if not (places.data / LEDGER).exists():
        return (), ()

    async def read(ledger: Ledger) -> tuple[Sequence[Incident], Sequence[Delivery]]:
        deliveries = await ledger.incidents.list_deliveries(rows_max=DELIVERIES_SHOWN_MAX)
        return await ledger.incidents.list_open(), deliveries

    return ask_ledger(places, read)


def _rule_rows(table: Table) -> list[list[str]]:
    return [
        [rule.text, ", ".join(rule.scopes) or "all", _show_webhook(alert)]
        for alert in table.alerts
        for rule in alert.rules
    ]


def _show_webhook(alert: Alert) -> str:
    return "the log" if alert.webhook is None else f"{alert.webhook.id} ({alert.webhook.format}), the log"


def _show_result(result: TestResult) -> str:
    answer = result.answer
    verdict = f"taken, HTTP {answer.status}" if answer.is_accepted else f"not taken: {answer.problem}"
    said = f"; it said: {answer.said}" if answer.said else ""
    return f"{result.webhook.id} ({result.webhook.format}): {verdict}{said}"


def _delivery_row(delivery: Delivery) -> list[str]:
    status = "" if delivery.status is None else f"HTTP {delivery.status}"
    return [
        iso_time(delivery.tried_at_s) or "-",
        delivery.message_id,
        delivery.webhook,
        delivery.state.value,
        str(delivery.tries),
        delivery.problem or status or "-",
    ]


def _alert_json(alert: Alert) -> dict[str, Any]:
    webhook = alert.webhook
    return {
        "rules": [{"rule": rule.text, "scopes": list(rule.scopes)} for rule in alert.rules],
        "webhook": None
        if webhook is None
        else {"id": webhook.id, "format": webhook.format, "signed": webhook.secret is not None},
    }


def _incident_json(incident: Incident) -> dict[str, Any]:
    return {
        "id": incident.id,
        "rule": incident.rule,
        "subject": incident.subject,
        "figure": incident.figure,
        "opened_at": iso_time(incident.opened_at_s),
        "text": describe(incident, Event.OPENED),
    }


def _delivery_json(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.message_id,
        "incident": delivery.incident.id,
        "event": delivery.event.value,
        "webhook": delivery.webhook,
        "state": delivery.state.value,
        "tries": delivery.tries,
        "tried_at": iso_time(delivery.tried_at_s),
        "status": delivery.status,
        "problem": delivery.problem,
        "text": describe(delivery.incident, delivery.event),
    }


def _result_json(result: TestResult) -> dict[str, Any]:
    answer = result.answer
    return {
        "webhook": result.webhook.id,
        "format": result.webhook.format,
        "ok": answer.is_accepted,
        "status": answer.status,
        "problem": answer.problem,
        "said": answer.said or None,
    }
