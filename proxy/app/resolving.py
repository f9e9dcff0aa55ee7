"""What a serving gateway does about amounts that are told late (part of `app`, floor 6)."""

from __future__ import annotations

import asyncio

from proxy.app.parts import Gateway
from proxy.errors import LedgerUnavailable
from proxy.gateway import CHECKPOINT_S, take_stock
from proxy.lookups import Lookups, Outcome
from proxy.money import format_usd
from proxy.outbound.generations import Generations
from proxy.routing.table import Secret


def make_lookups(gateway: Gateway) -> Lookups:
    """Make what asks providers afterwards what attempts cost; one process per ledger is enough, several do no harm."""

    def tell(outcome: Outcome) -> None:
        fields = {"request_id": outcome.request_id, "attempt": outcome.attempt, "provider": outcome.provider}
        if outcome.cost_nano_usd is None:
            gateway.telemetry.warn("lookup_failed", **fields, reason=outcome.reason)
            return
        delta = outcome.delta_nano_usd
        gateway.telemetry.info(
            "lookup_booked",
            **fields,
            cost_usd=format_usd(outcome.cost_nano_usd),
            corrected_by_usd=None if delta is None else format_usd(delta),
            overrun=outcome.is_overrun,
        )

    async def find_stored(tenant: str, provider: str) -> Secret | None:
        found = await gateway.ledger.registry.read(lambda store: store.find_tenant(tenant))
        sealed = (one.sealed for one in (found.credentials if found is not None else ()) if one.provider == provider)
        secret = next((gateway.vault.unseal(text) for text in sealed), None)
        return None if secret is None else Secret(secret)

    return Lookups(
        gateway.ledger,
        clock=gateway.clock,
        asking=Generations(),
        table=lambda: gateway.routes.current,
        tell=tell,
        find_stored=find_stored,
    )


async def keep_checkpoints(gateway: Gateway) -> None:
    """Leave word of what is open in this process, for ever; every process does for itself."""
    while True:
        await asyncio.sleep(CHECKPOINT_S)
        try:
            await gateway.ledger.resolution.note_progress(await take_stock(gateway.service.under_way))
        except LedgerUnavailable as error:
            gateway.telemetry.warn("checkpoint_failed", reason=error.message)
