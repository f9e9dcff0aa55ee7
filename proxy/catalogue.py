"""The shipped facts about models (floor 2, adapter): config/prices.json with config/models.yaml laid over it.

Reads two files at a start and nothing afterwards. Rows stay as they were parsed until somebody asks for one, because
there are two thousand of them and a gateway uses a handful. Which price beats which (routes.yaml over the catalogue) is
not decided here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
import yaml

from proxy.errors import ConfigError, ConfigProblem
from proxy.pricing import ModelFacts, Prices, PriceTier
from proxy.routing.table import Catalogue

PRICES_FILE = "prices.json"
MODELS_FILE = "models.yaml"
OPENROUTER = "openrouter"

Row = Mapping[str, Any]

_PRICES = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "audio_input", "audio_output", "request")
_LIMITS = ("context", "output_max")
_FIELDS = frozenset((*_PRICES, *_LIMITS, "tiers", "source", "as_of", "capabilities"))
_DATED = re.compile(r"[-@](?:20\d{6}|20\d{2}-\d{2}-\d{2})$")
_ROUTED = re.compile(r":(?:nitro|floor|online|exacto)$")
"""Variants OpenRouter makes of any model by routing; others (`:free`, `:batch`) are models with prices of their own."""
_FREE = ":free"


def load_catalogue(config_dir: Path | None = None) -> Catalogue:
    """Read the shipped facts; raises `ConfigError` naming file, place and remedy when a file is missing or broken."""
    folder = config_dir or find_config_dir()
    shipped = _read_shipped(folder / PRICES_FILE)
    sections, direct = _read_corrections(folder / MODELS_FILE)
    providers: dict[str, ProviderRows] = {}
    for name in (*shipped["providers"], *(name for name in sections if name not in shipped["providers"])):
        section = shipped["providers"].get(name, {})
        corrections = sections.get(name, {})
        models = section.get("models", {})
        providers[name] = ProviderRows(
            name=name,
            rows={**dict.fromkeys(corrections, _NO_ROW), **models},
            source=section.get("source", shipped["source"]),
            as_of=section.get("as_of", shipped["as_of"]),
            corrections=corrections,
            fallbacks=tuple(section.get("fallbacks", ())),
            direct=direct if name == OPENROUTER else {},
            providers=providers,
        )
    return Catalogue(providers)


def find_config_dir() -> Path:
    """Find the shipped config folder: in the package when installed, beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "config"
    return installed if installed.is_dir() else package.parent / "config"


@dataclass(frozen=True)
class ProviderRows(Mapping[str, ModelFacts]):
    """One provider's models by id, turned into facts when asked for; ids are compared without regard to case.

    An id is found as it stands; else without the suffix of a routing variant; else without its date, when all rows that
    differ from it only in their date agree; else at the providers whose models this one also sells.
    """

    name: str
    rows: Mapping[str, Row | str]
    """By lower-case id; a string is another id of the same model, whose row it shares."""
    source: str
    as_of: str
    corrections: Mapping[str, Row] = field(default_factory=dict)
    fallbacks: tuple[str, ...] = ()
    direct: Mapping[str, str] = field(default_factory=dict)
    """`provider/id` of the same model at its maker."""
    providers: Mapping[str, ProviderRows] = field(default_factory=dict, repr=False)
    """All of them, for fallbacks and makers."""
    _read: dict[str, ModelFacts] = field(default_factory=dict, init=False, repr=False)
    """Facts already made; never more than there are rows."""

    def __getitem__(self, model: str) -> ModelFacts:
        """Give the facts of a model; KeyError when neither this provider nor its fallbacks know it."""
        for asked in self._spellings(model.lower()):
            row_id = self._find(asked)
            if row_id is not None:
                return self._facts(row_id)
        if self.name == OPENROUTER and model.endswith(_FREE):
            return ModelFacts(Prices(Decimal(0), Decimal(0), source=self.source, as_of=self.as_of))
        for fallback in self.fallbacks:
            if model in self.providers[fallback]:
                return self.providers[fallback][model]
        raise KeyError(model)

    def __iter__(self) -> Iterator[str]:
        """Go through all ids that stand in the files."""
        return iter(self.rows)

    def __len__(self) -> int:
        """Count those ids."""
        return len(self.rows)

    def _spellings(self, model: str) -> Iterator[str]:
        yield model
        if self.name == OPENROUTER and _ROUTED.search(model):
            yield _ROUTED.sub("", model)

    def _find(self, model: str) -> str | None:
        """Give the id in the files that stands for an id, None when none does or it is not certain."""
        if model in self.rows:
            return model
        bare = _DATED.sub("", model)
        if bare not in self.rows:
            return None
        agreed = self._row(bare)
        return bare if all(self._row(other) == agreed for other in self._dated.get(bare, ())) else None

    @cached_property
    def _dated(self) -> Mapping[str, list[str]]:
        """Group the dated ids of the files by what they are without the date."""
        grouped: dict[str, list[str]] = {}
        for model in self.rows:
            grouped.setdefault(_DATED.sub("", model), []).append(model)
        return grouped

    def _row(self, model: str) -> Row:
        """Give the shipped row of an id in the files."""
        row = self.rows[model]
        return self._row(row) if isinstance(row, str) else row

    def _facts(self, model: str) -> ModelFacts:
        """Give the facts of an id in the files, made on first demand."""
        facts = self._read.get(model)
        if facts is None:
            facts = self._read[model] = self._with_maker(model, self._make(model))
        return facts

    def _make(self, model: str) -> ModelFacts:
        shipped = self.rows[model]
        canonical = shipped if isinstance(shipped, str) else model
        row = {**self._row(model), **self.corrections.get(canonical, {}), **self.corrections.get(model, {})}
        try:
            return ModelFacts(
                prices=_make_prices({"source": self.source, "as_of": self.as_of, **row}),
                context_tokens=row.get("context"),
                output_tokens_max=row.get("output_max"),
                capabilities=dict(row.get("capabilities", {})),
            )
        except (InvalidOperation, KeyError, TypeError, ValueError) as error:
            path = f"providers.{self.name}.models.{model}"
            raise _problem(Path(PRICES_FILE), f"{error}; `make prices` writes it anew", path) from error

    def _with_maker(self, model: str, facts: ModelFacts) -> ModelFacts:
        """Take from the same model at its maker the limits that are not known here."""
        provider, _, maker_model = self.direct.get(model, "").partition("/")
        if provider not in self.providers:
            return facts
        maker = self.providers[provider].get(maker_model, ModelFacts())
        return replace(
            facts,
            context_tokens=facts.context_tokens or maker.context_tokens,
            output_tokens_max=facts.output_tokens_max or maker.output_tokens_max,
            capabilities={"direct": self.direct[model], **facts.capabilities},
        )


_NO_ROW: Row = {}


def _make_prices(row: Row) -> Prices | None:
    """Turn a row into prices, None when it has none; a negative price is OpenRouter's way to say that it varies."""
    if "input" not in row or "output" not in row:
        return None
    columns = {name: _read_price(row[name], name) for name in _PRICES if name in row}
    if any(price < 0 for price in columns.values()):
        return None
    tiers = []
    for tier in row.get("tiers", ()):
        prices = _make_prices({**row, **tier, "tiers": ()})
        if prices is None:
            return None
        tiers.append(PriceTier(tier["above"], prices))
    return Prices(**columns, tiers=tuple(tiers), source=row["source"], as_of=row["as_of"])


def _read_price(text: object, name: str) -> Decimal:
    """Read an exact decimal; a number without quotes has been a float and is refused."""
    if not isinstance(text, str):
        msg = f"{name}: a price is written in quotes, as it must stay exact"
        raise TypeError(msg)
    price = Decimal(text)
    if not price.is_finite():
        msg = f"{name}: {text} is no price"
        raise ValueError(msg)
    return price


# ---------------------------------------------------------------- reading the files


def _read_shipped(path: Path) -> Row:
    """Read prices.json, which is written by a program and only checked for being what it writes."""
    text = _read_text(path, "`make prices` writes it")
    try:
        shipped: Row = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _problem(
            path, f"{error.msg}; `make prices` writes it anew", line=error.lineno, column=error.colno
        ) from error
    providers = shipped.get("providers") if isinstance(shipped, dict) else None
    if not isinstance(providers, dict) or not {"source", "as_of"} <= shipped.keys():
        raise _problem(path, "not a table of prices; `make prices` writes it anew")
    names = {name for section in providers.values() for name in section.get("fallbacks", ())}
    if unknown := sorted(names - providers.keys()):
        raise _problem(path, f"fallback {unknown[0]!r} has no section; `make prices` writes it anew")
    return shipped


def _read_corrections(path: Path) -> tuple[dict[str, dict[str, Row]], dict[str, str]]:
    """Read models.yaml: rows by provider and id, and the makers' names; people edit it, so every field is checked."""
    text = _read_text(path, "restore the file that came with this version")
    try:
        document = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _problem(path, str(error.problem), line=line, column=column) from error
    document = {} if document is None else document
    providers = _section(path, document, "providers")
    corrections = {
        name: _read_section(path, f"providers.{name}", _section(path, providers, name)) for name in providers
    }
    direct = _section(path, _section(path, document, "direct"), "models")
    return corrections, {str(model).lower(): str(maker) for model, maker in direct.items()}


def _read_section(path: Path, place: str, section: Row) -> dict[str, Row]:
    """Read one provider's corrections; a price among them brings the section's source and date with it."""
    rows: dict[str, Row] = {}
    for model, row in _section(path, section, "models").items():
        where = f"{place}.models.{model}"
        if not isinstance(row, dict):
            raise _problem(path, "a row is a mapping, as {context: 128000}", where)
        if unknown := sorted(row.keys() - _FIELDS):
            raise _problem(path, f"unknown field {unknown[0]!r}; there are {', '.join(sorted(_FIELDS))}", where)
        for name in _LIMITS:
            if name in row and (not isinstance(row[name], int) or row[name] < 1):
                raise _problem(path, f"{name} is a whole number of tokens above 0", where)
        origin = {"source": section.get("source", path.name), "as_of": str(section.get("as_of", ""))}
        rows[str(model).lower()] = {**origin, **row} if row.keys() & set(_PRICES) else row
    return rows


def _section(path: Path, document: object, name: str) -> Row:
    """Give a mapping in a mapping, empty when it is not there."""
    section = document.get(name, {}) if isinstance(document, dict) else None
    if not isinstance(section, dict):
        raise _problem(path, f"{name} must be a mapping", name)
    return section


def _read_text(path: Path, remedy: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise _problem(path, f"cannot be read ({reason}); {remedy}") from error


def _problem(path: Path, message: str, where: str = "", *, line: int = 1, column: int = 1) -> ConfigError:
    return ConfigError((ConfigProblem(str(path), line, column, where, message),))
