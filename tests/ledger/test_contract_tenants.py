"""What every registry promises about tenants, held against each of them alike."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from proxy.errors import ClientError, NotFound
from proxy.ledger import tenant_deeds
from proxy.ledger.deeds import Conflict
from proxy.ledger.protocol import Ledger
from proxy.ledger.records import Admitted, KeyGone
from proxy.ledger.tenancy import CredentialRecord, TenantRecord
from proxy.policy.limits import NO_LIMITS, Limits
from tests.ledger.entries import NOON_S, ask, key
from tests.ledger.registering import ACT, DAY, actions, admit, create, find, house


async def test_a_disabled_tenants_keys_may_do_nothing(ledger: Ledger) -> None:
    """From the next request on, whatever was planned; enabled, they may again."""
    await house(ledger)
    await create(ledger, key(tenant="acme"))
    before = ask("r", revision=(await find(ledger, "app")).revision)
    for is_enabled, gone in ((False, KeyGone(is_stale=False)), (True, KeyGone(is_stale=True))):
        edit = partial(_enable, is_enabled=is_enabled)
        await ledger.registry.write(partial(tenant_deeds.update_tenant, name="acme", edit=edit, act=ACT))
        assert (await find(ledger, "app")).is_enabled == is_enabled
        assert await ledger.admit(before) == gone
    assert isinstance(await admit(ledger, "app"), Admitted)


def _enable(tenant: TenantRecord, limits: Limits, *, is_enabled: bool) -> tuple[TenantRecord, Limits]:
    return replace(tenant, is_enabled=is_enabled), limits


async def test_a_deleted_tenant_takes_everything_along_but_its_figures(ledger: Ledger) -> None:
    """Keys, credentials, limits; the name stays taken, so that nobody inherits what it used."""
    await house(ledger)
    await create(ledger, key(tenant="acme"))
    await ledger.set_limits("tenant:acme", Limits(budgets=DAY))
    credential = CredentialRecord("acme", "sim", "sealed", "f")
    await ledger.registry.write(partial(tenant_deeds.put_credential, credential=credential, act=ACT))
    await ledger.registry.write(partial(tenant_deeds.delete_tenant, name="acme", act=ACT))
    found = await find(ledger, "app")
    assert (found.is_enabled, found.is_revoked) == (False, True)
    assert await ledger.find_limits("tenant:acme") == NO_LIMITS
    (gone,) = await ledger.registry.read(lambda store: store.list_tenants())
    assert (gone.is_deleted, gone.is_enabled, gone.credentials) == (True, False, ())
    with pytest.raises(Conflict, match="existed"):
        await house(ledger)
    with pytest.raises(NotFound):
        await ledger.registry.write(partial(tenant_deeds.find_tenant, name="acme"))
    with pytest.raises(ClientError, match="no tenant"):
        await create(ledger, key("new", tenant="acme"))


async def test_credentials_come_with_the_key_and_are_seen_as_fingerprints(ledger: Ledger) -> None:
    """A new one takes the former's place; every change makes the tenant's plans stale."""
    await house(ledger)
    await create(ledger, key(tenant="acme"))
    put = partial(tenant_deeds.put_credential, act=ACT)
    revision = (await find(ledger, "app")).revision
    for sealed in ("first", "second"):
        credential = CredentialRecord("acme", "sim", sealed, f"{sealed[0]}00")
        await ledger.registry.write(partial(put, credential=credential))
        record = await find(ledger, "app")
        assert record.house is not None
        assert record.house.credentials == (replace(credential, created_at_s=NOON_S),)
        assert record.revision > revision
        revision = record.revision
    seal_again = {"second": "third"}.__getitem__
    assert await ledger.registry.write(partial(tenant_deeds.reseal, seal_again=seal_again, act=ACT)) == 1
    record = await find(ledger, "app")
    assert record.house is not None
    assert [one.sealed for one in record.house.credentials] == ["third"]
    drop = partial(tenant_deeds.drop_credential, name="acme", provider="sim", act=ACT)
    await ledger.registry.write(drop)
    with pytest.raises(NotFound, match="no credential"):
        await ledger.registry.write(drop)
    entries = await ledger.registry.read(lambda store: store.list_entries(after_seq=0, rows_max=99))
    assert not any(
        word in f"{entry.before}{entry.after}" for entry in entries for word in ('first"', 'second"', "sealed")
    )
    assert (await actions(ledger))[-4:] == [
        ("credential.set", "credential:acme/sim"),
        ("credential.set", "credential:acme/sim"),
        ("credential.reseal", "credentials"),
        ("credential.drop", "credential:acme/sim"),
    ]


async def test_a_tenant_that_leaves_the_file_takes_its_keys_out_of_service(ledger: Ledger) -> None:
    """Its own accounts went with it: without them its calls would be the operator's."""
    declare = partial(tenant_deeds.declare_tenants, act=ACT)
    await ledger.registry.write(partial(declare, names=["acme"], table_id="t1"))
    await create(ledger, key(tenant="acme"))
    assert isinstance(await admit(ledger, "app"), Admitted)
    await ledger.registry.write(partial(declare, names=["acme"], table_id="t1"))
    revision = (await find(ledger, "app")).revision
    await ledger.registry.write(partial(declare, names=[], table_id="t2"))
    assert not (await find(ledger, "app")).is_enabled
    await ledger.registry.write(partial(declare, names=["acme"], table_id="t1"))
    found = await find(ledger, "app")
    assert found.is_enabled
    assert found.revision > revision
    loads = [target for action, target in await actions(ledger) if action == "routes.load"]
    assert loads == ["t1", "t2", "t1"]


async def test_a_made_tenant_that_enters_the_file_is_the_files(ledger: Ledger) -> None:
    """Its word counts from then on."""
    await house(ledger)
    declare = partial(tenant_deeds.declare_tenants, names=["acme"], table_id="t", act=ACT)
    await ledger.registry.write(declare)
    with pytest.raises(Conflict, match=r"routes\.yaml"):
        await ledger.registry.write(partial(tenant_deeds.delete_tenant, name="acme", act=ACT))
