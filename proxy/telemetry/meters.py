"""What is counted (part of `telemetry`, floor 2): one look-up and a few additions for each request, no lock, no file.

Everything one kind of request is counted by stands in one series of the worker's page; `exposition` adds it up in the
ways metrics are asked for. Nothing that names a client stands here: no key, no tenant, no app.

Names in a series come from requests, so there must be an end of them: what the routing table names is taken as it is,
of other names behind globs the first `FREE_NAMES_MAX`, and whatever does not look like a model's name is `other`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple

import orjson

from proxy.telemetry.board import Page, Vital
from proxy.telemetry.log import FinishedRequest

FREE_NAMES_MAX = 100
"""Names of routes, and of models, that no routing table names and that are shown all the same, in each worker."""
CACHED_MAX = 1_000
"""Combinations whose series is remembered; looking one up again takes microseconds."""
OTHER = "other"
UNKNOWN = ""

FIRST_TOKEN_MS = (50, 100, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 30_000, 60_000)
"""Upper bounds of a histogram's buckets; one more holds what lies above."""
DURATION_MS = (100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000)
OVERHEAD_US = (200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 500_000)
WAIT_US = (500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_500_000)


class At:
    """Where in a series each figure stands; a histogram has its buckets and behind them its sum."""

    COUNT = 0
    INPUT_TOKENS = 1
    OUTPUT_TOKENS = 2
    COST_NANO_USD = 3
    UNKNOWN_COST = 4
    FIRST_TOKEN = 5
    DURATION = FIRST_TOKEN + len(FIRST_TOKEN_MS) + 2
    OVERHEAD = DURATION + len(DURATION_MS) + 2


class Names(NamedTuple):
    """What a routing table names."""

    routes: frozenset[str] = frozenset()
    models: frozenset[tuple[str, str]] = frozenset()
    """Provider and model."""


class Meters:
    """Counts what happens in this process into its page."""

    def __init__(self, page: Page, *, names: Callable[[], Names] = Names) -> None:
        """Go on where the page stands; `names` gives those of the table in force."""
        page.begin()
        self.page = page
        self._cells = page.cells
        self._names = names
        self._free: dict[str, set[object]] = {"route": set(), "model": set()}
        self._requests: dict[tuple[str | None, str | None, str | None, int], int] = {}
        self._attempts: dict[tuple[str, str], int] = {}
        self._overflow = {key[0]: page.open_series(orjson.dumps(key)) for key in _OVERFLOW}

    def serving_begun(self) -> None:
        """Tell the other workers that this one serves."""
        self._cells[Vital.IS_SERVING] = 1

    def table_changed(self, *, is_stale: bool) -> None:
        """Tell the other workers whether this one uses the routing table as its file has it."""
        self._cells[Vital.IS_STALE] = is_stale

    def keys_refused(self, count: int) -> None:
        """Note how many keys of pools are refused by their providers."""
        self._cells[Vital.REFUSED_KEYS] = count

    def request_begun(self) -> None:
        """Count a chat request in."""
        self._cells[Vital.IN_FLIGHT] += 1

    def request_ended(self) -> None:
        """Count a chat request out, however it ended."""
        self._cells[Vital.IN_FLIGHT] -= 1

    def request_finished(self, record: FinishedRequest) -> None:
        """Count a request that was let in; what it used later, while its reply is still being read."""
        first = self._find_request(record)
        self._cells[first] += 1
        if not record.is_draining:
            self._count_usage(first, record)
        if record.first_token_ms is not None:
            self._observe(first + At.FIRST_TOKEN, FIRST_TOKEN_MS, record.first_token_ms)
        self._observe(first + At.DURATION, DURATION_MS, record.latency_ms)
        if record.overhead_us is not None:
            self._observe(first + At.OVERHEAD, OVERHEAD_US, record.overhead_us)

    def request_drained(self, record: FinishedRequest) -> None:
        """Count what a request used whose reply was read to its end after its client had left."""
        self._count_usage(self._find_request(record), record)

    def _find_request(self, record: FinishedRequest) -> int:
        labels = (record.route, record.provider, record.model, record.status)
        first = self._requests.get(labels)
        return self._open_request(labels) if first is None else first

    def _count_usage(self, first: int, record: FinishedRequest) -> None:
        cells = self._cells
        cells[first + At.INPUT_TOKENS] += record.input_tokens
        cells[first + At.OUTPUT_TOKENS] += record.output_tokens
        if record.cost_nano_usd is None:
            cells[first + At.UNKNOWN_COST] += 1
        else:
            cells[first + At.COST_NANO_USD] += record.cost_nano_usd

    def request_refused(self, status: int, code: str) -> None:
        """Count a request that was answered before it could cost anything."""
        self._cells[self._open(("refused", str(status), code))] += 1

    def attempt_ended(self, target: str, outcome: str) -> None:
        """Count one upstream call of `provider/model` by what came of it: `ok`, or the kind of failure."""
        first = self._attempts.get((target, outcome))
        if first is None:
            provider, _, model = target.partition("/")
            first = self._open(("attempt", *self._target(provider, model), outcome))
            if len(self._attempts) < CACHED_MAX:
                self._attempts[target, outcome] = first
        self._cells[first] += 1

    def queue_changed(self, waiting: int, kept: int) -> None:
        """Note how many calls wait for the ledger, and how many settlements besides."""
        self._cells[Vital.QUEUED] = waiting
        self._cells[Vital.KEPT] = kept

    def turn_came(self, waited_s: float) -> None:
        """Note how long the ledger's writer waited for other processes before it could begin a transaction.

        It is told by the writer's thread, so no other method may touch these cells.
        """
        waited_us = round(waited_s * 1_000_000)
        self._observe(Vital.TURNS, WAIT_US, waited_us)
        self._cells[Vital.TURN_MAX_US] = max(self._cells[Vital.TURN_MAX_US], waited_us)

    def became_durable(self, waited_s: float) -> None:
        """Note how long the first call of one of the ledger's transactions took from asking to durable."""
        waited_us = round(waited_s * 1_000_000)
        self._observe(Vital.WAITS, WAIT_US, waited_us)
        self._cells[Vital.WAIT_MAX_US] = max(self._cells[Vital.WAIT_MAX_US], waited_us)

    def _observe(self, first: int, bounds: tuple[int, ...], value: int) -> None:
        self._cells[first + bisect_left(bounds, value)] += 1
        self._cells[first + len(bounds) + 1] += value

    def _open_request(self, labels: tuple[str | None, str | None, str | None, int]) -> int:
        route, provider, model, status = labels
        shown_route = (
            UNKNOWN if route is None else self._bounded("route", route, is_named=route in self._names().routes)
        )
        target = (UNKNOWN, UNKNOWN) if provider is None or model is None else self._target(provider, model)
        first = self._open(("request", shown_route, *target, str(status)))
        if len(self._requests) < CACHED_MAX:
            self._requests[labels] = first
        return first

    def _target(self, provider: str, model: str) -> tuple[str, str]:
        named = (provider, model)
        shown = self._bounded("model", model, is_named=named in self._names().models, counted=named)
        return provider, shown

    def _bounded(self, kind: str, name: str, *, is_named: bool, counted: object = None) -> str:
        """Give a name, or `other` when it is one too many."""
        if is_named:
            return name
        free, counted = self._free[kind], counted or name
        if counted not in free and (len(free) >= FREE_NAMES_MAX or not _LOOKS_LIKE_MODEL.fullmatch(name)):
            return OTHER
        free.add(counted)
        return name

    def _open(self, key: tuple[str, ...]) -> int:
        first = self.page.open_series(orjson.dumps(key))
        first = self._overflow[key[0]] if first is None else first
        assert first is not None, "a page has room for its first series"
        return first


_OVERFLOW = (("request", OTHER, OTHER, OTHER, OTHER), ("attempt", OTHER, OTHER, OTHER), ("refused", OTHER, OTHER))
"""Where a page that is full counts on; the first series of every page."""
_LOOKS_LIKE_MODEL = re.compile(r"(?!sk-|gsk_|xai-|AIza)[\w.:/@+~-]{1,120}", re.ASCII)
