"""Keys, tenants, prepaid credits, secrets and the audit log from the command line, on the files."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
from contextlib import closing

import pytest

from proxy.vault import VARIABLE, Vault, make_secret_key
from tests.cli.conftest import ROUTES, Shell
from tests.cli.test_keys import find

TENANTS = f"{ROUTES}tenants: {{acme: {{}}}}\n"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own environment counts."""
    monkeypatch.delenv(VARIABLE, raising=False)


def store(shell: Shell, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give acme a credential of its own."""
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{secret}\n"))
    assert shell.here("tenants", "set-key", "acme", "sim").code == 0


def test_a_key_is_made_with_all_its_limits(shell: Shell) -> None:
    """In the words of routes.yaml; several budgets at once."""
    made = shell.here(
        *("keys", "create", "phone", "--budget", "$5/day", "--budget", "$50/month", "--rate", "60/min"),
        *("--parallel", "4", "--default-model", "chat", "--max-cost", "$0.50", "--may-create-keys", "--json"),
    )
    assert made.json["budget"] == "$5/day, $50/month"
    record = find(shell, made.json["key"])
    assert record is not None
    assert (record.limits.parallel, record.max_cost_nano_usd) == (4, 500_000_000)
    assert (record.default_model, record.may_create_keys) == ("chat", True)
    assert [rate.limit for rate in record.limits.rates] == [60]


def test_a_key_may_belong_to_a_tenant_of_the_file(shell: Shell) -> None:
    """Whether or not a server has put it in force; to nobody else."""
    shell.routes.write_text(TENANTS)
    made = shell.here("keys", "create", "phone", "--tenant", "acme")
    record = find(shell, made.out.strip())
    assert record is not None
    assert record.house is not None
    assert (record.tenant, record.house.is_declared) == ("acme", True)
    refused = shell.here("keys", "create", "stray", "--tenant", "nobody")
    assert (refused.code, "no tenant 'nobody'" in refused.err) == (1, True)


def test_a_hash_is_taken_over(shell: Shell) -> None:
    """The clients keep the key they have; what is no hash is wrong use."""
    digest = hashlib.sha256(b"sk-litellm-key").hexdigest()
    assert shell.here("keys", "import", "moved", "--sha256", digest, "--budget", "$5").out == ""
    record = find(shell, "sk-litellm-key")
    assert record is not None
    assert record.name == "moved"
    assert shell.here("keys", "import", "bad", "--sha256", "sk-litellm-key").code == 2


def test_a_key_is_changed_and_none_takes_away(shell: Shell) -> None:
    """Only what is said changes."""
    key = shell.here("keys", "create", "phone", "--budget", "$5", "--models", "chat").out.strip()
    changed = shell.here("keys", "update", "phone", "--budget", "none", "--rate", "5/s", "--disable", "--json").json
    assert (changed["budget"], changed["rate"], changed["models"], changed["state"]) == (
        None,
        ["5/s"],
        ["chat"],
        "disabled",
    )
    told = shell.here("keys", "update", "phone", "--models", "all", "--enable", "--expires", "30d")
    assert (told.code, "no budget" in told.err) == (0, True)
    record = find(shell, key)
    assert record is not None
    assert (record.models, record.is_enabled, record.expires_at_s is not None) == (None, True, True)
    assert shell.here("keys", "update", "phone", "--budget", "5").code == 2
    assert shell.here("keys", "update", "nobody", "--budget", "$5").code == 1


def test_a_key_is_rotated(shell: Shell) -> None:
    """The new value alone on stdout; with grace the former one is good for a while."""
    key = shell.here("keys", "create", "phone").out.strip()
    rotated = shell.here("keys", "rotate", "phone", "--grace", "1h")
    assert "ends 20" in rotated.err
    assert find(shell, key) is not None
    assert find(shell, rotated.out.strip()) is not None
    shown = shell.here("keys", "rotate", "phone", "--json").json
    assert shown["former_value_until"] is None
    assert find(shell, key) is None
    assert find(shell, shown["key"]) is not None
    assert "has ended" in shell.here("keys", "rotate", "phone").err


def test_tenants_are_made_listed_changed_and_ended(shell: Shell) -> None:
    """A table for a person, JSON for a program."""
    made = shell.here("tenants", "create", "acme", "--budget", "$200/month", "--models", "chat", "--json").json
    assert (made["name"], made["budget"], made["models"]) == ("acme", ["$200/month"], ["chat"])
    assert shell.here("tenants", "update", "acme", "--rate", "60/min", "--disable").code == 0
    assert "acme  disabled  made  $200/month  60/min  chat" in shell.here("tenants", "list").out
    (listed,) = shell.here("tenants", "list", "--json").json["tenants"]
    assert (listed["state"], listed["rate"]) == ("disabled", ["60/min"])
    assert shell.here("tenants", "create", "acme").code == 1
    assert shell.here("tenants", "create", "beta", "--budget", "much").code == 2
    assert shell.here("tenants", "delete", "acme").code == 0
    assert shell.here("tenants", "list", "--json").json == {"tenants": []}
    assert shell.here("tenants", "delete", "acme").code == 1


def test_a_credential_is_stored_and_its_key_rotated(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read from stdin, never an argument; encrypted under the first key of the variable, and anew when it changes."""
    shell.routes.write_text(TENANTS)
    shell.here("keys", "create", "phone")
    monkeypatch.setattr("sys.stdin", io.StringIO("sk-stored\n"))
    refused = shell.here("tenants", "set-key", "acme", "sim")
    assert (refused.code, "turnpike secrets key" in refused.err) == (1, True)
    old, new = shell.run("secrets", "key").out.strip(), make_secret_key()
    monkeypatch.setenv(VARIABLE, old)
    store(shell, "sk-stored", monkeypatch)
    monkeypatch.setenv(VARIABLE, f"{new},{old}")
    assert shell.here("secrets", "rotate", "--json").json == {"resealed": 1}
    with closing(sqlite3.connect(shell.data / "ledger.db")) as books:
        ((sealed,),) = books.execute("SELECT sealed FROM credentials").fetchall()
    assert Vault(new).unseal(sealed) == "sk-stored"
    (tenant,) = shell.here("tenants", "list", "--json").json["tenants"]
    assert list(tenant["provider_keys"]) == ["sim"]
    monkeypatch.setenv(VARIABLE, make_secret_key())
    assert shell.here("secrets", "rotate").code == 1
    monkeypatch.setenv(VARIABLE, "no key")
    assert shell.here("secrets", "rotate").code == 2
    monkeypatch.delenv(VARIABLE)
    assert shell.here("tenants", "drop-key", "acme", "sim").code == 0
    assert shell.here("tenants", "drop-key", "acme", "sim").code == 1


def test_the_secret_key_may_stand_in_the_env_file(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the routes file, where the other variables are."""
    shell.routes.write_text(TENANTS)
    (shell.folder / ".env").write_text(f"{VARIABLE}={make_secret_key()}\n")
    shell.here("keys", "create", "phone")
    store(shell, "sk-stored", monkeypatch)


def test_prepaid_credit_is_granted_and_listed(shell: Shell) -> None:
    """To a key or a tenant; it is a budget like the others."""
    shell.here("keys", "create", "phone", "--budget", "$5/day")
    shell.here("tenants", "create", "acme")
    granted = shell.here("prepaid", "grant", "phone", "$10", "--note", "invoice 7", "--json").json
    assert granted == {"place": "key:phone", "amount_usd": "10.000000000", "prepaid_usd": "10.000000000"}
    assert "tenant:acme: $5.000000000" in shell.here("prepaid", "grant", "acme", "$5", "--tenant").err
    assert "invoice 7" in shell.here("prepaid", "list").out
    listed = shell.here("prepaid", "list", "--json").json
    assert listed["prepaid_usd"] == {"key:phone": "10.000000000", "tenant:acme": "5.000000000"}
    budgets = shell.here("budgets", "--json").json["budgets"]
    assert [(one["scope"], one["period"]) for one in budgets] == [
        ("key:phone", "day"),
        ("key:phone", "total"),
        ("tenant:acme", "total"),
    ]
    assert "key:phone" in shell.here("budgets").out
    assert shell.here("prepaid", "grant", "phone", "10").code == 2
    assert shell.here("prepaid", "grant", "nobody", "$10").code == 1


def test_the_audit_log_says_who_did_what(shell: Shell) -> None:
    """The newest first."""
    shell.here("keys", "create", "phone")
    shell.here("keys", "revoke", "phone")
    shown = shell.here("audit", "--json").json["audit"]
    assert [(one["actor"], one["action"], one["target"]) for one in shown] == [
        ("cli", "key.revoke", "key:phone"),
        ("cli", "key.create", "key:phone"),
    ]
    assert len(shell.here("audit", "--limit", "1", "--json").json["audit"]) == 1
    assert "key.revoke" in shell.here("audit").out


@pytest.mark.parametrize(
    ("forgery", "line"),
    [
        ("UPDATE audit SET actor = 'nobody' WHERE seq = 2", 2),
        ("UPDATE audit SET after = NULL WHERE seq = 1", 1),
        ("DELETE FROM audit WHERE seq = 2", 2),
    ],
)
def test_a_forged_audit_log_is_found(shell: Shell, forgery: str, line: int) -> None:
    """The first broken link is named, and the exit code is 1 (S44)."""
    for name in ("one", "two", "three"):
        shell.here("keys", "create", name)
    good = shell.here("audit", "verify", "--json")
    assert (good.code, good.json["ok"], good.json["lines"], good.json["broken"]) == (0, True, 3, None)
    assert "3 lines, nothing was changed" in shell.here("audit", "verify").out
    with closing(sqlite3.connect(shell.data / "ledger.db")) as books, books:
        books.execute(forgery)
    found = shell.here("audit", "verify")
    assert (found.code, f"broken at line {line}" in found.err) == (1, True)
    assert json.loads(shell.here("audit", "verify", "--json").out)["broken"]["seq"] == line


def test_a_tenants_own_accounts_are_tried(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call each; 1 when it has none, when one fails, and for a tenant nobody knows."""
    routes = f"{ROUTES}tenants: {{acme: {{provider_keys: {{openai: '${{ACME_OPENAI}}'}}}}}}\n"
    shell.routes.write_text(routes)
    monkeypatch.setenv(VARIABLE, make_secret_key())
    shell.here("keys", "create", "phone", "--tenant", "acme")
    store(shell, "sk-stored", monkeypatch)
    tried = shell.here("test", "--tenant", "acme", "--json")
    assert tried.code == 1
    found = {one["model"]: one for one in tried.json["tests"]}
    assert (found["sim/echo"]["ok"], found["sim/echo"]["target"]) == (True, "sim/echo")
    assert (found["openai/gpt-4o"]["ok"], found["openai/gpt-4o"]["error"]) == (False, "ACME_OPENAI is not set")
    good = shell.here("test", "--tenant", "acme", "chat")
    assert (good.code, "answered by sim/echo" in good.out) == (0, True)
    shell.here("tenants", "create", "beta")
    none = shell.here("test", "--tenant", "beta")
    assert (none.code, "no account of its own" in none.err) == (1, True)
    assert shell.here("test", "--tenant", "nobody").code == 1
    assert shell.here("test").code == 2


def test_a_credential_is_stored_for_a_provider_there_is(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped one would never be called, and is named."""
    shell.routes.write_text(TENANTS)
    shell.here("keys", "create", "phone")
    monkeypatch.setenv(VARIABLE, make_secret_key())
    monkeypatch.setattr("sys.stdin", io.StringIO("sk-stored\n"))
    refused = shell.here("tenants", "set-key", "acme", "simm")
    assert (refused.code, refused.out) == (1, "")
    assert "There is no provider 'simm' in the routing table." in refused.err


def test_a_secret_key_that_is_none_is_told_by_its_name(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands in no line of a file."""
    shell.here("keys", "create", "phone")
    monkeypatch.setenv(VARIABLE, "nonsense")
    refused = shell.here("secrets", "rotate")
    assert (refused.code, refused.err.startswith(f"environment: {VARIABLE} holds ")) == (2, True)
    assert "nonsense" not in refused.err


def test_a_grant_is_taken_back_as_it_is_written(shell: Shell) -> None:
    """An amount below 0 looks like a flag, and is none."""
    shell.here("keys", "create", "phone")
    assert shell.here("prepaid", "grant", "phone", "$10", "--note", "paid").code == 0
    assert shell.here("prepaid", "grant", "phone", "-$3", "--json").json["prepaid_usd"] == "7.000000000"
    assert shell.here("prepaid", "grant", "phone", "-$8").code == 2
    assert shell.here("prepaid", "grant", "phone", "--wrong").code == 2


@pytest.mark.parametrize("what", ["keys", "tenants"])
def test_a_change_of_nothing_is_wrong_use(shell: Shell, what: str) -> None:
    """Nobody is told that something has changed when nothing has."""
    shell.here(what, "create", "acme")
    refused = shell.here(what, "update", "acme")
    assert (refused.code, "nothing is to be changed" in refused.err) == (2, True)
