"""`turnpike explain` and `turnpike test` (part of `cli`, floor 7): a request thought through, and one that is made."""

from __future__ import annotations

import asyncio
from typing import Any

from proxy.app import Settings, explain, test_model, test_tenant
from proxy.cli.output import BAD, Column, complain, print_json, print_table, say
from proxy.cli.places import Places


def explain_model(places: Places, model: str, *, as_json: bool) -> None:
    """Print what would happen to a request; raises `RequestError` for a model nobody may ask for."""
    found = explain(_settings(places), model)
    if as_json:
        print_json(found)
        return
    titles = ("TARGET", "TRIED", "REASON", "WORST CASE USD")
    columns = [Column(title, is_number=title.startswith("WORST")) for title in titles]
    print_table(columns, [_candidate_row(candidate) for candidate in found["candidates"]])
    worst = found["worst_case_usd"]
    say(f"worst case of a request: {'unknown' if worst is None else f'${worst}'}")


def try_model(places: Places, model: str, *, as_json: bool) -> int:
    """Send one short request; 0 when an answer came, 1 when not."""
    found = asyncio.run(test_model(_settings(places), model))
    return _report(found, as_json=as_json)


def try_tenant(places: Places, name: str, model: str | None, *, as_json: bool) -> int:
    """Send one short request over each of a tenant's own accounts; 0 when all answered, 1 when not, or when none is."""
    found = asyncio.run(test_tenant(_settings(places), name, model))
    if as_json:
        print_json({"tenant": name, "tests": found})
    elif not found:
        complain(f"{name!r} has no account of its own that {model or 'a model'} leads to")
    else:
        for one in found:
            _report(one, as_json=False)
    return 0 if found and all(one["ok"] for one in found) else BAD


def _report(found: dict[str, Any], *, as_json: bool) -> int:
    if as_json:
        print_json(found)
    elif found["ok"]:
        cost = "an unknown cost" if found["cost_usd"] is None else f"${found['cost_usd']}"
        say(f"{found['model']}: answered by {found['target']} in {found['latency_ms']} ms for {cost}")
    else:
        complain(f"{found['model']}: {found['error']}")
    return 0 if found["ok"] else 1


def _settings(places: Places) -> Settings:
    return Settings(config=places.config, data=places.data, log_level="error")


def _candidate_row(candidate: dict[str, Any]) -> list[str]:
    worst = candidate.get("worst_case_usd")
    return [
        candidate["target"],
        "yes" if candidate["included"] else "no",
        candidate["reason"] or "",
        worst if worst is not None else "-",
    ]
