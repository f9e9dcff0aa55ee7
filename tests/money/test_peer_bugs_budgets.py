"""Where other gateways' budgets overshot or blocked wrongly, played here; `peer_bugs.txt` says whose bug each is."""

from __future__ import annotations

import asyncio
import itertools
from decimal import Decimal

from proxy.clock import ManualClock
from proxy.ledger.memory import MemoryLedger
from proxy.ledger.records import Admitted
from proxy.pricing import Bounds, Prices, PriceTier, worst_case
from tests.faults import client
from tests.faults.modes import mode
from tests.faults.replies import ok, ok_openrouter
from tests.ledger.entries import NOON_S, ask, key, stand
from tests.money.stage import IN, OUT, POOR, RICH, UNLIMITED, Stage

CENTS_45 = 450_000_000
"""0.45 USD."""


async def test_a_free_model_opens_no_way_to_a_dear_one(played: Stage) -> None:
    """The budget is asked about every target that may answer: the paid fallback never bills what the key has not."""
    played.up.replace_script([mode("status_502"), ok()])
    answer = await played.ask("gratis", key=POOR, max_tokens=1_000)
    budget = await played.budget("poor")
    assert budget.posted_nano_usd <= budget.limit_nano_usd
    for row in await played.rows(answer):
        assert row.cost_nano_usd is not None
        assert row.cost_nano_usd <= row.hold_nano_usd <= budget.limit_nano_usd


async def test_a_free_model_answers_whatever_is_spent(played: Stage) -> None:
    """What costs nothing is served to a key that cannot pay for the fallback behind it."""
    answer = await played.ask("gratis", key=POOR, max_tokens=7_000)
    assert answer.status == 200
    (row,) = await played.rows(answer)
    assert (row.provider, row.cost_nano_usd) == ("free", 0)


async def test_a_long_prompt_is_held_at_its_long_price() -> None:
    """Five prompts of 300,000 tokens at once on 0.45 USD: each holds its tier's price, so only what fits comes in."""
    long = PriceTier(200_000, Prices(Decimal("0.6"), Decimal("2.4")))
    prices = Prices(Decimal("0.3"), Decimal("1.2"), tiers=(long,))
    hold = worst_case(Bounds(300_000, 1_000), prices)
    assert hold == 300_000 * 600 + 1_000 * 2_400
    ledger = MemoryLedger(clock=ManualClock(NOON_S))
    await ledger.declare_keys([key(limit=CENTS_45)])
    answers = await asyncio.gather(*(ledger.admit(ask(f"r{number}", hold)) for number in range(5)))
    assert sum(isinstance(answer, Admitted) for answer in answers) == CENTS_45 // hold == 2
    assert await stand(ledger) == (0, 2 * hold)


async def test_a_key_without_a_budget_is_never_refused_for_money(played: Stage) -> None:
    """Not while another key has none left, and not however large its own requests are."""
    played.up.replace_script([ok(4_000)])
    spent = [await played.ask("m", key=POOR, max_tokens=1_000) for _ in range(2)]
    assert [answer.status for answer in spent] == [200, 402]
    answers = await asyncio.gather(*(played.ask("m", key=UNLIMITED, max_tokens=7_000) for _ in range(10)))
    assert {answer.status for answer in answers} == {200}


async def test_both_surfaces_draw_on_one_budget(played: Stage) -> None:
    """What `/v1` has spent is not there for `/api/v1`, nor the other way round: in the end both refuse."""
    played.up.replace_script([ok(150)])
    paths = itertools.cycle(("/v1/chat/completions", "/api/v1/chat/completions"))
    answers = [await played.ask("m", key=POOR, path=next(paths), max_tokens=200) for _ in range(16)]
    served = answers[:13]  # 13 x (7 x 1,000 + 150 x 10,000) leave less of 20,000,000 than another answer needs
    assert [answer.status for answer in answers] == [200] * 13 + [402] * 3
    rows = [row for answer in served for row in await played.rows(answer)]
    assert (await played.budget("poor")).posted_nano_usd == sum(row.cost_nano_usd or 0 for row in rows)


async def test_a_huge_cap_holds_nothing(played: Stage) -> None:
    """999,999,999 output tokens, or more than the model has room for, take no room from others: they are refused."""
    for cap in (999_999_999, 10_000_000, 8_001):
        assert (await played.ask("m", max_tokens=cap)).status == 400
    budget = await played.budget("app")
    assert (budget.held_nano_usd, budget.posted_nano_usd) == (0, 0)
    assert not await played.gateway.rows()
    assert not played.up.exchanges


async def test_the_rich_are_held_too(played: Stage) -> None:
    """A million dollars left is no reason to skip the hold, or a burst would pass unchecked."""
    payload = client.chat("faulty/hang_before_headers", max_tokens=1_000, stream=True)
    async with client.call(played.gateway.url, payload, key=RICH) as reply:
        await played.up.received()
        assert (await played.budget("rich")).held_nano_usd >= 1_000 * OUT
        await reply.leave()
    await played.gateway.settled_rows()
    assert (await played.budget("rich")).held_nano_usd == 0


async def test_an_answer_dearer_than_its_hold_is_booked_and_ends_the_budget(played: Stage) -> None:
    """A provider that passes its cap: the truth is posted and marked, what is left is 0 and not less, then 402."""
    played.up.replace_script([ok(4_000)])
    answer = await played.ask("m", key=POOR, max_tokens=100)
    (row,) = await played.rows(answer)
    assert (row.usage.output_tokens, row.is_overrun) == (4_000, True)
    assert row.cost_nano_usd == row.usage.input_tokens * IN + 4_000 * OUT > row.hold_nano_usd
    refused = await played.ask("m", key=POOR, max_tokens=100)
    assert (refused.status, refused.error["metadata"]["left"]) == (402, "0.000000000")
    assert len(played.up.exchanges) == 1


async def test_refusals_spend_nothing(played: Stage) -> None:
    """Twenty requests that do not fit leave the budget as it was, and one that fits is still let in."""
    before = await played.budget("poor")
    refused = await asyncio.gather(*(played.ask("faulty/ok", key=POOR, n=100, max_tokens=4_000) for _ in range(20)))
    assert {answer.status for answer in refused} == {402}
    assert await played.budget("poor") == before
    assert not played.up.exchanges
    assert (await played.ask("m", key=POOR, max_tokens=100)).status == 200


async def test_after_any_mix_of_endings_the_counters_are_the_rows(played: Stage) -> None:
    """Answers, failures, cuts, refusals and clients that leave: nothing stays held, spent is the sum of the rows."""
    names = ["ok", "status_500", "close_mid_stream", "error_event_openrouter", "choices_null", "usage_missing"]
    asking = [
        played.ask(f"faulty/{name}", stream=is_stream, max_tokens=200)
        for name in (*names, "rate_limited", "reset_before_headers", "unprocessable")
        for is_stream in (True, False)
    ]
    await asyncio.gather(*asking, *(leave(played) for _ in range(5)))
    rows = await played.gateway.settled_rows(len(asking) + 5)
    budget = await played.budget("app")
    assert budget.held_nano_usd == 0
    assert budget.posted_nano_usd == sum(row.cost_nano_usd or 0 for row in rows) > 0


async def leave(played: Stage) -> None:
    """Ask for a stream that stalls, and go."""
    payload = client.chat("faulty/hang_mid_stream", stream=True, max_tokens=200)
    async with client.call(played.gateway.url, payload, key=played.gateway.key) as reply:
        await anext(aiter(reply.events()))
        await reply.leave()


async def test_an_amount_above_the_estimate_is_still_booked(played: Stage) -> None:
    """The provider says a dollar where tokens come to less than a cent: a dollar is what it will charge."""
    played.up.replace_script([ok_openrouter(1.0)])
    (row,) = await played.rows(await played.ask("m", max_tokens=100))
    assert (row.cost_nano_usd, row.cost_source, row.is_overrun) == (1_000_000_000, "reported", True)
    assert "reported_cost_diverges" in row.usage.anomalies
    assert (await played.budget("app")).posted_nano_usd == 1_000_000_000
