"""What every registry promises about keys, tenants, credits and the audit log, held against each of them alike."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from proxy.errors import ClientError, NotFound, PermissionRefused
from proxy.ledger import deeds, tenant_deeds
from proxy.ledger.deeds import Conflict
from proxy.ledger.protocol import Ledger
from proxy.ledger.records import Admitted, KeyGone, Limited, Refused
from proxy.ledger.tenancy import Grant
from proxy.money import Budget, Period
from proxy.policy.limits import NO_LIMITS, Limits, Measure, Rate
from tests.ledger.entries import NOON_S, ask, key, onward, over, posted, start
from tests.ledger.registering import ACT, DAY, actions, admit, create, find, house

# ---------------------------------------------------------------- keys


async def test_a_made_key_is_found_with_everything(ledger: Ledger) -> None:
    """What it was given comes back, and one line says who gave it."""
    await house(ledger)
    made = key(
        limit=7,
        tenant="acme",
        models=("chat", "or/*"),
        default_model="chat",
        params={"temperature": 0},
        max_cost_nano_usd=9,
        may_create_keys=True,
        created_at_s=NOON_S,
        expires_at_s=NOON_S + 1,
    )
    await create(ledger, made)
    found = await find(ledger, "app")
    assert replace(found, revision=1) == made
    assert (found.house and found.house.name, found.updated_at_s, found.is_walled) == ("acme", NOON_S, True)
    (entry,) = (await ledger.registry.read(lambda store: store.list_newest_entries(before_seq=99, rows_max=1)))[:1]
    assert (entry.actor, entry.address, entry.request_id, entry.at_s) == ("admin", "127.0.0.1", "req_1", NOON_S)
    assert "digest of app" not in str(entry.after)
    assert json.loads(entry.after or "")["max_cost_nano_usd"] == 9


async def test_names_stay_taken(ledger: Ledger) -> None:
    """Of a key that lives and of one that was revoked: its figures are kept under it."""
    await create(ledger, key())
    with pytest.raises(Conflict, match="exists already"):
        await create(ledger, key())
    await ledger.registry.write(partial(deeds.revoke_key, name="app", act=ACT))
    with pytest.raises(Conflict):
        await create(ledger, key())
    assert await actions(ledger) == [("key.create", "key:app"), ("key.revoke", "key:app")]


async def test_a_value_belongs_to_one_key(ledger: Ledger) -> None:
    """Else one name's walls would hold for the other's requests; a value that was revoked does not come back."""
    await create(ledger, key("first"))
    twin = replace(key("second"), digest="digest of first", created_at_s=NOON_S)
    with pytest.raises(Conflict, match="'first' has this value"):
        await create(ledger, twin)
    rotate = partial(deeds.rotate_key, name="first", digest="another", former_until_s=NOON_S + 60, act=ACT)
    await ledger.registry.write(rotate)
    with pytest.raises(Conflict, match="'first' has this value"):
        await create(ledger, twin)
    await create(ledger, replace(twin, created_at_s=NOON_S + 60))
    await ledger.registry.write(partial(deeds.revoke_key, name="second", act=ACT))
    with pytest.raises(Conflict, match="'second' is revoked for good and has this value"):
        await create(ledger, replace(twin, name="third", created_at_s=NOON_S + 60))


async def test_a_value_that_left_the_file_may_be_taken_over(ledger: Ledger) -> None:
    """A key moves from routes.yaml to a made one, with the clients it has."""
    await ledger.declare_keys([key("file")])
    moved = replace(key("made"), digest="digest of file")
    with pytest.raises(Conflict, match="'file' has this value"):
        await create(ledger, moved)
    await ledger.declare_keys([])
    await create(ledger, moved)
    assert (await find(ledger, "file")).name == "made"


async def test_a_key_needs_its_tenant(ledger: Ledger) -> None:
    """One nobody made is no house to live in; nothing is written."""
    with pytest.raises(ClientError, match="no tenant 'acme'"):
        await create(ledger, key(tenant="acme"))
    assert await ledger.list_keys() == []
    assert await actions(ledger) == []


async def test_a_change_holds_from_the_next_admission(ledger: Ledger) -> None:
    """A plan made before it is stale; looked up again, the new limits hold."""
    await create(ledger, key(limit=100))
    before = ask("r", 50)
    edit = partial(replace, limits=Limits(budgets=(Budget(10, Period.DAY),), parallel=1), models=("chat",))
    await ledger.registry.write(partial(deeds.update_key, name="app", edit=edit, act=ACT))
    assert await ledger.admit(before) == KeyGone(is_stale=True)
    assert isinstance(await admit(ledger, "app", 50), Refused)
    assert isinstance(await admit(ledger, "app", 10), Admitted)
    assert isinstance(await admit(ledger, "app", 0, request_id="s"), Limited)
    assert (await find(ledger, "app")).models == ("chat",)


async def test_a_rotated_key_is_known_by_both_values_while_its_grace_lasts(ledger: Ledger) -> None:
    """The former one says when it ends; without grace it is unknown at once."""
    await create(ledger, key(expires_at_s=NOON_S + 900))
    rotate = partial(deeds.rotate_key, name="app", act=ACT)
    await ledger.registry.write(partial(rotate, digest="second", former_until_s=NOON_S + 60))
    former, new = await ledger.find_key("digest of app"), await ledger.find_key("second")
    assert former is not None
    assert new is not None
    assert (former.digest, former.expires_at_s) == ("digest of app", NOON_S + 60)
    assert (new.digest, new.expires_at_s) == ("second", NOON_S + 900)
    await ledger.registry.write(partial(rotate, digest="third", former_until_s=None))
    assert await ledger.find_key("digest of app") is None
    assert await ledger.find_key("second") is None
    assert await ledger.find_key("third") is not None


async def test_a_former_value_ends_with_its_grace(ledger: Ledger) -> None:
    """Not a moment later."""
    await create(ledger, key())
    rotate = partial(deeds.rotate_key, name="app", digest="second", former_until_s=NOON_S, act=ACT)
    await ledger.registry.write(rotate)
    assert await ledger.find_key("digest of app") is None


async def test_a_revoked_key_is_gone_for_good(ledger: Ledger) -> None:
    """No change and no rotation brings it back; revoking it again says nothing new."""
    await create(ledger, key())
    for _ in range(2):
        gone = await ledger.registry.write(partial(deeds.revoke_key, name="app", act=ACT))
        assert (gone.is_enabled, gone.is_revoked) == (False, True)
    assert await ledger.admit(ask("r")) == KeyGone(is_stale=False)
    for deed in (
        partial(deeds.update_key, name="app", edit=lambda one: replace(one, is_enabled=True), act=ACT),
        partial(deeds.rotate_key, name="app", digest="d", former_until_s=None, act=ACT),
    ):
        with pytest.raises(Conflict, match="revoked for good"):
            await ledger.registry.write(deed)
    assert await actions(ledger) == [("key.create", "key:app"), ("key.revoke", "key:app")]


async def test_a_disabled_key_may_come_back(ledger: Ledger) -> None:
    """Disabling is no revocation."""
    await create(ledger, key())
    for is_enabled in (False, True):
        edit = partial(replace, is_enabled=is_enabled)
        await ledger.registry.write(partial(deeds.update_key, name="app", edit=edit, act=ACT))
        assert isinstance(await admit(ledger, "app", request_id=str(is_enabled)), Admitted) == is_enabled


async def test_what_stands_in_the_file_is_changed_there(ledger: Ledger) -> None:
    """Keys, limits and tenants of routes.yaml; a revocation holds until the next load."""
    await ledger.declare_keys([key()])
    await ledger.declare_limits({"global": Limits(parallel=5)})
    await ledger.registry.write(partial(tenant_deeds.declare_tenants, names=["acme"], table_id="t1", act=ACT))
    wanted = partial(replace, parallel=1)
    for deed in (
        partial(deeds.update_key, name="app", edit=lambda one: one, act=ACT),
        partial(deeds.rotate_key, name="app", digest="d", former_until_s=None, act=ACT),
        partial(deeds.set_limits, place="key:app", edit=wanted, act=ACT),
        partial(deeds.set_limits, place="global", edit=wanted, act=ACT),
        partial(deeds.set_limits, place="tenant:acme", edit=wanted, act=ACT),
        partial(tenant_deeds.update_tenant, name="acme", edit=lambda one, limits: (one, limits), act=ACT),
        partial(tenant_deeds.delete_tenant, name="acme", act=ACT),
    ):
        with pytest.raises(Conflict, match=r"stands in routes\.yaml; change it there") as refused:
            await ledger.registry.write(deed)
        assert refused.value.code == "declared_in_routes"
    await ledger.registry.write(partial(deeds.revoke_key, name="app", act=ACT))
    assert await ledger.admit(ask("r")) == KeyGone(is_stale=False)
    await ledger.declare_keys([key()])
    assert isinstance(await admit(ledger, "app"), Admitted)
    assert await actions(ledger) == [
        ("keys.declare", "routes.yaml"),
        ("limits.declare", "routes.yaml"),
        ("routes.load", "t1"),
        ("key.revoke", "key:app"),
        ("keys.declare", "routes.yaml"),
    ]


@pytest.mark.parametrize("name", ["find_key", "rotate_key", "revoke_key"])
async def test_an_unknown_key_is_told(ledger: Ledger, name: str) -> None:
    """By name."""
    more: dict[str, dict[str, Any]] = {
        "rotate_key": {"digest": "d", "former_until_s": None, "act": ACT},
        "revoke_key": {"act": ACT},
    }
    with pytest.raises(NotFound, match="no key named 'nobody'"):
        await ledger.registry.write(partial(getattr(deeds, name), name="nobody", **more.get(name, {})))


# ---------------------------------------------------------------- keys of keys


async def family(ledger: Ledger, **limits: object) -> None:
    """A key that may make keys, with such limits, and one that it made."""
    maker = key("maker", None, may_create_keys=True, models=("chat", "or/*"), expires_at_s=NOON_S + 900)
    await create(ledger, replace(maker, limits=Limits(**limits)))  # type: ignore[arg-type]  # a test's
    child = key("child", None, parent="maker", models=("chat",), expires_at_s=NOON_S + 900)
    await create(ledger, child)


async def test_what_a_key_made_spends_counts_for_its_maker(ledger: Ledger) -> None:
    """Held, posted and in later attempts: the maker's budget is a wall around all of them together."""
    await family(ledger, budgets=DAY)
    assert isinstance(await admit(ledger, "child", 60), Admitted)
    refused = await admit(ledger, "maker", 41, request_id="m")
    assert isinstance(refused, Refused)
    assert (refused.scope, refused.left_nano_usd) == ("key:maker", 40)
    assert isinstance(await ledger.advance(onward("r", posted(1, 50), start(2, 50))), Admitted)
    refused = await admit(ledger, "child", 1, request_id="c")
    assert isinstance(refused, Refused)
    assert refused.scope == "key:maker"
    await ledger.settle(over("r", posted(2, 20)))
    (state,) = await ledger.budgets("child", NOON_S)
    assert (state.scope, state.posted_nano_usd, state.held_nano_usd) == ("key:maker", 70, 0)
    assert isinstance(await admit(ledger, "maker", 30, request_id="n"), Admitted)


async def test_a_budget_given_later_counts_what_its_keys_spent_before(ledger: Ledger) -> None:
    """The first look at the window sums the attempts of all of them."""
    await family(ledger)
    await admit(ledger, "child", 60)
    await ledger.settle(over("r", posted(1, 60)))
    await ledger.set_limits("key:maker", Limits(budgets=DAY))
    (state,) = await ledger.budgets("maker", NOON_S)
    assert state.posted_nano_usd == 60
    assert isinstance(await admit(ledger, "maker", 41, request_id="m"), Refused)
    assert isinstance(await admit(ledger, "maker", 40, request_id="m"), Admitted)


async def test_rates_and_parallel_of_a_maker_hold_for_its_keys(ledger: Ledger) -> None:
    """In the same window, at the same time."""
    await family(ledger, rates=(Rate(Measure.REQUESTS, 2, 60),), parallel=1)
    assert isinstance(await admit(ledger, "child"), Admitted)
    assert isinstance(limited := await admit(ledger, "maker", request_id="m"), Limited)
    assert limited.measure is None
    await ledger.settle(over("r", posted(1, 1)))
    assert isinstance(await admit(ledger, "maker", request_id="m"), Admitted)
    await ledger.settle(over("m", posted(1, 1)))
    assert isinstance(limited := await admit(ledger, "child", request_id="c"), Limited)
    assert limited.scope == "key:maker"


async def test_users_of_a_makers_keys_are_its_users(ledger: Ledger) -> None:
    """What each user gets he gets once, however many keys he comes with."""
    await family(ledger, users=Limits(budgets=DAY))
    assert isinstance(await admit(ledger, "child", 60, user="u"), Admitted)
    assert isinstance(await admit(ledger, "maker", 41, user="u", request_id="m"), Refused)
    states = await ledger.list_budgets(NOON_S)
    assert [(state.scope, state.held_nano_usd) for state in states] == [("user:maker/u", 60)]


@pytest.mark.parametrize("how", ["revoked", "disabled", "expired"])
async def test_a_key_dies_with_its_maker(ledger: Ledger, how: str) -> None:
    """At once: for look-ups, and for plans that were made before."""
    await family(ledger)
    record = await find(ledger, "child")
    before = ask("r", key_name="child", revision=record.revision)._replace(parent="maker", tenant=None)
    if how == "revoked":
        await ledger.registry.write(partial(deeds.revoke_key, name="maker", act=ACT))
    else:
        update = partial(deeds.update_key, act=ACT)
        sooner = partial(replace, expires_at_s=NOON_S + 1)
        await ledger.registry.write(partial(update, name="child", edit=sooner))
        edit = partial(replace, is_enabled=False) if how == "disabled" else sooner
        await ledger.registry.write(partial(update, name="maker", edit=edit))
    found = await find(ledger, "child")
    assert (found.is_enabled, found.expires_at_s) == (how == "expired", NOON_S + (900 if how == "revoked" else 1))
    late = before._replace(at_s=NOON_S + 1)
    assert await ledger.admit(late) == KeyGone(is_stale=False)


async def test_a_makers_change_makes_its_keys_plans_stale(ledger: Ledger) -> None:
    """What it may no longer ask for they may not either, from the next request on."""
    await family(ledger)
    before = ask("r", key_name="child", revision=(await find(ledger, "child")).revision)._replace(parent="maker")
    edit = partial(replace, models=("or/*",))
    await ledger.registry.write(partial(deeds.update_key, name="maker", edit=edit, act=ACT))
    assert await ledger.admit(before) == KeyGone(is_stale=True)
    found = await find(ledger, "child")
    assert found.maker is not None
    assert found.maker.models == ("or/*",)


async def test_a_key_makes_no_more_than_subsets(ledger: Ledger) -> None:
    """Checked in the transaction that makes it and in every one that changes it."""
    await family(ledger)
    with pytest.raises(PermissionRefused, match="may not ask for gpt"):
        await create(ledger, key("wide", None, parent="maker", models=("gpt",), expires_at_s=NOON_S))
    edit = partial(replace, expires_at_s=None)
    with pytest.raises(PermissionRefused, match="outlive"):
        await ledger.registry.write(partial(deeds.update_key, name="child", edit=edit, act=ACT))
    for maker in ("child", "nobody"):
        with pytest.raises(PermissionRefused, match="may not make keys"):
            await create(ledger, key("grandchild", None, parent=maker))


async def test_one_key_makes_so_many_and_no_more(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Revoked ones count: their names stay."""
    monkeypatch.setattr(deeds, "CHILDREN_MAX", 1)
    await family(ledger)
    with pytest.raises(Conflict, match="can make 1 keys"):
        await create(ledger, key("more", None, parent="maker", models=("chat",), expires_at_s=NOON_S))


# ---------------------------------------------------------------- limits and credits


@pytest.mark.parametrize("place", ["key:app", "tenant:acme", "model:chat", "provider:sim", "global"])
async def test_limits_of_any_place_can_be_set(ledger: Ledger, place: str) -> None:
    """They hold from the next admission on, and go again."""
    await house(ledger)
    await create(ledger, key(limit=None, tenant="acme"))
    deed = partial(deeds.set_limits, place=place, act=ACT)
    limits = await ledger.registry.write(partial(deed, edit=partial(replace, budgets=DAY)))
    assert limits == await ledger.find_limits(place) == Limits(budgets=DAY)
    assert isinstance(refused := await admit(ledger, "app", 101, alias="chat"), Refused)
    assert refused.scope == place
    await ledger.registry.write(partial(deed, edit=lambda _: NO_LIMITS))
    assert isinstance(await admit(ledger, "app", 101, alias="chat"), Admitted)


@pytest.mark.parametrize("place", ["user:acme/u", "tag:acme/job=a", "key", "house:acme", ""])
async def test_limits_stand_at_places_only(ledger: Ledger, place: str) -> None:
    """Users and tags have theirs at a key, a tenant or the whole gateway."""
    with pytest.raises(ClientError):
        await ledger.registry.write(partial(deeds.set_limits, place=place, edit=lambda one: one, act=ACT))


@pytest.mark.parametrize("place", ["key:nobody", "tenant:nobody"])
async def test_nobody_has_no_limits(ledger: Ledger, place: str) -> None:
    """A misspelt name must not be taken for somebody."""
    with pytest.raises(NotFound):
        await ledger.registry.write(partial(deeds.set_limits, place=place, edit=lambda one: one, act=ACT))
    with pytest.raises(NotFound):
        await ledger.registry.write(partial(deeds.grant, given=Grant(place, 1, "grant", 0, ""), act=ACT))


async def test_a_prepaid_grant_is_all_there_to_be_spent(ledger: Ledger) -> None:
    """What was spent before the first one does not count; other budgets hold beside it."""
    await create(ledger, key(limit=500))
    await admit(ledger, "app", 70)
    await ledger.settle(over("r", posted(1, 70)))
    grant = partial(deeds.grant, act=ACT)
    assert await ledger.registry.write(partial(grant, given=Grant("key:app", 100, "grant", 0, "", "first"))) == 170
    assert (await find(ledger, "app")).is_walled
    assert isinstance(refused := await admit(ledger, "app", 101, request_id="s"), Refused)
    assert (refused.left_nano_usd, refused.resets_at_s) == (100, None)
    assert await ledger.registry.write(partial(grant, given=Grant("key:app", 50, "grant", 0, ""))) == 220
    assert isinstance(await admit(ledger, "app", 150, request_id="s"), Admitted)
    assert isinstance(await admit(ledger, "app", 1, request_id="t"), Refused)
    states = {(state.period, state.limit_nano_usd) for state in await ledger.budgets("app", NOON_S)}
    assert states == {("day", 500), ("total", 220)}
    lines = await ledger.registry.read(lambda store: store.list_grants("key:app"))
    assert [(line.seq, line.kind, line.amount_nano_usd, line.note, line.actor) for line in lines] == [
        (1, "opening", 70, "spent before", "admin"),
        (2, "grant", 100, "first", "admin"),
        (3, "grant", 50, None, "admin"),
    ]


async def test_changing_limits_leaves_what_was_prepaid(ledger: Ledger) -> None:
    """Set, taken away, declared: the grant is a wall all the same."""
    await ledger.declare_keys([key(limit=None)])
    await ledger.registry.write(partial(deeds.grant, given=Grant("key:app", 10, "grant", 0, ""), act=ACT))
    for number, limits in enumerate((Limits(budgets=DAY), NO_LIMITS)):
        await ledger.set_limits("key:app", limits)
        assert await ledger.find_limits("key:app") == limits
        assert isinstance(await admit(ledger, "app", 11, request_id=str(number)), Refused)
    revision = (await find(ledger, "app")).revision
    await ledger.declare_keys([key(limit=None)])
    assert (await find(ledger, "app")).revision == revision
    assert isinstance(await admit(ledger, "app", 11), Refused)
    assert isinstance(await admit(ledger, "app", 10), Admitted)


async def test_a_tenants_credit_is_shared_by_its_keys(ledger: Ledger) -> None:
    """Taking more back than there is is refused."""
    await house(ledger)
    await create(ledger, key("one", None, tenant="acme"))
    await create(ledger, key("two", None, tenant="acme"))
    grant = partial(deeds.grant, act=ACT)
    await ledger.registry.write(partial(grant, given=Grant("tenant:acme", 100, "grant", 0, "")))
    assert isinstance(await admit(ledger, "one", 60), Admitted)
    assert isinstance(await admit(ledger, "two", 41, request_id="s"), Refused)
    with pytest.raises(ClientError, match="more than there is"):
        await ledger.registry.write(partial(grant, given=Grant("tenant:acme", -101, "grant", 0, "")))
    assert await ledger.registry.write(partial(grant, given=Grant("tenant:acme", -100, "grant", 0, ""))) == 0
    assert isinstance(await admit(ledger, "two", 1, request_id="s"), Refused)
    with pytest.raises(ClientError, match="to a key or a tenant"):
        await ledger.registry.write(partial(grant, given=Grant("global", 1, "grant", 0, "")))


async def test_two_processes_see_one_registry(house_ledgers: list[Ledger]) -> None:
    """What one writes the other knows with its next question, and their lines make one chain."""
    one, other = house_ledgers
    await create(one, key())
    await other.registry.write(partial(deeds.revoke_key, name="app", act=ACT))
    assert not (await find(one, "app")).is_enabled
    assert await actions(one) == await actions(other) == [("key.create", "key:app"), ("key.revoke", "key:app")]
