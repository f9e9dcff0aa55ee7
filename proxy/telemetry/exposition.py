"""Metrics in Prometheus' text format (part of `telemetry`, floor 2), added up over all workers of a board.

The format is that of https://prometheus.io/docs/instrumenting/exposition_formats/ (text, version 0.0.4). It is written
here in place of prometheus-client, whose files for several processes this needs none of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import orjson

from proxy.money import format_usd
from proxy.telemetry.board import SERIES_CELLS, VITALS, Board, Vital
from proxy.telemetry.meters import DURATION_MS, FIRST_TOKEN_MS, OVERHEAD_US, WAIT_US, At

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MS_PER_S = 1_000
US_PER_S = 1_000_000

Labels = tuple[tuple[str, str], ...]
Sums = Mapping[tuple[str, ...], Sequence[int]]
"""Each series' figures over all workers, by its name."""


class Histogram(NamedTuple):
    """How one histogram is kept and shown."""

    first: int
    bounds: tuple[int, ...]
    per_s: int
    """Units of a bound and of the sum in a second."""


FIRST_TOKEN = Histogram(At.FIRST_TOKEN, FIRST_TOKEN_MS, MS_PER_S)
DURATION = Histogram(At.DURATION, DURATION_MS, MS_PER_S)
OVERHEAD = Histogram(At.OVERHEAD, OVERHEAD_US, US_PER_S)
WAIT = Histogram(Vital.WAITS, WAIT_US, US_PER_S)
TURN = Histogram(Vital.TURNS, WAIT_US, US_PER_S)


def expose(board: Board, *, version: str) -> bytes:
    """Write all metrics."""
    sums = _add_up(board)
    lines = [*_requests(sums), *_upstreams(sums), *_times(sums), *_ledger(board), *_server(board, version)]
    return "\n".join(lines).encode() + b"\n"


def _requests(sums: Sums) -> Iterator[str]:
    requests = {key: cells for key, cells in sums.items() if key[0] == "request"}
    yield from _counter(
        "requests",
        "Chat requests that were let in, by what the client saw (499: it had left).",
        _by(requests, "route", "provider", "model", "status", at=At.COUNT),
    )
    tokens = {
        (*labels, ("kind", kind)): value
        for kind, at in (("input", At.INPUT_TOKENS), ("output", At.OUTPUT_TOKENS))
        for labels, value in _by(requests, "provider", "model", at=at).items()
    }
    yield from _counter("tokens", "Tokens of the attempts that ended requests.", tokens)
    yield from _counter(
        "cost_usd",
        "Cost of requests, all their attempts together; the ledger is what counts.",
        _by(requests, "provider", "model", at=At.COST_NANO_USD),
        write=format_usd,
    )
    yield from _counter(
        "unknown_cost_requests",
        "Requests whose cost is not known.",
        _by(requests, "provider", "model", at=At.UNKNOWN_COST),
    )
    refused = {_labels(("status", "code"), key[1:]): cells[0] for key, cells in sums.items() if key[0] == "refused"}
    yield from _counter("refused_requests", "Chat requests refused before they were read whole or let in.", refused)


def _upstreams(sums: Sums) -> Iterator[str]:
    names = ("provider", "model", "outcome")
    attempts = {_labels(names, key[1:]): cells[0] for key, cells in sums.items() if key[0] == "attempt"}
    yield from _counter("attempts", "Upstream calls by outcome: ok, or the kind of failure.", attempts)


def _times(sums: Sums) -> Iterator[str]:
    requests = {key: cells for key, cells in sums.items() if key[0] == "request"}
    yield from _histogram(
        "first_token_seconds",
        "From the call of an upstream to its first meaningful event or its whole answer.",
        FIRST_TOKEN,
        _group(requests, "provider", "model"),
    )
    yield from _histogram(
        "request_seconds",
        "From a request's arrival to its end.",
        DURATION,
        _group(requests, "route"),
    )
    yield from _histogram(
        "overhead_seconds",
        "From a request's arrival to its reply's head, less what upstreams took.",
        OVERHEAD,
        _group(requests),
    )


def _ledger(board: Board) -> Iterator[str]:
    vitals = [sum(page.cells[at] for page in board.pages) for at in range(VITALS)]
    for name, told, kept, most in (
        ("ledger_commit_seconds", "From asking the ledger to write to its being durable.", WAIT, Vital.WAIT_MAX_US),
        ("ledger_turn_seconds", "A ledger writer's wait for those of other processes.", TURN, Vital.TURN_MAX_US),
    ):
        yield from _histogram(name, told, kept, {(): vitals})
        longest = max(page.cells[most] for page in board.pages)
        yield from _gauge(f"{name}_max", "The longest of these since the start.", _decimal(longest, US_PER_S))
    yield from _gauge("ledger_queue", "Calls that wait for the ledger.", board.sum_vital(Vital.QUEUED))
    yield from _gauge("ledger_kept", "Settlements that wait for the ledger.", board.sum_vital(Vital.KEPT))


def _server(board: Board, version: str) -> Iterator[str]:
    yield from _gauge("requests_in_flight", "Chat requests being answered.", board.sum_vital(Vital.IN_FLIGHT))
    yield from _gauge("config_stale", "1 when a worker does not use routes.yaml as it is.", int(board.is_stale))
    refused = max(page.cells[Vital.REFUSED_KEYS] for page in board.pages)
    yield from _gauge("upstream_keys_refused", "Keys of pools whose provider refuses them.", refused)
    yield from _gauge("workers", "Workers that should serve.", len(board.pages))
    yield from _gauge("workers_serving", "Workers that do.", board.sum_vital(Vital.IS_SERVING))
    yield from _counter("worker_deaths", "Workers that died and were replaced.", {(): board.sum_vital(Vital.DEATHS)})
    yield from _gauge("info", "The version.", 1, labels=(("version", version),))


def _add_up(board: Board) -> Sums:
    sums: defaultdict[tuple[str, ...], list[int]] = defaultdict(lambda: [0] * SERIES_CELLS)
    for page in board.pages:
        for key, first in page.series():
            if page.cells[first]:  # those that stand ready for a full page are not shown before they are needed
                name = tuple(orjson.loads(key))
                sums[name] = [ours + page.cells[first + at] for at, ours in enumerate(sums[name])]
    return sums


_REQUEST_LABELS = ("route", "provider", "model", "status")


def _group(requests: Sums, *names: str) -> dict[Labels, list[int]]:
    """Add requests up that have these labels in common."""
    places = [_REQUEST_LABELS.index(name) + 1 for name in names]
    groups: defaultdict[Labels, list[int]] = defaultdict(lambda: [0] * SERIES_CELLS)
    for key, cells in requests.items():
        labels = _labels(names, [key[place] for place in places])
        groups[labels] = [ours + more for ours, more in zip(groups[labels], cells, strict=True)]
    return groups


def _by(requests: Sums, *names: str, at: int) -> dict[Labels, int]:
    return {labels: cells[at] for labels, cells in _group(requests, *names).items()}


def _labels(names: Sequence[str], values: Iterable[str]) -> Labels:
    return tuple(zip(names, values, strict=True))


def _counter(name: str, told: str, values: Mapping[Labels, int], *, write: Callable[[int], str] = str) -> Iterator[str]:
    yield from _head(f"{name}_total", told, "counter")
    yield from (_sample(f"{name}_total", labels, write(value)) for labels, value in sorted(values.items()))


def _gauge(name: str, told: str, value: int | str, *, labels: Labels = ()) -> Iterator[str]:
    yield from _head(name, told, "gauge")
    yield _sample(name, labels, str(value))


def _histogram(name: str, told: str, kept: Histogram, groups: Mapping[Labels, Sequence[int]]) -> Iterator[str]:
    yield from _head(name, told, "histogram")
    for labels, cells in sorted(groups.items()):
        count = 0
        bounds = [*(_decimal(bound, kept.per_s) for bound in kept.bounds), "+Inf"]
        for at, bound in enumerate(bounds, start=kept.first):
            count += cells[at]
            yield _sample(f"{name}_bucket", (*labels, ("le", bound)), str(count))
        yield _sample(f"{name}_sum", labels, _decimal(cells[kept.first + len(bounds)], kept.per_s))
        yield _sample(f"{name}_count", labels, str(count))


def _head(name: str, told: str, kind: str) -> Iterator[str]:
    yield f"# HELP turnpike_{name} {told}"
    yield f"# TYPE turnpike_{name} {kind}"


def _sample(name: str, labels: Labels, value: str) -> str:
    shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
    return f"turnpike_{name}{{{shown}}} {value}" if shown else f"turnpike_{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _decimal(value: int, per_whole: int) -> str:
    """Write an integer of thousandths or millionths as a decimal number, exactly."""
    whole, part = divmod(value, per_whole)
    digits = f"{part:0{len(str(per_whole)) - 1}d}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
