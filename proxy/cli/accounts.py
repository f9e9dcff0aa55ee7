"""`turnpike reconcile` and `turnpike credits` (part of `cli`, floor 7): what OpenRouter says of its accounts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxy.app import list_accounts, read_accounts
from proxy.cli.books import ask_ledger
from proxy.cli.output import BAD, Column, complain, print_json, print_table, say
from proxy.cli.places import Places
from proxy.cli.tables import read_table
from proxy.clock import SystemClock
from proxy.edge.answers import iso_time
from proxy.ledger.bills import Bill, Drift, find_drifts, list_newest
from proxy.ledger.protocol import Ledger
from proxy.money import format_usd

HINT = "; a server reads them every hour, and `--read` does now"
NOBODY = "no account can be read: no provider of the table speaks openrouter, has its key set and says `reconcile`"


def print_drifts(places: Places, *, reads: bool, as_json: bool) -> int:
    """Print what was booked and billed since the first bill; 1 when the two differ notably."""
    drifts = find_drifts(_find_bills(places, reads=reads))
    if as_json:
        print_json({"object": "list", "data": [_drift_json(one) for one in drifts]})
    elif drifts:
        titles = ("PROVIDER", "KEY", "SINCE", "BOOKED USD", "BILLED USD", "DIFFERENCE USD", "")
        columns = [Column(title, is_number=title.endswith("USD")) for title in titles]
        print_table(columns, [_drift_cells(one) for one in drifts])
    else:
        say("no account has been read twice yet" + ("" if reads else HINT))
    return BAD if any(one.is_notable for one in drifts) else 0


def print_credits(places: Places, *, reads: bool, as_json: bool) -> None:
    """Print what each account has left, by its last bill."""
    newest = list_newest(_find_bills(places, reads=reads))
    if as_json:
        print_json({"object": "list", "data": [_credit_json(one) for one in newest]})
    elif newest:
        titles = ("PROVIDER", "KEY", "READ", "LEFT USD", "BILLED USD")
        columns = [Column(title, is_number=title.endswith("USD")) for title in titles]
        print_table(columns, [_credit_cells(one) for one in newest])
    else:
        say("no account has been read yet" + ("" if reads else HINT))


def _find_bills(places: Places, *, reads: bool) -> Sequence[Bill]:
    accounts = list(list_accounts(read_table(places))) if reads else []
    if reads and not accounts:
        complain(NOBODY)

    async def ask(ledger: Ledger) -> Sequence[Bill]:
        for account, why in await read_accounts(accounts, ledger, SystemClock()):
            complain(f"{account.provider.name}: not read, {why}")
        return await ledger.bills.list()

    return ask_ledger(places, ask, may_begin=reads)


def _drift_json(one: Drift) -> dict[str, Any]:
    return {
        "provider": one.provider,
        "upstream_key": one.upstream_key or None,
        "since": iso_time(one.since_s),
        "until": iso_time(one.until_s),
        "booked_usd": format_usd(one.ours_nano_usd),
        "billed_usd": format_usd(one.theirs_nano_usd),
        "difference_usd": format_usd(one.difference_nano_usd),
        "notable": one.is_notable,
    }


def _drift_cells(one: Drift) -> list[str]:
    amounts = (one.ours_nano_usd, one.theirs_nano_usd, one.difference_nano_usd)
    judgement = "differs" if one.is_notable else "agrees"
    return [one.provider, one.upstream_key or "-", iso_time(one.since_s) or "-", *map(format_usd, amounts), judgement]


def _credit_json(one: Bill) -> dict[str, Any]:
    return {
        "provider": one.provider,
        "upstream_key": one.upstream_key or None,
        "read": iso_time(one.at_s),
        "left_usd": None if one.left_nano_usd is None else format_usd(one.left_nano_usd),
        "billed_usd": format_usd(one.billed_nano_usd),
    }


def _credit_cells(one: Bill) -> list[str]:
    left = "not told" if one.left_nano_usd is None else format_usd(one.left_nano_usd)
    return [one.provider, one.upstream_key or "-", iso_time(one.at_s) or "-", left, format_usd(one.billed_nano_usd)]
