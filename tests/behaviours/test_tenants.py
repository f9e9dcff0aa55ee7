"""Tenants over real sockets: their own accounts upstream, and nothing of one for another (S6)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from proxy.policy.scopes import PAYER_GATEWAY, PAYER_TENANT
from proxy.vault import make_secret_key
from tests.behaviours.administering import ACME, ADMIN, BETA, BROKE, ENVIRON, ROUTES, SECRET_KEY, Office, opened
from tests.behaviours.gateway import KEY
from tests.faults.replies import ok
from tests.faults.statuses import forbidden, payment_required, server_fault, unauthorized


@pytest_asyncio.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    """A gateway of its own for each test: what is administered stays."""
    async with opened(tmp_path) as office:
        yield office


def written_in(folder: Path) -> bytes:
    """Give every byte that stands in a folder."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_each_tenant_is_called_on_its_own_account(office: Office) -> None:
    """The upstream sees the right credential each time, whoever came before; nothing else of the operator's."""
    for key, credential in ((ACME, "sk-acme-at-one"), (KEY, "sk-operator-one"), (BETA, "sk-beta-at-one")) * 2:
        assert (await office.chat(key=key)).status_code == 200
        sent = office.one.exchanges[-1].headers
        is_operators = credential == "sk-operator-one"
        assert ("openai-organization" in sent, "x-api-token" in sent) == (is_operators, is_operators)
        assert sent["x-plain"] == "kept"
        assert office.credentials == [("one", credential)]


async def test_a_chain_uses_a_tenants_account_where_it_has_one(office: Office) -> None:
    """And the operator's where it has none; each attempt says whose money it was."""
    office.one.replace_script([server_fault(502)])
    assert (await office.chat("chain", key=ACME)).status_code == 200
    assert office.credentials == [("one", "sk-acme-at-one"), ("two", "sk-operator-two")]
    rows = await office.gateway.settled_rows(2)
    assert [(row.provider, row.payer, row.tenant) for row in rows] == [
        ("one", PAYER_TENANT, "acme"),
        ("two", PAYER_GATEWAY, "acme"),
    ]


async def test_what_a_tenant_pays_is_not_the_operators_money(office: Office) -> None:
    """It counts for key and tenant, not for the provider's budget."""
    await office.call("PUT", "/admin/budgets/global", {"budget": "$100/day"})
    await office.chat(key=ACME)
    await office.chat(key=KEY)
    await office.gateway.settled_rows(2)
    budgets = {one["scope"]: one["posted_usd"] for one in (await office.call("GET", "/admin/budgets")).json()["data"]}
    assert budgets["key:a"] == budgets["provider:one"] == budgets["global"]
    assert float(budgets["key:a"]) > 0


@pytest.mark.parametrize("mode", [unauthorized(), payment_required(), forbidden()])
async def test_a_refused_credential_is_its_tenants_alone(office: Office, mode: object) -> None:
    """503 for that tenant, told as its own account's doing; never tried with the operator's; the next one is served."""
    office.one.replace_script([mode, ok()])  # type: ignore[list-item]  # a mode
    refused = await office.chat(key=ACME)
    assert refused.status_code == 503
    assert "organisation's own account" in refused.json()["error"]["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert (await office.chat(key=BETA)).status_code == 200
    assert office.credentials == [("one", "sk-acme-at-one"), ("one", "sk-beta-at-one")]
    health = office.gateway.gateway.service.health
    failed, well = health.find("one@acme/m"), health.find("one@beta/m")
    assert failed is not None
    assert well is not None
    assert (failed.consecutive_failures, well.consecutive_failures) == (1, 0)
    assert health.find("one/m") is None


async def test_a_credential_that_is_not_set_never_becomes_the_operators(office: Office) -> None:
    """The provider is not ready for that tenant; another target of the chain serves."""
    assert (await office.chat(key=BROKE)).status_code >= 400
    assert (await office.chat("chain", key=BROKE)).status_code == 200
    assert office.credentials == [("two", "sk-operator-two")]


async def test_a_stored_credential_is_used_from_the_next_request_on(office: Office, tmp_path: Path) -> None:
    """Encrypted on disk, shown as a fingerprint, gone when it is dropped."""
    await office.chat("other", key=ACME)
    secret = "sk-acme-at-two-stored"
    stored = await office.call("PUT", "/admin/tenants/acme/provider_keys/two", {"key": secret})
    assert stored.status_code == 200
    await office.chat("other", key=ACME)
    await office.chat("other", key=BETA)
    assert office.credentials == [("two", "sk-operator-two"), ("two", secret), ("two", "sk-operator-two")]
    shown = await office.call("GET", "/admin/tenants/acme")
    assert list(shown.json()["provider_keys"]) == ["two"]
    assert secret not in stored.text + shown.text + (await office.call("GET", "/admin/audit")).text
    assert secret.encode() not in written_in(tmp_path)
    await office.call("DELETE", "/admin/tenants/acme/provider_keys/two")
    await office.chat("other", key=ACME)
    assert office.credentials == [("two", "sk-operator-two")]


async def test_a_credential_nobody_can_read_is_not_replaced_by_the_operators(tmp_path: Path) -> None:
    """Another TURNPIKE_SECRET_KEY, or none: the provider is not ready for that tenant."""
    async with opened(tmp_path) as office:
        await office.call("PUT", "/admin/tenants/acme/provider_keys/two", {"key": "sk-stored"})
    for other in (make_secret_key(), ""):
        async with opened(tmp_path, {**ENVIRON, "TURNPIKE_SECRET_KEY": other}) as office:
            assert (await office.chat("other", key=ACME)).status_code >= 400
            assert (await office.chat("other", key=BETA)).status_code == 200
            assert office.credentials == [("two", "sk-operator-two")]
    async with opened(tmp_path, {**ENVIRON, "TURNPIKE_SECRET_KEY": f"{make_secret_key()},{SECRET_KEY}"}) as office:
        assert (await office.chat("other", key=ACME)).status_code == 200
        assert office.credentials == [("two", "sk-stored")]


async def test_without_a_secret_key_nothing_is_stored(tmp_path: Path) -> None:
    """The refusal names the remedy."""
    async with opened(tmp_path, {name: value for name, value in ENVIRON.items() if "SECRET" not in name}) as office:
        refused = await office.call("PUT", "/admin/tenants/acme/provider_keys/two", {"key": "sk-x"})
        assert refused.status_code == 409
        assert "turnpike secrets key" in refused.json()["error"]["message"]


async def test_a_made_tenant_has_everything_a_declared_one_has(office: Office) -> None:
    """Models both allow, a default, defaults for fields, a ceiling, limits; disabled, it may do nothing."""
    made = {
        "name": "gamma",
        "models": ["m", "chain"],
        "default_model": "m",
        "params": {"temperature": 0.5},
        "max_cost": "$1",
        "parallel": 5,
    }
    assert (await office.call("POST", "/admin/tenants", made)).status_code == 201
    key = await office.mint("g", tenant="gamma", models=["m", "other"])
    body = {"messages": [{"role": "user", "content": "Say hello."}]}
    answer = await office.call("POST", "/v1/chat/completions", body, key=key)
    assert (answer.status_code, answer.headers["x-turnpike-route"]) == (200, "m")
    assert office.one.exchanges[-1].body["temperature"] == 0.5
    assert [(await office.chat(model, key=key)).status_code for model in ("other", "chain")] == [403, 403]
    await office.call("PATCH", "/admin/tenants/gamma", {"max_cost": "$0.0000001"})
    assert (await office.chat(key=key)).json()["error"]["code"] == "max_cost_exceeded"
    await office.call("PATCH", "/admin/tenants/gamma", {"max_cost": None, "disabled": True})
    assert (await office.chat(key=key)).status_code == 401
    assert (await office.call("GET", "/v1/key", key=key)).status_code == 401
    await office.call("PATCH", "/admin/tenants/gamma", {"disabled": False})
    assert (await office.chat(key=key)).status_code == 200
    await office.call("DELETE", "/admin/tenants/gamma")
    assert (await office.chat(key=key)).status_code == 401


ATTACKS = [
    ("GET", "/v1/generation?id={request}", 404),
    ("GET", "/v1/generation?id=gen-{request}", 404),
    ("GET", "/api/v1/generation?id={request}", 404),
    ("GET", "/api/v1/generation?id={upstream}", 404),
    ("GET", "/v1/keys/{hash}", 403),
    ("PATCH", "/api/v1/keys/{hash}", 403),
    ("DELETE", "/api/v1/keys/{hash}", 403),
    ("GET", "/admin/keys/a", 401),
    ("GET", "/admin/tenants/acme", 401),
    ("GET", "/admin/audit", 401),
    ("PUT", "/admin/tenants/acme/provider_keys/one", 401),
    ("POST", "/admin/credits", 401),
]


@pytest.mark.parametrize(("method", "path", "status"), ATTACKS)
@pytest.mark.parametrize("attacker", [BETA, KEY])
async def test_nothing_of_one_tenant_is_another_keys(
    office: Office, method: str, path: str, status: int, attacker: str
) -> None:
    """Its generations are unknown, its keys and credentials out of reach, and no answer holds a word of it."""
    served = await office.chat(key=ACME)
    await office.gateway.settled_rows()
    key = (await office.call("GET", "/admin/keys/a")).json()
    asked = path.format(request=served.headers["x-request-id"], upstream=served.json()["id"], hash=key["hash"])
    refused = await office.call(method, asked, {"key": "sk-stolen"} if method != "GET" else None, key=attacker)
    assert refused.status_code == status
    assert "acme" not in refused.text
    assert (await office.chat(key=ACME)).status_code == 200
    assert office.credentials[-1] == ("one", "sk-acme-at-one")


async def test_figures_are_the_calling_keys_own(office: Office) -> None:
    """Usage, activity, key, credits and stats of one tenant show nothing of another; the admin key sees both."""
    await office.chat(key=ACME)
    await office.gateway.settled_rows()
    for path in ("/v1/usage?by=tenant,key,provider", "/v1/activity", "/v1/stats", "/v1/key", "/v1/credits"):
        seen = (await office.call("GET", path, key=BETA)).text
        assert "acme" not in seen
        assert '"requests":1' not in seen
    total = (await office.call("GET", "/v1/usage", key=ADMIN)).json()["total"]
    assert total["requests"] == 1
    assert (await office.call("GET", "/v1/usage", key=BETA)).json()["total"]["requests"] == 0


async def test_an_idempotency_key_is_its_tenants(office: Office) -> None:
    """The same words of another tenant are another request."""
    for key in (ACME, BETA, ACME):
        assert (await office.chat(key=key, **{"idempotency-key": "k"})).status_code == 200
    assert office.credentials == [("one", "sk-acme-at-one"), ("one", "sk-beta-at-one")]


async def test_a_tenant_leaving_the_file_ends_its_keys(tmp_path: Path) -> None:
    """A minted key of it must not go on with the operator's account."""
    async with opened(tmp_path) as office:
        key = await office.mint("extra", tenant="acme")
        assert (await office.chat(key=key)).status_code == 200
    routes = "\n".join(line for line in ROUTES.split("\n") if "acme" not in line)
    async with opened(tmp_path, routes=routes) as office:
        assert (await office.chat(key=key)).status_code == 401
        assert office.credentials == []
    async with opened(tmp_path) as office:
        assert (await office.chat(key=key)).status_code == 200
        assert office.credentials == [("one", "sk-acme-at-one")]


async def test_no_secret_stands_in_an_answer_or_a_log(office: Office, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even when the upstream says it."""
    office.one.replace_script([unauthorized()])
    refused = await office.chat(key=ACME)
    seen = refused.text + capsys.readouterr().err
    assert not any(secret in seen for secret in (ADMIN, SECRET_KEY, "sk-acme-at-one", "sk-operator-one"))
