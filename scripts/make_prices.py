"""Write config/prices.json from genai-prices, the reviewed price data of pydantic (MIT): `make prices`.

A build-time step: the server reads the file and imports neither the package nor its HTTP client. The output depends on
the installed package and on the day alone, one model a line, so that a change of price is one line of a diff.

What cannot be said in our price rows is rounded up, never down:

* A price that depends on the hour of the day is the dearest of that day.
* OpenRouter lists one price for cache writes; for Anthropic's models the hour's is twice the input, as it documents.
* A model that prices the films or reasoning it reads or writes apart has the dearest of them and text for all of them.
* What is read from a cache costs the dearest of text and pictures.
* Models without a price per token in and out (speech by the hour, pages of OCR, embeddings) are left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices import types
from genai_prices.data import providers as genai_providers

ABOUT = (
    "USD per million tokens (request, search: USD each) as decimal strings; "
    "a model named by a string shares that model's row"
)
TARGET = Path(__file__).parent.parent / "config" / "prices.json"
PROVIDERS = {
    # Name in config/providers.yaml: id at genai-prices.
    "anthropic": "anthropic",
    "azure": "azure",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "fireworks": "fireworks",
    "google": "google",
    "groq": "groq",
    "mistral": "mistral",
    "openai": "openai",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "together": "together",
    "xai": "x-ai",
}
NAMES = {genai_id: name for name, genai_id in PROVIDERS.items()}
# Our column: the columns of genai-prices whose dearest it is, the one that must be there first.
COLUMNS = {
    "input": ("input_mtok", "input_video_mtok"),
    "output": ("output_mtok", "output_video_mtok", "output_reasoning_mtok", "output_citation_mtok"),
    "cache_read": ("cache_read_mtok", "cache_image_read_mtok"),
    "cache_read_audio": ("cache_audio_read_mtok",),
    "cache_write": ("cache_write_mtok",),
    "cache_write_1h": ("cache_write_1h_mtok",),
    "audio_input": ("input_audio_mtok",),
    "audio_output": ("output_audio_mtok",),
    "image_input": ("input_image_mtok",),
    "image_output": ("output_image_mtok",),
}
PIECES = {"request": "requests_kcount", "search": "web_searches_kcount"}
ANTHROPIC_AT_OPENROUTER = "anthropic/"
FREE_SUFFIX = ":free"

Row = dict[str, Any]


def main() -> None:
    """Write the file as of today, or of another day to see what changed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--date", type=date.fromisoformat, default=datetime.now(tz=UTC).date(), help="day of the prices"
    )
    parser.add_argument("--output", type=Path, default=TARGET)
    arguments = parser.parse_args()
    text = render(build(arguments.date), arguments.date)
    arguments.output.write_text(text, encoding="utf-8")
    print(f"{arguments.output.name}: {text.count(chr(10))} lines, {len(text.encode()):,} bytes")


def build(day: date) -> dict[str, Row]:
    """Give, for each provider of ours, its source, fallbacks and rows by lower-case model id."""
    by_id = {provider.id: provider for provider in genai_providers}
    return {name: _build_provider(by_id[genai_id], day) for name, genai_id in PROVIDERS.items()}


def render(providers: dict[str, Row], day: date) -> str:
    """Write rows as JSON, one a line."""
    lines = [
        "{",
        f'"about": {_json(ABOUT)},',
        f'"source": {_json("genai-prices " + version("genai-prices"))}, "as_of": "{day}",',
        '"providers": {',
    ]
    for provider_number, (name, provider) in enumerate(providers.items(), start=1):
        head = {key: value for key, value in provider.items() if key != "models"}
        lines.append(f'{_json(name)}: {_json(head)[:-1]}, "models": {{')
        models = sorted(provider["models"].items())
        lines += [
            f"{_json(model)}: {_json(row)}{',' * (i < len(models))}" for i, (model, row) in enumerate(models, start=1)
        ]
        lines.append("}}" + "," * (provider_number < len(providers)))
    return "\n".join([*lines, "}", "}", ""])


def _build_provider(provider: types.Provider, day: date) -> Row:
    models: dict[str, Row | str] = {}
    for model in provider.models:
        row = _build_row(model, day)
        if row is None:
            continue
        ids = [found for found in _ids(model) if provider.find_model(found) is model]
        for found in ids:
            # One id of a model carries its row, the others name it.
            models[found] = row if found == ids[0] else ids[0]
    head: Row = {"source": (provider.pricing_urls or [provider.name])[0]}
    fallbacks = [NAMES[other] for other in provider.fallback_model_providers or [] if other in NAMES]
    return head | ({"fallbacks": fallbacks} if fallbacks else {}) | {"models": models}


def _build_row(model: types.ModelInfo, day: date) -> Row | None:
    """Give one model's row, None when it is not sold by the token."""
    row = _dearest_of_day(model, day)
    if row is None:
        if not model.id.endswith(FREE_SUFFIX):
            return None
        row = {"input": "0", "output": "0"}
    if model.id.startswith(ANTHROPIC_AT_OPENROUTER):
        for columns in (row, *row.get("tiers", ())):
            if "cache_write" in columns:
                columns.setdefault("cache_write_1h", _text(2 * Decimal(columns["input"])))
    return row | ({"context": model.context_window} if model.context_window else {})


def _dearest_of_day(model: types.ModelInfo, day: date) -> Row | None:
    """Give the dearest row of a day: a price may depend on the hour, and a hold must not."""
    midnight = datetime.combine(day, time(), tzinfo=UTC)
    moments = [midnight + timedelta(minutes=30 * half) for half in range(48)] if _has_hours(model) else [midnight]
    rows = [_price_row(model.get_prices(moment)) for moment in moments]
    priced = [row for row in rows if row is not None]
    return max(priced, key=lambda row: Decimal(row["input"]) + Decimal(row["output"])) if priced else None


def _has_hours(model: types.ModelInfo) -> bool:
    conditions = model.prices if isinstance(model.prices, list) else []
    return any(isinstance(condition.constraint, types.TimeOfDateConstraint) for condition in conditions)


def _price_row(prices: types.ModelPrice) -> Row | None:
    if prices.input_mtok is None or prices.output_mtok is None:
        return None
    row = _columns_at(prices, 0)
    thresholds = sorted({tier.start for column in _all_columns(prices) for tier in column.tiers})
    if thresholds:
        row["tiers"] = [{"above": start, **_columns_at(prices, start + 1)} for start in thresholds]
    for ours, name in PIECES.items():
        if isinstance(price := getattr(prices, name), Decimal):
            row[ours] = _text(price / 1000)
    return row


def _all_columns(prices: types.ModelPrice) -> Iterator[types.TieredPrices]:
    for name in (name for names in COLUMNS.values() for name in names):
        value = getattr(prices, name)
        if isinstance(value, types.TieredPrices):
            yield value


def _columns_at(prices: types.ModelPrice, input_tokens: int) -> Row:
    """Read every column of ours at an input length: the last tier whose threshold is passed."""
    columns = {
        ours: [_at(getattr(prices, name), input_tokens) for name in names if getattr(prices, name) is not None]
        for ours, names in COLUMNS.items()
    }
    return {ours: _text(max(values)) for ours, values in columns.items() if values}


def _at(price: Decimal | types.TieredPrices, input_tokens: int) -> Decimal:
    if isinstance(price, Decimal):
        return price
    return next((tier.price for tier in reversed(price.tiers) if input_tokens > tier.start), price.base)


def _ids(model: types.ModelInfo) -> list[str]:
    """Give all literal ids of a model, its own first; patterns are left to the reader's rule for dated ids."""
    found = dict.fromkeys([model.id.lower(), *(literal.lower() for literal in _literals(model.match))])
    return [literal for literal in found if literal and literal[-1] not in "-@."]


def _literals(clause: object) -> Iterable[str]:
    for name in ("equals", "starts_with", "contains"):
        value = getattr(clause, name, None)
        if isinstance(value, str):
            yield value
    for name in ("or_", "and_"):
        for inner in getattr(clause, name, ()):
            yield from _literals(inner)


def _text(price: Decimal) -> str:
    """Write a price without exponent or needless zeros."""
    return f"{price.normalize():f}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    main()
