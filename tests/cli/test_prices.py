"""`turnpike prices`: every component of every target, its source and date, and what is not known said plainly."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from proxy.catalogue import REFRESHED_FILE, write_refreshed
from tests.cli.conftest import ROUTES, Shell

MODELS = """\
  dear: [openai/gpt-5.4, openrouter/openai/gpt-4o]
  own:
    target: openai/mine
    price:
      {input: $1/M, output: $2/M, search: $0.01, image: $0.002, above: {200k: {input: $3/M}},
       service_tiers: {flex: {input: $0.5/M, output: $1/M}}}
  unknown: openai/nobody-knows-this
  "glob/*": openrouter/*
"""


@pytest.fixture
def shop(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell on a table with prices of every kind."""
    for name in ("OPENAI_API_KEY", "OPENROUTER_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    shell.routes.write_text(ROUTES + MODELS)
    return shell


def test_all_of_a_price_is_shown_with_its_source_and_date(shop: Shell) -> None:
    """Each target, each service, each long prompt."""
    result = shop.here("prices", "dear")
    assert (result.code, result.err) == (0, "")
    first, second = result.out.split("\n\n")
    lines = [line.split() for line in first.splitlines()]
    assert lines[0][0] == "openai/gpt-5.4"
    assert "from catalogue: https://developers.openai.com/api/docs/pricing, as of 2026-11-20" in first
    assert "flex, priority from correction: https://" in first
    assert ["output", "15", "22.5", "7.5", "11.25", "30", "1M", "tokens"] in lines
    assert ["search", "0.01", "0.01", "0.01", "0.01", "0.01", "search"] in lines
    assert second.startswith("openrouter/openai/gpt-4o (not ready: OPENROUTER_API_KEY is not set)\n")


def test_an_operators_price_names_its_file(shop: Shell) -> None:
    """It wins over every catalogue, so where it stands is all there is to say."""
    result = shop.here("prices", "own")
    lines = [line.split() for line in result.out.splitlines()]
    assert lines[1] == ["from", "routes.yaml"]
    assert lines[2] == ["USD", "USUAL", "USUAL", "ABOVE", "200,000", "FLEX", "PER"]
    assert lines[3:] == [
        ["input", "1", "3", "0.5", "1M", "tokens"],
        ["output", "2", "2", "1", "1M", "tokens"],
        ["image", "0.002", "0.002", "0.002", "picture"],
        ["search", "0.01", "0.01", "0.01", "search"],
    ]


@pytest.mark.parametrize("model", ["openai/gpt-4o", "glob/openai/gpt-4o", "chat", "sim/anything"])
def test_a_providers_model_and_what_a_glob_lets_through_have_prices_too(shop: Shell, model: str) -> None:
    """By the names a target has."""
    assert shop.here("prices", model).code == 0


def test_an_unknown_price_is_said_plainly(shop: Shell) -> None:
    """1, unless another target's is known."""
    result = shop.here("prices", "unknown")
    assert result.code == 1
    assert "its price is not known" in result.out
    assert shop.here("prices", "unknown", "--json").json["targets"][0]["price"] is None


def test_an_unknown_model_is_1_with_the_near_names(shop: Shell) -> None:
    """As of `explain`."""
    result = shop.here("prices", "daer")
    assert (result.code, result.out) == (1, "")
    assert "Did you mean 'dear'?" in result.err


def test_a_program_gets_decimal_strings(shop: Shell) -> None:
    """Null is what has no price of its own."""
    (target,) = shop.here("prices", "own", "--json").json["targets"]
    price = target["price"]
    assert (target["target"], target["ready"]) == ("openai/mine", False)
    assert (price["input"], price["cache_read"], price["search"]) == ("1", None, "0.01")
    assert price["above"]["200000"]["input"] == "3"
    assert price["service_tiers"]["flex"]["output"] == "1"
    assert (price["origin"], price["source"], price["as_of"]) == ("routes.yaml", "routes.yaml", None)
    (known, _) = shop.here("prices", "dear", "--json").json["targets"]
    assert (known["price"]["origin"], known["price"]["as_of"]) == ("catalogue", "2026-11-20")


def test_fetched_prices_are_shown_as_such(shop: Shell) -> None:
    """Only where routes.yaml wants them: the same view as a server's."""
    today = datetime.now(UTC).date()
    shop.data.mkdir()
    row = {"input": "77", "output": "88", "source": "https://openrouter.ai/api/v1/models", "as_of": today.isoformat()}
    write_refreshed(shop.data / REFRESHED_FILE, {"openai/gpt-4o": row}, day=today)
    assert "77" not in shop.here("prices", "dear").out
    shop.routes.write_text(ROUTES + MODELS + "prices: {refresh: 24h}\n")
    shown = shop.here("prices", "dear").out
    assert f"from fetched: https://openrouter.ai/api/v1/models, as of {today}" in shown
    assert "77" in shown
    assert "77" in shop.here("models").out
    assert shop.here("check").code == 0
