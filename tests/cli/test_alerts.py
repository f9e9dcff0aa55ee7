"""`turnpike alerts`: what is watched, what holds, what was told, and whether a webhook works."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from proxy.app import open_ledger
from proxy.ledger.incidents import DeliveryState
from proxy.policy.incidents import Incident
from tests.cli.conftest import AT_S, ROUTES, Shell
from tests.outbound.hooks import Hook, hooking, status

ALERTS = """\
alerts:
  - {webhook: "${ALERT_URL}", allow_private: true, when: [spend > 80%, provider_down]}
  - {when: [spend > $1/day], keys: [mobile]}
"""
INCIDENT = Incident(
    "9f2c", "provider_down", "provider:openai", 0, "5 of 5", "5 of the last 5 attempts at openai failed", "look", AT_S
)


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    """A webhook served from a thread: commands have a loop of their own."""
    loop, ready, done = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found: list[Hook] = []

    async def serve() -> None:
        async with hooking() as hook:
            found.append(hook)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait(5)
    monkeypatch.setenv("ALERT_URL", found[0].url)
    yield found[0]
    loop.call_soon_threadsafe(done.set)
    thread.join(5)
    loop.close()


def tell(shell: Shell) -> None:
    """Write an incident that was told, and one that could not be."""

    async def write() -> None:
        ledger = await open_ledger(shell.data)
        await ledger.incidents.open(INCIDENT, webhooks=["aaaa"])
        await ledger.incidents.open(replace(INCIDENT, id="77aa", subject="provider:x"), webhooks=["bbbb"])
        for webhook, state in (("aaaa", DeliveryState.DELIVERED), ("bbbb", DeliveryState.GIVEN_UP)):
            (one,) = await ledger.incidents.list_due(webhook, AT_S, rows_max=9)
            await ledger.incidents.claim(one, due_at_s=AT_S + 30)
            is_good = state is DeliveryState.DELIVERED
            told = replace(one, state=state, tried_at_s=AT_S, status=200 if is_good else 500)
            await ledger.incidents.record(told if is_good else replace(told, problem="HTTP 500"))
        await ledger.close()

    asyncio.run(write())


def test_rules_incidents_and_messages_are_shown(shell: Shell, hook: Hook) -> None:
    """And never an address."""
    shell.routes.write_text(ROUTES + ALERTS)
    tell(shell)
    shown = shell.here("alerts")
    assert shown.code == 0
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert lines[0] == "WATCHED OF TOLD TO"
    assert lines[1].startswith("spend > 80% all ")
    assert lines[1].endswith(" (slack), the log")
    assert lines[3] == "spend > $1/day key:mobile the log"
    assert "open incidents: 2" in lines
    assert "9f2c provider_down: 5 of the last 5 attempts at openai failed, since 2026-11-18T11:06:40Z; look" in lines
    assert "2026-11-18T11:06:40Z 9f2c-opened aaaa delivered 1 HTTP 200" in lines
    assert "2026-11-18T11:06:40Z 77aa-opened bbbb given_up 1 HTTP 500" in lines
    assert "s3cret" not in shown.out + shown.err


def test_the_same_as_json(shell: Shell, hook: Hook) -> None:
    """For a program."""
    shell.routes.write_text(ROUTES + ALERTS)
    tell(shell)
    found = shell.here("alerts", "--json").json
    assert found["alerts"][0]["rules"][0] == {"rule": "spend > 80%", "scopes": []}
    assert found["alerts"][0]["webhook"]["signed"] is False
    assert found["alerts"][1] == {"rules": [{"rule": "spend > $1/day", "scopes": ["key:mobile"]}], "webhook": None}
    assert [one["id"] for one in found["incidents"]] == ["77aa", "9f2c"]
    assert found["deliveries"][0]["state"] == "delivered"
    assert "s3cret" not in str(found)


def test_nothing_watched_and_no_ledger(shell: Shell) -> None:
    """It says how to begin."""
    shown = shell.here("alerts")
    assert shown.code == 0
    assert "nothing is watched" in shown.out
    assert "open incidents: none" in shown.out
    assert not shell.data.exists()


def test_a_test_message_is_sent_and_its_fate_told(shell: Shell, hook: Hook) -> None:
    """0 when it was taken."""
    shell.routes.write_text(ROUTES + ALERTS)
    tried = shell.here("alerts", "test")
    assert tried.code == 0
    assert tried.out.endswith("(slack): taken, HTTP 200; it said: ok\n")
    (one,) = hook.received
    assert "this is a test" in one.json["text"]
    assert shell.here("alerts", "test", "--json").json["webhooks"][0]["ok"] is True


def test_a_test_message_that_is_refused_is_bad(shell: Shell, hook: Hook) -> None:
    """1, with what came back."""
    shell.routes.write_text(ROUTES + ALERTS)
    hook.replies = [status(404, body="no_service"), status(302, "location: http://x\r\n", body="")]
    tried = shell.here("alerts", "test")
    assert tried.code == 1
    assert "not taken: HTTP 404; it said: no_service" in tried.out
    assert "redirects are not followed" in shell.here("alerts", "test").out


def test_a_test_without_a_webhook_is_bad(shell: Shell) -> None:
    """There is nothing to test."""
    tried = shell.here("alerts", "test")
    assert tried.code == 1
    assert "no alert has a webhook" in tried.err
    assert shell.here("alerts", "test", "--json").json == {"ok": False, "webhooks": []}
