"""The file's word on a tenant and the ledger's, joined."""

from __future__ import annotations

import pytest

from proxy.edge import tenancy as tenancies
from proxy.edge.auth import NO_VAULT, build_principal
from proxy.edge.tenancy import Tenancy
from proxy.ledger.records import KeyRecord
from proxy.ledger.tenancy import CredentialRecord, TenantRecord
from proxy.routing.table import Dialect, Provider, Route, Secret, Table, Target, Tenant
from proxy.vault import Vault, make_secret_key

SECRET_KEY = make_secret_key()
SIM = Provider("sim", Dialect.SIMULATED)
DECLARED = Tenant("acme", default_model="file", provider_keys={"one": Secret("files")}, not_ready={"two": "unset"})
TABLE = Table(id="t", providers={"sim": SIM}, routes={"m": Route("m", (Target(SIM, "m"),))}, tenants={"acme": DECLARED})


def sealed(provider: str, secret: str = "stored", key: str = SECRET_KEY) -> CredentialRecord:
    """A stored credential."""
    return CredentialRecord("acme", provider, Vault(key).seal(secret), "f")


def a_key(*credentials: CredentialRecord, tenant: str = "acme") -> KeyRecord:
    """A key of a tenant with these credentials."""
    house = TenantRecord(tenant, default_model="ledger", models=("m",), credentials=credentials)
    return KeyRecord("k", "d", tenant=tenant, house=house)


def test_the_file_says_everything_but_what_is_stored() -> None:
    """And what it says of a provider is not overruled by what is stored for it."""
    hidden: list[str] = []
    found = Tenancy(Vault(SECRET_KEY), hidden.append).find(a_key(sealed("sim"), sealed("one"), sealed("two")), TABLE)
    assert found is not None
    assert (found.default_model, found.models) == ("file", None)
    assert found.provider_keys == {"one": Secret("files"), "sim": Secret("stored")}
    assert (found.not_ready, hidden) == ({"two": "unset"}, ["stored"])


def test_a_made_tenant_is_the_ledgers() -> None:
    """What cannot be decrypted is not ready, never left out."""
    found = Tenancy(Vault(SECRET_KEY)).find(a_key(sealed("sim", key=make_secret_key()), tenant="gamma"), TABLE)
    assert found is not None
    assert (found.default_model, found.models, found.provider_keys) == ("ledger", ("m",), {})
    assert "cannot be decrypted" in found.not_ready["sim"]


def test_who_has_no_tenant_has_none() -> None:
    """One that only the file knows is the file's."""
    assert NO_VAULT.find(KeyRecord("k", "d"), TABLE) is None
    assert NO_VAULT.find(KeyRecord("k", "d", tenant="acme"), TABLE) is DECLARED
    assert NO_VAULT.find(KeyRecord("k", "d", tenant="gone"), TABLE) is None


def test_a_view_is_the_same_one_as_long_as_nothing_changes() -> None:
    """Plans are remembered by it; another credential is another view."""
    tenancy = Tenancy(Vault(SECRET_KEY))
    first = build_principal(a_key(sealed("sim")), TABLE, tenancy)
    again = build_principal(a_key(sealed("sim")), TABLE, tenancy)
    other = build_principal(a_key(sealed("sim", "another")), TABLE, tenancy)
    assert first.view is not None
    assert first.view is again.view
    assert other.view is not first.view
    assert build_principal(a_key(), Table(id="u", providers={}, routes={}), tenancy).view is None


def test_views_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are then made anew."""
    tenancy = Tenancy(Vault(SECRET_KEY))
    monkeypatch.setattr(tenancies, "VIEWS_KEPT_MAX", 1)
    own = [Tenant(name, provider_keys={"sim": Secret(name)}) for name in ("a", "b", "a")]
    views = [tenancy.view(TABLE, tenant) for tenant in own]
    assert views[0] is not views[2]
    assert views[0] == views[2]


def test_a_key_made_by_a_key_has_no_more_than_its_maker() -> None:
    """Its list, its defaults and its ceiling hold in every request, whatever was said when it was made."""
    maker = KeyRecord("maker", "d", models=("m",), default_model="m", params={"a": 1, "b": 1}, max_cost_nano_usd=5)
    child = KeyRecord("k", "d", parent="maker", maker=maker, params={"b": 2}, models=("m", "n"), max_cost_nano_usd=9)
    principal = build_principal(child, TABLE)
    assert (principal.parent, principal.lists) == ("maker", (("m", "n"), ("m",)))
    assert (principal.default_model, principal.params, principal.max_cost_nano_usd) == ("m", {"a": 1, "b": 2}, 5)
    assert [principal.may_ask(name) for name in ("m", "n")] == [True, False]
