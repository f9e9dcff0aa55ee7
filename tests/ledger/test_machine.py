"""Any interleaving of admissions, fallbacks, settlements, deaths and changed budgets, on both ledgers side by side.

The twin sums its balances anew each time, so where SQLite's running balances agree with it after every step, held is
the sum of the open holds and posted the sum of what was booked.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, invariant, multiple, rule

from proxy.ledger.records import (
    Admitted,
    AttemptEnd,
    AttemptRow,
    AttemptState,
    BudgetState,
    KeyRecord,
    Ledger,
    UsageQuery,
)
from proxy.money import Budget, Period
from proxy.policy.limits import NO_LIMITS, Limits
from tests.ledger.entries import DAY_S, HOUR_S, NOON_S, ask, key, onward, over, posted, start, voided
from tests.ledger.houses import House, MemoryHouse, SqliteHouse

PROCESSES = 2
ROWS_MAX = 10_000
DETAIL_DAYS = 35

processes = st.integers(min_value=0, max_value=PROCESSES - 1)
names = st.sampled_from(["a", "b"])
holds = st.integers(min_value=0, max_value=60)
costs = st.one_of(st.none(), st.integers(min_value=0, max_value=90))
budgets = st.one_of(
    st.none(),
    st.builds(Budget, st.integers(min_value=0, max_value=150), st.sampled_from(Period)),
)


def walls(budget: Budget | None) -> Limits:
    """Limits of one budget, or none."""
    return NO_LIMITS if budget is None else Limits(budgets=(budget,))


def ends(number: int, cost: int | None) -> AttemptEnd:
    """Post a cost, or void what has none."""
    return voided(number) if cost is None else posted(number, cost)


class Books(RuleBasedStateMachine):
    """Two processes on two kinds of books, told the same things."""

    requests: Bundle[str] = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._folder = tempfile.TemporaryDirectory()
        self._houses: list[House] = [MemoryHouse(), SqliteHouse(Path(self._folder.name))]
        self._open: list[list[Ledger]] = []
        self._now_s = NOON_S

    def _both(self, question: Callable[[Ledger], Awaitable[object]], process: int = 0) -> object:
        """Ask both kinds the same and give their common answer."""

        async def ask_both() -> list[object]:
            return [await question(ledgers[process]) for ledgers in self._open]

        first, second = self._runner.run(ask_both())
        assert first == second
        return first

    def _rows(self) -> list[AttemptRow]:
        async def export(ledger: Ledger) -> list[AttemptRow]:
            rows = await ledger.export(since_s=None, after_seq=0, rows_max=ROWS_MAX)
            # A taken id may cost SQLite a number, so what counts is that they rise.
            assert all(former.seq < row.seq for former, row in pairwise(rows))
            return [replace(row, seq=0) for row in rows]

        found = self._both(export)
        assert isinstance(found, list)
        return found

    def _budgets(self, name: str) -> list[BudgetState]:
        found = self._both(lambda ledger: ledger.budgets(name, self._now_s))
        assert isinstance(found, list)
        return found

    def _keys(self) -> dict[str, KeyRecord]:
        found = self._both(lambda ledger: ledger.list_keys())
        assert isinstance(found, list)
        return {known.name: known for known in found}

    @initialize(first=budgets, second=budgets)
    def begin(self, first: Budget | None, second: Budget | None) -> None:
        """Open both, with two keys."""

        async def open_all() -> list[list[Ledger]]:
            return [[await house.open() for _ in range(PROCESSES)] for house in self._houses]

        self._open = self._runner.run(open_all())
        keys = [replace(key("a"), limits=walls(first)), replace(key("b"), limits=walls(second))]
        self._both(lambda ledger: ledger.declare_keys(keys))

    @rule(
        target=requests,
        process=processes,
        name=names,
        wished=st.sampled_from(["r", "s"]),
        sizes=st.lists(holds, min_size=1, max_size=2),
    )
    def admit(self, process: int, name: str, wished: str, sizes: list[int]) -> str | MultipleResults[str]:
        """Ask to be let in."""
        attempts = [start(number, hold) for number, hold in enumerate(sizes, 1)]
        revision = self._keys()[name].revision
        admission = ask(wished, key_name=name, revision=revision, at_s=self._now_s, attempts=attempts)
        outcome = self._both(lambda ledger: ledger.admit(admission), process)
        if not isinstance(outcome, Admitted):
            return multiple()
        self._check_wall(name)
        return outcome.request_id

    @rule(process=processes, request_id=requests, cost=costs, hold=holds)
    def advance(self, process: int, request_id: str, cost: int | None, hold: int) -> None:
        """Go on to another target, if anything is pending."""
        rows = [row for row in self._rows() if row.request_id == request_id]
        pending = [row for row in rows if row.state is AttemptState.PENDING]
        if not pending:
            return
        step = onward(request_id, ends(pending[0].attempt, cost), start(len(rows) + 1, hold), at_s=self._now_s)
        if isinstance(self._both(lambda ledger: ledger.advance(step), process), Admitted):
            self._check_wall(rows[0].key)

    @rule(process=processes, request_id=requests, costs=st.lists(costs, max_size=4))
    def settle(self, process: int, request_id: str, costs: list[int | None]) -> None:
        """Be over, with too many or too few ends, perhaps not for the first time."""
        settlement = over(request_id, *(ends(number, cost) for number, cost in enumerate(costs, 1)), at_s=self._now_s)
        self._both(lambda ledger: ledger.settle(settlement), process)
        rows = [row for row in self._rows() if row.request_id == request_id]
        assert all(row.state is not AttemptState.PENDING for row in rows)

    @rule(process=processes)
    def die(self, process: int) -> None:
        """Be killed, and start again: nothing of the dead stays pending, all of the living does."""

        async def restart() -> list[int]:
            resolved = []
            for house, ledgers in zip(self._houses, self._open, strict=True):
                await house.kill(ledgers[process])
                ledgers[process] = await house.open()
                found = await asyncio.gather(*(ledger.resolve_dead_owners(self._now_s) for ledger in ledgers))
                resolved.append(sum(found))
            return resolved

        first, second = self._runner.run(restart())
        assert first == second

    @rule(process=processes, name=names, budget=budgets)
    def change_budget(self, process: int, name: str, budget: Budget | None) -> None:
        """Change a key in the file; it comes back when it was revoked."""
        keys = [
            replace(known, is_enabled=True) for known in (self._keys() | {name: self._changed(name, budget)}).values()
        ]
        self._both(lambda ledger: ledger.declare_keys(keys), process)

    @rule(process=processes, name=names)
    def revoke(self, process: int, name: str) -> None:
        """End a key."""
        self._both(lambda ledger: ledger.revoke_key(name), process)

    @rule(hours=st.sampled_from([0.25, 1, 13, 24 * 8, 24 * 20]))
    def wait(self, hours: float) -> None:
        """Let time pass, into other hours, days, weeks and months."""
        self._now_s += hours * HOUR_S

    @rule()
    def forget(self) -> None:
        """Keep of what is older than any window that resets its day's sums alone."""
        self._both(lambda ledger: ledger.roll_up(self._now_s - DETAIL_DAYS * DAY_S))
        self._both(lambda ledger: ledger.sum_usage(UsageQuery(("key", "day"))))

    @invariant()
    def both_agree(self) -> None:
        """Rows and balances are the same in both."""
        if self._open:
            self._rows()
            for name in ("a", "b"):
                self._budgets(name)

    def teardown(self) -> None:
        """Close everything."""

        async def close_all() -> None:
            for ledgers in self._open:
                for ledger in ledgers:
                    await ledger.close()

        self._runner.run(close_all())
        self._runner.close()
        self._folder.cleanup()

    def _changed(self, name: str, budget: Budget | None) -> KeyRecord:
        return replace(self._keys()[name], limits=walls(budget))

    def _check_wall(self, name: str) -> None:
        """Whatever was let in, posted and held together are within the limit."""
        assert all(state.posted_nano_usd + state.held_nano_usd <= state.limit_nano_usd for state in self._budgets(name))


TestBooks = Books.TestCase
TestBooks.settings = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # shrinking opens thousands of ledgers: run it by hand, with a longer timeout
)
