"""Prices fetched from OpenRouter's `/models`, kept on disk between two fetches (part of `catalogue`, floor 2).

`take_listing` turns a listing into rows like those of prices.json and refuses what cannot be a price, row by row;
`write_refreshed` replaces the file in one step, so that a reader finds the old prices or the new ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import orjson

from proxy.catalogue.corrections import PRICES, Row
from proxy.pricing import Origin

SOURCE = "https://openrouter.ai/api/v1/models"
REFRESHED_FILE = "prices.json"
"""In the data folder."""
FILE_BYTES_MAX = 32 * 1024 * 1024
ROWS_MAX = 20_000
TOKEN_USD_MAX = Decimal("0.01")
"""No token costs more: $10,000 per million."""
PIECE_USD_MAX = Decimal(10)
"""No request, picture or search costs more."""
ANY_USD_MAX = Decimal(10_000_000)
"""What the two come to in a row, where a picture's price stands as a token's, by the million."""
DYNAMIC = Decimal(-1)
"""OpenRouter's way to say that a price varies."""
REFUSED_SHOWN_MAX = 20

_PER_TOKEN = {
    "prompt": "input",
    "completion": "output",
    "input_cache_read": "cache_read",
    "input_audio_cache": "cache_read_audio",
    "input_cache_write": "cache_write",
    "input_cache_write_1h": "cache_write_1h",
    "audio": "audio_input",
    "audio_output": "audio_output",
    "image_token": "image_input",
    "internal_reasoning": "output",
}
"""OpenRouter's columns and ours; of two for one the dearer counts (openrouter.md 5)."""
_PER_PIECE = {"request": "request", "image": "image", "web_search": "search"}
_IMAGE_OUTPUT = "image_output"
"""By the picture or by the token, they do not say: read as the token's it is never too little."""
_MILLION = 6
_MEMBERS = frozenset((*PRICES, "tiers", "context", "source", "as_of"))


Known = Callable[[str], Decimal | None]


class RefreshedError(Exception):
    """The file of fetched prices cannot be used; the message says why, without its path."""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """Prices as fetched."""

    fetched_on: date
    """UTC."""
    rows: Mapping[str, Row]
    """By lower-case id, in the form of prices.json."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a listing gave."""

    rows: Mapping[str, Row]
    refused: tuple[str, ...] = ()
    """`id: why`, of rows that keep the price they had; the first of them."""
    refused_rows: int = 0


def take_listing(document: object, *, known: Known, day: date) -> Listing:
    """Turn a `/models` reply into rows; raises `RefreshedError` when it is none.

    `known` gives the input price there is of an id: a model that was paid for is not believed to be free all at once,
    since nothing would be held for it. One whose price varies keeps the price it has.
    """
    entries = document.get("data") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries or len(entries) > ROWS_MAX:
        raise RefreshedError("the listing is no list of models")
    rows: dict[str, Row] = {}
    refused: list[str] = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
            continue
        model = entry["id"].lower()
        try:
            row = _read_entry(model, entry, known)
        except ValueError as error:
            refused.append(f"{model}: {error}")
        else:
            rows[model] = {**row, "source": SOURCE, "as_of": day.isoformat()}
    if not rows:
        raise RefreshedError("the listing has no price that can be read")
    return Listing(rows, tuple(refused[:REFUSED_SHOWN_MAX]), len(refused))


def write_refreshed(path: Path, rows: Mapping[str, Row], *, day: date) -> None:
    """Replace the file; raises OSError, and then the old one stands."""
    content = orjson.dumps({"source": SOURCE, "as_of": day.isoformat(), "models": rows}, option=orjson.OPT_INDENT_2)
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_refreshed(path: Path) -> Refreshed | None:
    """Read the file, None when there is none; raises `RefreshedError`."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RefreshedError(f"those fetched cannot be read ({error.strerror})") from error
    try:
        document = orjson.loads(content)
        rows = {name: _check_row(row) for name, row in document["models"].items()}
        return Refreshed(date.fromisoformat(document["as_of"]), rows)
    except (ValueError, KeyError, TypeError, AttributeError, InvalidOperation) as error:
        raise RefreshedError("the file of those fetched is damaged") from error


def _check_row(row: Any) -> Row:
    """Check what the rows module takes on trust; raises what a damaged file raises."""
    if not {"input", "output", "source", "as_of"} <= row.keys() <= _MEMBERS or type(row.get("context", 1)) is not int:
        raise ValueError("members")
    tiers = row.get("tiers", [])
    prices = [part[name] for part in (row, *tiers) for name in PRICES if name in part]
    if not all(isinstance(price, str) and 0 <= Decimal(price) <= ANY_USD_MAX for price in prices):
        raise ValueError("prices")
    if not all(type(tier["above"]) is int and tier.keys() <= {"above", *PRICES} for tier in tiers):
        raise ValueError("tiers")
    return {**row, "origin": Origin.FETCHED}


def _read_entry(model: str, entry: Mapping[str, Any], known: Known) -> Row:
    """Turn one entry into a row; ValueError says what cannot be true about it."""
    pricing = entry.get("pricing")
    if not isinstance(pricing, dict):
        raise ValueError("it has no prices")  # noqa: TRY004 -- one kind of error for one kind of fault
    columns = _read_columns(pricing)
    if "input" not in columns or "output" not in columns:
        raise ValueError("it has no price of tokens")
    if columns["input"] == 0 and not model.endswith(":free") and known(model):
        raise ValueError("it was paid for and is said to be free")
    row: dict[str, Any] = {name: _text(price) for name, price in columns.items()}
    tiers = _read_overrides(pricing, row)
    if tiers:
        row["tiers"] = [{"above": above, **tiers[above]} for above in sorted(tiers)]
    context = entry.get("context_length")
    return {**row, "context": context} if type(context) is int and context > 0 else row


def _read_columns(pricing: Mapping[str, Any]) -> dict[str, Decimal]:
    """Read what is named there: USD per million tokens, and per piece."""
    columns: dict[str, Decimal] = {}
    for theirs, ours in (*_PER_TOKEN.items(), *_PER_PIECE.items(), (_IMAGE_OUTPUT, _IMAGE_OUTPUT)):
        if pricing.get(theirs) is None:
            continue
        price = _read_usd(pricing[theirs], theirs, TOKEN_USD_MAX if theirs in _PER_TOKEN else PIECE_USD_MAX)
        price = price if theirs in _PER_PIECE else price.scaleb(_MILLION)
        columns[ours] = max(price, columns.get(ours, price))
    return columns


def _read_overrides(pricing: Mapping[str, Any], row: dict[str, Any]) -> dict[int, Row]:
    """Give the tiers by threshold. A price that holds at some hours only holds always here, where it is dearer."""
    given = pricing.get("overrides")
    overrides = given if isinstance(given, list) else []
    if not all(isinstance(override, dict) for override in overrides):
        raise ValueError("an override is no object")
    hours: dict[str, Decimal] = {}
    tiers: dict[int, dict[str, Decimal]] = {}
    for override in overrides:
        columns, above = _read_columns(override), override.get("min_prompt_tokens")
        if above is None:
            hours = _dearer(hours, columns)
        elif type(above) is int and above > 0:
            tiers[above] = _dearer(tiers.get(above, {}), columns)
        else:
            raise ValueError("an override has no threshold")
    base = {name: Decimal(row[name] if name in row else row["input"]) for name in hours}
    row |= {name: _text(price) for name, price in _dearer(base, hours).items()}
    return {above: _texts(columns, hours) for above, columns in tiers.items()}


def _dearer(columns: dict[str, Decimal], others: dict[str, Decimal]) -> dict[str, Decimal]:
    return columns | {name: max(price, columns.get(name, price)) for name, price in others.items()}


def _texts(columns: dict[str, Decimal], hours: dict[str, Decimal]) -> Row:
    return {name: _text(max(price, hours.get(name, price))) for name, price in columns.items()}


def _read_usd(given: object, name: str, most: Decimal) -> Decimal:
    try:
        price = Decimal(given) if isinstance(given, str) and len(given) < 64 else Decimal("NaN")
    except InvalidOperation:
        price = Decimal("NaN")
    if price == DYNAMIC:
        raise ValueError("its price varies")
    if not price.is_finite() or not 0 <= price <= most:
        raise ValueError(f"{name} is no price: {str(given)[:40]!r}")
    return price


def _text(price: Decimal) -> str:
    """Write a price without exponent or needless zeros."""
    text = f"{price:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
