"""The jobs of a gateway (part of `app`, floor 6): what one process per ledger does while it serves."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.alerts import EVERY_S, AlertWatch
from proxy.app.parts import Gateway
from proxy.app.prices import LOOK_S, PriceRefresher
from proxy.app.upkeep import list_upkeep
from proxy.catalogue import REFRESHED_FILE
from proxy.jobs import Job, pruning_rates, pruning_replies, sweeping
from proxy.lookups import LOOK_S as LOOKUPS_S
from proxy.lookups import Lookups
from proxy.outbound.listing import fetch_listing


def list_jobs(gateway: Gateway, watch: AlertWatch, lookups: Lookups) -> Sequence[Job]:
    """Make the jobs of a gateway; `watch` tells its alerts, `lookups` asks what attempts cost."""
    replies = gateway.service.replies
    return (
        _sweep(gateway),
        pruning_rates(gateway.ledger, clock=gateway.clock),
        *([] if replies is None else [pruning_replies(replies)]),
        Job("lookups", LOOKUPS_S, lookups.run),
        Job("alerts", EVERY_S, watch.run),
        _refresh(gateway),
        *list_upkeep(gateway),
    )


def _sweep(gateway: Gateway) -> Job:
    def on_resolved(attempts: int) -> None:
        gateway.telemetry.warn(
            "holds_resolved", attempts=attempts, remedy="a process died; see its rows: error owner_died"
        )

    return sweeping(gateway.ledger, clock=gateway.clock, on_resolved=on_resolved)


def _refresh(gateway: Gateway) -> Job:
    refresher = PriceRefresher(
        path=gateway.data / REFRESHED_FILE,
        table=lambda: gateway.routes.current,
        catalogue=gateway.catalogue,
        fetch=lambda provider: fetch_listing(provider.base_url, verify=provider.verify),
        telemetry=gateway.telemetry,
        clock=gateway.clock,
    )
    return Job("prices", LOOK_S, refresher.refresh)
