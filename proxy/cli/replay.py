"""`turnpike replay` (part of `cli`, floor 7): past requests priced against another routing table, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from proxy.catalogue import REFRESHED_FILE, load_catalogue
from proxy.cli.books import ask_ledger
from proxy.cli.figures import PAGE_ROWS, read_since
from proxy.cli.output import Column, print_json, print_table, say
from proxy.cli.places import Places
from proxy.cli.tables import read_table
from proxy.edge.answers import iso_time
from proxy.ledger.protocol import Ledger
from proxy.ledger.records import AttemptFilter, AttemptRow, AttemptState
from proxy.money import format_usd
from proxy.routing.replay import Outcome, PastRequest, Replay, total_of
from proxy.usage import Usage

OPEN_MAX = 4_096
"""Requests whose further attempts are waited for; the oldest is played when there are more."""
SINCE = "7d"
_TITLES = ("KEY", "MODEL", "TARGET", "REQUESTS", "SPENT USD", "COST USD", "DIFFERENCE USD", "REFUSED")


@dataclass(frozen=True, slots=True)
class ReplayWishes:
    """What `replay` was told, as text."""

    routes: Path
    since: str = SINCE
    key: str | None = None
    tenant: str | None = None


class Gatherer:
    """Makes requests of attempts, which lie in the books in the order in which they began."""

    def __init__(self) -> None:
        """Begin with none."""
        self._open: dict[str, list[AttemptRow]] = {}

    def take(self, rows: Sequence[AttemptRow]) -> Iterator[PastRequest]:
        """Take a page; gives the requests that are surely whole, oldest first."""
        for row in rows:
            self._open.setdefault(row.request_id, []).append(row)
            if len(self._open) > OPEN_MAX:
                yield make_past(self._open.pop(next(iter(self._open))))

    def end(self) -> Iterator[PastRequest]:
        """Give the rest."""
        while self._open:
            yield make_past(self._open.pop(next(iter(self._open))))


def print_replay(places: Places, wishes: ReplayWishes, *, as_json: bool) -> None:
    """Print what past requests cost and what they would cost; raises `BadParameter` and `ConfigError`."""
    if not wishes.routes.is_file():
        raise typer.BadParameter(f"there is no file {wishes.routes}", param_hint="--routes")
    table = read_table(Places(wishes.routes, places.data))
    replay = Replay(table, load_catalogue(refreshed=places.data / REFRESHED_FILE).find)
    since_s = read_since(wishes.since)
    only = AttemptFilter(key_name=wishes.key, tenant=wishes.tenant)

    async def play(ledger: Ledger) -> None:
        gatherer, after_seq = Gatherer(), 0
        while rows := await ledger.export(since_s=since_s, after_seq=after_seq, rows_max=PAGE_ROWS, only=only):
            after_seq = rows[-1].seq
            for request in gatherer.take(rows):
                replay.take(request)
        for request in gatherer.end():
            replay.take(request)

    ask_ledger(places, play)
    if as_json:
        print_json({"routes": table.id, "since": iso_time(since_s), **replay_object(replay)})
    else:
        _print_outcomes(replay)


def make_past(attempts: Sequence[AttemptRow]) -> PastRequest:
    """Give a request as a whole: what all its attempts cost, and the tokens of the last one that has some."""
    first = attempts[0]
    booked = [row for row in attempts if row.state is not AttemptState.VOIDED]
    counted = [row.usage for row in booked if row.usage.input_tokens or row.usage.output_tokens]
    costs = [row.cost_nano_usd for row in booked]
    cost = None if None in costs else sum(cost or 0 for cost in costs)
    usage: Usage | None = counted[-1] if counted else None
    is_cached = any(row.saved_nano_usd is not None for row in attempts)
    return PastRequest(
        key=first.key,
        tenant=first.tenant,
        user=first.user,
        tags=first.tags,
        model=first.route,
        at_s=first.at_s,
        usage=usage,
        cost_nano_usd=cost,
        is_free=is_cached or not booked,
    )


def replay_object(replay: Replay) -> dict[str, Any]:
    """Give the JSON of a replay: by key and model, by budget, and in all."""
    return {
        "data": [
            {"key": key, "model": model, **_outcome_json(one), "targets": one.targets}
            for (key, model), one in sorted(replay.outcomes.items())
        ],
        "budgets": [
            {
                "scope": hit.scope,
                "period": hit.budget.period.value,
                "limit_usd": format_usd(hit.budget.limit_nano_usd),
                "hits": count,
            }
            for hit, count in replay.hits.items()
        ],
        "total": _outcome_json(total_of(replay.outcomes)),
    }


def _outcome_json(one: Outcome) -> dict[str, Any]:
    return {
        "requests": one.requests,
        "spent_usd": format_usd(one.spent_nano_usd),
        "cost_usd": format_usd(one.cost_nano_usd),
        "difference_usd": format_usd(one.cost_nano_usd - one.spent_nano_usd),
        "refused": one.refused,
        "spent_unknown": one.spent_unknown,
        "redirected": one.redirected,
        "unpriced": one.unpriced,
        "uncounted": one.uncounted,
        "unrouted": one.unrouted,
    }


def _print_outcomes(replay: Replay) -> None:
    columns = [Column(title, is_number=place > 2) for place, title in enumerate(_TITLES)]
    rows = [[key, model, _show_targets(one), *_cells(one)] for (key, model), one in sorted(replay.outcomes.items())]
    total = total_of(replay.outcomes)
    print_table(columns, [*rows, ["total", "", "", *_cells(total)]])
    for hit, count in replay.hits.items():
        limit = f"{format_usd(hit.budget.limit_nano_usd)} USD/{hit.budget.period.value}"
        say(f"budget: {hit.scope}, {limit}: no room for {count} of them")
    for count, meaning in _notes(total):
        if count:
            say(f"note: {count} of {total.requests} requests: {meaning}")


def _notes(total: Outcome) -> list[tuple[int, str]]:
    return [
        (total.spent_unknown, "cost then was not known, and counts as 0"),
        (total.redirected, "were sent to another model by a spent budget"),
        (total.unpriced, "go to a target whose price is not known, and are in no sum"),
        (total.uncounted, "have no token counts in the books, and are in no sum"),
        (total.unrouted, "ask for what the other table does not have or does not allow, and are in no sum"),
    ]


def _cells(one: Outcome) -> list[str]:
    amounts = (one.spent_nano_usd, one.cost_nano_usd, one.cost_nano_usd - one.spent_nano_usd)
    return [str(one.requests), *map(format_usd, amounts), str(one.refused)]


def _show_targets(one: Outcome) -> str:
    return ", ".join(name if is_ready else f"{name} (not ready)" for name, is_ready in one.targets.items()) or "-"
