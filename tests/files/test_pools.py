"""Pools of upstream keys, and credentials of tenants: which are there, which are left out, and who sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.files.limit_options import POOL_MAX
from proxy.policy.limits import Measure, Rate
from proxy.routing.table import Secret, UpstreamKey
from tests.files.tables import find_problems, load

CHAT = "models: {chat: openai/gpt-4o}\n"
POOL = (
    'providers: {openai: {api_keys: ["${A}", {key: "${B}", name: spare, rate: 20/min, free: true}, "${C}"]}}\n' + CHAT
)
SET = {"A": "sk-first-key", "B": "sk-second-key", "C": "sk-third-key"}


def test_a_pool_has_its_keys_in_their_order(tmp_path: Path) -> None:
    """By name or place, with what the file says of each; the first stands where no choice is made."""
    provider = load(tmp_path, POOL, SET).providers["openai"]
    assert provider.pool == (
        UpstreamKey("1", Secret("sk-first-key")),
        UpstreamKey("spare", Secret("sk-second-key"), (Rate(Measure.REQUESTS, 20, 60),), is_free=True),
        UpstreamKey("3", Secret("sk-third-key")),
    )
    assert (provider.api_key, provider.not_ready) == (Secret("sk-first-key"), None)
    assert provider.secrets == ("sk-first-key", "sk-second-key", "sk-third-key")


def test_a_pool_with_one_key_set_is_ready(tmp_path: Path) -> None:
    """The others are left out and told; each keeps its name."""
    table = load(tmp_path, POOL, {"C": "sk-third-key", "OPENAI_API_KEY": "sk-never-used"})
    provider = table.providers["openai"]
    assert provider.pool == (UpstreamKey("3", Secret("sk-third-key")),)
    assert (provider.api_key, provider.not_ready) == (Secret("sk-third-key"), None)
    assert table.notes == (
        "openai: key 1: A is not set, the others are used",
        "openai: key spare: B is not set, the others are used",
    )


def test_a_pool_without_any_key_is_not_ready(tmp_path: Path) -> None:
    """It says which variables it waits for."""
    table = load(tmp_path, POOL)
    why = "no key of its pool is usable: 1: A is not set, spare: B is not set, 3: C is not set"
    assert table.providers["openai"].not_ready == why
    assert table.notes == (f"openai is not ready, {why}: skipped in chat", "no target is ready for chat")


def test_a_pool_has_an_end(tmp_path: Path) -> None:
    """More keys than that are a mistake of the file."""
    keys = ", ".join(f"sk-key-{number}" for number in range(POOL_MAX + 1))
    (problem,) = find_problems(tmp_path, f"providers: {{openai: {{api_keys: [{keys}]}}}}\n{CHAT}")
    assert problem.path == "providers.openai.api_keys"


def test_a_tenants_credentials_are_its_own(tmp_path: Path) -> None:
    """One that is not set makes that provider not ready for it, and is told."""
    text = CHAT + 'tenants: {acme: {provider_keys: {openrouter: "${ACME}", openai: "${ACME_OPENAI}"}}, other: }\n'
    table = load(tmp_path, text, {"ACME": "sk-acme-key", "OPENAI_API_KEY": "sk-ours"})
    acme = table.tenants["acme"]
    assert acme.provider_keys == {"openrouter": Secret("sk-acme-key")}
    assert acme.not_ready == {"openai": "ACME_OPENAI is not set"}
    assert acme.secrets == ("sk-acme-key",)
    assert table.tenants["other"].secrets == ()
    assert table.notes == ("openai is not ready for the tenant acme, ACME_OPENAI is not set",)
    assert "sk-acme-key" not in repr(table)


LEAKS = [
    f"providers: {{openai: {{api_keys: [hunter2hunter2, {{key: hunter2hunter2}}]}}}}\n{CHAT}",
    f"providers: {{openai: {{api_keys: [{{key: hunter2hunter2, name: hunter2hunter2/x}}]}}}}\n{CHAT}",
    f"providers: {{openai: {{api_keys: hunter2hunter2}}}}\n{CHAT}",
    f"tenants: {{acme: {{provider_keys: {{openai: [hunter2hunter2]}}}}}}\n{CHAT}",
    f"tenants: {{acme: {{provider_keys: hunter2hunter2, default_model: hunter2hunter2}}}}\n{CHAT}",
]


@pytest.mark.parametrize("text", LEAKS)
def test_no_finding_shows_a_key_of_a_pool_or_a_tenant(tmp_path: Path, text: str) -> None:
    """Wherever else the same text stands."""
    assert "hunter2" not in "\n".join(map(str, find_problems(tmp_path, text)))


def test_who_may_ask_for_what_is_said_by_tenant_and_key(tmp_path: Path) -> None:
    """Models, ceilings and transforms of both; `params` win over the word of their own."""
    text = """
models: {chat: openai/gpt-4o, best: openai/gpt-4o}
tenants: {acme: {models: [chat, "b*"], max_cost: $0.50, transforms: [middle-out]}}
keys:
  - {name: x, key: sk-test-1, tenant: acme, max_cost: $0.10, transforms: [], params: {temperature: 0}}
  - {name: y, key: sk-test-2, transforms: [], params: {transforms: [middle-out]}}
"""
    table = load(tmp_path, text)
    acme, (x, y) = table.tenants["acme"], table.keys
    assert (acme.models, acme.max_cost_nano_usd) == (("chat", "b*"), 500_000_000)
    assert acme.params == {"transforms": ["middle-out"]}
    assert (x.max_cost_nano_usd, x.params) == (100_000_000, {"transforms": [], "temperature": 0})
    assert (y.max_cost_nano_usd, y.params) == (None, {"transforms": ["middle-out"]})


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("openrouter", "cancel"), ("openai", "cancel"), ("anthropic", "cancel"), ("google", "drain"),
        ("groq", "drain"), ("deepseek", "cancel"), ("xai", "cancel"), ("mistral", "drain"), ("together", "cancel"),
        ("fireworks", "cancel"), ("cohere", "cancel"), ("perplexity", "drain"), ("azure", "cancel"),
        ("simulated", "cancel"), ("spare", "drain"), ("own", "cancel"), ("kept", "drain"),
    ],
)  # fmt: skip
def test_a_call_whose_client_left_ends_where_that_stops_the_bill(tmp_path: Path, name: str, ending: str) -> None:
    """OpenRouter's list of who can be cancelled (openrouter.md 4.7); the file has the last word."""
    text = """
providers:
  spare: {dialect: google}
  own: {dialect: openai, base_url: 'http://127.0.0.1:1/v1'}
  kept: {dialect: openai, base_url: 'http://127.0.0.1:1/v1', on_disconnect: drain}
"""
    assert load(tmp_path, text + CHAT).providers[name].on_disconnect == ending
