"""Any interleaving of holds, settlements, deaths, look-ups and late truths, on both ledgers side by side (R19, I1-I15).

The twin sums its balances anew each time, so where SQLite's running balances agree with it after every step, held is
the sum of the open holds and posted the sum of what was booked. What the rows may do from one step to the next is held
against a model of its own: a hold ends once, and what was booked changes by a correcting entry or not at all.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, invariant, multiple, rule

from proxy.ledger import writer
from proxy.ledger.folder import find_owners
from proxy.ledger.protocol import Ledger
from proxy.ledger.records import (
    HOLDING,
    Admission,
    Admitted,
    AttemptEnd,
    AttemptRow,
    AttemptStart,
    AttemptState,
    BudgetState,
    KeyRecord,
    UsageQuery,
)
from proxy.ledger.resolution import DueLookup, Progress, Reason, Resolved, Truth
from proxy.ledger.schema import find_file
from proxy.ledger.verification import verify
from proxy.money import Budget, Period
from proxy.policy.limits import NO_LIMITS, Limits, Measure, Rate
from proxy.policy.lookups import LOOKUP_AFTER_S
from proxy.policy.scopes import parse_scope
from proxy.usage import CostSource, Usage
from tests.ledger.entries import DAY_S, HOUR_S, NOON_S, ask, key, onward, over, posted, voided
from tests.ledger.houses import House, MemoryHouse, SqliteHouse

PROCESSES = 2
PATIENCE_S = 30.0
"""How long a busy machine may take to write: here nobody is to be sent away."""
ROWS_MAX = 10_000
DETAIL_DAYS = 35
TENANTS = {"a": "acme", "b": None}
PLACES = ("key:a", "key:b", "tenant:acme", "global", "model:chat", "provider:sim", "provider:other")
PERSONAL = frozenset({"user", "tag"})
LATER = {
    AttemptState.PENDING: frozenset(AttemptState),
    AttemptState.UNRESOLVED: frozenset(AttemptState) - {AttemptState.PENDING},
    AttemptState.POSTED: frozenset({AttemptState.POSTED, AttemptState.VOIDED}),
    AttemptState.VOIDED: frozenset({AttemptState.POSTED, AttemptState.VOIDED}),
}
"""What a row may have become a step later; between the last two only a correction leads."""

processes = st.integers(min_value=0, max_value=PROCESSES - 1)
names = st.sampled_from(["a", "b"])
holds = st.integers(min_value=0, max_value=60)
amounts = st.integers(min_value=0, max_value=90)
costs = st.one_of(st.none(), amounts, amounts)
budgets = st.builds(
    Budget,
    st.integers(min_value=0, max_value=400),
    st.sampled_from(Period),
    is_soft=st.sampled_from([False] * 4 + [True]),
)
rates = st.builds(
    Rate, st.sampled_from(Measure), st.integers(min_value=3, max_value=40), st.sampled_from([60, 3_600, 86_400])
)
plain_limits = st.builds(
    Limits,
    budgets=st.lists(budgets, max_size=2).map(tuple),
    rates=st.lists(rates, max_size=1).map(tuple),
    parallel=st.one_of(st.none(), st.none(), st.integers(min_value=1, max_value=6)),
)
some_limits = plain_limits.filter(lambda one: one != NO_LIMITS)
limits = st.one_of(
    st.just(NO_LIMITS),
    st.just(NO_LIMITS),
    plain_limits,
    st.builds(replace, plain_limits, users=some_limits, tags=some_limits.map(lambda one: (("job", one),))),
)
starts = st.builds(
    AttemptStart,
    number=st.just(1),
    provider=st.sampled_from(["sim", "other"]),
    model=st.just("m"),
    hold_nano_usd=holds,
    is_priced=st.just(True),
    upstream_key=st.sampled_from([None, "1"]),
    patterns=st.just(()),
    alias=st.sampled_from([None, None, "chat", "other"]),
    payer=st.sampled_from(["gateway", "gateway", "tenant"]),
    tokens=st.integers(min_value=0, max_value=6),
)


def walls(budget: Budget | None) -> Limits:
    """Limits of one budget, or none."""
    return NO_LIMITS if budget is None else Limits(budgets=(budget,))


def ends(number: int, cost: int | None, hold: int, *, is_asked: bool = False) -> AttemptEnd:
    """Post a cost, or void what has none; what is asked for later is an estimate."""
    if cost is None:
        return voided(number)
    source = CostSource.ESTIMATED if is_asked else CostSource.COMPUTED
    return posted(number, cost)._replace(cost_source=source, is_lookup_due=is_asked, is_overrun=cost > hold)


class Books(RuleBasedStateMachine):
    """Two processes on two kinds of books, told the same things."""

    requests: Bundle[str] = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._folder = tempfile.TemporaryDirectory()
        self._sqlite = SqliteHouse(Path(self._folder.name))
        self._houses: list[House] = [MemoryHouse(), self._sqlite]
        self._open: list[list[Ledger]] = []
        self._now_s = NOON_S
        self._former: dict[tuple[str, int], AttemptRow] = {}
        self._patience = patch.object(writer, "WAIT_S_MAX", PATIENCE_S)
        self._patience.start()
        self._corrected: set[tuple[str, int]] = set()
        """Attempts that this step may have corrected."""
        self._rolled_cost = 0
        self._rolled_overruns = 0
        """What those came to whose detail has gone."""

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

    def _find(self, request_id: str) -> list[AttemptRow]:
        return [row for row in self._rows() if row.request_id == request_id]

    def _budgets(self) -> list[BudgetState]:
        """Give how all budgets stand; of users' and tags' the twin knows more than SQLite keeps."""

        async def ask_both() -> list[Sequence[BudgetState]]:
            return [await ledgers[0].list_budgets(self._now_s) for ledgers in self._open]

        twin, kept = self._runner.run(ask_both())
        assert [one for one in twin if not is_personal(one)] == [one for one in kept if not is_personal(one)]
        # One who was refused has a window of his own too, with nothing in it.
        missing = [one for one in kept if one not in twin]
        assert not any(one.posted_nano_usd or one.held_nano_usd for one in missing)
        return list(kept)

    def _keys(self) -> dict[str, KeyRecord]:
        found = self._both(lambda ledger: ledger.list_keys())
        assert isinstance(found, list)
        return {known.name: known for known in found}

    @initialize(first=limits, second=limits, everywhere=limits)
    def begin(self, first: Limits, second: Limits, everywhere: Limits) -> None:
        """Open both, with two keys, one of them a tenant's, and limits for all together."""

        async def open_all() -> list[list[Ledger]]:
            return [[await house.open() for _ in range(PROCESSES)] for house in self._houses]

        self._open = self._runner.run(open_all())
        keys = [replace(key(name), limits=given, tenant=TENANTS[name]) for name, given in (("a", first), ("b", second))]
        self._both(lambda ledger: ledger.declare_keys(keys))
        self._both(lambda ledger: ledger.set_limits("global", everywhere))

    @rule(
        target=requests,
        process=processes,
        name=names,
        wished=st.sampled_from(["r", "s"]),
        begun=st.lists(starts, min_size=1, max_size=2),
        user=st.sampled_from([None, "u", "v"]),
        job=st.sampled_from([None, "1", "2"]),
    )
    def admit(  # hypothesis draws each fact of a request by name
        self, process: int, name: str, wished: str, begun: list[AttemptStart], user: str | None, job: str | None
    ) -> str | MultipleResults[str]:
        """Ask to be let in; refused, nothing is written (I14)."""
        paid = begun[0].payer
        attempts = [one._replace(number=number, payer=paid) for number, one in enumerate(begun, 1)]
        revision = self._keys()[name].revision
        admission = ask(wished, key_name=name, revision=revision, at_s=self._now_s, attempts=attempts)._replace(
            tenant=TENANTS[name], user=user, tags=() if job is None else (("job", job),)
        )
        before = len(self._rows())
        outcome = self._both(lambda ledger: ledger.admit(admission), process)
        if not isinstance(outcome, Admitted):
            assert len(self._rows()) == before
            return multiple()
        self._check_walls(admission)
        return outcome.request_id

    @rule(target=requests, process=processes, name=names, begun=starts)
    def admit_plainly(self, process: int, name: str, begun: AttemptStart) -> str | MultipleResults[str]:
        """Ask as most do, so that there is something to end."""
        return self.admit(process, name, "r", [begun], None, None)

    @rule(process=processes, request_id=requests, cost=costs, begins=starts, is_asked=st.booleans())
    def advance(self, process: int, request_id: str, cost: int | None, begins: AttemptStart, *, is_asked: bool) -> None:
        """Go on to another target, if anything is pending."""
        rows = self._find(request_id)
        pending = [row for row in rows if row.state is AttemptState.PENDING]
        if not pending:
            return
        ended = ends(pending[0].attempt, cost, pending[0].hold_nano_usd, is_asked=is_asked)
        begins = begins._replace(number=len(rows) + 1)
        step = onward(request_id, ended, begins, at_s=self._now_s)
        if isinstance(self._both(lambda ledger: ledger.advance(step), process), Admitted):
            begun = ask(key_name=rows[0].key, attempts=[begins])
            self._check_walls(begun._replace(tenant=rows[0].tenant, user=rows[0].user, tags=rows[0].tags))

    @rule(
        process=processes,
        request_id=requests,
        costs=st.lists(costs, max_size=3),
        is_asked=st.sampled_from([True, True, False]),
    )
    def settle(self, process: int, request_id: str, costs: list[int | None], *, is_asked: bool) -> None:
        """Be over, with too many or too few ends, perhaps not for the first time, or after it was given up."""
        held = {row.attempt: row.hold_nano_usd for row in self._find(request_id)}
        ended = [ends(at, cost, held.get(at, 0), is_asked=is_asked) for at, cost in enumerate(costs, 1)]
        self._corrected |= {(request_id, end.number) for end in ended}
        self._both(lambda ledger: ledger.settle(over(request_id, *ended, at_s=self._now_s)), process)
        assert all(row.state is not AttemptState.PENDING for row in self._find(request_id))

    @rule(process=processes, request_id=requests, cost=amounts, told=costs)
    def estimate(self, process: int, request_id: str, cost: int, told: int | None) -> None:
        """Be over with an estimate, and ask the provider, whose word comes twice."""
        self.settle(process, request_id, [cost], is_asked=True)
        self.both_agree()
        self.look_up(process, told, is_repeated=True)

    @rule(process=processes, can_look_up=st.booleans(), is_counted=st.booleans())
    def note_progress(self, process: int, *, can_look_up: bool, is_counted: bool) -> None:
        """Leave word of everything that is open."""
        words = [
            Progress(
                row.request_id, row.attempt, "gen-1" if can_look_up else None, can_look_up, 7 if is_counted else None
            )
            for row in self._rows()
            if row.state is AttemptState.PENDING
        ]
        self._both(lambda ledger: ledger.resolution.note_progress(words), process)

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
        self._verify()

    @rule(process=processes, cost=st.one_of(amounts, amounts, costs), is_repeated=st.booleans())
    def look_up(self, process: int, cost: int | None, *, is_repeated: bool) -> None:
        """Ask providers what is due a second later; they tell, twice perhaps, or do not."""
        self._now_s += LOOKUP_AFTER_S[0]

        async def work_off(ledger: Ledger) -> list[object]:
            told: list[object] = []
            for lookup in await ledger.resolution.claim_lookups(self._now_s, count_max=9):
                told.append(lookup._replace(attempt_seq=0))
                told += [await self._hear(ledger, lookup, cost) for _ in range(1 + is_repeated)]
            return told

        told = self._both(work_off, process)
        assert isinstance(told, list)
        self._corrected |= {(one.request_id, one.number) for one in told if isinstance(one, DueLookup)}

    async def _hear(self, ledger: Ledger, lookup: DueLookup, cost: int | None) -> Resolved | bool | None:
        if cost is None:
            return await ledger.resolution.miss_lookup(lookup, self._now_s)
        usage = Usage(2, 3, cost_nano_usd=cost)
        return await ledger.resolution.correct(
            Truth(lookup.attempt_seq, cost, CostSource.REPORTED, usage, Reason.LOOKUP, self._now_s)
        )

    @rule(process=processes, name=names, budget=st.one_of(st.none(), budgets))
    def change_budget(self, process: int, name: str, budget: Budget | None) -> None:
        """Change a key in the file; it comes back when it was revoked."""
        changed = {name: replace(self._keys()[name], limits=walls(budget))}
        keys = [replace(known, is_enabled=True) for known in (self._keys() | changed).values()]
        self._both(lambda ledger: ledger.declare_keys(keys), process)

    @rule(process=processes, place=st.sampled_from(PLACES), given=limits)
    def change_limits(self, process: int, place: str, given: Limits) -> None:
        """Change what holds somewhere."""
        self._both(lambda ledger: ledger.set_limits(place, given), process)

    @rule(process=processes, name=names, is_back=st.sampled_from([True, True, False]))
    def revoke(self, process: int, name: str, *, is_back: bool) -> None:
        """End a key; most often it comes back with the next file."""
        self._both(lambda ledger: ledger.revoke_key(name), process)
        if is_back:
            self.change_budget(process, name, None)

    @rule(
        seconds=st.sampled_from(
            [*LOOKUP_AFTER_S[:5], HOUR_S / 4, HOUR_S, 13 * HOUR_S, 24 * 8 * HOUR_S, 24 * 20 * HOUR_S]
        )
    )
    def wait(self, seconds: float) -> None:
        """Let time pass, to the next try of a look-up, into other hours, days, weeks and months."""
        self._now_s += seconds

    @rule()
    def forget(self) -> None:
        """Keep of what is older than any window that resets its day's sums alone."""
        self._both(lambda ledger: ledger.roll_up(self._now_s - DETAIL_DAYS * DAY_S))
        self._both(lambda ledger: ledger.sum_usage(UsageQuery(("key", "day"))))
        left = {(row.request_id, row.attempt) for row in self._rows()}
        gone = [row for place, row in self._former.items() if place not in left]
        assert all(row.state not in HOLDING for row in gone)
        self._rolled_cost += sum(row.cost_nano_usd or 0 for row in gone)
        self._rolled_overruns += sum(row.is_overrun for row in gone)
        self._former = {place: row for place, row in self._former.items() if place in left}

    @invariant()
    def both_agree(self) -> None:
        """Rows and balances are the same in both, and no row has done what none may (I1, I3, I5, I6, I13)."""
        if not self._open:
            return
        rows = {(row.request_id, row.attempt): row for row in self._rows()}
        assert rows.keys() >= self._former.keys()
        for place, row in rows.items():
            self._check_row(row, self._former.get(place), is_corrected=place in self._corrected)
        self._former, self._corrected = rows, set()
        assert all(state.held_nano_usd >= 0 <= state.posted_nano_usd for state in self._budgets())
        (total,) = self._runner.run(self._open[1][0].sum_usage(UsageQuery()))
        assert total.cost_nano_usd == self._rolled_cost + sum(row.cost_nano_usd or 0 for row in rows.values())
        assert total.held_nano_usd == sum(row.hold_nano_usd for row in rows.values() if row.state in HOLDING)
        assert total.overruns == self._rolled_overruns + sum(row.is_overrun for row in rows.values())

    def teardown(self) -> None:
        """Work the file out anew, then close everything."""
        if self._open:
            self._verify()

        async def close_all() -> None:
            for ledgers in self._open:
                for ledger in ledgers:
                    await ledger.close()

        self._runner.run(close_all())
        self._runner.close()
        self._patience.stop()
        self._folder.cleanup()

    def _check_row(self, row: AttemptRow, former: AttemptRow | None, *, is_corrected: bool) -> None:
        assert row.is_overrun == ((row.cost_nano_usd or 0) > row.hold_nano_usd)
        if former is None:
            assert row.state is AttemptState.PENDING
            return
        assert row.state in LATER[former.state]
        assert row.hold_nano_usd == former.hold_nano_usd
        if former.state not in HOLDING and not is_corrected:
            assert row == former

    def _check_walls(self, admission: Admission) -> None:
        """Whatever was let in, posted and held together are within every hard limit that holds for it (I2)."""
        places = {f"key:{admission.key_name}", f"tenant:{admission.tenant}", f"model:{admission.route}"}
        if admission.attempts[0].payer == "gateway":
            # What a tenant pays itself is not held to what the gateway allows, its users and tags included.
            owner = admission.tenant or admission.key_name
            places |= {"global", *(f"provider:{one.provider}" for one in admission.attempts)}
            places |= {
                f"user:{owner}/{admission.user}",
                *(f"tag:{owner}/{tag}={value}" for tag, value in admission.tags),
            }
        walls = [state for state in self._budgets() if state.scope in places and not state.is_soft]
        assert all(state.posted_nano_usd + state.held_nano_usd <= state.limit_nano_usd for state in walls)

    def _verify(self) -> None:
        """Hold balances, states and journal to what `turnpike ledger verify` asks of them (I4, I8, I9)."""
        data_dir = self._sqlite.data_dir
        assert verify(find_file(data_dir), owners=find_owners(data_dir)).findings == ()


def is_personal(state: BudgetState) -> bool:
    """Tell whether a budget is a user's or a tag's."""
    return parse_scope(state.scope).kind in PERSONAL


TestBooks = Books.TestCase
TestBooks.settings = settings(
    max_examples=40,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # shrinking opens thousands of ledgers: run it by hand, with a longer timeout
)
