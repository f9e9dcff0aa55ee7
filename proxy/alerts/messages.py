"""The words of an alert and the forms they are sent in (part of `alerts`, floor 4; no I/O).

One line says what, how much of what, since when, and what to do. Amounts are decimal texts.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from proxy.ledger.incidents import Event
from proxy.policy.incidents import Incident
from proxy.routing.table import Webhook

SIGNATURE_HEADER = "x-turnpike-signature"
ID_HEADER = "x-turnpike-delivery"
_COLOURS = {Event.OPENED: "danger", Event.ENDED: "good"}
# `<!channel>` and `@everyone` call a whole room; names of keys, users and tags come from elsewhere.
_HARMLESS = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "@\u200b"})


class Message(NamedTuple):
    """What is posted."""

    body: bytes
    headers: Mapping[str, str]


def describe(incident: Incident, event: Event) -> str:
    """Write the one line of an incident's beginning or end."""
    since = iso_time(incident.opened_at_s)
    if event is Event.OPENED:
        return f"{incident.rule}: {incident.what}, since {since}; {incident.advice}"
    assert incident.ended_at_s is not None
    lasted = show_span_s(incident.ended_at_s - incident.opened_at_s)
    return f"over after {lasted}: {incident.rule}, {incident.subject}: {incident.ending} (it was: {incident.what})"


def write_message(webhook: Webhook, incident: Incident, event: Event, *, message_id: str, now_s: float) -> Message:
    """Write what a webhook is sent of an incident."""
    text = describe(incident, event)
    if webhook.format == "json":
        return _seal(webhook, _as_json(incident, event, text, message_id), message_id=message_id, now_s=now_s)
    shown = f"{'Alert' if event is Event.OPENED else 'Resolved'}: {text}"
    return _seal(webhook, _as_slack(shown, _COLOURS[event], message_id), message_id=message_id, now_s=now_s)


def write_test(webhook: Webhook, *, message_id: str, now_s: float) -> Message:
    """Write what `turnpike alerts test` sends."""
    text = "this is a test of Turnpike's alerts; nothing has happened"
    if webhook.format == "json":
        content = {"id": message_id, "event": "test", "incident": None, "text": text, "sent_at": iso_time(now_s)}
        return _seal(webhook, content, message_id=message_id, now_s=now_s)
    return _seal(webhook, _as_slack(f"Test: {text}", "good", message_id), message_id=message_id, now_s=now_s)


def sign(secret: str, body: bytes, *, now_s: float) -> str:
    """Prove who wrote a body, and when: `t=SECONDS,v1=HEX`, the HMAC-SHA-256 of `SECONDS.BODY`."""
    at = str(int(now_s))
    digest = hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def iso_time(at_s: float) -> str:
    """Write a moment as ISO 8601 in UTC, to the second."""
    return f"{datetime.fromtimestamp(int(at_s), UTC):%Y-%m-%dT%H:%M:%SZ}"


def show_span_s(span_s: float) -> str:
    """Write how long something took, to two units: `45s`, `12m 5s`, `3h 10m`, `2d 4h`."""
    minutes, seconds = divmod(max(0, int(span_s)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")]
    first = next((place for place, (count, _) in enumerate(units) if count), len(units) - 1)
    return " ".join(f"{count}{unit}" for count, unit in units[first : first + 2] if count or unit == "s")


def _as_json(incident: Incident, event: Event, text: str, message_id: str) -> dict[str, Any]:
    return {
        "id": message_id,
        "event": event.value,
        "incident": incident.id,
        "rule": incident.rule,
        "subject": incident.subject,
        "figure": incident.figure,
        "opened_at": iso_time(incident.opened_at_s),
        "ended_at": None if incident.ended_at_s is None or event is Event.OPENED else iso_time(incident.ended_at_s),
        "text": text,
    }


def _as_slack(text: str, colour: str, message_id: str) -> dict[str, Any]:
    """Give the part of Slack's form that Mattermost and Discord (`/slack`) read alike."""
    shown = text.translate(_HARMLESS)
    return {
        "text": shown,
        "attachments": [{"color": colour, "fallback": shown, "footer": f"turnpike {message_id}"}],
    }


def _seal(webhook: Webhook, content: Mapping[str, Any], *, message_id: str, now_s: float) -> Message:
    body = orjson.dumps(content)
    headers = {ID_HEADER: message_id}
    if webhook.secret is not None:
        headers[SIGNATURE_HEADER] = sign(webhook.secret.reveal(), body, now_s=now_s)
    return Message(body, headers)
