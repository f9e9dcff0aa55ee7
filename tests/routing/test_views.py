"""A table as a tenant sees it: its own accounts, and nothing of the operator's in them."""

from __future__ import annotations

from proxy.pricing import ModelFacts
from proxy.routing.table import Dialect, Provider, Route, Secret, Table, Target, Tenant, UpstreamKey
from proxy.routing.views import table_for

OWN = Provider(
    "one",
    Dialect.OPENAI,
    base_url="https://one.example/v1",
    api_key=Secret("operators"),
    pool=(UpstreamKey("1", Secret("operators")), UpstreamKey("2", Secret("operators-second"))),
    pool_missing=("3: SPARE is not set",),
    headers={"Authorization": "Bearer x", "OpenAI-Organization": "org", "OpenAI-Project": "p", "X-Title": "App"},
)
UNREADY = Provider("two", Dialect.OPENAI, not_ready="TWO_KEY is not set")
THIRD = Provider("three", Dialect.OPENAI, api_key=Secret("operators-third"))
TABLE = Table(
    id="t",
    providers={one.name: one for one in (OWN, UNREADY, THIRD)},
    routes={
        "chat": Route("chat", (Target(OWN, "m"), Target(UNREADY, "m"), Target(THIRD, "m", ModelFacts()))),
        "third": Route("third", (Target(THIRD, "m"),)),
    },
    globs=(Route("one/*", (Target(OWN, "*"),)),),
)


def test_a_tenant_without_accounts_sees_the_table_in_force() -> None:
    """The very same object."""
    assert table_for(TABLE, None) is TABLE
    assert table_for(TABLE, Tenant("acme")) is TABLE
    assert table_for(TABLE, Tenant("acme", provider_keys={"unknown": Secret("x")})) is TABLE


def test_its_own_account_takes_the_operators_place_everywhere() -> None:
    """In routes, globs and by name; a provider the operator has no key of becomes ready."""
    view = table_for(TABLE, Tenant("acme", provider_keys={"one": Secret("acmes"), "two": Secret("acmes-second")}))
    own = view.providers["one"]
    assert (own.account, own.account_name, own.payer) == ("acme", "one@acme", "tenant")
    assert own.secrets == ("acmes",)
    assert (own.pool, own.pool_missing, dict(own.headers)) == ((), (), {"X-Title": "App"})
    assert view.providers["two"].not_ready is None
    first, second, third = view.routes["chat"].targets
    assert (first.provider, second.provider) == (own, view.providers["two"])
    assert first.account_name == "one@acme/m"
    assert third.provider is THIRD
    assert view.routes["third"] is TABLE.routes["third"]
    assert view.globs[0].targets[0].provider == own
    assert (THIRD.payer, THIRD.account_name) == ("gateway", "three")


def test_a_missing_credential_falls_back_to_nothing() -> None:
    """Not ready, and without any key it could be called with."""
    own = table_for(TABLE, Tenant("acme", not_ready={"one": "ACME_KEY is not set"})).providers["one"]
    assert (own.not_ready, own.secrets, own.account) == ("ACME_KEY is not set", (), "acme")
