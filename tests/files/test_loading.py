"""Good files to tables: providers, keys, tenants, defaults and what a start says."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.files import config_folder, load_table, loading
from proxy.money import Budget, Period
from proxy.policy.limits import NO_LIMITS
from proxy.pricing import Prices
from proxy.routing.table import Dialect, ProviderFlags, Retry, Secret, Simulation, Tenant, Timeouts
from tests.files.tables import CATALOGUE, find_problems, load

CHAT = "models: {chat: openai/gpt-4o}\n"

KNOWN = {
    "openrouter": ("https://openrouter.ai/api/v1", ["OPENROUTER_API_KEY"]),
    "openai": ("https://api.openai.com/v1", ["OPENAI_API_KEY"]),
    "anthropic": ("https://api.anthropic.com/v1", ["ANTHROPIC_API_KEY"]),
    "google": ("https://generativelanguage.googleapis.com/v1beta", ["GEMINI_API_KEY", "GOOGLE_API_KEY"]),
    "groq": ("https://api.groq.com/openai/v1", ["GROQ_API_KEY"]),
    "deepseek": ("https://api.deepseek.com/v1", ["DEEPSEEK_API_KEY"]),
    "xai": ("https://api.x.ai/v1", ["XAI_API_KEY"]),
    "mistral": ("https://api.mistral.ai/v1", ["MISTRAL_API_KEY"]),
    "together": ("https://api.together.xyz/v1", ["TOGETHER_API_KEY"]),
    "fireworks": ("https://api.fireworks.ai/inference/v1", ["FIREWORKS_API_KEY"]),
    "cohere": ("https://api.cohere.ai/compatibility/v1", ["COHERE_API_KEY", "CO_API_KEY"]),
    "perplexity": ("https://api.perplexity.ai", ["PERPLEXITY_API_KEY"]),
    "azure": ("", ["AZURE_OPENAI_API_KEY", "AZURE_API_KEY"]),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_provider_needs_no_entry(tmp_path: Path, name: str) -> None:
    """It has its address, and is ready with any of its variables alone."""
    base_url, variables = KNOWN[name]
    without = load(tmp_path, CHAT).providers[name]
    assert (without.base_url, without.api_key) == (base_url, None)
    for variable in variables:
        provider = load(tmp_path, CHAT, {variable: "k-123456"}).providers[name]
        assert provider.api_key == Secret("k-123456")
        assert without.not_ready == f"{' or '.join(variables)} is not set"
        assert provider.not_ready == (None if base_url else "its base_url is not set")


def test_the_built_in_simulated_provider_is_always_ready(tmp_path: Path) -> None:
    """It is priced, so that budgets and usage have something to show."""
    provider = load(tmp_path, CHAT).providers["simulated"]
    assert provider.not_ready is None
    assert provider.price is not None
    assert (provider.price.input, provider.price.output) == (Decimal(1), Decimal(2))


def test_flags_are_data_of_the_known_providers(tmp_path: Path) -> None:
    """And those of a provider nobody knows are the plain dialect's."""
    table = load(tmp_path, f"providers: {{own: {{dialect: openai, base_url: 'http://h/v1'}}}}\n{CHAT}")
    openrouter = table.providers["openrouter"].flags
    assert {"openai", "xai"} < openrouter.stops_when_left
    assert "groq" not in openrouter.stops_when_left
    assert openrouter == ProviderFlags(billed_when_cut=False, stops_when_left=openrouter.stops_when_left)
    openai = table.providers["openai"].flags
    assert {"top_k", "min_p", "repetition_penalty"} <= openai.unsupported
    assert openai == ProviderFlags(max_tokens_field="max_completion_tokens", unsupported=openai.unsupported)
    assert table.providers["xai"].flags == ProviderFlags(unsupported=openai.unsupported)
    mistral, groq = table.providers["mistral"].flags, table.providers["groq"].flags
    assert (mistral.stream_usage, mistral.renamed["seed"]) == (False, "random_seed")
    assert (mistral.call_id_chars, groq.call_id_chars) == (9, None)
    assert groq.unsupported == {"logit_bias", "logprobs", "n", "top_logprobs"} | openai.unsupported
    assert table.providers["own"].flags == ProviderFlags()


@pytest.mark.parametrize(
    "name", ["openai", "groq", "deepseek", "xai", "mistral", "together", "fireworks", "cohere", "perplexity", "azure"]
)
def test_what_is_openrouters_alone_goes_to_no_other_provider(name: str, tmp_path: Path) -> None:
    """Strict ones answer 400 or 422 to it."""
    flags = load(tmp_path, CHAT).providers[name].flags
    assert {"top_a", "cache_control", "image_config", "prompt_cache_options"} <= flags.unsupported


def test_an_entry_overrides_what_is_known_member_by_member(tmp_path: Path) -> None:
    """Address, dialect and headers change, the flags stay."""
    text = f"""
providers:
  openai:
    {{base_url: "http://127.0.0.1:9/v1/", verify: false, headers: {{X-Team: a}}, price: {{input: $1/M, output: $2/K}}}}
  anthropic: {{dialect: openai}}
  google:
{CHAT}"""
    table = load(tmp_path, text, {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"})
    openai = table.providers["openai"]
    assert (openai.base_url, openai.verify, openai.headers) == ("http://127.0.0.1:9/v1", False, {"X-Team": "a"})
    assert openai.price == Prices(Decimal(1), Decimal(2000))
    assert openai.flags.max_tokens_field == "max_completion_tokens"
    assert table.providers["anthropic"].not_ready is None


def test_a_known_provider_can_be_simulated(tmp_path: Path) -> None:
    """Then it needs no key and no address."""
    provider = load(tmp_path, f"providers: {{openai: {{dialect: simulated, length: 3}}}}\n{CHAT}").providers["openai"]
    assert (provider.dialect, provider.base_url, provider.not_ready) == (Dialect.SIMULATED, "", None)
    assert provider.simulation == Simulation(length_tokens=3)


def test_a_server_of_ones_own_needs_no_key(tmp_path: Path) -> None:
    """Only a key that is asked for and not set makes it wait."""
    text = f"""
providers:
  local: {{dialect: openai, base_url: "http://127.0.0.1:11434/v1", on_disconnect: cancel}}
  hosted: {{dialect: openai, base_url: "https://h.example/v1", api_key: "${{HOSTED_KEY}}"}}
{CHAT}"""
    table = load(tmp_path, text)
    assert table.providers["local"].not_ready is None
    assert table.providers["hosted"].not_ready == "HOSTED_KEY is not set"


def test_a_second_account_takes_its_makers_address_and_not_its_key(tmp_path: Path) -> None:
    """OpenRouter's dialect is spoken in one place only; another account has another key."""
    text = f"providers: {{work: {{dialect: openrouter, api_key: '${{WORK_KEY}}', site_name: W}}}}\n{CHAT}"
    provider = load(tmp_path, text, {"OPENROUTER_API_KEY": "k"}).providers["work"]
    assert (provider.base_url, provider.not_ready) == ("https://openrouter.ai/api/v1", "WORK_KEY is not set")
    assert (provider.flags.billed_when_cut, provider.headers) == (False, {"X-Title": "W"})


def test_every_knob_of_a_simulated_provider_is_read(tmp_path: Path) -> None:
    """And what is left out has its default."""
    knobs = "first_token: 0s, speed: 5/s, length: 2k, seed: 9, fail: cut, fail_after: 3, fail_rate: 25%"
    table = load(tmp_path, f"providers: {{s: {{dialect: simulated, {knobs}}}, t: {{dialect: simulated}}}}\n{CHAT}")
    assert table.providers["s"].simulation == Simulation(0, 5, 2000, 9, "cut", 3, 0.25)
    assert table.providers["t"].simulation == Simulation()
    assert table.providers["t"].price is None


def test_keys_are_kept_as_hashes(tmp_path: Path) -> None:
    """By value or by hash, with everything a key may say; a whole number is a name too."""
    digest = hashlib.sha256(b"sk-test-2").hexdigest()
    text = f"""
models: {{chat: openai/gpt-4o, "g-*": openai/g-*}}
tenants: {{acme: {{default_model: chat, params: {{max_tokens: 9}}}}, bare: }}
keys:
  - name: mobile
    key: sk-test-1
    tenant: acme
    budget: $5/day
    models: [chat, g-1, "g-*", "g-4*", "ch*", chat:free]
    default_model: g-2
    params: {{temperature: 0}}
  - {{name: 7, key_sha256: {digest.upper()}}}
"""
    table = load(tmp_path, text)
    mobile, other = table.keys
    assert mobile.sha256_hex == hashlib.sha256(b"sk-test-1").hexdigest()
    assert (mobile.tenant, mobile.limits.budgets) == ("acme", (Budget(5_000_000_000, Period.DAY),))
    assert mobile.models == ("chat", "g-1", "g-*", "g-4*", "ch*", "chat:free")
    assert (mobile.default_model, mobile.params) == ("g-2", {"temperature": 0})
    assert (other.name, other.sha256_hex, other.limits, other.models) == ("7", digest, NO_LIMITS, None)
    assert table.tenants == {"acme": Tenant("acme", "chat", {"max_tokens": 9}), "bare": Tenant("bare")}
    assert "sk-test-1" not in repr(table)


def test_a_key_that_may_ask_for_nothing_is_taken_at_its_word(tmp_path: Path) -> None:
    """An empty list is not the same as none."""
    assert load(tmp_path, f"{CHAT}keys: [{{name: x, key: abcdefgh, models: []}}]").keys[0].models == ()


def test_defaults_are_read(tmp_path: Path) -> None:
    """Attempts, clocks, the default model; params lie under those of every model."""
    text = """
models:
  chat: {targets: [openai/gpt-4o], params: {temperature: 1}}
defaults: {default_model: chat, retry: {attempts: 5}, timeouts: {total: 15m}, params: {temperature: 0, top_p: 0.5}}
"""
    table = load(tmp_path, text)
    assert (table.default_model, table.retry, table.timeouts) == ("chat", Retry(5), Timeouts(total_s=900))
    assert table.routes["chat"].targets[0].params == {"temperature": 1, "top_p": 0.5}


@pytest.mark.parametrize(("text", "days"), [("", 90), ("retention: 2y\n", 730), ("retention: forever\n", None)])
def test_attempts_are_kept_for_90_days_unless_the_file_says_otherwise(
    tmp_path: Path, text: str, days: int | None
) -> None:
    """Retention is on by default."""
    retention_s = load(tmp_path, text + CHAT).retention_s
    assert retention_s == (None if days is None else days * 86_400)


def test_openrouters_accounts_are_asked_unless_the_file_says_not(tmp_path: Path) -> None:
    """And nobody else's."""
    providers = load(tmp_path, "providers: {work: {dialect: openrouter, reconcile: false}}\n" + CHAT).providers
    assert [name for name, provider in providers.items() if provider.is_reconciled] == ["openrouter"]


def test_sections_with_everything_commented_out_are_empty(tmp_path: Path) -> None:
    """`keys:` followed by comments is how people begin."""
    table = load(tmp_path, f"providers:\ndefaults:\ntenants:\nkeys:\n{CHAT}")
    assert (table.keys, table.tenants, table.retry) == ((), {}, Retry())


@pytest.mark.parametrize(
    ("models", "asked", "is_fine"),
    [
        ("odd: openai/odd", "", False),
        ("odd: openai/odd", ", models: [odd]", False),
        ("odd: openai/odd, chat: openai/gpt-4o", ", models: [chat]", True),
        ("odd: openai/odd, chat: openai/gpt-4o", ", models: ['c*']", True),
        ("odd: openai/odd, chat: openai/gpt-4o", ", models: ['o*']", False),
        ("'*': openai/*, chat: openai/gpt-4o", "", True),
        ("'o*': openai/odd", "", True),
        ("odd: [{target: openai/odd, price: {input: $0/M, output: $0/M}}]", "", True),
    ],
)
def test_a_budget_needs_the_price_of_every_named_target(tmp_path: Path, models: str, asked: str, is_fine: bool) -> None:
    """Of those the key may ask for; behind a glob it is a matter of the request."""
    text = f"models: {{{models}}}\nkeys: [{{name: x, key: abcdefgh, budget: $5{asked}}}]\n"
    if is_fine:
        assert load(tmp_path, text).keys[0].limits.has_hard_budget
    else:
        assert "price of `openai/odd` is not known" in find_problems(tmp_path, text)[0].message


def test_another_account_of_a_known_address_is_priced_like_it(tmp_path: Path) -> None:
    """By the address, not by the name it is given here."""
    providers = "providers: {spare: {dialect: openai, base_url: 'https://api.openai.com/v1'}}\n"
    table = load(tmp_path, f"{providers}models: {{chat: spare/gpt-4o}}")
    assert table.routes["chat"].targets[0].facts.context_tokens == 128_000


def test_privacy_is_the_operators_word(tmp_path: Path) -> None:
    """Nobody is taken to be discreet; who stores nothing has nothing to train on."""
    text = f"providers: {{openai: {{zdr: true}}, groq: {{data_collection: deny}}, xai: {{zdr: false}}}}\n{CHAT}"
    providers = load(tmp_path, text).providers
    asked = [providers[name] for name in ("openai", "groq", "xai", "cohere")]
    found = [(provider.zdr, provider.data_collection) for provider in asked]
    assert found == [(True, "deny"), (False, "deny"), (False, "allow"), (False, "allow")]


def test_notes_say_what_is_skipped_and_what_is_silent(tmp_path: Path) -> None:
    """By provider with its reason, then the models with nothing left; long lists are cut."""
    text = "models:\n  ok: [openai/x, simulated/y]\n" + "".join(f"  m{number}: xai/x\n" for number in range(12))
    assert load(tmp_path, text).notes == (
        "openai is not ready, OPENAI_API_KEY is not set: skipped in ok",
        "xai is not ready, XAI_API_KEY is not set: skipped in m0, m1, m2, m3, m4, m5, m6, m7, m8, m9 and 2 more",
        "no target is ready for m0, m1, m2, m3, m4, m5, m6, m7, m8, m9 and 2 more",
    )
    assert load(tmp_path, "models: {ok: simulated/y}").notes == ()


def test_notes_say_what_is_written_to_no_effect(tmp_path: Path) -> None:
    """A backup of what is no target of OpenRouter's, and what stands behind an answer that always comes."""
    text = """
defaults: {direct_backup: true}
models:
  silent: simulated/x
  idle: {targets: [simulated/x], direct_backup: true}
  none: {targets: [simulated/x], direct_backup: false}
  useful: {targets: [simulated/x, openrouter/openai/gpt-4o], direct_backup: true}
  hidden: [simulated/x, {static: {content: Later.}}, simulated/y, simulated/z]
  last: [simulated/x, {static: {content: Later.}}]
  larger: {targets: [{static: {content: Later.}}, simulated/y], prefer: larger_context}
"""
    assert load(tmp_path, text, {"OPENROUTER_API_KEY": "k", "OPENAI_API_KEY": "k"}).notes == (
        "direct_backup does nothing for idle: only targets at OpenRouter get one",
        "never reached in hidden: simulated/y, simulated/z; a fixed answer (static) stands before, put that last",
    )


def test_the_id_tells_files_and_variables_apart(tmp_path: Path) -> None:
    """It changes with the text and with which variables are set, not with their values."""
    first, other_text = load(tmp_path, CHAT).id, load(tmp_path, CHAT + "# more\n").id
    with_key = load(tmp_path, CHAT, {"OPENAI_API_KEY": "a"}).id
    assert len(first) == 12
    assert len({first, other_text, with_key}) == 3
    assert load(tmp_path, CHAT, {"OPENAI_API_KEY": "b", "HOME": "x"}).id == with_key


def test_without_a_file_everything_passes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To OpenRouter when its key is set, also by .env, else to the simulated provider; a note says so."""
    monkeypatch.chdir(tmp_path)
    simulated = load_table(None, environ={}, catalogue=CATALOGUE)
    assert simulated.routes["simulated"].targets[0].name == "simulated/simulated"
    assert simulated.globs[0].targets[0].name == "simulated/*"
    assert simulated.notes == ("no routes.yaml and no OPENROUTER_API_KEY: every answer is simulated",)
    (tmp_path / ".env").write_text("OPENROUTER_API_KEY=k\n")
    through = load_table(None, environ={}, catalogue=CATALOGUE)
    assert [target.name for target in through.globs[0].targets] == ["openrouter/*"]
    assert through.notes == ("no routes.yaml: every model passes through to OpenRouter",)


def test_without_a_path_the_default_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """routes.yaml of the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "routes.yaml").write_text("models: {mine: simulated/x}")
    assert list(load_table(None, environ={}, catalogue=CATALOGUE).routes) == ["mine"]


def test_a_path_that_leads_nowhere_is_a_finding(tmp_path: Path) -> None:
    """Named files are not optional; a folder is no file; nor does a name of nonsense crash."""
    for path, message in [
        (tmp_path / "gone.yaml", "gone.yaml:1:1: the file does not exist"),
        (tmp_path, ":1:1: the file is no file"),
        (tmp_path / "x\0y", ":1:1: the file "),
    ]:
        with pytest.raises(ConfigError) as caught:
            load_table(path, environ={}, catalogue=CATALOGUE)
        assert message in str(caught.value)


def test_a_file_that_may_not_be_read_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system refuses is told by the path asked for."""
    (tmp_path / "routes.yaml").write_text(CHAT)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match=r"routes\.yaml:1:1: the file cannot be read \(Permission denied\)"):
        load_table(tmp_path / "routes.yaml", environ={}, catalogue=CATALOGUE)


def test_a_broken_list_of_known_providers_is_told_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """config/providers.yaml may be edited too."""
    (tmp_path / "providers.yaml").write_text("providers: {openai: {dialect: openai, base_uri: x}}\n")
    monkeypatch.setattr(loading, "config_folder", lambda: tmp_path)
    with pytest.raises(ConfigError, match=r"providers\.yaml:1:39: providers\.openai\.base_uri: .*`base_url`"):
        load(tmp_path, CHAT)


def test_config_is_found_beside_the_package_or_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout has it beside `proxy`, a wheel inside."""
    assert (config_folder() / "providers.yaml").is_file()
    installed = tmp_path / "proxy" / "files" / "loading.py"
    (tmp_path / "proxy" / "config").mkdir(parents=True)
    monkeypatch.setattr(loading, "__file__", str(installed))
    assert config_folder() == tmp_path / "proxy" / "config"


def test_the_shipped_table_keeps_its_promises() -> None:
    """It runs without a key, and three plain aliases have an answer outside OpenRouter once makers' keys are set."""
    path = config_folder().parent / "routes.yaml"
    bare = load_table(path, environ={}, catalogue=CATALOGUE)
    assert bare.keys == ()
    assert all(target.provider.not_ready is None for target in bare.routes["simulated"].targets)
    demo = bare.routes["fallback-demo"].targets
    assert [target.provider.simulation.fail for target in demo if target.provider.simulation] == ["server_error", None]
    makers = {variables[0]: "k" for name, (_, variables) in KNOWN.items() if name != "openrouter"}
    table = load_table(path, environ=makers, catalogue=CATALOGUE)
    backed = [
        route
        for route in table.routes.values()
        if route.targets[0].provider.name == "openrouter"
        and any(target.provider.not_ready is None for target in route.targets[1:])
    ]
    assert len(backed) >= 3
