"""Short ways to say what tests do to keys and tenants."""

from __future__ import annotations

from functools import partial
from typing import Any

from proxy.ledger import deeds, tenant_deeds
from proxy.ledger.audit import Act, find_break
from proxy.ledger.protocol import Ledger
from proxy.ledger.records import KeyRecord, Outcome
from proxy.ledger.tenancy import TenantRecord
from proxy.money import Budget, Period
from proxy.policy.limits import NO_LIMITS
from tests.ledger.entries import NOON_S, ask

ACT = Act("admin", NOON_S, "127.0.0.1", "req_1")
DAY = (Budget(100, Period.DAY),)


async def create(ledger: Ledger, record: KeyRecord) -> KeyRecord:
    """Make a key as the admin API does."""
    return await ledger.registry.write(partial(deeds.create_key, key=record, act=ACT))


async def house(ledger: Ledger, name: str = "acme", **fields: object) -> TenantRecord:
    """Make a tenant."""
    tenant = TenantRecord(name, **fields)  # type: ignore[arg-type]  # a test's
    return await ledger.registry.write(partial(tenant_deeds.create_tenant, tenant=tenant, limits=NO_LIMITS, act=ACT))


async def find(ledger: Ledger, name: str) -> KeyRecord:
    """Look a key up as a request does."""
    found = await ledger.find_key(f"digest of {name}")
    assert found is not None
    return found


async def admit(ledger: Ledger, name: str, hold: int = 10, *, request_id: str = "r", **more: Any) -> Outcome:
    """Ask to be let in with what a look-up says of the key."""
    record = await find(ledger, name)
    asked = ask(request_id, hold, key_name=name, revision=record.revision)
    return await ledger.admit(asked._replace(tenant=record.tenant, parent=record.parent, **more))


async def actions(ledger: Ledger) -> list[tuple[str, str]]:
    """Give what the audit log says was done, oldest first, and see that its chain is whole."""
    entries = await ledger.registry.read(lambda store: store.list_entries(after_seq=0, rows_max=1_000))
    assert find_break(entries)[0] is None
    return [(entry.action, entry.target) for entry in entries]
