"""What a person reads and what a program checks."""

from __future__ import annotations

import re
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.alerts.messages import describe, show_span_s, sign, write_message, write_test
from proxy.ledger.incidents import Event
from proxy.policy.incidents import Incident
from proxy.routing.table import Secret, Webhook

AT_S = 1_795_176_000.0
"""2026-11-20 12:00 UTC."""
SECRET = "0123456789abcdef"
INCIDENT = Incident(
    "9f2c",
    "spend > 80%",
    "key:mobile/day",
    turn=1_795_219_200,
    figure="82%",
    what="key mobile has spent $4.10 of $5.00 today (82%)",
    advice="raise the budget, or wait until 2026-11-21T00:00Z",
    opened_at_s=AT_S,
)
ENDED = replace(INCIDENT, ended_at_s=AT_S + 3_725, ending="a new period has begun, or it is no longer watched")
SLACK = Webhook("w", Secret("https://hooks.example/x"))
SIGNED = Webhook("w", Secret("https://hooks.example/x"), format="json", secret=Secret(SECRET))


def test_the_one_line_of_a_beginning() -> None:
    """What, how much of what, since when, what to do."""
    assert describe(INCIDENT, Event.OPENED) == (
        "spend > 80%: key mobile has spent $4.10 of $5.00 today (82%), since 2026-11-20T12:00:00Z; "
        "raise the budget, or wait until 2026-11-21T00:00Z"
    )


def test_the_one_line_of_an_end() -> None:
    """How long it was, and why it is over."""
    assert describe(ENDED, Event.ENDED) == (
        "over after 1h 2m: spend > 80%, key:mobile/day: a new period has begun, or it is no longer watched "
        "(it was: key mobile has spent $4.10 of $5.00 today (82%))"
    )


def test_slacks_form() -> None:
    """One text, and an attachment with colour and id."""
    message = write_message(SLACK, INCIDENT, Event.OPENED, message_id="9f2c-opened", now_s=AT_S)
    content = orjson.loads(message.body)
    shown = f"Alert: {describe(INCIDENT, Event.OPENED)}".replace(">", "&gt;")
    assert content == {
        "text": shown,
        "attachments": [{"color": "danger", "fallback": shown, "footer": "turnpike 9f2c-opened"}],
    }
    assert message.headers == {"x-turnpike-delivery": "9f2c-opened"}
    ended = orjson.loads(write_message(SLACK, ENDED, Event.ENDED, message_id="9f2c-ended", now_s=AT_S).body)
    assert ended["text"].startswith("Resolved: over after 1h 2m")
    assert ended["attachments"][0]["color"] == "good"


def test_no_name_can_call_a_whole_room() -> None:
    """Names of users and tags are the clients' own."""
    nasty = replace(INCIDENT, what="user acme/<!channel> & @everyone has spent $5.00")
    shown = orjson.loads(write_message(SLACK, nasty, Event.OPENED, message_id="i", now_s=AT_S).body)["text"]
    assert "acme/&lt;!channel&gt; &amp; @\u200beveryone" in shown


def test_the_signed_form() -> None:
    """All of it as text, amounts as decimals."""
    message = write_message(SIGNED, INCIDENT, Event.OPENED, message_id="9f2c-opened", now_s=AT_S + 9)
    assert orjson.loads(message.body) == {
        "id": "9f2c-opened",
        "event": "opened",
        "incident": "9f2c",
        "rule": "spend > 80%",
        "subject": "key:mobile/day",
        "figure": "82%",
        "opened_at": "2026-11-20T12:00:00Z",
        "ended_at": None,
        "text": describe(INCIDENT, Event.OPENED),
    }
    ended = orjson.loads(write_message(SIGNED, ENDED, Event.ENDED, message_id="i", now_s=AT_S).body)
    assert (ended["event"], ended["ended_at"]) == ("ended", "2026-11-20T13:02:05Z")
    # It ended before its beginning could be delivered: the beginning is told as it was.
    late = orjson.loads(write_message(SIGNED, ENDED, Event.OPENED, message_id="i", now_s=AT_S).body)
    assert late["ended_at"] is None


@pytest.mark.parametrize("webhook", [SLACK, SIGNED])
def test_a_test_says_that_it_is_one(webhook: Webhook) -> None:
    """In either form."""
    content = orjson.loads(write_test(webhook, message_id="x-test", now_s=AT_S).body)
    assert "nothing has happened" in content["text"]
    assert content.get("event", "test") == "test"


def test_the_documented_check_of_a_signature_works() -> None:
    """The snippet of the reference takes what was signed, and nothing that was changed, old or of another's secret."""
    text = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()
    found = re.search(r"```python\n(import hashlib.*?)```", text, re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(textwrap.dedent(found[1]), names)  # noqa: S102  # our own document
    is_genuine = names["is_genuine"]
    message = write_message(SIGNED, INCIDENT, Event.OPENED, message_id="i", now_s=AT_S)
    header = message.headers["x-turnpike-signature"]
    assert header == sign(SECRET, message.body, now_s=AT_S)
    assert is_genuine(SECRET, header, message.body, now_s=AT_S + 60)
    assert not is_genuine(SECRET, header, message.body + b" ", now_s=AT_S)
    assert not is_genuine("another-secret-of-16", header, message.body, now_s=AT_S)
    assert not is_genuine(SECRET, header, message.body, now_s=AT_S + 3_600)
    assert not is_genuine(SECRET, header.replace("t=1", "t=2"), message.body, now_s=AT_S)
    assert not is_genuine(SECRET, "", message.body, now_s=AT_S)


@pytest.mark.parametrize(
    ("span_s", "text"),
    [(0, "0s"), (-5, "0s"), (45, "45s"), (725, "12m 5s"), (3_600, "1h"), (11_400, "3h 10m"), (187_200, "2d 4h")],
)
def test_spans(span_s: float, text: str) -> None:
    """To two units."""
    assert show_span_s(span_s) == text
