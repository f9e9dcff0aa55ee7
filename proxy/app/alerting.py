"""Alerts of a gateway (part of `app`, floor 6): the watch joined to ledger, table and webhooks, and test messages."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from proxy.alerts import AlertWatch
from proxy.alerts.messages import write_test
from proxy.app.accounts import ReadAccounts
from proxy.app.parts import Gateway
from proxy.clock import Clock
from proxy.outbound.answers import Answer
from proxy.routing.table import Table, Webhook

ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class TestResult:
    """What came back from one webhook."""

    __test__ = False

    webhook: Webhook
    answer: Answer


@asynccontextmanager
async def open_watch(gateway: Gateway) -> AsyncIterator[AlertWatch]:
    """Give the job, one pass at a time; its client is made when the first message goes out."""
    sender = _LateSender()
    try:
        yield AlertWatch(
            ledger=gateway.ledger,
            table=lambda: gateway.routes.current,
            send=sender.send,
            telemetry=gateway.telemetry,
            clock=gateway.clock,
            new_id=lambda: secrets.token_hex(ID_BYTES),
            accounts=ReadAccounts(gateway.ledger, gateway.clock),
        )
    finally:
        await sender.close()


async def send_tests(table: Table, clock: Clock) -> list[TestResult]:
    """Send each webhook of a table a message that says it is a test, and tell what came back."""
    webhooks = {alert.webhook.id: alert.webhook for alert in table.alerts if alert.webhook is not None}
    sender = _LateSender()
    found = []
    try:
        for webhook in webhooks.values():
            message = write_test(webhook, message_id=f"{secrets.token_hex(ID_BYTES)}-test", now_s=clock.now_s())
            found.append(TestResult(webhook, await sender.send(webhook, message.body, message.headers)))
    finally:
        await sender.close()
    return found


class _Sender(Protocol):
    async def send(self, webhook: Webhook, body: bytes, headers: Mapping[str, str]) -> Answer: ...

    async def close(self) -> None: ...


class _LateSender:
    """A `WebhookSender` that is loaded when something is sent: its HTTP client costs 0.2 s of a start, and 5 MB."""

    def __init__(self) -> None:
        self._sender: _Sender | None = None

    async def send(self, webhook: Webhook, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Post one message."""
        if self._sender is None:
            self._sender = await asyncio.to_thread(_make_sender)
        return await self._sender.send(webhook, body, headers)

    async def close(self) -> None:
        """Let go of what is open."""
        if self._sender is not None:
            await self._sender.close()


def _make_sender() -> _Sender:
    from proxy.outbound.webhooks import WebhookSender  # noqa: PLC0415  # see _LateSender

    return WebhookSender()
