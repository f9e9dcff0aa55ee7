"""What every ledger learns late: of dead owners' attempts, from providers asked afterwards, from those given up."""

from __future__ import annotations

import pytest

from proxy.ledger.protocol import Ledger
from proxy.ledger.records import AttemptEnd, AttemptRow, AttemptState, UsageQuery
from proxy.ledger.resolution import Correction, Progress, Reason, Resolved, Truth
from proxy.policy.limits import Limits, Measure, Rate
from proxy.policy.lookups import HELD_TRIES, LOOKUP_AFTER_S, TRIES_MAX
from proxy.usage import CostSource, Usage
from tests.ledger.entries import NOON_S, ask, key, over, posted, stand, start, voided
from tests.ledger.houses import House

USAGE = Usage(30, 9, cached_tokens=5, cost_nano_usd=3)


def progress(request_id: str = "r", *, generation_id: str | None = "gen-9", cost: int | None = 4) -> Progress:
    """Word of an attempt whose provider can be asked when there is an id."""
    return Progress(request_id, 1, generation_id, generation_id is not None, cost, 30, 2)


def truth(seq: int, cost: int | None = 3, *, reason: Reason = Reason.LOOKUP, at_s: float = NOON_S) -> Truth:
    """What a provider says."""
    return Truth(seq, cost, CostSource.REPORTED, USAGE, reason, at_s)


def estimated(cost: int = 6) -> AttemptEnd:
    """An end that its provider has still to be asked about."""
    return posted(1, cost, error="client_left")._replace(cost_source=CostSource.ESTIMATED, is_lookup_due=True)


async def row_of(ledger: Ledger, request_id: str = "r") -> AttemptRow:
    """The one attempt of a request."""
    (row,) = await ledger.find_request(request_id)
    return row


async def leave(house: House, *words: Progress, hold: int = 10, is_priced: bool = True) -> Ledger:
    """Let a process die in the midst of request `r`, of which it left word, and give a survivor that has looked."""
    dying, survivor = await house.open(), await house.open()
    await survivor.declare_keys([key(limit=1_000 if is_priced else None)])
    await dying.admit(ask("r", attempts=[start(1, hold, is_priced=is_priced)]))
    await dying.resolution.note_progress(words)
    await house.kill(dying)
    assert await survivor.resolve_dead_owners(NOON_S) == 1
    assert await survivor.resolve_dead_owners(NOON_S) == 0
    return survivor


async def miss(ledger: Ledger, times: int, *, from_s: float = NOON_S) -> list[bool]:
    """Ask in vain so many times, each at its moment."""
    told = []
    for after_s in LOOKUP_AFTER_S[:times]:
        assert not await ledger.resolution.claim_lookups(from_s + after_s - 0.1, count_max=9)
        (lookup,) = await ledger.resolution.claim_lookups(from_s + after_s, count_max=9)
        told.append(await ledger.resolution.miss_lookup(lookup, from_s + after_s))
    return told


async def test_what_can_be_asked_is_unresolved_and_still_held(house: House) -> None:
    """Nothing is pending, the hold counts, and nobody says what it cost."""
    ledger = await leave(house, progress())
    row = await row_of(ledger)
    assert (row.state, row.error, row.generation_id) == (AttemptState.UNRESOLVED, "owner_died", "gen-9")
    assert (row.cost_nano_usd, row.cost_source) == (None, None)
    assert await stand(ledger) == (0, 10)
    (total,) = await ledger.sum_usage(UsageQuery())
    assert (total.held_nano_usd, total.cost_nano_usd) == (10, 0)


async def test_the_provider_s_word_resolves_it(house: House) -> None:
    """Booked as reported, with its tokens; nothing was booked before, so nothing is corrected."""
    ledger = await leave(house, progress())
    (lookup,) = await ledger.resolution.claim_lookups(NOON_S + 1, count_max=9)
    assert lookup[:4] == (1, "r", 1, "sim")
    assert (lookup.generation_id, lookup.hold_nano_usd, lookup.tries, lookup.is_unresolved) == ("gen-9", 10, 1, True)
    assert await ledger.resolution.correct(truth(lookup.attempt_seq)) == Resolved(None)
    row = await row_of(ledger)
    assert (row.state, row.cost_nano_usd, row.cost_source) == (AttemptState.POSTED, 3, CostSource.REPORTED)
    assert row.usage == USAGE
    assert await stand(ledger) == (3, 0)
    assert not await ledger.resolution.claim_lookups(NOON_S + 1e6, count_max=9)


@pytest.mark.parametrize(
    ("cost", "booked"),
    [(4, (4, CostSource.ESTIMATED)), (99, (10, CostSource.ESTIMATED)), (None, (10, CostSource.HELD))],
)
async def test_a_provider_that_says_nothing_in_time(
    house: House, cost: int | None, booked: tuple[int, CostSource]
) -> None:
    """After the first minute what is known is booked, never above the hold; a day later nobody asks any more."""
    ledger = await leave(house, progress(cost=cost))
    assert await miss(ledger, HELD_TRIES) == [False] * (HELD_TRIES - 1) + [True]
    row = await row_of(ledger)
    assert (row.state, row.cost_nano_usd, row.cost_source) == (AttemptState.POSTED, *booked)
    assert (row.usage.input_tokens, row.usage.output_tokens) == (30, 2)
    assert await stand(ledger) == (booked[0], 0)


async def test_a_word_after_the_first_minute_corrects(house: House) -> None:
    """What was booked meanwhile becomes the truth, and the journal says from what."""
    ledger = await leave(house, progress())
    await miss(ledger, HELD_TRIES)
    (lookup,) = await ledger.resolution.claim_lookups(NOON_S + LOOKUP_AFTER_S[HELD_TRIES], count_max=9)
    assert not lookup.is_unresolved
    correction = Correction(4, CostSource.ESTIMATED, -1, CostSource.REPORTED, Reason.LOOKUP)
    assert await ledger.resolution.correct(truth(lookup.attempt_seq)) == Resolved(correction)
    assert await stand(ledger) == (3, 0)


async def test_after_a_day_nobody_asks_any_more(ledger: Ledger) -> None:
    """Every try has its moment, the last one ends it."""
    await ledger.declare_keys([key()])
    await ledger.admit(ask("r"))
    await ledger.settle(over("r", estimated()))
    assert await miss(ledger, TRIES_MAX) == [False] * TRIES_MAX
    assert not await ledger.resolution.claim_lookups(NOON_S + 1e9, count_max=9)
    assert (await row_of(ledger)).cost_nano_usd == 6


@pytest.mark.parametrize("tries", [0, TRIES_MAX - 1])
async def test_a_claimed_look_up_is_nobody_else_s(ledger: Ledger, tries: int) -> None:
    """Until its next time; the last one too comes back when whoever took it is never heard of again."""
    await ledger.declare_keys([key()])
    for name in ("r", "s"):
        await ledger.admit(ask(name))
        await ledger.settle(over(name, estimated()))
    for after_s in LOOKUP_AFTER_S[:tries]:
        await ledger.resolution.claim_lookups(NOON_S + after_s, count_max=9)
    now_s = NOON_S + LOOKUP_AFTER_S[tries]
    (first,) = await ledger.resolution.claim_lookups(now_s, count_max=1)
    (second,) = await ledger.resolution.claim_lookups(now_s, count_max=9)
    assert [first.request_id, second.request_id] == ["r", "s"]
    assert first.tries == tries + 1
    assert not await ledger.resolution.claim_lookups(now_s, count_max=9)
    again = await ledger.resolution.claim_lookups(now_s + 60, count_max=9)
    assert [lookup.tries for lookup in again] == [min(tries + 2, TRIES_MAX)] * 2


async def test_word_without_an_id_is_an_estimate(house: House) -> None:
    """Nobody can be asked: how far it had come is booked at once."""
    ledger = await leave(house, progress(generation_id=None))
    row = await row_of(ledger)
    assert (row.state, row.cost_nano_usd, row.cost_source) == (AttemptState.POSTED, 4, CostSource.ESTIMATED)
    assert (row.error, row.usage.output_tokens) == ("owner_died", 2)
    assert await stand(ledger) == (4, 0)


@pytest.mark.parametrize("words", [[], [progress(generation_id=None, cost=None)], [progress("other")]])
async def test_without_a_word_all_that_was_held_is_booked(house: House, words: list[Progress]) -> None:
    """Neither an id nor a count: the most it can have cost."""
    ledger = await leave(house, *words)
    row = await row_of(ledger)
    assert (row.cost_nano_usd, row.cost_source) == (10, CostSource.HELD)


async def test_an_attempt_without_a_price_stays_unknown(house: House) -> None:
    """Its estimate would be no figure; the provider's own word is one."""
    ledger = await leave(house, progress(), hold=0, is_priced=False)
    await miss(ledger, HELD_TRIES)
    row = await row_of(ledger)
    assert (row.cost_nano_usd, row.cost_source) == (None, CostSource.UNKNOWN)
    correction = Correction(None, CostSource.UNKNOWN, 3, CostSource.REPORTED, Reason.LOOKUP)
    assert await ledger.resolution.correct(truth(row.seq)) == Resolved(correction)
    assert (await row_of(ledger)).is_overrun


async def test_an_idle_process_takes_back_its_word(house: House) -> None:
    """The last word counts, also when it is that nothing is open."""
    ledger = await house.open()
    await ledger.declare_keys([key()])
    await ledger.admit(ask("r"))
    await ledger.resolution.note_progress([progress()])
    await ledger.resolution.note_progress([])
    await ledger.resolution.note_progress([])
    await house.kill(ledger)
    survivor = await house.open()
    await survivor.resolve_dead_owners(NOON_S)
    assert (await row_of(survivor)).cost_source is CostSource.HELD


async def test_an_estimate_is_corrected_once(ledger: Ledger) -> None:
    """Row, balance and journal change together; the same word again changes nothing."""
    await ledger.declare_keys([key()])
    await ledger.admit(ask("r"))
    assert await ledger.settle(over("r", estimated()))
    assert await stand(ledger) == (6, 0)
    (lookup,) = await ledger.resolution.claim_lookups(NOON_S + 1, count_max=9)
    correction = Correction(6, CostSource.ESTIMATED, -3, CostSource.REPORTED, Reason.LOOKUP)
    assert await ledger.resolution.correct(truth(lookup.attempt_seq)) == Resolved(correction)
    assert await ledger.resolution.correct(truth(lookup.attempt_seq, 8)) is None
    row = await row_of(ledger)
    assert (row.cost_nano_usd, row.cost_source, row.error) == (3, CostSource.REPORTED, "client_left")
    assert await stand(ledger) == (3, 0)
    assert not await ledger.settle(over("r", posted(1, 9)))


async def test_a_truth_above_the_hold_is_an_overrun(ledger: Ledger) -> None:
    """Booked as it is, and flagged."""
    await ledger.declare_keys([key()])
    await ledger.admit(ask("r"))
    await ledger.settle(over("r", estimated()))
    await ledger.resolution.correct(truth(1, 11))
    assert (await row_of(ledger)).is_overrun
    (total,) = await ledger.sum_usage(UsageQuery())
    assert (total.overruns, total.cost_nano_usd) == (1, 11)


async def test_a_charge_for_what_was_thought_free(ledger: Ledger) -> None:
    """A voided attempt that was charged for is posted after all; one that was not stays as it is."""
    await ledger.declare_keys([key()])
    for name in ("r", "s"):
        await ledger.admit(ask(name))
        await ledger.settle(over(name, voided()._replace(generation_id=name, is_lookup_due=True)))
    free, charged = [(await row_of(ledger, name)).seq for name in ("r", "s")]
    assert await ledger.resolution.correct(truth(free, 0)) is None
    correction = Correction(0, None, 3, CostSource.REPORTED, Reason.LOOKUP)
    assert await ledger.resolution.correct(truth(charged)) == Resolved(correction)
    assert [(await row_of(ledger, name)).state for name in ("r", "s")] == ["voided", "posted"]
    assert await stand(ledger) == (3, 0)
    assert not await ledger.resolution.claim_lookups(NOON_S + 1, count_max=9)


async def test_what_is_open_or_unknown_is_not_corrected(ledger: Ledger) -> None:
    """A pending attempt has its settlement to come; one that is not there has nothing."""
    await ledger.declare_keys([key()])
    await ledger.admit(ask("r"))
    assert await ledger.resolution.correct(truth(1)) is None
    assert await ledger.resolution.correct(truth(7)) is None
    assert await stand(ledger) == (0, 10)


async def test_without_an_id_nobody_is_asked(ledger: Ledger) -> None:
    """The wish alone is no question."""
    await ledger.declare_keys([key()])
    await ledger.admit(ask("r"))
    await ledger.settle(over("r", estimated()._replace(generation_id=None)))
    assert not await ledger.resolution.claim_lookups(NOON_S + 1e6, count_max=9)


@pytest.mark.parametrize("words", [[], [progress()], [progress(generation_id=None)]])
async def test_who_was_given_up_and_settles_is_believed(house: House, words: list[Progress]) -> None:
    """A process taken for dead that settles after all: its own end is the truth, and comes once."""
    ledger = await leave(house, *words)
    assert await ledger.settle(over("r", posted(1, 2)))
    row = await row_of(ledger)
    assert (row.state, row.cost_nano_usd, row.cost_source) == (AttemptState.POSTED, 2, CostSource.COMPUTED)
    assert row.error is None
    assert await stand(ledger) == (2, 0)
    assert not await ledger.settle(over("r", posted(1, 7)))
    assert not await ledger.resolution.claim_lookups(NOON_S + 1e6, count_max=9)


async def test_who_was_given_up_and_cost_nothing(house: House) -> None:
    """Its end may be that nothing was charged; that is a truth as well."""
    for name, words in (("r", [progress()]), ("s", [])):
        house_ledger = await house.open()
        await house_ledger.declare_keys([key()])
        await house_ledger.admit(ask(name))
        await house_ledger.resolution.note_progress([word._replace(request_id=name) for word in words])
        await house.kill(house_ledger)
    ledger = await house.open()
    assert await ledger.resolve_dead_owners(NOON_S) == 2
    assert await stand(ledger) == (10, 10)
    for name in ("r", "s"):
        assert await ledger.settle(over(name, voided()))
        assert (await row_of(ledger, name)).state is AttemptState.VOIDED
    assert await stand(ledger) == (0, 0)


async def test_a_worse_word_is_not_taken(house: House) -> None:
    """Behind the provider's amount, an estimate is no news."""
    ledger = await leave(house, progress())
    row = await row_of(ledger)
    await ledger.resolution.correct(truth(row.seq))
    assert not await ledger.settle(over("r", estimated()))
    assert (await row_of(ledger)).cost_nano_usd == 3


async def test_a_correction_counts_in_the_window_of_its_attempt(ledger: Ledger) -> None:
    """A truth told tomorrow changes what was spent today."""
    await ledger.declare_keys([key()])
    await ledger.admit(ask("r"))
    await ledger.settle(over("r", estimated()))
    await ledger.resolution.correct(truth(1, at_s=NOON_S + 86_400))
    assert await stand(ledger) == (3, 0)
    assert await stand(ledger, now_s=NOON_S + 86_400) == (0, 0)


async def test_rates_of_tokens_learn_the_true_count(house: House) -> None:
    """Unresolved, what was reserved still counts; then the provider's count does."""
    dying, ledger = await house.open(), await house.open()
    await ledger.declare_keys([key(limit=None)])
    await ledger.set_limits("key:app", Limits(rates=(Rate(Measure.TOKENS, 100, 60),)))
    (known,) = await ledger.list_keys()
    opening = start(1, 10)._replace(tokens=90)
    await dying.admit(ask("r", revision=known.revision, attempts=[opening]))
    await dying.resolution.note_progress([progress()])
    await house.kill(dying)
    await ledger.resolve_dead_owners(NOON_S)

    async def room(tokens: int) -> bool:
        wish = ask("s", revision=known.revision, attempts=[start(1, 10)._replace(tokens=tokens)])
        return hasattr(await ledger.admit(wish), "request_id")

    assert not await room(11)
    await ledger.resolution.correct(truth(1))
    assert not await room(62)
    assert await room(61)
