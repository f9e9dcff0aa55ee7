"""Catalogues of a few rows, one of each kind, and ways to look into them."""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from proxy.catalogue import ProviderRows, load_catalogue
from proxy.pricing import ModelFacts

ROOT = Path(__file__).parents[2]
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
                "maker/two": {"input": "1", "output": "1"},
                "maker/one-2024-05-13": "maker/one",
                "maker/one-2024.05.13": {"input": "1", "output": "1"},
                "maker/open": {"input": "1", "output": "1"},
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
    families:
      - {match: [one*, "*-thinks"], capabilities: {thinking: budget, prefill: false, input: [text, image]}}
      - match: [one-2024*]
        capabilities:
          {thinking: adaptive, unsupported: [seed], renamed: {stop: halt}, efforts: [low, max], tools: false}
  house:
    models:
      local: {input: "0", output: "0"}
direct:
  rules:
    - {match: maker/*, maker: maker/*, except: [maker/half]}
    - {match: maker/h*, maker: maker/o*}
  models:
    maker/one: maker/one
    maker/varies: nobody/varies
    maker/one-2024.05.13: none
  hosts:
    maker/varies: [house/local]
    maker/open: [house/local, house/gone, reseller/Own]
"""


def write(folder: Path, *, shipped: object = SHIPPED, corrections: str = CORRECTIONS) -> Path:
    """Write a config folder."""
    (folder / "prices.json").write_bytes(shipped if isinstance(shipped, bytes) else orjson.dumps(shipped))
    (folder / "models.yaml").write_text(corrections)
    return folder


def input_price(facts: ModelFacts) -> Decimal | None:
    """Give the figure that tells the rows apart."""
    return facts.prices.input if facts.prices else None


def direct_of(facts: ModelFacts) -> tuple[str, ...]:
    """Give where else a model is to be had."""
    direct = facts.capabilities.get("direct", ())
    assert isinstance(direct, tuple)
    return direct


@cache
def rows_of(provider: str) -> ProviderRows:
    """Give one provider's rows of the shipped catalogue."""
    rows = load_catalogue()._facts[provider]  # noqa: SLF001 -- the catalogue is asked by id; a test goes through all
    assert isinstance(rows, ProviderRows)
    return rows
