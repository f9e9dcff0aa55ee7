"""What every ledger promises about money and requests, held against each of them alike."""

from __future__ import annotations

import asyncio

import pytest

from proxy.errors import LedgerUnavailable
from proxy.ledger.protocol import Ledger
from proxy.ledger.records import Admitted, AttemptState, KeyGone, Refused
from proxy.money import Period
from proxy.usage import CostSource, Usage
from tests.ledger.entries import DAY_S, HOUR_S, NOON_S, ask, key, onward, over, posted, stand, start, voided
from tests.ledger.houses import House

MIDNIGHT_S = NOON_S + DAY_S / 2


async def test_a_request_is_held_then_posted(ledger: Ledger) -> None:
    """Its row is there before it is let in, and says in the end what it cost and where that comes from."""
    await ledger.declare_keys([key()])
    assert await ledger.admit(ask("r", 30)) == Admitted("r")
    (row,) = await ledger.find_request("r")
    assert (row.state, row.hold_nano_usd, row.cost_nano_usd) == (AttemptState.PENDING, 30, None)
    assert await stand(ledger) == (0, 30)

    usage = Usage(1, 2, 3, 4, 5, 6, 7, 8, cost_nano_usd=12, is_byok=True, anomalies=("cached > input", "a b"))
    assert await ledger.settle(over("r", posted(1, 12, usage=usage)))
    (row,) = await ledger.find_request("r")
    assert (row.state, row.cost_nano_usd, row.cost_source) == (AttemptState.POSTED, 12, CostSource.COMPUTED)
    assert (row.seq, row.request_id, row.attempt, row.at_s) == (1, "r", 1, NOON_S)
    assert (row.key, row.tenant, row.app, row.route) == ("app", "acme", None, "chat")
    assert (row.provider, row.model, row.is_stream, row.status) == ("sim", "sim/model", True, 200)
    assert (row.usage, row.latency_ms, row.first_token_ms) == (usage, 120, 40)
    assert (row.error, row.generation_id, row.is_overrun) == (None, "gen-1", False)
    assert await stand(ledger) == (12, 0)


async def test_what_few_answers_use_is_kept_too(ledger: Ledger) -> None:
    """Pictures, searches, cached audio, another service: what they cost can be worked out again from the row."""
    await ledger.declare_keys([key()])
    usage = Usage(
        10,
        20,
        cached_tokens=3,
        cached_audio_tokens=2,
        image_input_tokens=4,
        image_output_tokens=5,
        images=1,
        web_searches=6,
        service_tier="priority",
    )
    for name, used in (("rare", usage), ("plain", Usage(10, 20)), ("one", Usage(10, 20, web_searches=1))):
        await ledger.admit(ask(name, 30))
        assert await ledger.settle(over(name, posted(1, 12, usage=used)))
        (row,) = await ledger.find_request(name)
        assert row.usage == used
    rows = await ledger.export(since_s=None, after_seq=0, rows_max=10)
    assert [row.usage.web_searches for row in rows] == [6, 0, 1]


async def test_a_budget_is_a_wall(ledger: Ledger) -> None:
    """The last nano can be held, one more is refused with all figures, and a refusal writes nothing."""
    await ledger.declare_keys([key(limit=100)])
    assert isinstance(await ledger.admit(ask("a", 40)), Admitted)
    await ledger.settle(over("a", posted(1, 25)))
    assert isinstance(await ledger.admit(ask("b", 50)), Admitted)
    refused = await ledger.admit(ask("c", 26))
    assert refused == Refused(
        scope="key:app",
        needed_nano_usd=26,
        left_nano_usd=25,
        limit_nano_usd=100,
        held_nano_usd=50,
        resets_at_s=MIDNIGHT_S,
    )
    assert await ledger.find_request("c") == []
    assert isinstance(await ledger.admit(ask("d", 25)), Admitted)
    assert await stand(ledger) == (25, 75)


async def test_concurrent_requests_share_the_room(ledger: Ledger) -> None:
    """Of 100 requests at once on a key with room for 20, exactly 20 come in."""
    await ledger.declare_keys([key(limit=200)])
    outcomes = await asyncio.gather(*(ledger.admit(ask(f"r{n}", 10)) for n in range(100)))
    assert sum(isinstance(outcome, Admitted) for outcome in outcomes) == 20
    assert await stand(ledger) == (0, 200)


async def test_parallel_attempts_are_held_together_or_not_at_all(ledger: Ledger) -> None:
    """A request that starts several calls needs room for their sum, and ends them all at once."""
    await ledger.declare_keys([key(limit=100)])
    refused = await ledger.admit(ask("a", attempts=[start(1, 60), start(2, 41)]))
    assert isinstance(refused, Refused)
    assert refused.needed_nano_usd == 101
    assert isinstance(await ledger.admit(ask("b", attempts=[start(1, 60), start(2, 40, provider="other")])), Admitted)
    assert await stand(ledger) == (0, 100)
    assert await ledger.settle(over("b", voided(1), posted(2, 7)))
    first, second = await ledger.find_request("b")
    assert (first.state, first.cost_nano_usd, first.cost_source) == (AttemptState.VOIDED, 0, None)
    assert (second.state, second.cost_nano_usd) == (AttemptState.POSTED, 7)
    assert await stand(ledger) == (7, 0)


async def test_a_request_settles_once(ledger: Ledger) -> None:
    """A second settlement, and one of an unknown request, change nothing and say so."""
    await ledger.declare_keys([key()])
    await ledger.admit(ask("r", 30))
    assert await ledger.settle(over("r", posted(1, 5)))
    assert not await ledger.settle(over("r", posted(1, 9)))
    assert not await ledger.settle(over("unknown", posted(1, 9)))
    (row,) = await ledger.find_request("r")
    assert row.cost_nano_usd == 5
    assert await stand(ledger) == (5, 0)


async def test_concurrent_settlements_count_once(ledger: Ledger) -> None:
    """Of ten settlements of one request at the same time, one counts."""
    await ledger.declare_keys([key()])
    await ledger.admit(ask("r", 30))
    assert sum(await asyncio.gather(*(ledger.settle(over("r", posted(1, 5))) for _ in range(10)))) == 1
    assert await stand(ledger) == (5, 0)


async def test_an_overrun_is_booked_as_it_is(ledger: Ledger) -> None:
    """The truth is posted above the hold and above the limit; then even what costs nothing waits."""
    await ledger.declare_keys([key(limit=100)])
    await ledger.admit(ask("r", 90))
    await ledger.settle(over("r", posted(1, 150)))
    assert await stand(ledger) == (150, 0)
    refused = await ledger.admit(ask("s", 0))
    assert isinstance(refused, Refused)
    assert refused.left_nano_usd == 0


async def test_what_a_settlement_forgets_is_posted_in_full(ledger: Ledger) -> None:
    """A request that is over has nothing pending: an attempt nobody accounts for costs its whole hold."""
    await ledger.declare_keys([key(limit=100)])
    await ledger.admit(ask("r", attempts=[start(1, 30), start(2, 20)]))
    assert await ledger.settle(over("r", posted(1, 5)))
    row = (await ledger.find_request("r"))[1]
    assert (row.state, row.cost_nano_usd, row.cost_source) == (AttemptState.POSTED, 20, CostSource.HELD)
    assert row.error == "unsettled"
    assert await stand(ledger) == (25, 0)


async def test_a_fallback_pays_for_what_came_before(ledger: Ledger) -> None:
    """The next attempt fits only beside what the one before it cost; refused, that one is still pending."""
    await ledger.declare_keys([key(limit=100)])
    await ledger.admit(ask("r", 60))
    refused = await ledger.advance(onward("r", posted(1, 50), start(2, 51)))
    assert refused == Refused(
        scope="key:app",
        needed_nano_usd=51,
        left_nano_usd=50,
        limit_nano_usd=100,
        held_nano_usd=0,
        resets_at_s=MIDNIGHT_S,
    )
    assert [row.state for row in await ledger.find_request("r")] == [AttemptState.PENDING]
    assert await stand(ledger) == (0, 60)

    assert await ledger.advance(onward("r", posted(1, 50), start(2, 50, provider="other"))) == Admitted("r")
    first, second = await ledger.find_request("r")
    assert (first.state, first.cost_nano_usd) == (AttemptState.POSTED, 50)
    assert (second.state, second.attempt, second.provider) == (AttemptState.PENDING, 2, "other")
    assert (second.key, second.tenant, second.route, second.is_stream) == ("app", "acme", "chat", True)
    assert await stand(ledger) == (50, 50)
    await ledger.settle(over("r", posted(2, 10)))
    assert await stand(ledger) == (60, 0)


async def test_a_free_failure_costs_nothing(ledger: Ledger) -> None:
    """A voided attempt gives its whole hold back to the next one."""
    await ledger.declare_keys([key(limit=100)])
    await ledger.admit(ask("r", 100))
    assert isinstance(await ledger.advance(onward("r", voided(1), start(2, 100))), Admitted)
    assert await stand(ledger) == (0, 100)


async def test_an_attempt_that_has_ended_cannot_go_on(ledger: Ledger) -> None:
    """Advancing from what is not pending is a mistake of the caller and changes nothing."""
    await ledger.declare_keys([key(limit=100)])
    await ledger.admit(ask("r", 10))
    await ledger.advance(onward("r", voided(1), start(2, 10)))
    with pytest.raises(ValueError, match="attempt 1 of r is not pending"):
        await ledger.advance(onward("r", voided(1), start(3, 10)))
    assert len(await ledger.find_request("r")) == 2
    assert await stand(ledger) == (0, 10)


async def test_a_taken_id_gets_a_number(ledger: Ledger) -> None:
    """A repeated id is a request of its own, `-2`, `-3`; a number a client wished for itself is left alone."""
    await ledger.declare_keys([key(limit=None)])
    assert await ledger.admit(ask("r")) == Admitted("r")
    assert await ledger.admit(ask("r")) == Admitted("r-2")
    assert await ledger.admit(ask("r-3")) == Admitted("r-3")
    assert await ledger.admit(ask("r")) == Admitted("r-4")
    outcomes = await asyncio.gather(*(ledger.admit(ask("s")) for _ in range(20)))
    wanted = {"s", *(f"s-{n}" for n in range(2, 21))}
    assert {outcome.request_id for outcome in outcomes if isinstance(outcome, Admitted)} == wanted
    assert await ledger.settle(over("r-2", posted(1, 5)))
    assert [row.state for row in await ledger.find_request("r")] == [AttemptState.PENDING]


async def test_an_unknown_key_may_do_nothing(ledger: Ledger) -> None:
    """A key the books do not have is gone, not stale."""
    assert await ledger.admit(ask("r", key_name="nobody")) == KeyGone(is_stale=False)
    assert await ledger.find_request("r") == []


async def test_a_revoked_key_ends_at_once(ledger: Ledger) -> None:
    """From the next admission and the next fallback on; what runs is still settled."""
    await ledger.declare_keys([key(limit=100)])
    await ledger.admit(ask("r", 10))
    assert await ledger.revoke_key("app")
    assert await ledger.revoke_key("app")
    assert not await ledger.revoke_key("nobody")
    assert await ledger.admit(ask("s", revision=2)) == KeyGone(is_stale=False)
    assert await ledger.advance(onward("r", voided(1), start(2, 10))) == KeyGone(is_stale=False)
    assert await ledger.settle(over("r", posted(1, 5)))
    found = await ledger.find_key("digest of app")
    assert found is not None
    assert (found.is_enabled, found.revision) == (False, 2)


async def test_a_changed_key_is_stale(ledger: Ledger) -> None:
    """Who planned under an older revision must plan anew; a running request goes on under the new limit."""
    await ledger.declare_keys([key(limit=100)])
    await ledger.admit(ask("r", 10))
    await ledger.declare_keys([key(limit=15)])
    assert await ledger.admit(ask("s", 10)) == KeyGone(is_stale=True)
    assert isinstance(await ledger.admit(ask("s", 10, revision=2)), Refused)
    assert isinstance(await ledger.advance(onward("r", posted(1, 10), start(2, 6))), Refused)
    assert isinstance(await ledger.advance(onward("r", posted(1, 10), start(2, 5))), Admitted)


@pytest.mark.parametrize(("at_s", "is_gone"), [(NOON_S - 0.001, False), (NOON_S, True), (NOON_S + 1, True)])
async def test_a_key_expires_at_its_moment(ledger: Ledger, at_s: float, is_gone: bool) -> None:
    """Until the moment it may, from it on it may not."""
    await ledger.create_key(key(expires_at_s=NOON_S))
    outcome = await ledger.admit(ask("r", at_s=at_s))
    assert outcome == (KeyGone(is_stale=False) if is_gone else Admitted("r"))


async def test_a_fallback_under_an_expired_key_is_over(ledger: Ledger) -> None:
    """A key that expires while its request runs starts no further upstream call."""
    await ledger.create_key(key(expires_at_s=NOON_S + 5))
    await ledger.admit(ask("r"))
    outcome = await ledger.advance(onward("r", voided(1), start(2, 10), at_s=NOON_S + 5))
    assert outcome == KeyGone(is_stale=False)


async def test_a_hold_counts_in_the_period_it_was_made_in(ledger: Ledger) -> None:
    """What is settled after midnight still weighs on the day before, and the new day begins empty."""
    await ledger.declare_keys([key(limit=100)])
    await ledger.admit(ask("r", 80, at_s=MIDNIGHT_S - 1))
    assert isinstance(await ledger.admit(ask("s", 100, at_s=MIDNIGHT_S)), Admitted)
    await ledger.settle(over("r", posted(1, 70), at_s=MIDNIGHT_S + 1))
    assert await stand(ledger, now_s=MIDNIGHT_S - 1) == (70, 0)
    assert await stand(ledger, now_s=MIDNIGHT_S) == (0, 100)


async def test_a_fallback_after_midnight_is_held_in_the_new_day(ledger: Ledger) -> None:
    """Each attempt counts where it began, and the old day's money is no room in the new one."""
    await ledger.declare_keys([key(limit=100)])
    await ledger.admit(ask("r", 80, at_s=MIDNIGHT_S - 1))
    await ledger.admit(ask("s", 40, at_s=MIDNIGHT_S))
    assert isinstance(await ledger.advance(onward("r", posted(1, 80), start(2, 61), at_s=MIDNIGHT_S + 1)), Refused)
    assert isinstance(await ledger.advance(onward("r", posted(1, 80), start(2, 60), at_s=MIDNIGHT_S + 1)), Admitted)
    assert await stand(ledger, now_s=MIDNIGHT_S - 1) == (80, 0)
    assert await stand(ledger, now_s=MIDNIGHT_S + 1) == (0, 100)


@pytest.mark.parametrize("period", list(Period))
async def test_a_budget_added_later_counts_what_was_spent(ledger: Ledger, period: Period) -> None:
    """Posted and held money of the period count from its beginning, from before the budget was there."""
    await ledger.declare_keys([key(limit=None)])
    assert await ledger.budgets("app", NOON_S) == []
    assert await ledger.budgets("nobody", NOON_S) == []
    await ledger.admit(ask("old", 1, at_s=NOON_S - 60 * DAY_S))
    await ledger.settle(over("old", posted(1, 1000)))
    await ledger.admit(ask("a", 30, at_s=NOON_S + 1))
    await ledger.settle(over("a", posted(1, 20)))
    await ledger.admit(ask("b", 30, at_s=NOON_S + 2))
    limit = 2000
    await ledger.declare_keys([key(limit=limit, period=period)])
    spent = 20 + (1000 if period is Period.TOTAL else 0)
    assert await stand(ledger, now_s=NOON_S + 3) == (spent, 30)
    room = limit - spent - 30
    assert isinstance(await ledger.admit(ask("c", room + 1, revision=2, at_s=NOON_S + 3)), Refused)
    assert isinstance(await ledger.admit(ask("c", room, revision=2, at_s=NOON_S + 3)), Admitted)
    assert await ledger.settle(over("b", posted(1, 25)))
    assert await stand(ledger, now_s=NOON_S + 3) == (spent + 25, room)


async def test_a_budget_may_change_its_period_between_hold_and_settlement(ledger: Ledger) -> None:
    """Both periods are right afterwards, whichever was asked for first."""
    await ledger.declare_keys([key(limit=100, period=Period.HOUR)])
    await ledger.admit(ask("a", 30))
    await ledger.declare_keys([key(limit=100, period=Period.MONTH)])
    await ledger.admit(ask("b", 30, revision=2))
    await ledger.settle(over("a", posted(1, 7)))
    assert await stand(ledger) == (7, 30)
    await ledger.declare_keys([key(limit=100, period=Period.HOUR)])
    await ledger.settle(over("b", voided(1)))
    assert await stand(ledger) == (7, 0)
    assert await stand(ledger, now_s=NOON_S + HOUR_S) == (0, 0)


async def test_keys_do_not_share_their_money(ledger: Ledger) -> None:
    """One key's spending is nothing to another."""
    await ledger.declare_keys([key("a", 100), key("b", 100)])
    await ledger.admit(ask("r", 100, key_name="a"))
    assert isinstance(await ledger.admit(ask("s", 100, key_name="b")), Admitted)
    assert await stand(ledger, "a") == await stand(ledger, "b") == (0, 100)


async def test_an_unknown_cost_is_null_and_never_nothing(ledger: Ledger) -> None:
    """Tokens without a price are booked as unknown and counted."""
    await ledger.declare_keys([key(limit=None)])
    await ledger.admit(ask("r", attempts=[start(1, 0, is_priced=False)]))
    await ledger.settle(over("r", posted(1, None)))
    (row,) = await ledger.find_request("r")
    assert (row.cost_nano_usd, row.cost_source) == (None, CostSource.UNKNOWN)


async def test_what_the_dead_left_is_posted_once_and_in_full(house: House) -> None:
    """Several survivors at once resolve a killed process's holds exactly once, and never their own."""
    dead, first, second = [await house.open() for _ in range(3)]
    await first.declare_keys([key(limit=1_000), key("free", limit=None)])
    for number in range(3):
        await dead.admit(ask(f"dead-{number}", 10))
    await dead.admit(ask("unpriced", key_name="free", attempts=[start(1, 0, is_priced=False)]))
    await dead.settle(over("dead-0", posted(1, 1)))
    await first.admit(ask("first", 100))
    await second.admit(ask("second", 100))
    assert await first.resolve_dead_owners(NOON_S) == 0

    await house.kill(dead)
    assert sum(await asyncio.gather(first.resolve_dead_owners(NOON_S), second.resolve_dead_owners(NOON_S))) == 3
    assert await first.resolve_dead_owners(NOON_S) == 0
    assert await stand(second) == (21, 200)
    (row,) = await second.find_request("dead-1")
    assert (row.state, row.cost_nano_usd, row.cost_source) == (AttemptState.POSTED, 10, CostSource.HELD)
    assert (row.error, row.latency_ms, row.status) == ("owner_died", None, None)
    (row,) = await second.find_request("unpriced")
    assert (row.cost_nano_usd, row.cost_source) == (None, CostSource.UNKNOWN)
    assert await first.settle(over("first", posted(1, 1)))


async def test_a_closed_ledger_leaves_its_holds_to_the_others(house: House) -> None:
    """Closing is a death like any other for what is still pending."""
    closing, staying = await house.open(), await house.open()
    await closing.declare_keys([key()])
    await closing.admit(ask("r", 10))
    await closing.close()
    await closing.close()
    assert await staying.resolve_dead_owners(NOON_S) == 1
    assert await stand(staying) == (10, 0)


async def test_owners_see_each_other_at_once(house: House) -> None:
    """What one process has written, another decides by."""
    first, second = await house.open(), await house.open()
    await first.declare_keys([key(limit=100)])
    await first.admit(ask("r", 60))
    assert isinstance(await second.admit(ask("s", 41)), Refused)
    assert await second.settle(over("r", posted(1, 10)))
    assert not await first.settle(over("r", posted(1, 10)))
    await second.revoke_key("app")
    assert await first.admit(ask("t", 1, revision=2)) == KeyGone(is_stale=False)


async def test_a_closed_ledger_says_so(ledger: Ledger) -> None:
    """Nothing is answered from books that are closed."""
    await ledger.close()
    for question in (
        ledger.admit(ask("r")),
        ledger.settle(over("r", posted(1, 1))),
        ledger.find_key("digest"),
        ledger.find_request("r"),
        ledger.resolve_dead_owners(NOON_S),
    ):
        with pytest.raises(LedgerUnavailable, match="closed"):
            await question
