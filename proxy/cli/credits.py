"""`turnpike prepaid` and `budgets` (part of `cli`, floor 7): what was paid ahead, and how every budget stands."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import typer

from proxy.cli.books import CLI, ask_ledger, ask_registry
from proxy.cli.output import Column, complain, print_json, print_table
from proxy.cli.places import Places
from proxy.edge.admin import read_grant
from proxy.edge.shapes import budget_object, grant_object, prepaid_object
from proxy.errors import ClientError
from proxy.ledger import deeds
from proxy.ledger.audit import Act
from proxy.money import format_usd


def grant_credit(places: Places, fields: Mapping[str, Any], *, as_json: bool) -> None:
    """Grant prepaid credit; raises `BadParameter` for an amount that cannot be read."""
    act = Act(CLI, time.time())
    try:
        given = read_grant(fields, act)
    except ClientError as error:
        raise typer.BadParameter(error.message, param_hint="AMOUNT") from error
    total = ask_registry(places, partial(deeds.grant, given=given, act=act))
    if as_json:
        amount = format_usd(given.amount_nano_usd)
        print_json({"place": given.place, "amount_usd": amount, "prepaid_usd": format_usd(total)})
    else:
        complain(f"{given.place}: ${format_usd(total)} prepaid in all")


def list_credits(places: Places, *, as_json: bool) -> None:
    """List every grant."""
    grants = ask_ledger(places, lambda ledger: ledger.registry.read(lambda store: store.list_grants(None)))
    found = [grant_object(grant) for grant in grants]
    if as_json:
        print_json({"credits": found, "prepaid_usd": prepaid_object(grants)})
        return
    titles = ("AT", "PLACE", "KIND", "AMOUNT USD", "BY", "NOTE")
    columns = [Column(title, is_number=title.endswith("USD")) for title in titles]
    rows = [[one["at"], one["place"], one["kind"], one["amount_usd"], one["actor"], one["note"] or ""] for one in found]
    print_table(columns, rows)


def list_budgets(places: Places, *, as_json: bool) -> None:
    """List how every budget stands."""
    states = ask_ledger(places, lambda ledger: ledger.list_budgets(time.time()))
    found = [budget_object(state) for state in states]
    if as_json:
        print_json({"budgets": found})
        return
    titles = ("SCOPE", "PERIOD", "LIMIT USD", "SPENT USD", "HELD USD", "LEFT USD", "RESETS")
    columns = [Column(title, is_number=title.endswith("USD")) for title in titles]
    names = ("scope", "period", "limit_usd", "posted_usd", "held_usd", "left_usd", "resets_at")
    print_table(columns, [[one[name] or "-" for name in names] for one in found])
