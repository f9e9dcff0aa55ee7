"""Loads a table from a text, and a catalogue small enough to know by heart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from proxy.errors import ConfigError, ConfigProblem
from proxy.files import load_table
from proxy.pricing import ModelFacts, Prices
from proxy.routing.table import Catalogue, Route, Table

GPT_4O = ModelFacts(Prices(Decimal("2.5"), Decimal(10), source="catalogue"), 128_000, 16_384)
AT_OPENROUTER = replace(GPT_4O, capabilities={"direct": ("openai/gpt-4o",)})
CATALOGUE = Catalogue({"openai": {"gpt-4o": GPT_4O}, "openrouter": {"openai/gpt-4o": AT_OPENROUTER}})


def load(folder: Path, text: str | bytes, environ: Mapping[str, str] | None = None) -> Table:
    """Write a routes.yaml and load it."""
    path = folder / "routes.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_table(path, environ=environ or {}, catalogue=CATALOGUE)


def load_models(folder: Path, models: str, environ: Mapping[str, str] | None = None) -> dict[str, Route]:
    """Load a file that has only `models`, given as its indented lines, and two providers `a` and `b`."""
    providers = "providers:\n  a: {dialect: simulated}\n  b: {dialect: simulated, price: {input: $3/M, output: $4/M}}\n"
    table = load(folder, f"{providers}models:\n{models}", environ)
    return {**table.routes, **{glob.name: glob for glob in table.globs}}


def find_problems(
    folder: Path, text: str | bytes, environ: Mapping[str, str] | None = None
) -> tuple[ConfigProblem, ...]:
    """Load a broken routes.yaml and give what was found, in the order of the file."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text, environ)
    return caught.value.problems
