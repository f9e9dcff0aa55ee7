"""What ships is whole, sourced, and says of each model what it can do and where else it is to be had."""

from __future__ import annotations

import re
import runpy
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

import orjson
import pytest

from proxy.catalogue import read_corrections
from proxy.routing.principal import matches
from proxy.routing.table import Catalogue, Dialect, Provider, Target
from tests.catalogue.made import KNOWN, ROOT, direct_of, rows_of


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


@pytest.mark.parametrize(
    ("provider", "model", "known"),
    [
        ("anthropic", "claude-3-haiku-20240307", {"thinking": "none", "json_schema": False}),
        ("anthropic", "claude-sonnet-4-5-20250929", {"thinking": "budget", "sampling": None, "prefill": None}),
        ("anthropic", "claude-opus-4-1", {"thinking": "budget", "json_schema": False}),
        ("anthropic", "claude-opus-4-6", {"thinking": "adaptive", "prefill": False, "sampling": None}),
        ("anthropic", "claude-opus-4-7", {"thinking": "adaptive", "sampling": False, "forced_tools": None}),
        ("anthropic", "claude-sonnet-5-5", {"thinking": "adaptive", "sampling": False, "forced_tools": False}),
        ("anthropic", "claude-haiku-5-5", {"sampling": False, "forced_tools": None}),
        ("anthropic", "claude-mythos-5-1", {"forced_tools": False}),
        ("google", "gemini-2.0-flash", {"thinking": "none"}),
        ("google", "gemini-2.5-pro", {"thinking": "budget"}),
        ("google", "gemini-3-pro-preview", {"thinking": "level", "sampling": None}),
        ("google", "gemini-3.8-flash", {"thinking": "level", "sampling": False}),
        ("google", "gemini-2.5-flash-image", {"thinking": "none", "output": ("text", "image")}),
        (
            "openai",
            "gpt-4o",
            {"unsupported": frozenset({"reasoning_effort"}), "renamed": None, "input": ("text", "image", "pdf")},
        ),
        ("openai", "gpt-5-chat-latest", {"unsupported": None}),
        ("openai", "o3-mini", {"renamed": {"max_tokens": "max_completion_tokens"}, "input": ("text",)}),
        ("azure", "o3-mini", {"renamed": {"max_tokens": "max_completion_tokens"}}),
        ("deepseek", "deepseek-reasoner", {"unsupported": {"logprobs", "top_logprobs"}}),
        ("openrouter", "anthropic/claude-opus-4.7", {"sampling": None, "input": ("text", "image", "pdf")}),
    ],
)
def test_what_the_main_models_can_do_is_known(
    shipped: Catalogue, provider: str, model: str, known: dict[str, object]
) -> None:
    """So that a backup is not refused for a parameter (openrouter.md, surprise 10); OpenRouter sees to it itself."""
    found = shipped.find(provider, model).capabilities
    assert {name: found.get(name) for name in known} == known


@pytest.mark.parametrize("model", ["o1", "o3", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5.5", "gpt-6-sol"])
def test_reasoning_models_refuse_sampling(shipped: Catalogue, model: str) -> None:
    """Through OpenRouter nobody notices: it drops what they refuse."""
    target = Target(Provider("openai", Dialect.OPENAI), model, shipped.find("openai", model))
    assert {"temperature", "top_p", "logit_bias", "presence_penalty"} <= target.unsupported
    assert target.renamed == {"max_tokens": "max_completion_tokens"}


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
    named = {model: direct_of(openrouter[model]) for model in openrouter}
    for model, direct in named.items():
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
