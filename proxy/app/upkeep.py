"""What a gateway does for its books from time to time (part of `app`, floor 6): old detail goes, accounts are read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from typing import NamedTuple, Protocol

from proxy.app.parts import Gateway
from proxy.clock import Clock
from proxy.jobs import Job
from proxy.ledger.bills import Bill, find_drifts, list_newest
from proxy.ledger.protocol import Ledger
from proxy.money import format_usd
from proxy.outbound.figures import AccountFigures, AccountUnreadable
from proxy.routing.table import Provider, Secret, Table

UPKEEP_S = 3_600.0
"""Time between two rounds."""
READ_AGAIN_S = 1_800.0
"""An account read so lately is not asked again: servers that start often must not ask each time."""
_FINGERPRINT_DIGITS = 16


class _Reader(Protocol):
    async def read(self, base_url: str, credential: Secret) -> AccountFigures:
        """Ask for one account; raises `AccountUnreadable`."""
        ...

    async def close(self) -> None:
        """Let go of what is open."""
        ...


class Account(NamedTuple):
    """One credential of a provider that is asked."""

    provider: Provider
    upstream_key: str
    credential: Secret

    @property
    def fingerprint(self) -> str:
        """Tell the credential from another."""
        return sha256(f"turnpike account {self.credential.reveal()}".encode()).hexdigest()[:_FINGERPRINT_DIGITS]


def list_upkeep(gateway: Gateway) -> tuple[Job, Job]:
    """Make the jobs."""
    return (
        Job("retention", UPKEEP_S, partial(prune, gateway)),
        Job("accounts", UPKEEP_S, partial(reconcile, gateway)),
    )


async def prune(gateway: Gateway) -> None:
    """Sum by day what is older than the table says."""
    retention_s = gateway.routes.current.retention_s
    if retention_s is None:
        return
    rolled = await gateway.ledger.roll_up(gateway.clock.now_s() - retention_s)
    if rolled:
        gateway.telemetry.info("detail_rolled_up", attempts=rolled, days_kept=int(retention_s // 86_400))


async def reconcile(gateway: Gateway) -> None:
    """Read the accounts that are due, and warn of those whose bill is not what was booked."""
    table, ledger = gateway.routes.current, gateway.ledger
    due = await list_due(table, ledger, now_s=gateway.clock.now_s())
    if not due:
        return
    failed = await read_accounts(due, ledger, gateway.clock)
    for account, why in failed:
        gateway.telemetry.warn("account_not_read", provider=account.provider.name, reason=why)
    read = {(account.provider.name, account.upstream_key) for account in due}
    for drift in find_drifts(await ledger.bills.list()):
        if drift.is_notable and (drift.provider, drift.upstream_key) in read:
            gateway.telemetry.warn(
                "books_drift",
                provider=drift.provider,
                booked_usd=format_usd(drift.ours_nano_usd),
                billed_usd=format_usd(drift.theirs_nano_usd),
                remedy="`turnpike reconcile` tells more; others may use the same credential",
            )


def list_accounts(table: Table) -> Iterator[Account]:
    """List the credentials whose accounts can be asked."""
    for provider in table.providers.values():
        if not provider.is_reconciled or provider.not_ready is not None:
            continue
        if provider.pool:
            yield from (Account(provider, key.label, key.secret) for key in provider.pool)
        elif provider.api_key is not None:
            yield Account(provider, "", provider.api_key)


async def list_due(table: Table, ledger: Ledger, *, now_s: float) -> list[Account]:
    """List the accounts that were not read lately, or not with this credential."""
    newest = {(one.provider, one.upstream_key): one for one in list_newest(await ledger.bills.list())}
    due = []
    for account in list_accounts(table):
        known = newest.get((account.provider.name, account.upstream_key))
        is_fresh = known is not None and known.at_s > now_s - READ_AGAIN_S
        if known is None or not is_fresh or known.fingerprint != account.fingerprint:
            due.append(account)
    return due


async def read_accounts(due: list[Account], ledger: Ledger, clock: Clock) -> list[tuple[Account, str]]:
    """Read some accounts one after the other and keep what they say; gives those that did not, and why."""
    failed = []
    for account in due:
        # Made when it is needed: the HTTP client costs 0.2 s of a start.
        reader = await asyncio.to_thread(_make_reader, account.provider)
        try:
            figures = await reader.read(account.provider.base_url, account.credential)
        except AccountUnreadable as error:
            failed.append((account, str(error)))
            continue
        finally:
            await reader.close()
        booked = await ledger.bills.sum_booked(account.provider.name)
        await ledger.bills.add(
            Bill(
                provider=account.provider.name,
                upstream_key=account.upstream_key,
                at_s=clock.now_s(),
                fingerprint=account.fingerprint,
                billed_nano_usd=figures.billed_nano_usd,
                booked_nano_usd=booked.get(account.upstream_key, 0),
                left_nano_usd=figures.left_nano_usd,
            )
        )
    return failed


def _make_reader(provider: Provider) -> _Reader:
    from proxy.outbound.accounts import AccountReader  # noqa: PLC0415  # see read_accounts

    return AccountReader(verify=provider.verify)
