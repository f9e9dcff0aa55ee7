"""The jobs of a gateway (part of `app`, floor 6): what one process per ledger does while it serves."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.app.parts import Gateway
from proxy.jobs import Job, pruning_rates, sweeping


def list_jobs(gateway: Gateway) -> Sequence[Job]:
    """Make the jobs of a gateway."""
    return (_sweep(gateway), pruning_rates(gateway.ledger, clock=gateway.clock))


def _sweep(gateway: Gateway) -> Job:
    def on_resolved(attempts: int) -> None:
        gateway.telemetry.warn(
            "holds_resolved", attempts=attempts, remedy="a process died; its holds are booked in full"
        )

    return sweeping(gateway.ledger, clock=gateway.clock, on_resolved=on_resolved)
