"""The catalogue: what ships is whole and sourced, ids are found only when it is certain, broken files say so."""

from __future__ import annotations

import re
import runpy
import sys
from datetime import date
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.catalogue import ProviderRows, find_config_dir, load_catalogue, read_corrections, shipped as shipping
from proxy.errors import ConfigError
from proxy.pricing import ModelFacts, Prices
from proxy.routing.principal import matches
from proxy.routing.table import Catalogue

ROOT = Path(__file__).parent.parent
KNOWN = (
    *("openrouter", "openai", "anthropic", "google", "groq", "deepseek", "xai", "mistral", "together", "fireworks"),
    *("cohere", "perplexity", "azure"),
)

SHIPPED: dict[str, Any] = {
    "source": "somewhere",
    "as_of": "2026-11-20",
    "providers": {
        "openrouter": {
            "source": "https://openrouter.example",
            "models": {
                "maker/one": {"input": "1", "output": "2", "cache_read": "0.1", "context": 1000},
                "maker/one:free": {"input": "0", "output": "0"},
                "maker/one:batch": {"input": "0.5", "output": "1"},
                "maker/varies": {"input": "-1", "output": "-1"},
                "maker/half": {"input": "1", "output": "1", "tiers": [{"above": 9, "input": "-1"}]},
            },
        },
        "maker": {
            "models": {
                "one": {"input": "3", "output": "4", "request": "0.01", "tiers": [{"above": 200, "input": "6"}]},
                "one-2024-05-13": {"input": "9", "output": "9"},
                "two": {"input": "1", "output": "1"},
                "two-20250101": "two",
                "unpriced": {"input": "1"},
                "broken": {"input": "many", "output": "1"},
                "float": {"input": 1.5, "output": "1"},
                "endless": {"input": "Infinity", "output": "1"},
            }
        },
        "reseller": {"fallbacks": ["maker"], "models": {"own": {"input": "7", "output": "7"}}},
    },
}
CORRECTIONS = """\
providers:
  maker:
    source: https://maker.example
    as_of: "2026-10-01"
    models:
      one: {context: 2000, output_max: 500}
      two-20250101: {output_max: 100}
      new: {input: "5", output: "6", capabilities: {sampling: false}}
  house:
    models:
      local: {input: "0", output: "0"}
direct:
  models:
    maker/one: maker/one
    maker/varies: nobody/varies
"""


def write(folder: Path, *, shipped: object = SHIPPED, corrections: str = CORRECTIONS) -> Path:
    """Write a config folder."""
    (folder / "prices.json").write_bytes(shipped if isinstance(shipped, bytes) else orjson.dumps(shipped))
    (folder / "models.yaml").write_text(corrections)
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Catalogue:
    """A catalogue of a few rows, one of each kind."""
    return load_catalogue(write(tmp_path))


def input_price(facts: ModelFacts) -> Decimal | None:
    """Give the figure that tells the rows apart."""
    return facts.prices.input if facts.prices else None


# ---------------------------------------------------------------- what ships


@pytest.fixture(scope="module")
def shipped() -> Catalogue:
    """The catalogue as it is in the repository."""
    return load_catalogue()


def rows_of(provider: str) -> ProviderRows:
    """Give one provider's rows of the shipped catalogue."""
    rows = load_catalogue()._facts[provider]  # noqa: SLF001 -- the catalogue is asked by id; a test goes through all
    assert isinstance(rows, ProviderRows)
    return rows


@pytest.mark.parametrize("provider", KNOWN)
def test_every_shipped_row_can_be_read_and_names_source_and_date(provider: str) -> None:
    """A price without a source is a rumour."""
    rows = rows_of(provider)
    assert len(rows) > 5
    for model in rows:
        facts = rows[model]
        assert facts.prices is not None, model
        assert re.fullmatch(r"https?://\S+", facts.prices.source), model
        assert date.fromisoformat(facts.prices.as_of) >= date(2026, 11, 1), model
        assert facts.context_tokens is None or facts.context_tokens >= 512, model
        assert facts.output_tokens_max is None or facts.output_tokens_max >= 1_000, model


@pytest.mark.parametrize(
    ("provider", "model", "prices"),
    [
        ("openai", "gpt-4o", ("2.5", "10")),
        ("openai", "gpt-4o-2024-11-20", ("2.5", "10")),
        ("openai", "gpt-4o-2024-05-13", ("5", "15")),
        ("openai", "gpt-4o-mini", ("0.15", "0.6")),
        ("anthropic", "claude-sonnet-4-5", ("3", "15")),
        ("anthropic", "claude-sonnet-4-5-20250929", ("3", "15")),
        ("openrouter", "openai/gpt-4o", ("2.5", "10")),
        ("openrouter", "openai/gpt-4o:nitro", ("2.5", "10")),
        ("openrouter", "anthropic/claude-sonnet-4.5", ("3", "15")),
        ("google", "gemini-2.5-pro", ("1.25", "10")),
        ("azure", "gpt-4o", ("2.5", "10")),
        ("groq", "llama-3.3-70b-versatile", ("0.59", "0.79")),
    ],
)
def test_well_known_prices_are_as_published(
    shipped: Catalogue, provider: str, model: str, prices: tuple[str, str]
) -> None:
    """Spot checks against the makers' pages."""
    found = shipped.find(provider, model).prices
    assert found is not None
    assert (str(found.input), str(found.output)) == prices


@pytest.mark.parametrize(
    ("provider", "model", "context", "output_max"),
    [
        ("openai", "gpt-4o", 128_000, 16_384),
        ("openai", "gpt-4.1-mini-2025-04-14", 1_047_576, 32_768),
        ("openai", "o3-mini", 200_000, 100_000),
        ("openai", "gpt-5-chat-latest", 128_000, 16_384),
        ("anthropic", "claude-opus-4-1-20250805", 200_000, 32_000),
        ("openrouter", "openai/gpt-4o", 128_000, 16_384),
        ("openrouter", "anthropic/claude-sonnet-4.5", 1_000_000, 64_000),
        ("google", "gemini-2.5-flash", 1_048_576, 65_536),
    ],
)
def test_limits_of_the_main_models_are_known(
    shipped: Catalogue, provider: str, model: str, context: int, output_max: int
) -> None:
    """A hold without a cap from the client is sized by these."""
    facts = shipped.find(provider, model)
    assert (facts.context_tokens, facts.output_tokens_max) == (context, output_max)


def test_long_prompts_have_their_tiers(shipped: Catalogue) -> None:
    """Holding half of the real price was another gateway's bug."""
    prices = shipped.find("openai", "gpt-5.4").prices
    assert prices is not None
    assert [tier.above_input_tokens for tier in prices.tiers] == [272_000]
    assert prices.tiers[0].prices.output > prices.output


def test_an_hour_long_cache_write_at_openrouter_has_its_price(shipped: Catalogue) -> None:
    """It costs twice the input there, as at Anthropic."""
    prices = shipped.find("openrouter", "anthropic/claude-sonnet-4.5").prices
    assert prices is not None
    assert prices.cache_write_1h == 2 * prices.input
    assert prices.tiers[0].prices.cache_write_1h == 2 * prices.tiers[0].prices.input


def test_every_correction_meets_a_model() -> None:
    """A row that no longer corrects anything, or a family without members, is a leftover."""
    corrections = read_corrections(ROOT / "config" / "models.yaml")
    for provider, rows in corrections.rows.items():
        shipped_rows = rows_of(provider)
        assert [model for model in rows if not shipped_rows[model].prices] == []
    for provider, families in corrections.families.items():
        ids = [*rows_of(provider), *(model for name in rows_of(provider).fallbacks for model in rows_of(name))]
        assert [family for family in families if not any(family.has(model) for model in ids)] == []


def test_every_direct_name_is_one_of_the_maker_s() -> None:
    """Of each id OpenRouter lists: its maker's (or hosts') id stands in their price list, or there is none."""
    corrections = read_corrections(ROOT / "config" / "models.yaml")
    openrouter = rows_of("openrouter")
    named = {model: openrouter[model].capabilities.get("direct", ()) for model in openrouter}
    for model, direct in named.items():
        assert isinstance(direct, tuple)
        assert not direct or ":" not in model
        for name in direct:
            provider, _, maker_model = name.partition("/")
            assert maker_model.lower() in rows_of(provider).rows, model
            assert rows_of(provider)[maker_model].prices is not None, model
    assert all(model in openrouter for model in (*corrections.direct.models, *corrections.direct.hosts))
    for model, maker in corrections.direct.models.items():
        assert named[model] == (() if maker == "none" else (maker,))
    for model, hosts in corrections.direct.hosts.items():
        assert named[model] == hosts
    for rule in corrections.direct.rules:
        assert [model for model in openrouter if rule.apply(model) in named[model]], rule
        for pattern in rule.excepted:
            assert [model for model in openrouter if matches(pattern, model)], pattern


def test_prices_are_what_the_script_makes_of_the_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody edits the file by hand: corrections have a file of their own."""
    text = (ROOT / "config" / "prices.json").read_text()
    document = orjson.loads(text)
    if document["source"] != f"genai-prices {version('genai-prices')}":
        pytest.skip("another version of genai-prices is installed than the file was made from")
    made = tmp_path / "prices.json"
    script = str(ROOT / "scripts" / "make_prices.py")
    monkeypatch.setattr(sys, "argv", [script, "--date", document["as_of"], "--output", str(made)])
    runpy.run_path(script, run_name="__main__")
    assert made.read_text() == text


def test_the_server_imports_no_price_package() -> None:
    """It costs half a second and 30 MB at a start, and brings an HTTP client."""
    sources = [path.read_text() for path in (ROOT / "proxy").rglob("*.py")]
    assert not [source for source in sources if re.search(r"^\s*(?:import|from) genai_prices", source, re.MULTILINE)]


# ---------------------------------------------------------------- finding an id


@pytest.mark.parametrize(
    ("provider", "model", "price"),
    [
        ("openrouter", "maker/one", "1"),
        ("openrouter", "Maker/One", "1"),
        ("openrouter", "maker/one:nitro", "1"),
        ("openrouter", "maker/one:floor", "1"),
        ("openrouter", "maker/one:online", "1"),
        ("openrouter", "maker/one:exacto", "1"),
        ("openrouter", "maker/one-20260101:nitro", "1"),
        ("openrouter", "maker/one:free", "0"),
        ("openrouter", "maker/other:free", "0"),
        ("openrouter", "maker/one:batch", "0.5"),
        ("openrouter", "maker/one:extended", None),
        ("openrouter", "maker/one:thinking", None),
        ("openrouter", "maker/varies", None),
        ("openrouter", "maker/half", None),
        ("openrouter", "maker/nothing", None),
        ("maker", "one", "3"),
        ("maker", "one:nitro", None),
        ("maker", "one-2024-05-13", "9"),
        ("maker", "one-2030-01-01", None),
        ("maker", "two-20250101", "1"),
        ("maker", "two-20300101", "1"),
        ("maker", "two@20300101", "1"),
        ("maker", "two-2030-01-01", "1"),
        ("maker", "two-0613", None),
        ("maker", "nothing-20300101", None),
        ("maker", "other:free", None),
        ("maker", "unpriced", None),
        ("maker", "new", "5"),
        ("house", "local", "0"),
        ("reseller", "own", "7"),
        ("reseller", "one", "3"),
        ("reseller", "two-20300101", "1"),
        ("reseller", "nothing", None),
        ("nobody", "one", None),
    ],
)
def test_an_id_is_found_only_when_it_is_certain(small: Catalogue, provider: str, model: str, price: str | None) -> None:
    """Routing variants and unambiguous dates are the same model; anything else is unknown, never 0."""
    assert input_price(small.find(provider, model)) == (None if price is None else Decimal(price))


def test_corrections_lie_over_the_shipped_row(small: Catalogue) -> None:
    """Field by field, for the row's other ids too, and what is new brings its own source and date."""
    one = small.find("maker", "one")
    assert (one.context_tokens, one.output_tokens_max) == (2_000, 500)
    assert one.prices is not None
    assert (one.prices.source, one.prices.as_of) == ("somewhere", "2026-11-20")
    assert small.find("maker", "two").output_tokens_max is None
    assert small.find("maker", "two-20250101").output_tokens_max == 100
    new = small.find("maker", "new")
    assert new.prices == Prices(Decimal(5), Decimal(6), source="https://maker.example", as_of="2026-10-01")
    assert new.capabilities == {"sampling": False}


def test_a_tier_takes_from_its_row_what_it_does_not_name(small: Catalogue) -> None:
    """Only the input gets dearer here; output and the fee of a request stay."""
    prices = small.find("maker", "one").prices
    assert prices is not None
    tier = prices.tiers[0]
    assert tier.above_input_tokens == 200
    assert (tier.prices.input, tier.prices.output, tier.prices.request) == (Decimal(6), Decimal(4), Decimal("0.01"))
    assert tier.prices.tiers == ()


def test_limits_unknown_at_openrouter_come_from_the_maker(small: Catalogue) -> None:
    """What OpenRouter says itself stands; a maker we do not know changes nothing."""
    one = small.find("openrouter", "maker/one")
    assert (one.context_tokens, one.output_tokens_max) == (1_000, 500)
    assert one.capabilities == {"direct": ("maker/one",)}
    assert small.find("openrouter", "maker/varies").capabilities == {}


def test_facts_are_made_once(small: Catalogue) -> None:
    """A glob route asks for them at every request."""
    assert small.find("maker", "one") is small.find("maker", "ONE")


def test_a_providers_rows_are_a_mapping(tmp_path: Path) -> None:
    """They can be listed and counted without being read."""
    rows = load_catalogue(write(tmp_path))._facts["reseller"]  # noqa: SLF001 -- as above
    assert list(rows) == ["own"]
    assert len(rows) == 1


# ---------------------------------------------------------------- broken files


@pytest.mark.parametrize("model", ["broken", "float", "endless"])
def test_a_figure_that_is_no_price_is_named(small: Catalogue, model: str) -> None:
    """A float has already lost the exact price, so it is refused like a word."""
    with pytest.raises(ConfigError, match=rf"prices\.json:1:1: providers\.maker\.models\.{model}: .*make prices"):
        small.find("maker", model)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"prices\.json:1:2: .*`make prices` writes it anew"),
        (b"[]", "not a table of prices"),
        (b'{"providers": {}}', "not a table of prices"),
        (b'{"source": "", "as_of": "", "providers": []}', "not a table of prices"),
        (b'{"source": "", "as_of": "", "providers": {"a": {"fallbacks": ["b"]}}}', "fallback 'b' has no section"),
        (b"\xff", r"cannot be read \(not UTF-8\); `make prices` writes it"),
    ],
)
def test_a_broken_price_file_says_what_and_the_remedy(tmp_path: Path, content: bytes, message: str) -> None:
    """Not a traceback: file, place, remedy."""
    with pytest.raises(ConfigError, match=message):
        load_catalogue(write(tmp_path, shipped=content))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("providers: [", r"models\.yaml:\d+:\d+: "),
        ("\t", r"models\.yaml:1:1: "),
        ("[]\n", "must be a mapping"),
        ("providers: 5\n", "providers: providers must be a mapping"),
        ("providers: {maker: 5}\n", "maker must be a mapping"),
        ("providers: {maker: {models: {one: 5}}}\n", r"providers\.maker\.models\.one: a row is a mapping"),
        ("providers: {maker: {models: {one: {contxt: 5}}}}\n", "unknown field 'contxt'; there are .*context"),
        ("providers: {maker: {models: {one: {context: many}}}}\n", "context is a whole number of tokens above 0"),
        ("providers: {maker: {models: {one: {output_max: 0}}}}\n", "output_max is a whole number"),
        ("direct: {models: 5}\n", "models must be a mapping"),
    ],
)
def test_a_broken_corrections_file_says_where(tmp_path: Path, text: str, message: str) -> None:
    """People edit this one, so every field is checked at the start."""
    with pytest.raises(ConfigError, match=message):
        load_catalogue(write(tmp_path, corrections=text))


def test_a_corrections_file_may_be_empty(tmp_path: Path) -> None:
    """Then the prices stand as they are."""
    assert input_price(load_catalogue(write(tmp_path, corrections="")).find("maker", "one")) == Decimal(3)


@pytest.mark.parametrize("name", ["prices.json", "models.yaml"])
def test_a_missing_file_is_named_with_its_remedy(tmp_path: Path, name: str) -> None:
    """Half a catalogue would be a gateway without prices."""
    (write(tmp_path) / name).unlink()
    with pytest.raises(ConfigError, match=rf"{re.escape(name)}.*cannot be read \(No such file or directory\); "):
        load_catalogue(tmp_path)


def test_the_config_folder_is_found_in_a_checkout_and_in_a_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a wheel it lies inside the package; beside it lie other people's folders."""
    assert find_config_dir() == ROOT / "config"
    package = tmp_path / "proxy"
    (package / "config").mkdir(parents=True)
    (tmp_path / "config").mkdir()
    monkeypatch.setattr(shipping, "__file__", str(package / "catalogue" / "shipped.py"))
    assert find_config_dir() == package / "config"
