"""One provider's models by id, turned into facts when somebody asks (part of `catalogue`, floor 2)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from functools import cached_property
from pathlib import Path

from proxy.catalogue.capabilities import MODALITIES
from proxy.catalogue.corrections import PRICES, Direct, Family, Row
from proxy.catalogue.faults import make_fault
from proxy.pricing import PER_PIECE, ModelFacts, Origin, Prices, PriceTier, ServiceTier

PRICES_FILE = "prices.json"
OPENROUTER = "openrouter"

_DATED = re.compile(r"[-@](?:20\d{6}|20\d{2}-\d{2}-\d{2})$")
_ROUTED = re.compile(r":(?:nitro|floor|online|exacto)$")
"""Variants OpenRouter makes of any model by routing; others (`:free`, `:batch`) are models with prices of their own."""
_FREE = ":free"
_PLAIN: Row = {"tiers": (), "service_tiers": {}}


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
    families: tuple[Family, ...] = ()
    direct: Direct = field(default_factory=Direct)
    """Where else the same models are to be had."""
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
            free = Prices(Decimal(0), Decimal(0), source=self.source, as_of=self.as_of, origin=Origin.SHIPPED)
            return ModelFacts(free)
        for fallback in self.fallbacks:
            if model in self.providers[fallback]:
                return _without_services(self.providers[fallback][model])
        if known := self._of_families(model.lower()):
            return ModelFacts(capabilities=known)
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
                capabilities={**self._of_families(model), **row.get("capabilities", {})},
            )
        except (InvalidOperation, KeyError, TypeError, ValueError) as error:
            path = f"providers.{self.name}.models.{model}"
            raise make_fault(Path(PRICES_FILE), f"{error}; `make prices` writes it anew", path) from error

    def _of_families(self, model: str) -> dict[str, object]:
        """Give what is known of every model of its kind, the later family winning."""
        known: dict[str, object] = {}
        for family in self.families:
            if family.has(model):
                known |= family.capabilities
        return known

    def _with_maker(self, model: str, facts: ModelFacts) -> ModelFacts:
        """Say where else the model is to be had, and take from its maker what is not known here."""
        maker_id = self.direct.find_maker(model, self._is_sold)
        if maker_id is None:
            hosts = tuple(text for text in self.direct.hosts.get(model, ()) if self._is_sold(text))
            return replace(facts, capabilities={"direct": hosts, **facts.capabilities}) if hosts else facts
        provider, _, maker_model = maker_id.partition("/")
        maker = self.providers[provider][maker_model]
        shared = {name: value for name, value in maker.capabilities.items() if name in MODALITIES}
        return replace(
            facts,
            context_tokens=facts.context_tokens or maker.context_tokens,
            output_tokens_max=facts.output_tokens_max or maker.output_tokens_max,
            capabilities={"direct": (maker_id,), **shared, **facts.capabilities},
        )

    def _is_sold(self, text: str) -> bool:
        """Tell whether `provider/id` stands in the files, exactly so."""
        provider, _, model = text.partition("/")
        return provider in self.providers and model.lower() in self.providers[provider].rows


def _make_prices(row: Row) -> Prices | None:
    """Turn a row into prices, None when it has none; a negative price is OpenRouter's way to say that it varies."""
    if "input" not in row or "output" not in row:
        return None
    columns = {name: _read_price(row[name], name) for name in PRICES if name in row}
    if any(price < 0 for price in columns.values()):
        return None
    tiers = [(tier["above"], _make_prices({**row, **tier, **_PLAIN})) for tier in row.get("tiers", ())]
    services = [(name, _make_prices(_service_row(row, own))) for name, own in row.get("service_tiers", {}).items()]
    if any(prices is None for _, prices in (*tiers, *services)):
        return None
    return Prices(
        **columns,
        tiers=tuple(PriceTier(above, prices) for above, prices in tiers if prices is not None),
        service_tiers=tuple(ServiceTier(name, prices) for name, prices in services if prices is not None),
        source=row["source"],
        as_of=row["as_of"],
        origin=row.get("origin", Origin.SHIPPED),
    )


def _without_services(facts: ModelFacts) -> ModelFacts:
    """Give what holds at a reseller too: not the maker's other services."""
    if facts.prices is None or not facts.prices.service_tiers:
        return facts
    return replace(facts, prices=replace(facts.prices, service_tiers=()))


def _service_row(row: Row, own: Row) -> Row:
    """Give a service's whole row: what it does not say of tokens is not the usual price, but part of its own."""
    shared = {name: row[name] for name in PER_PIECE if name in row}
    return {**shared, **own}


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
