"""config/models.yaml: rows, families, makers' names (part of `catalogue`, floor 2); people edit it: all is checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from proxy.catalogue.capabilities import read_capabilities
from proxy.catalogue.faults import make_fault, read_text
from proxy.pricing import PER_PIECE, PER_TOKEN, Origin
from proxy.routing.principal import fill, matches

PRICES = (*PER_TOKEN, *PER_PIECE)
NOBODY = "none"

_LIMITS = ("context", "output_max")
_FIELDS = frozenset((*PRICES, *_LIMITS, "tiers", "source", "as_of", "from", "capabilities"))
_SECTION_FIELDS = frozenset({"source", "as_of", "models", "families", "service_tiers"})
_SERVICES_FIELDS = frozenset({"source", "as_of", "models"})
_SERVICE_FIELDS = frozenset((*PRICES, "tiers"))
_FAMILY_FIELDS = frozenset({"match", "capabilities", "source", "as_of"})
_DIRECT_FIELDS = frozenset({"source", "as_of", "rules", "models", "hosts"})
_RULE_FIELDS = frozenset({"match", "maker", "dots", "except"})

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Family:
    """Models of one kind and what they share."""

    match: tuple[str, ...]
    """Ids, each with at most one `*`."""
    capabilities: Mapping[str, object]

    def has(self, model: str) -> bool:
        """Tell whether this id is one of them."""
        return any(matches(pattern, model) for pattern in self.match)


@dataclass(frozen=True, slots=True)
class Rule:
    """How a maker names what OpenRouter lists under its author: a glob and what its `*` becomes."""

    match: str
    maker: str
    dashes: bool = False
    """Dots of the name are dashes at the maker."""
    excepted: tuple[str, ...] = ()

    def apply(self, model: str) -> str | None:
        """Give the maker's `provider/id`, None when the rule has nothing to say."""
        star = fill(self.match, model)
        if star is None or any(matches(pattern, model) for pattern in self.excepted):
            return None
        return self.maker.replace("*", star.replace(".", "-") if self.dashes else star, 1)


@dataclass(frozen=True, slots=True)
class Direct:
    """Where OpenRouter's models are to be had without it, as `provider/id`."""

    models: Mapping[str, str] = field(default_factory=dict)
    """At their makers; `none` when the maker does not sell it, or nobody is sure."""
    rules: tuple[Rule, ...] = ()
    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Open weights, at others who serve them."""

    def find_maker(self, model: str, is_sold: Callable[[str], bool]) -> str | None:
        """Give the same model at its maker: as written, else by the first rule whose answer is sold; else None."""
        if (written := self.models.get(model)) is not None:
            return written if written != NOBODY and is_sold(written) else None
        if ":" in model:  # a variant of OpenRouter's
            return None
        named = (rule.apply(model) for rule in self.rules)
        return next((text for text in named if text is not None and is_sold(text)), None)


@dataclass(frozen=True, slots=True)
class Dated:
    """What a row says from a day on."""

    since: str
    """ISO date, UTC; "" is always."""
    row: Row


@dataclass(frozen=True, slots=True)
class Corrections:
    """All of models.yaml."""

    rows: Mapping[str, Mapping[str, tuple[Dated, ...]]]
    """By provider and lower-case id; the later of several lies over the earlier."""
    families: Mapping[str, tuple[Family, ...]]
    direct: Direct

    def rows_on(self, provider: str, day: date) -> dict[str, Row]:
        """Give what holds of a provider's models on a day."""
        rows = self.rows.get(provider, {})
        return {model: _lay(parts, day.isoformat()) for model, parts in rows.items()}


def read_corrections(path: Path) -> Corrections:
    """Read models.yaml; raises `ConfigError` naming file, place and remedy."""
    text = read_text(path, "restore the file that came with this version")
    try:
        document = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise make_fault(path, str(error.problem), line=line, column=column) from error
    except ValueError as error:  # what looks like a date and is none
        raise make_fault(path, f"{error}: put it in quotes, or write a date as 2027-01-31") from error
    document = {} if document is None else document
    providers = _section(path, document, "providers")
    sections = {name: (f"providers.{name}", _section(path, providers, name)) for name in providers}
    for place, section in sections.values():
        _refuse_unknown(path, section, _SECTION_FIELDS, place)
    return Corrections(
        rows={name: _read_rows(path, place, section) for name, (place, section) in sections.items()},
        families={name: _read_families(path, place, section) for name, (place, section) in sections.items()},
        direct=_read_direct(path, _section(path, document, "direct")),
    )


def _lay(parts: tuple[Dated, ...], day: str) -> Row:
    laid: dict[str, Any] = {}
    for part in parts:
        laid |= part.row if part.since <= day else {}
    return laid


def _read_rows(path: Path, place: str, section: Row) -> dict[str, tuple[Dated, ...]]:
    """Read one provider's rows, and the prices of services into them."""
    services = _read_services(path, place, section)
    rows: dict[str, tuple[Dated, ...]] = {
        model: (Dated("", {"service_tiers": tiers}),) for model, tiers in services.items()
    }
    for model, given in _section(path, section, "models").items():
        where = f"{place}.models.{model}"
        parts = given if isinstance(given, list) else [given]
        dated = sorted((_read_row(path, section, part, where) for part in parts), key=lambda part: part.since)
        name = str(model).lower()
        rows[name] = (*rows.get(name, ()), *dated)
    return rows


def _read_row(path: Path, section: Row, row: object, where: str) -> Dated:
    """Read one row; a price among them brings the section's source and date with it, or the day it holds from."""
    if not isinstance(row, dict):
        raise make_fault(path, "a row is a mapping, as {context: 128000}, or a list of them with `from`", where)
    _refuse_unknown(path, row, _FIELDS, where)
    for name in _LIMITS:
        if name in row and (not isinstance(row[name], int) or row[name] < 1):
            raise make_fault(path, f"{name} is a whole number of tokens above 0", where)
    since = _read_day(path, row.get("from", ""), where)
    capabilities = {"capabilities": _capabilities(path, row, where)} if "capabilities" in row else {}
    origin = {**_origin(path, section), "origin": Origin.CORRECTED} | ({"as_of": since} if since else {})
    own = {name: value for name, value in row.items() if name != "from"}
    return Dated(since, {**(origin if row.keys() & set(PRICES) else {}), **own, **capabilities})


def _read_services(path: Path, place: str, section: Row) -> dict[str, Row]:
    """Read what services of other prices cost, by lower-case id, then by the service's name."""
    where = f"{place}.service_tiers"
    part = _section(path, section, "service_tiers")
    _refuse_unknown(path, part, _SERVICES_FIELDS, where)
    origin = {**_origin(path, {**section, **part}), "origin": Origin.CORRECTED}
    found: dict[str, Row] = {}
    for model in _section(path, part, "models"):
        services = _section(path, part["models"], model)
        for name in services:
            _refuse_unknown(path, _section(path, services, name), _SERVICE_FIELDS, f"{where}.models.{model}.{name}")
        found[str(model).lower()] = {str(name): {**origin, **row} for name, row in services.items()}
    return found


def _read_day(path: Path, given: object, where: str) -> str:
    """Read a date, which YAML may have read already."""
    try:
        return date.fromisoformat(str(given)).isoformat() if given else ""
    except ValueError:
        raise make_fault(path, f"{given!r} is no day; write `from: 2027-01-31`", where) from None


def _origin(path: Path, section: Row) -> dict[str, Any]:
    return {"source": section.get("source", path.name), "as_of": str(section.get("as_of", ""))}


def _read_families(path: Path, place: str, section: Row) -> tuple[Family, ...]:
    families = []
    for number, family in enumerate(_entries(path, section, "families", place)):
        where = f"{place}.families.{number}"
        _refuse_unknown(path, family, _FAMILY_FIELDS, where)
        match = _patterns(path, family, "match", where)
        if not match:
            raise make_fault(path, "match is missing; list the ids, as [gpt-5*]", where)
        families.append(Family(match, _capabilities(path, family, where)))
    return tuple(families)


def _read_direct(path: Path, section: Row) -> Direct:
    _refuse_unknown(path, section, _DIRECT_FIELDS, "direct")
    rules = []
    for number, rule in enumerate(_entries(path, section, "rules", "direct")):
        where = f"direct.rules.{number}"
        _refuse_unknown(path, rule, _RULE_FIELDS, where)
        match, maker = str(rule.get("match", "")), str(rule.get("maker", ""))
        if match.count("*") != 1 or maker.count("*") != 1:
            raise make_fault(path, "match and maker are ids with one * each, as openai/gpt-*", where)
        if rule.get("dots", "dashes") != "dashes":
            raise make_fault(path, "dots is `dashes`, or left out", where)
        rules.append(Rule(match, maker, "dots" in rule, _patterns(path, rule, "except", where)))
    hosts = _section(path, section, "hosts")
    for model, named in hosts.items():
        if not isinstance(named, list):
            raise make_fault(path, "a list is wanted, as [groq/openai/gpt-oss-20b]", f"direct.hosts.{model}")
    return Direct(
        models={str(model).lower(): str(maker) for model, maker in _section(path, section, "models").items()},
        rules=tuple(rules),
        hosts={str(model).lower(): tuple(map(str, named)) for model, named in hosts.items()},
    )


def _capabilities(path: Path, row: Row, where: str) -> dict[str, object]:
    try:
        return read_capabilities(row.get("capabilities"))
    except ValueError as error:
        raise make_fault(path, str(error), where) from error


def _patterns(path: Path, row: Row, name: str, where: str) -> tuple[str, ...]:
    patterns = row.get(name, [])
    if not isinstance(patterns, list) or not all(isinstance(text, str) and text.count("*") < 2 for text in patterns):
        raise make_fault(path, f"{name} is a list of ids, each with at most one *", where)
    return tuple(patterns)


def _refuse_unknown(path: Path, row: Row, known: frozenset[str], where: str) -> None:
    if unknown := sorted(map(str, row.keys() - known)):
        raise make_fault(path, f"unknown field {unknown[0]!r}; there are {', '.join(sorted(known))}", where)


def _entries(path: Path, section: Row, name: str, place: str) -> list[Row]:
    """Give a list of mappings in a section, empty when it is not there."""
    entries = section.get(name, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise make_fault(path, f"{name} must be a list of mappings", f"{place}.{name}")
    return entries


def _section(path: Path, document: object, name: str) -> Row:
    """Give a mapping in a mapping, empty when it is not there."""
    section = document.get(name, {}) if isinstance(document, dict) else None
    if not isinstance(section, dict):
        raise make_fault(path, f"{name} must be a mapping", name)
    return section
