"""Calls that run together: whatever is in a batch, it is as if they had come one by one."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from proxy.clock import ManualClock
from proxy.ledger import batches
from proxy.ledger.batches import Batches
from proxy.ledger.books import Books
from proxy.ledger.committer import AnyCall, Call
from proxy.ledger.memory import MemoryLedger
from proxy.ledger.records import (
    Admission,
    Admitted,
    Advance,
    AttemptEnd,
    AttemptRow,
    AttemptState,
    KeyGone,
    KeyRecord,
    Refused,
    Settlement,
)
from proxy.ledger.rows import read_attempt
from proxy.ledger.schema import connect, prepare
from proxy.ledger.sql import STATEMENTS
from proxy.ledger.sqlite import SqliteLedger
from proxy.money import Budget, Period
from proxy.usage import Usage
from tests.ledger.entries import HOUR_S, NOON_S, ask, key, onward, over, posted, stand, start, voided
from tests.ledger.faults import Faults, stalled

OWNER = "owner"
Argument = Admission | Settlement | Advance | str
"""What is called with it is plain from its kind; a text is the name of a key to be revoked."""


class Desk:
    """A file that batches are run on, and the statements of each."""

    def __init__(self, path: Path) -> None:
        prepare(path, NOON_S)
        self.connection = connect(path)
        self.statements: list[str] = []
        self._cursor = self.connection.cursor()
        self._books = Books(OWNER)
        self._batches = Batches(self._books, OWNER)

    def declare(self, *keys: KeyRecord) -> None:
        """Make keys."""
        self._books.declare_keys(self._cursor, keys)

    def run(self, *arguments: Argument) -> list[object]:
        """Run one batch and give its outcomes."""
        calls = [self._call(argument) for argument in arguments]
        self.statements.clear()
        self.connection.set_trace_callback(self.statements.append)
        with self.connection:
            self._cursor.execute("BEGIN IMMEDIATE")
            self._batches.run(self._cursor, calls)
        self.connection.set_trace_callback(None)
        return [call.outcome for call in calls]

    def rows(self) -> list[AttemptRow]:
        """All attempts."""
        found = self._cursor.execute(STATEMENTS["export_attempts"], (0, None, None, 10_000)).fetchall()
        return [read_attempt(row) for row in found]

    def balances(self) -> dict[tuple[str, int, int], tuple[int, int]]:
        """All windows."""
        found = self._cursor.execute("SELECT * FROM balances").fetchall()
        return {(scope, ends_s, starts_s): (posted, held) for scope, ends_s, starts_s, posted, held in found}

    def _call(self, argument: Argument) -> AnyCall:
        works: dict[type, Callable[..., Any]] = {
            Admission: self._books.admit,
            Settlement: self._books.settle,
            Advance: self._books.advance,
            str: self._books.revoke_key,
        }
        return Call(works[type(argument)], argument, future=None, is_kept=False)


@contextmanager
def opened() -> Iterator[Desk]:
    """Make a desk where even few calls run together."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(batches, "TOGETHER_MIN", 2)
        patched.setattr(batches, "ENDED_TOGETHER_MIN", 2)
        desk = Desk(Path(folder) / "ledger.db")
        yield desk
        desk.connection.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    """Empty books."""
    with opened() as desk:
        yield desk


# ---------------------------------------------------------------- as if one by one


def test_money_that_comes_back_can_be_used_at_once(desk: Desk) -> None:
    """Behind a settlement its room is there, before it not."""
    desk.declare(key(limit=100))
    assert desk.run(ask("a", 60), ask("b", 40)) == [Admitted("a"), Admitted("b")]
    early, settled, late, again = desk.run(ask("c", 40), over("a", posted(1, 10)), ask("d", 50), ask("e", 1))
    assert isinstance(early, Refused)
    assert (settled, late) == (True, Admitted("d"))
    assert isinstance(again, Refused)
    assert (again.left_nano_usd, again.held_nano_usd) == (0, 90)
    assert list(desk.balances().values()) == [(10, 90)]


def test_an_id_wished_twice_in_a_batch_is_given_once(desk: Desk) -> None:
    """The second gets a number, also beside those that are in the books already."""
    desk.declare(key(limit=None))
    assert desk.run(ask("r"), ask("r"), ask("r-3"), ask("r")) == [Admitted(f"r{end}") for end in ("", "-2", "-3", "-4")]
    assert desk.run(ask("r"), ask("s"), ask("r-5")) == [Admitted("r-5"), Admitted("s"), Admitted("r-5-2")]
    assert len({row.request_id for row in desk.rows()}) == 7


def test_a_request_may_begin_and_end_in_one_batch(desk: Desk) -> None:
    """Under the id it wished for or the number it got; the second settlement changes nothing."""
    desk.declare(key(limit=100))
    outcomes = desk.run(ask("r", 60), over("r", posted(1, 5)), over("r", posted(1, 9)), ask("r"), over("r-2", voided()))
    assert outcomes == [Admitted("r"), True, False, Admitted("r-2"), True]
    assert [(row.state, row.cost_nano_usd) for row in desk.rows()] == [
        (AttemptState.POSTED, 5),
        (AttemptState.VOIDED, 0),
    ]
    assert list(desk.balances().values()) == [(5, 0)]


def test_other_calls_keep_their_place(desk: Desk) -> None:
    """A fallback or a revocation between admissions sees those before it, and is seen by those behind it."""
    desk.declare(key(limit=100))
    outcomes = desk.run(
        ask("a", 50),
        ask("b", 50),
        onward("a", posted(1, 10), start(2, 40)),
        ask("c", 1),
        over("b", voided()),
        ask("d", 50),
        "app",
        ask("e", 1),
        over("a", posted(2, 1)),
    )
    kinds = [Admitted, Admitted, Admitted, Refused, bool, Admitted, bool, KeyGone, bool]
    assert [type(outcome) for outcome in outcomes] == kinds
    assert list(desk.balances().values()) == [(11, 50)]


def test_what_a_settlement_forgets_is_posted_in_full_in_a_batch_too(desk: Desk) -> None:
    """With its hold, or as unknown where there was no price."""
    desk.declare(key(limit=100))
    desk.run(ask("a", attempts=[start(1, 10), start(2, 20)]), ask("b", attempts=[start(1, 0, is_priced=False)]))
    assert desk.run(over("a", posted(2, 1)), over("b"), over("nobody")) == [True, True, False]
    assert [(row.cost_nano_usd, row.error) for row in desk.rows()] == [
        (10, "unsettled"),
        (1, None),
        (None, "unsettled"),
    ]
    assert list(desk.balances().values()) == [(11, 0)]


def test_values_come_back_as_they_were(desk: Desk) -> None:
    """The largest amounts, moments to the last bit, and texts with anything in them."""
    odd = "a'b\"c\\d;--<<?>>\n\u20ac\U0001f600\u0000"
    most = 2**63 - 1
    at_s = NOON_S + 0.1 + 2**-20
    desk.declare(key("other", limit=None), key(limit=most))
    desk.run(ask("opens", 0, at_s=at_s))
    first = replace(ask(odd, most, at_s=at_s), app=odd, tenant=None, route=odd)
    unbudgeted = ask("b", most, key_name="other", at_s=at_s)
    assert desk.run(first, unbudgeted) == [Admitted(odd), Admitted("b")]
    usage = Usage(most, 1, cost_nano_usd=most, anomalies=(odd,))
    end = replace(posted(1, most, usage=usage, error=odd), generation_id=odd, is_overrun=True)
    assert desk.run(over("opens"), over(odd, end), over("b", end), *[over("nobody")] * 3) == [True] * 3 + [False] * 3
    row, other = desk.rows()[1:]
    assert (row.request_id, row.app, row.route, row.tenant, row.at_s) == (odd, odd, odd, None, at_s)
    assert (row.usage, row.cost_nano_usd, row.error, row.generation_id) == (usage, most, odd, odd)
    assert (other.hold_nano_usd, other.usage, other.is_overrun) == (most, usage, True)
    assert list(desk.balances().values()) == [(most, 0)]


# ---------------------------------------------------------------- against the twin

budgets = st.one_of(
    st.none(), st.builds(Budget, st.integers(min_value=0, max_value=200), st.sampled_from([Period.HOUR, Period.TOTAL]))
)
moments = st.sampled_from([NOON_S - 1, NOON_S, NOON_S + HOUR_S - 0.5, NOON_S + HOUR_S])
wishes = st.sampled_from(["r", "s", "r-2"])
requests = st.sampled_from(["r", "s", "r-2", "r-3", "s-2", "r-2-2"])
holds = st.integers(min_value=0, max_value=60)


def ends(number: int, cost: int) -> AttemptEnd:
    """Post a cost, or void what has none."""
    return posted(number, cost) if cost else voided(number)


admissions = st.builds(
    lambda wished, name, at_s, revision, sizes: ask(
        wished,
        key_name=name,
        at_s=at_s,
        revision=revision,
        attempts=[start(number, hold) for number, hold in enumerate(sizes, 1)],
    ),
    wishes,
    st.sampled_from(["a", "b", "b", "nobody"]),
    moments,
    st.sampled_from([1, 1, 1, 2]),
    st.lists(holds, min_size=1, max_size=2),
)
settlements = st.builds(
    lambda request_id, costs, at_s: over(request_id, *(ends(n, cost) for n, cost in enumerate(costs, 1)), at_s=at_s),
    requests,
    st.lists(holds, max_size=2),
    moments,
)
arguments = st.one_of(admissions, admissions, settlements, settlements, st.just("a"))


async def answer(twin: MemoryLedger, argument: Argument) -> object:
    """Ask the twin."""
    if isinstance(argument, Admission):
        return await twin.admit(argument)
    if isinstance(argument, Settlement):
        return await twin.settle(argument)
    assert isinstance(argument, str)
    return await twin.revoke_key(argument)


@given(first=budgets, second=budgets, told=st.lists(st.lists(arguments, max_size=14), max_size=4))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
def test_a_batch_is_its_calls_one_by_one(
    first: Budget | None, second: Budget | None, told: Sequence[Sequence[Argument]]
) -> None:
    """Outcomes, rows and balances are those of the twin that heard every call by itself."""
    keys = [replace(key("a"), budget=first), replace(key("b"), budget=second)]

    async def ask_twin() -> tuple[list[list[object]], Sequence[AttemptRow]]:
        twin = MemoryLedger(clock=ManualClock(NOON_S))
        await twin.declare_keys(keys)
        outcomes = [[await answer(twin, argument) for argument in batch] for batch in told]
        rows = await twin.export(since_s=None, after_seq=0, rows_max=10_000)
        return outcomes, rows

    with opened() as desk:
        desk.declare(*keys)
        outcomes = [desk.run(*batch) for batch in told]
        expected, rows = asyncio.run(ask_twin())
        assert outcomes == expected
        assert [replace(row, seq=0) for row in desk.rows()] == [replace(row, seq=0) for row in rows]
        for (scope, ends_s, starts_s), sums in desk.balances().items():
            mine = [row for row in rows if f"key:{row.key}" == scope and starts_s <= row.at_s < ends_s]
            spent = sum(row.cost_nano_usd or 0 for row in mine if row.state is AttemptState.POSTED)
            assert sums == (spent, sum(row.hold_nano_usd for row in mine if row.state is AttemptState.PENDING))


# ---------------------------------------------------------------- few statements


@pytest.mark.parametrize("count", [2, 10, batches.ROWS_MAX])
def test_a_batch_takes_as_many_statements_whatever_its_size(desk: Desk, count: int) -> None:
    """Up to three questions and two answers."""
    desk.declare(key(limit=None), key("rich", 10**9))
    desk.run(ask("opens", key_name="rich"))
    desk.run(*(ask(f"a{number}", key_name="rich") for number in range(count)))
    assert len(desk.statements) == 2 + 5  # two are BEGIN and COMMIT
    desk.run(*(over(f"a{number}", posted(1, 1)) for number in range(count)))
    assert len(desk.statements) == 2 + 4
    desk.run(*(over("nobody") for _ in range(count)), *(ask(f"b{number}") for number in range(count)))
    assert len(desk.statements) <= 2 + 5


def test_few_calls_run_one_by_one(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the limits nothing is gained, and nothing changes."""
    desk.declare(key(limit=None))
    monkeypatch.setattr(batches, "ENDED_TOGETHER_MIN", 3)
    assert desk.run(ask("a"), ask("b")) == [Admitted("a"), Admitted("b")]
    assert desk.run(over("a", posted(1, 1)), over("b", posted(1, 1))) == [True, True]
    monkeypatch.setattr(batches, "TOGETHER_MIN", 3)
    assert desk.run(ask("c"), ask("d")) == [Admitted("c"), Admitted("d")]
    assert [row.state for row in desk.rows()] == [AttemptState.POSTED] * 2 + [AttemptState.PENDING] * 2


def test_more_rows_than_a_statement_takes_are_cut(desk: Desk) -> None:
    """Twice as many calls, twice as many statements, and all is there."""
    desk.declare(key(limit=10**9))
    count = 2 * batches.ROWS_MAX + 1
    desk.run(ask("opens", 0))
    assert desk.run(*(ask(f"r{n}", 1) for n in range(count))) == [Admitted(f"r{n}") for n in range(count)]
    assert desk.run(*(over(f"r{n}", posted(1, 2)) for n in range(count))) == [True] * count
    assert [row.request_id for row in desk.rows()] == ["opens", *(f"r{n}" for n in range(count))]
    assert list(desk.balances().values()) == [(2 * count, 0)]


async def test_a_batch_that_cannot_be_written_together_is_written_one_by_one(
    shaky: SqliteLedger, faults: Faults
) -> None:
    """One bad settlement among many harms none of them."""
    await asyncio.gather(*(shaky.admit(ask(f"r{n}", 10)) for n in range(9)))
    stall, blocking = await stalled(faults, shaky)
    telling: list[Coroutine[Any, Any, bool]] = [shaky.settle(over(f"r{n}", posted(1, 1))) for n in range(8)]
    tasks = [asyncio.create_task(one) for one in [*telling, shaky.settle(over("r8", posted(1, 2**70)))]]
    await asyncio.sleep(0.01)
    stall.release()
    await blocking
    *good, bad = await asyncio.gather(*tasks, return_exceptions=True)
    assert good == [True] * 8
    assert isinstance(bad, ValueError)
    assert await stand(shaky) == (8, 10)


async def test_ids_taken_by_another_program_meanwhile_are_no_trouble(shaky: SqliteLedger, faults: Faults) -> None:
    """What a statement for many refuses is tried one by one."""
    faults.errors["INSERT"] = sqlite3.IntegrityError("UNIQUE constraint failed")
    stall, blocking = await stalled(faults, shaky)
    asking = [asyncio.create_task(shaky.admit(ask(f"r{n}", 10))) for n in range(batches.TOGETHER_MIN)]
    await asyncio.sleep(0.01)
    faults.effects["SAVEPOINT"] = lambda _: faults.errors.clear()
    stall.release()
    await blocking
    assert await asyncio.gather(*asking) == [Admitted(f"r{n}") for n in range(batches.TOGETHER_MIN)]
