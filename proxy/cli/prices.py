"""`turnpike prices` (part of `cli`, floor 7): what a model costs, all of it, and where that figure comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

from proxy.app import OPERATOR_KEY
from proxy.catalogue import REFRESHED_FILE, load_catalogue
from proxy.cli.output import BAD, Column, print_json, print_table, say
from proxy.cli.places import Places
from proxy.files import load_table
from proxy.pricing import PER_PIECE, PER_TOKEN, Prices
from proxy.routing.principal import Principal
from proxy.routing.resolve import resolve
from proxy.routing.table import Catalogue, Table, Target

USUAL = "usual"
_PER = {"request": "request", "image": "picture", "search": "search"}


def show_prices(places: Places, model: str, *, as_json: bool) -> int:
    """Print the price of every target of a model; 1 when not one is known.

    Raises `RequestError` for a name that is neither a model of the table nor a provider's.
    """
    catalogue = load_catalogue(refreshed=places.data / REFRESHED_FILE)
    table = load_table(places.config, environ=os.environ, catalogue=catalogue)
    targets = _find_targets(model, table, catalogue)
    if as_json:
        print_json({"model": model, "targets": [_target_json(target) for target in targets]})
    else:
        for number, target in enumerate(targets):
            _print_target(target, is_first=number == 0)
    return 0 if any(target.facts.prices is not None for target in targets) else BAD


def _find_targets(model: str, table: Table, catalogue: Catalogue) -> tuple[Target, ...]:
    """Take a name for a model of the table, else for a provider's own, else for what a glob makes of it."""
    provider = table.providers.get(model.partition("/")[0])
    own = model.partition("/")[2]
    if model in table.routes or provider is None or not own:
        found = resolve(model, principal=Principal(OPERATOR_KEY), table=table, facts=catalogue.find)
        return (*found.targets, *(target for target, _ in found.skipped))
    facts = catalogue.find(provider.catalogue_name or provider.name, own)
    return (Target(provider, own, replace(facts, prices=provider.price or facts.prices)),)


def _print_target(target: Target, *, is_first: bool) -> None:
    if not is_first:
        say("")
    prices = target.facts.prices
    say(target.name + ("" if target.provider.not_ready is None else f" (not ready: {target.provider.not_ready})"))
    if prices is None:
        say("  its price is not known: under a limit in money it is not used, without one its cost is unknown")
        return
    say(f"  from {_say_source(prices)}")
    for source, names in _services_by_source(prices).items():
        say(f"  {', '.join(names)} from {source}")
    rows = list(_rows_of(prices))
    columns = [Column("  USD"), *(Column(title.upper(), is_number=True) for title, _ in rows), Column("PER")]
    print_table(columns, [_line(name, rows) for name in (*PER_TOKEN, *PER_PIECE) if _is_priced(name, rows)])


def _say_source(prices: Prices) -> str:
    if prices.is_declared:
        return prices.source
    dated = f", as of {prices.as_of}" if prices.as_of else ""
    return f"{prices.origin}: {prices.source}{dated}"


def _services_by_source(prices: Prices) -> dict[str, list[str]]:
    """Give the services whose prices were found elsewhere than the usual ones."""
    found: dict[str, list[str]] = {}
    for service in prices.service_tiers:
        if service.prices.source != prices.source:
            found.setdefault(_say_source(service.prices), []).append(service.name)
    return found


def _rows_of(prices: Prices) -> Iterator[tuple[str, Prices]]:
    """Give every column of the table: each service, and behind it its long prompts."""
    services = [(USUAL, prices), *((service.name, service.prices) for service in prices.service_tiers)]
    for name, service in services:
        yield name, service
        for tier in service.tiers:
            yield f"{name} above {tier.above_input_tokens:,}", tier.prices


def _is_priced(name: str, rows: list[tuple[str, Prices]]) -> bool:
    return any(getattr(prices, name) for _, prices in rows) or name in ("input", "output")


def _line(name: str, rows: list[tuple[str, Prices]]) -> list[str]:
    cells = [_cell(getattr(prices, name), name) for _, prices in rows]
    return [f"  {name}", *cells, _PER.get(name, "1M tokens")]


def _cell(price: Decimal | None, name: str) -> str:
    return f"{price:f}" if price is not None else f"as {PER_TOKEN.get(name, '-')}" if name in PER_TOKEN else "-"


def _target_json(target: Target) -> dict[str, Any]:
    prices = target.facts.prices
    return {
        "target": target.name,
        "ready": target.provider.not_ready is None,
        "price": None if prices is None else _price_json(prices),
    }


def _price_json(prices: Prices) -> dict[str, Any]:
    origin = "routes.yaml" if prices.is_declared else prices.origin.value
    services = {service.name: _row_json(service.prices) for service in prices.service_tiers}
    return {
        **_row_json(prices),
        "service_tiers": services,
        "origin": origin,
        "source": prices.source,
        "as_of": prices.as_of or None,
    }


def _row_json(prices: Prices) -> dict[str, Any]:
    """Give decimal strings, USD per million tokens and per piece; null is what has no price of its own."""
    above = {str(tier.above_input_tokens): _columns_json(tier.prices) for tier in prices.tiers}
    return {**_columns_json(prices), "above": above}


def _columns_json(prices: Prices) -> dict[str, str | None]:
    given = {name: getattr(prices, name) for name in (*PER_TOKEN, *PER_PIECE)}
    return {name: None if price is None else f"{price:f}" for name, price in given.items()}
