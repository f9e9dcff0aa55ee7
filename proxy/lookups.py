"""Asking providers afterwards what attempts cost (floor 4): those that were left, cut off, or whose process died.

Every pass is safe to run in several processes at once: who claims a look-up is the only one to make that try.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, Protocol

from proxy.clock import Clock
from proxy.errors import LedgerUnavailable
from proxy.ledger.protocol import Ledger
from proxy.ledger.resolution import DueLookup, Reason, Truth
from proxy.metering import Evidence, book
from proxy.outbound.generations import GenerationUnknownError
from proxy.policy.lookups import TRIES_MAX
from proxy.policy.scopes import PAYER_TENANT
from proxy.routing.table import Provider, Secret, Table
from proxy.usage import CostSource, Usage

LOOK_S: Final = 1.0
"""Time between two looks for what is due."""
ASKED_AT_ONCE_MAX: Final = 8
CLAIMED_MAX: Final = 64
"""Look-ups of one pass; what is beyond waits for the next."""


class Asking(Protocol):
    """Who can be asked what a generation cost; `outbound.generations` is."""

    async def find(self, provider: Provider, credential: Secret | None, generation_id: str) -> Usage:
        """Ask; raises `GenerationUnknownError` when there is no answer, yet or ever."""
        ...


class Outcome(NamedTuple):
    """What one look-up came to, for the log."""

    request_id: str
    attempt: int
    provider: str
    cost_nano_usd: int | None
    """As reported; None when the provider never said."""
    reason: str | None
    """Why nothing is known; None when it is."""
    delta_nano_usd: int | None = None
    """By how much what had been booked was changed; None when nothing had been."""
    is_overrun: bool = False


FindStored = Callable[[str, str], Awaitable[Secret | None]]
"""Takes the names of a tenant and a provider."""


async def nobodys(_tenant: str, _provider: str) -> None:
    """Know of no stored credential."""


class Lookups:
    """Works off what the ledger has to ask."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        clock: Clock,
        asking: Asking,
        table: Callable[[], Table],
        tell: Callable[[Outcome], None],
        find_stored: FindStored = nobodys,
    ) -> None:
        """Ask with the credentials of the table in force; `tell` hears of every look-up that has come to an end.

        `find_stored` gives a tenant's credential that is kept elsewhere.
        """
        self._find_stored = find_stored
        self._ledger = ledger
        self._clock = clock
        self._asking = asking
        self._table = table
        self._tell = tell

    async def run(self) -> None:
        """Make all look-ups that are due, each once; what the ledger cannot take now is asked for again later."""
        try:
            due = await self._ledger.resolution.claim_lookups(self._clock.now_s(), count_max=CLAIMED_MAX)
        except LedgerUnavailable:
            return
        room = asyncio.Semaphore(ASKED_AT_ONCE_MAX)
        async with asyncio.TaskGroup() as group:
            for lookup in due:
                group.create_task(self._look_up(lookup, room))

    async def _look_up(self, lookup: DueLookup, room: asyncio.Semaphore) -> None:
        with contextlib.suppress(LedgerUnavailable):
            try:
                async with room:
                    usage = await self._ask(lookup)
            except GenerationUnknownError as error:
                await self._miss(lookup, str(error))
            else:
                await self._book(lookup, usage)

    async def _book(self, lookup: DueLookup, usage: Usage) -> None:
        booking = book(Evidence(lookup.hold_nano_usd, usage=usage))
        truth = Truth(
            lookup.attempt_seq,
            booking.cost_nano_usd,
            CostSource.REPORTED,
            usage._replace(anomalies=booking.anomalies),
            Reason.LOOKUP,
            self._clock.now_s(),
        )
        resolved = await self._ledger.resolution.correct(truth)
        if resolved is not None:
            delta = None if resolved.correction is None else resolved.correction.delta_nano_usd
            told = (*lookup[1:4], usage.cost_nano_usd, None, delta, booking.is_overrun)
            self._tell(Outcome(*told))

    async def _ask(self, lookup: DueLookup) -> Usage:
        table = self._table()
        provider = table.providers.get(lookup.provider)
        if provider is None or not provider.base_url:
            raise GenerationUnknownError("the provider is no longer there")
        credential = find_credential(table, provider, lookup)
        if credential is None and lookup.payer == PAYER_TENANT:
            credential = await self._find_stored(lookup.tenant or "", provider.name)
        return await self._asking.find(provider, credential, lookup.generation_id)

    async def _miss(self, lookup: DueLookup, reason: str) -> None:
        is_booked = await self._ledger.resolution.miss_lookup(lookup, self._clock.now_s())
        if is_booked or lookup.tries == TRIES_MAX:
            self._tell(Outcome(*lookup[1:4], None, reason))


def find_credential(table: Table, provider: Provider, lookup: DueLookup) -> Secret | None:
    """Find the credential an attempt went out with: only its own account is told of it."""
    if lookup.payer == PAYER_TENANT:
        tenant = table.tenants.get(lookup.tenant or "")
        return None if tenant is None else tenant.provider_keys.get(provider.name)
    pool = {key.label: key.secret for key in provider.pool}
    return pool.get(lookup.upstream_key or "", provider.api_key)
