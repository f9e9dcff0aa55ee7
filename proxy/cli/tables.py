"""`turnpike check` and `turnpike models` (part of `cli`, floor 7): what a routing table says, and whether it may."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from proxy.catalogue import REFRESHED_FILE, load_catalogue
from proxy.cli.output import Column, print_json, print_table, say
from proxy.cli.places import Places
from proxy.errors import ConfigError
from proxy.files import DEFAULT_PATH, load_table
from proxy.pricing import Prices
from proxy.routing.explain import price_json
from proxy.routing.table import Route, Table, Target


def check_table(places: Places, *, as_json: bool) -> int:
    """Print all that is wrong with a routing table, 1; or that it is good, 0."""
    shown = str(places.config or DEFAULT_PATH)
    try:
        table = read_table(places)
    except ConfigError as error:
        if as_json:
            print_json({"file": shown, "ok": False, "problems": [asdict(problem) for problem in error.problems]})
        else:
            for problem in error.problems:
                say(str(problem))
        return 1
    if as_json:
        names = [route.name for route in (*table.routes.values(), *table.globs)]
        content = {"file": shown, "ok": True, "problems": [], "id": table.id, "models": names}
        print_json({**content, "notes": list(table.notes)})
        return 0
    say(f"{shown}: good: {len(table.routes) + len(table.globs)} models, {len(table.keys)} keys, id {table.id}")
    for note in table.notes:
        say(f"note: {note}")
    return 0


def list_models(places: Places, *, as_json: bool) -> None:
    """Print every model of a table with its targets."""
    table = read_table(places)
    routes = [*table.routes.values(), *table.globs]
    if as_json:
        print_json({"models": [_route_json(route) for route in routes]})
        return
    titles = ("MODEL", "TARGETS", "CONTEXT", "$/M IN", "$/M OUT", "READY")
    columns = [Column(title, is_number=title in titles[2:5]) for title in titles]
    print_table(columns, [row for route in routes for row in _route_rows(route)])


def read_table(places: Places) -> Table:
    """Load a routing table as a server would, with the prices it has fetched."""
    catalogue = load_catalogue(refreshed=places.data / REFRESHED_FILE)
    return load_table(places.config, environ=os.environ, catalogue=catalogue)


def _route_json(route: Route) -> dict[str, Any]:
    return {
        "model": route.name,
        "ready": any(target.provider.not_ready is None for target in route.targets),
        "targets": [
            {
                "target": target.name,
                "ready": target.provider.not_ready is None,
                "reason": target.provider.not_ready,
                "context_tokens": target.facts.context_tokens,
                "price": price_json(target.facts.prices) if target.facts.prices is not None else None,
            }
            for target in route.targets
        ],
    }


def _route_rows(route: Route) -> Iterable[list[str]]:
    for index, target in enumerate(route.targets):
        yield [route.name if index == 0 else "", target.name, *_target_cells(target)]


def _target_cells(target: Target) -> list[str]:
    context = target.facts.context_tokens
    ready = target.provider.not_ready
    price = _price_cells(target.facts.prices)
    return [f"{context:,}" if context else "-", *price, "yes" if ready is None else f"no: {ready}"]


def _price_cells(prices: Prices | None) -> list[str]:
    return ["-", "-"] if prices is None else [f"{prices.input:f}", f"{prices.output:f}"]
