"""What a wall clock that jumps does to the books (R64): the same on SQLite and on its twin in memory."""

from __future__ import annotations

import pytest

from proxy.ledger.protocol import Ledger
from proxy.ledger.records import Admitted, Limited, Refused
from proxy.money import Budget, Period
from proxy.policy.limits import Limits, Measure, Rate
from tests.ledger.entries import DAY_S, HOUR_S, NOON_S, ask, key, over, posted, stand

MIDNIGHT_S = NOON_S + DAY_S / 2


async def fill(ledger: Ledger, limits: Limits) -> int:
    """Open books with a key of these limits; gives its revision."""
    await ledger.declare_keys([key(limit=None)])
    await ledger.set_limits("key:app", limits)
    return (await ledger.list_keys())[0].revision


async def let_in(ledger: Ledger, revision: int, *moments: float) -> list[bool]:
    """Ask at these moments, one after another, for ten nano-USD each, and tell who came in."""
    outcomes = []
    for at_s in moments:
        outcome = await ledger.admit(ask("r", 10, revision=revision, at_s=at_s))
        assert isinstance(outcome, Admitted | Limited | Refused)
        outcomes.append(isinstance(outcome, Admitted))
    return outcomes


@pytest.mark.parametrize("back_s", [1.0, 30.0, 59.0])
async def test_a_clock_set_back_a_little_lets_no_more_through(ledger: Ledger, back_s: float) -> None:
    """What a rate has let in goes on to count, although it now lies ahead."""
    revision = await fill(ledger, Limits(rates=(Rate(Measure.REQUESTS, 3, 60),)))
    assert await let_in(ledger, revision, NOON_S, NOON_S, NOON_S) == [True] * 3
    outcome = await ledger.admit(ask("r", revision=revision, at_s=NOON_S - back_s))
    assert isinstance(outcome, Limited)
    assert outcome.retry_after_s <= 61 + back_s
    assert await let_in(ledger, revision, NOON_S + 61) == [True]


async def test_a_clock_set_back_by_an_hour_refuses_nobody_for_an_hour(ledger: Ledger) -> None:
    """At most one more allowance, and then the rate holds as ever."""
    revision = await fill(ledger, Limits(rates=(Rate(Measure.REQUESTS, 3, 60),)))
    assert await let_in(ledger, revision, NOON_S, NOON_S, NOON_S) == [True] * 3
    earlier_s = NOON_S - HOUR_S
    assert await let_in(ledger, revision, *[earlier_s] * 4) == [*[True] * 3, False]
    assert await let_in(ledger, revision, earlier_s + 61) == [True]


async def test_a_clock_set_forward_ends_a_window_once(ledger: Ledger) -> None:
    """What was let in before the jump has passed."""
    revision = await fill(ledger, Limits(rates=(Rate(Measure.REQUESTS, 3, 60),)))
    assert await let_in(ledger, revision, *[NOON_S] * 3, *[NOON_S + HOUR_S] * 4) == [*[True] * 6, False]


async def test_a_period_begins_once_however_often_the_clock_crosses_its_start(ledger: Ledger) -> None:
    """Back before midnight there is what was left there, and behind it what is left there."""
    revision = await fill(ledger, Limits(budgets=(Budget(30, Period.DAY),)))
    before_s, after_s = MIDNIGHT_S - 1, MIDNIGHT_S + 1
    assert await let_in(ledger, revision, before_s, before_s, after_s) == [True] * 3
    assert await let_in(ledger, revision, before_s, before_s) == [True, False]
    assert await let_in(ledger, revision, after_s, after_s, after_s) == [True, True, False]
    assert await let_in(ledger, revision, before_s, after_s) == [False, False]
    assert await stand(ledger, now_s=before_s) == await stand(ledger, now_s=after_s) == (0, 30)


async def test_a_charge_counts_in_the_period_of_its_hold_whatever_the_clock_says_at_its_end(ledger: Ledger) -> None:
    """Held before midnight, settled with a clock that says noon, or the day after tomorrow."""
    revision = await fill(ledger, Limits(budgets=(Budget(30, Period.DAY),)))
    for request_id, ends_s in (("a", NOON_S), ("b", MIDNIGHT_S + 2 * DAY_S)):
        assert isinstance(await ledger.admit(ask(request_id, 10, revision=revision, at_s=MIDNIGHT_S - 1)), Admitted)
        assert await ledger.settle(over(request_id, posted(1, 7), at_s=ends_s))
    assert await stand(ledger, now_s=MIDNIGHT_S - 1) == (14, 0)
    assert await stand(ledger, now_s=MIDNIGHT_S + 1) == (0, 0)


@pytest.mark.parametrize("jump_s", [-HOUR_S, HOUR_S, 400 * DAY_S])
async def test_no_jump_makes_an_owner_dead(ledger: Ledger, jump_s: float) -> None:
    """Who lives is told by its lock, not by a time that has passed: its holds stay, and end once."""
    revision = await fill(ledger, Limits(budgets=(Budget(30, Period.DAY),)))
    assert isinstance(await ledger.admit(ask("a", 10, revision=revision)), Admitted)
    assert await ledger.resolve_dead_owners(NOON_S + jump_s) == 0
    assert await stand(ledger) == (0, 10)
    assert await ledger.settle(over("a", posted(1, 7), at_s=NOON_S + jump_s))
    assert await stand(ledger) == (7, 0)


async def test_the_order_of_the_books_is_that_of_their_writing(ledger: Ledger) -> None:
    """Rows are numbered as they come, also when their times run backwards."""
    revision = await fill(ledger, Limits())
    for number in range(4):
        await ledger.admit(ask(f"r{number}", revision=revision, at_s=NOON_S - number * HOUR_S))
    rows = await ledger.export(since_s=None, after_seq=0, rows_max=9)
    assert [row.request_id for row in rows] == ["r0", "r1", "r2", "r3"]
    assert [row.seq for row in rows] == sorted(row.seq for row in rows)
    page = await ledger.export(since_s=None, after_seq=rows[1].seq, rows_max=9)
    assert [row.request_id for row in page] == ["r2", "r3"]
