"""The admin API and OpenRouter's provisioning of keys, over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.edge import guard
from tests.behaviours.administering import ACME, ADMIN, ENVIRON, Office, opened
from tests.behaviours.gateway import KEY

ENTRY = {
    "hash": str,
    "name": str,
    "label": str,
    "disabled": bool,
    "limit": (int, float, type(None)),
    "limit_remaining": (int, float, type(None)),
    "limit_reset": (str, type(None)),
    "include_byok_in_limit": bool,
    "usage": (int, float),
    "usage_daily": (int, float),
    "usage_weekly": (int, float),
    "usage_monthly": (int, float),
    "byok_usage": (int, float),
    "byok_usage_daily": (int, float),
    "byok_usage_weekly": (int, float),
    "byok_usage_monthly": (int, float),
    "created_at": str,
    "updated_at": str,
    "expires_at": (str, type(None)),
    "creator_user_id": type(None),
    "workspace_id": type(None),
}
"""OpenRouter's entry of a key."""
SURFACES = ["/v1", "/api/v1"]


@pytest_asyncio.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    """A gateway of its own for each test: what is administered stays."""
    async with opened(tmp_path) as office:
        yield office


# ---------------------------------------------------------------- the admin key


async def test_the_admin_key_is_made_at_the_first_start(tmp_path: Path) -> None:
    """It stands in the data folder for nobody else to read, and stays the same."""
    bare = {name: value for name, value in ENVIRON.items() if "ADMIN" not in name}
    keys = []
    for _ in range(2):
        async with opened(tmp_path, bare) as office:
            file = tmp_path / "data" / "admin_key"
            key = await asyncio.to_thread(file.read_text)
            assert key.startswith("sk-tp-admin-")
            assert stat.S_IMODE((await asyncio.to_thread(file.stat)).st_mode) == 0o600
            assert (await office.call("GET", "/admin/keys", key=key.strip())).status_code == 200
            assert (await office.call("GET", "/admin/keys")).status_code == 401
            keys.append(key)
    assert keys[0] == keys[1]


ADMIN_PATHS = [
    ("GET", "/admin/keys"),
    ("POST", "/admin/keys"),
    ("GET", "/admin/keys/app"),
    ("PATCH", "/admin/keys/app"),
    ("DELETE", "/admin/keys/app"),
    ("POST", "/admin/keys/app/rotate"),
    ("POST", "/admin/keys/app/revoke"),
    ("GET", "/admin/tenants"),
    ("POST", "/admin/tenants"),
    ("GET", "/admin/tenants/acme"),
    ("PATCH", "/admin/tenants/acme"),
    ("DELETE", "/admin/tenants/acme"),
    ("PUT", "/admin/tenants/acme/provider_keys/one"),
    ("DELETE", "/admin/tenants/acme/provider_keys/one"),
    ("GET", "/admin/budgets"),
    ("PUT", "/admin/budgets/global"),
    ("GET", "/admin/credits"),
    ("POST", "/admin/credits"),
    ("GET", "/admin/audit"),
    ("GET", "/metrics"),
]


@pytest.mark.parametrize(("method", "path"), ADMIN_PATHS)
async def test_nothing_is_administered_without_the_admin_key(office: Office, method: str, path: str) -> None:
    """No key, a client's, a cookie, the key in the query: 401, and nothing happened (S19)."""
    content = None if method == "GET" else {"name": "x"}
    for key in (None, KEY, "sk-tp-admin-of-the-tes", f"{ADMIN}x"):
        refused = await office.call(method, path, content, key=key)
        assert refused.status_code == 401
    smuggled = await office.call(method, f"{path}?key={ADMIN}", content, key=None, cookie=f"key={ADMIN}")
    assert smuggled.status_code == 401
    forced = await office.call("POST", path, {"name": "x"}, key=KEY, **{"x-http-method-override": method})
    assert forced.status_code in {401, 405}
    assert {key["name"] for key in (await office.call("GET", "/admin/keys")).json()["data"]} == {"app", "a", "b", "c"}


async def test_who_guesses_waits(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many wrong keys from an address every one of it is 429, right or not; each is in the audit log."""
    for _ in range(guard.FAILURES_MAX):
        assert (await office.call("GET", "/admin/keys", key="sk-tp-admin-wrong-one")).status_code == 401
    refused = await office.call("GET", "/admin/keys")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert (await office.chat(key=KEY)).status_code == 200
    monkeypatch.setattr(guard, "WINDOW_S", 0.0)
    lines = (await office.call("GET", "/admin/audit")).json()["data"]
    noted = [line for line in lines if line["action"] == "admin.refuse"]
    assert len(noted) == guard.FAILURES_MAX
    assert (noted[0]["address"], noted[0]["after"]) == ("127.0.0.1", {"path": "/admin/keys"})
    assert "wrong-one" not in str(lines)


async def test_the_admin_key_opens_no_model(office: Office) -> None:
    """It is no client key."""
    assert (await office.chat(key=ADMIN)).status_code == 401


async def test_the_admin_key_sees_everybodys_figures(office: Office) -> None:
    """`usage`, `stats`, `key`, `credits`, `generation`, `activity`: of all keys together; `/health` names providers."""
    first = await office.chat(key=KEY)
    await office.chat(key=ACME)
    await office.gateway.settled_rows(2)
    by_key = (await office.call("GET", "/v1/usage?by=key")).json()
    assert {(row["key"], row["requests"]) for row in by_key["data"]} == {("app", 1), ("a", 1)}
    assert (await office.call("GET", "/v1/stats")).json()["requests"] == 2
    shown = (await office.call("GET", "/api/v1/key")).json()["data"]
    assert (shown["label"], shown["is_management_key"], shown["limit"]) == ("admin", True, None)
    assert shown["usage"] > 0
    assert (await office.call("GET", "/api/v1/credits")).json()["data"]["total_usage"] == shown["usage"]
    found = await office.call("GET", f"/api/v1/generation?id={first.headers['x-request-id']}")
    assert found.json()["data"]["total_cost"] > 0
    assert (await office.call("GET", "/api/v1/generation?id=unknown")).status_code == 404
    assert (await office.call("GET", "/api/v1/activity")).json() == {"data": []}
    health = (await office.call("GET", "/health")).json()
    assert health["providers"]["one"]["ready"] is True
    assert health["providers"]["one"]["targets"]["m"]["successes"] == 1
    assert "turnpike_" in (await office.call("GET", "/metrics")).text
    assert "providers" not in (await office.call("GET", "/health", key=KEY)).json()
    assert "providers" not in (await office.call("GET", "/health", key=None)).json()


# ---------------------------------------------------------------- keys


async def test_a_key_lives_its_life(office: Office) -> None:
    """Made, used at once, changed, rotated with grace, revoked: each holds from the next request on."""
    key = await office.mint("phone", budget=["$5/day", "$50/month"], models=["m"], rate="60/min", parallel=4)
    assert (await office.chat(key=key)).status_code == 200
    assert (await office.chat("other", key=key)).status_code == 403
    changed = await office.call("PATCH", "/admin/keys/phone", {"models": ["m", "other"], "budget": "$9/day"})
    assert (changed.json()["budget"], changed.json()["rate"]) == (["$9/day"], ["60/min"])
    assert (await office.chat("other", key=key)).status_code == 200
    await office.call("PATCH", "/admin/keys/phone", {"disabled": True})
    assert (await office.chat(key=key)).status_code == 401
    await office.call("PATCH", "/admin/keys/phone", {"disabled": False})
    rotated = (await office.call("POST", "/admin/keys/phone/rotate", {"grace": "1h"})).json()
    assert [(await office.chat(key=one)).status_code for one in (key, rotated["key"])] == [200, 200]
    third = (await office.call("POST", "/admin/keys/phone/rotate")).json()["key"]
    codes = [(await office.chat(key=one)).status_code for one in (key, rotated["key"], third)]
    assert codes == [401, 401, 200]
    shown = (await office.call("GET", "/admin/keys/phone")).json()
    assert (shown["state"], [one["period"] for one in shown["budgets"]]) == ("active", ["day"])
    assert (await office.call("DELETE", "/admin/keys/phone")).json()["state"] == "revoked"
    assert (await office.chat(key=third)).status_code == 401
    log = (await office.call("GET", "/admin/audit?limit=1000")).text
    assert not any(value in log for value in (key, third))


async def test_a_name_may_hold_anything_visible(office: Office) -> None:
    """A slash in it is no path."""
    key = await office.mint("team/phone 7")
    shown = await office.call("GET", "/admin/keys/team%2Fphone%207")
    assert shown.json()["name"] == "team/phone 7"
    await office.call("POST", "/admin/keys/team%2Fphone%207/revoke")
    assert (await office.chat(key=key)).status_code == 401


async def test_a_key_of_litellm_goes_on_working(office: Office) -> None:
    """Its hash is taken over, so its clients change nothing; a wrong one is refused."""
    theirs = "sk-litellm-1234567890"
    digest = hashlib.sha256(theirs.encode()).hexdigest()
    made = await office.call("POST", "/admin/keys", {"name": "moved", "key_sha256": digest})
    assert made.status_code == 201
    assert "key" not in made.json()
    assert (await office.chat(key=theirs)).status_code == 200
    bad = await office.call("POST", "/admin/keys", {"name": "bad", "key_sha256": "sk-litellm"})
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "key_sha256")


async def test_lists_are_cut_into_pages(office: Office) -> None:
    """By offset and limit, and narrowed by tenant and state."""
    await office.mint("z", tenant="acme", expires_at="2020-01-01T00:00:00Z")
    page = (await office.call("GET", "/admin/keys?offset=1&limit=2")).json()
    assert ([key["name"] for key in page["data"]], page["total"]) == (["app", "b"], 5)
    mine = (await office.call("GET", "/admin/keys?tenant=acme")).json()["data"]
    assert [(key["name"], key["state"]) for key in mine] == [("a", "active"), ("z", "expired")]
    assert [key["name"] for key in (await office.call("GET", "/admin/keys?state=expired")).json()["data"]] == ["z"]
    refused = await office.call("GET", "/admin/keys?state=gone")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "state")
    assert (await office.call("GET", "/admin/keys?limit=x")).status_code == 400


async def test_the_audit_log_is_read_backwards(office: Office) -> None:
    """The newest first, page by page, each line with who, from where and under which request id."""
    for number in range(3):
        await office.mint(f"k{number}")
    page = (await office.call("GET", "/admin/audit?limit=2")).json()
    assert [line["target"] for line in page["data"]] == ["key:k2", "key:k1"]
    line = page["data"][0]
    assert (line["actor"], line["action"], line["address"]) == ("admin", "key.create", "127.0.0.1")
    assert line["request_id"].startswith("req_")
    after = (await office.call("GET", f"/admin/audit?before={page['next']}&limit=1000")).json()
    assert (after["data"][0]["target"], after["next"]) == ("key:k0", None)
    assert after["data"][-1]["action"] in {"keys.declare", "routes.load", "limits.declare"}


# ---------------------------------------------------------------- limits and credits


async def test_credits_are_spent_and_granted(office: Office) -> None:
    """A key with a grant has a wall, the next grant moves it."""
    key = await office.mint("paid")
    granted = await office.call("POST", "/admin/credits", {"key": "paid", "amount": "$0.000001", "note": "trial"})
    assert (granted.status_code, granted.json()["prepaid_usd"]) == (201, "0.000001000")
    spent = await office.chat(key=key)
    assert (spent.status_code, spent.json()["error"]["code"]) == (402, "budget_exceeded")
    await office.call("POST", "/admin/credits", {"key": "paid", "amount": "$10"})
    assert (await office.chat(key=key)).status_code == 200
    listed = (await office.call("GET", "/admin/credits")).json()
    assert listed["prepaid_usd"] == {"key:paid": "10.000001000"}
    assert [(one["kind"], one["note"]) for one in listed["data"]] == [("grant", "trial"), ("grant", None)]
    assert (await office.call("POST", "/admin/credits", {"tenant": "acme", "amount": "$5"})).status_code == 201


async def test_limits_of_the_whole_gateway_hold_at_once(office: Office) -> None:
    """Set and taken away; what routes.yaml says is changed there."""
    await office.chat(key=KEY)
    await office.call("PUT", "/admin/budgets/global", {"budget": "$0.000001"})
    assert (await office.chat(key=KEY)).status_code == 402
    await office.call("PUT", "/admin/budgets/global", {"budget": None})
    assert (await office.chat(key=KEY)).status_code == 200
    refused = await office.call("PUT", "/admin/budgets/provider:one", {"budget": "$1"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "declared_in_routes")


BAD = [
    ("POST", "/admin/keys", {}, "name"),
    ("POST", "/admin/keys", {"name": " x"}, "name"),
    ("POST", "/admin/keys", {"name": "x", "bugdet": "$5"}, "bugdet"),
    ("POST", "/admin/keys", {"name": "x", "budget": "5"}, "budget"),
    ("POST", "/admin/keys", {"name": "x", "tenant": "nobody"}, "tenant"),
    ("POST", "/admin/keys", {"name": "x", "models": "m"}, "models"),
    ("POST", "/admin/keys", {"name": "x", "expires_at": "soon"}, "expires_at"),
    ("POST", "/admin/keys", {"name": "app"}, "name"),
    ("POST", "/admin/keys/app/rotate", {"grace": "1 year"}, "grace"),
    ("POST", "/admin/keys/app/rotate", {"grace": "31d"}, "grace"),
    ("POST", "/admin/tenants", {"name": "acme"}, "name"),
    ("PUT", "/admin/tenants/acme/provider_keys/two", {"key": "with blank"}, "key"),
    ("POST", "/admin/credits", {"key": "app", "amount": "10"}, "amount"),
    ("POST", "/admin/credits", {"key": "app", "tenant": "acme", "amount": "$1"}, "key"),
    ("POST", "/admin/credits", {"key": "app", "amount": "$1", "note": "x" * 201}, "note"),
]


@pytest.mark.parametrize(("method", "path", "content", "param"), BAD)
async def test_what_cannot_be_read_is_named(
    office: Office, method: str, path: str, content: dict[str, Any], param: str
) -> None:
    """The field, in a sentence with the remedy; nothing is made of the rest."""
    refused = await office.call(method, path, content)
    assert refused.status_code in {400, 409}
    assert refused.json()["error"]["param"] == param


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a": NaN}', b'"x"'])
async def test_a_body_is_one_json_object(office: Office, body: bytes) -> None:
    """Nothing else is looked into."""
    headers = {"authorization": f"Bearer {ADMIN}", "content-type": "application/json"}
    refused = await office.http.post("/admin/keys", content=body, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_json")


async def test_what_is_not_there_is_told(office: Office) -> None:
    """Keys, tenants, providers, places."""
    for method, path, content in (
        ("GET", "/admin/keys/nobody", None),
        ("PATCH", "/admin/keys/nobody", {}),
        ("GET", "/admin/tenants/nobody", None),
        ("DELETE", "/admin/tenants/nobody", None),
        ("PUT", "/admin/tenants/acme/provider_keys/nobody", {"key": "k"}),
        ("PUT", "/admin/tenants/nobody/provider_keys/two", {"key": "k"}),
        ("DELETE", "/admin/tenants/acme/provider_keys/two", None),
        ("PUT", "/admin/budgets/key:nobody", {}),
    ):
        assert (await office.call(method, path, content)).status_code == 404, path
    declared = await office.call("PUT", "/admin/tenants/acme/provider_keys/one", {"key": "k"})
    assert declared.json()["error"]["code"] == "declared_in_routes"


# ---------------------------------------------------------------- OpenRouter's provisioning


@pytest.mark.parametrize("surface", SURFACES)
async def test_openrouters_shapes_are_kept(office: Office, surface: str) -> None:
    """201 with the key once; entries with every field of the right type; a hash that leads back."""
    asked = {"name": "n", "limit": 12.5, "limit_reset": "monthly", "include_byok_in_limit": True}
    made = await office.call("POST", f"{surface}/keys", {**asked, "expires_at": "2099-12-31T23:59:59Z"})
    assert made.status_code == 201
    assert made.json().keys() == {"data", "key"}
    key, entry = made.json()["key"], made.json()["data"]
    assert entry.keys() == ENTRY.keys()
    assert all(isinstance(entry[name], kind) for name, kind in ENTRY.items())  # type: ignore[arg-type]  # a table
    assert (entry["limit"], entry["limit_remaining"], entry["limit_reset"]) == (12.5, 12.5, "monthly")
    assert entry["expires_at"] == "2099-12-31T23:59:59Z"
    await office.chat(key=key)
    await office.gateway.settled_rows()
    for found in (entry["hash"], hashlib.sha256(key.encode()).hexdigest()):
        shown = (await office.call("GET", f"{surface}/keys/{found}")).json()["data"]
        assert shown["usage"] == shown["usage_daily"] > 0
        assert shown["limit_remaining"] == pytest.approx(12.5 - shown["usage"])
    patched = await office.call(
        "PATCH", f"{surface}/keys/{entry['hash']}", {"limit": None, "disabled": True, "name": "n"}
    )
    assert (patched.json()["data"]["limit"], patched.json()["data"]["disabled"]) == (None, True)
    assert (await office.chat(key=key)).status_code == 401
    names = [one["name"] for one in (await office.call("GET", f"{surface}/keys")).json()["data"]]
    assert "n" not in names
    every = (await office.call("GET", f"{surface}/keys?include_disabled=true")).json()["data"]
    assert "n" in [one["name"] for one in every]
    assert (await office.call("DELETE", f"{surface}/keys/{entry['hash']}")).json()["deleted"] is True
    assert (await office.call("GET", f"{surface}/keys/{entry['hash']}")).status_code == 404


async def test_provisioned_keys_come_newest_first_a_page_at_a_time(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`offset` goes on where the page before ended."""
    monkeypatch.setattr("proxy.edge.provisioning.PAGE", 3)
    first = (await office.call("GET", "/api/v1/keys")).json()["data"]
    rest = (await office.call("GET", "/api/v1/keys?offset=3")).json()["data"]
    assert [one["name"] for one in first + rest] == ["c", "b", "a", "app"]
    assert (await office.call("GET", "/api/v1/keys?offset=x")).status_code == 400


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"name": "n", "limit": -1},
        {"name": "n", "limit": "5"},
        {"name": "n", "limit": True},
        {"name": "n", "limit": 1e300},
        {"name": "n", "limit_reset": "hourly"},
        {"name": "n", "disabled": False},
        {"name": "n", "include_byok_in_limit": "yes"},
        {"name": "n", "expires_at": "never"},
    ],
)
async def test_provisioning_refuses_what_it_cannot_read(office: Office, content: dict[str, Any]) -> None:
    """A limit that is misread would be no limit."""
    assert (await office.call("POST", "/api/v1/keys", content)).status_code == 400


async def test_a_key_manages_the_keys_it_made_and_no_others(office: Office) -> None:
    """What it makes may do no more than itself, holds its limits, and is nobody else's business (S20)."""
    maker = await office.mint(
        "maker", models=["m"], budget="$5/day", tenant="acme", may_create_keys=True, expires_at="2099-01-01T00:00:00Z"
    )
    other = await office.mint("other", may_create_keys=True)
    made = await office.call("POST", "/api/v1/keys", {"name": "child", "limit": 2, "limit_reset": "daily"}, key=maker)
    child, entry = made.json()["key"], made.json()["data"]
    assert entry["expires_at"] == "2099-01-01T00:00:00Z"
    assert [(await office.chat(model, key=child)).status_code for model in ("m", "other")] == [200, 403]
    assert office.credentials == [("one", "sk-acme-at-one")]
    for wide in ({"limit": 6, "limit_reset": "daily"}, {"expires_at": "2100-01-01T00:00:00Z"}):
        assert (await office.call("POST", "/api/v1/keys", {"name": "wide", **wide}, key=maker)).status_code == 403
    path = f"/api/v1/keys/{entry['hash']}"
    wider = await office.call("PATCH", path, {"limit": 6}, key=maker)
    assert (wider.status_code, wider.json()["error"]["metadata"]["error_code"]) == (403, "too_wide")
    assert [one["name"] for one in (await office.call("GET", "/v1/keys", key=maker)).json()["data"]] == ["child"]
    for stranger in (other, child):
        assert (await office.call("GET", path, key=stranger)).status_code in {403, 404}
        assert (await office.call("DELETE", path, key=stranger)).status_code in {403, 404}
    assert (await office.call("POST", "/v1/keys", {"name": "grandchild"}, key=child)).status_code == 403
    assert (await office.call("GET", "/v1/keys", key="sk-unknown-key")).status_code == 401
    await office.call("PATCH", "/admin/keys/maker", {"models": ["other"]})
    assert (await office.chat(key=child)).status_code == 403
    await office.call("DELETE", "/admin/keys/maker")
    assert (await office.chat(key=child)).status_code == 401
    lines = (await office.call("GET", "/admin/audit")).json()["data"]
    assert ("key:maker", "key.create", "key:child") in {(one["actor"], one["action"], one["target"]) for one in lines}


async def test_the_file_keeps_its_keys(office: Office) -> None:
    """Provisioning neither changes nor deletes what is declared."""
    (entry,) = (one for one in (await office.call("GET", "/v1/keys")).json()["data"] if one["name"] == "app")
    for method, content in (("PATCH", {"limit": 1}), ("DELETE", None)):
        refused = await office.call(method, f"/v1/keys/{entry['hash']}", content)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "declared_in_routes")
    renamed = await office.mint("n")
    found = hashlib.sha256(renamed.encode()).hexdigest()
    assert (await office.call("PATCH", f"/v1/keys/{found}", {"name": "m"})).status_code == 400
