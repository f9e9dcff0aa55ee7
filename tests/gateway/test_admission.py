"""How a plan gets past the budgets: cheaply, tokenized, clamped, or refused with the figures."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from proxy.errors import PolicyRefusal, PriceUnknown, RequestError, Unauthenticated
from proxy.gateway.admission import (
    ADMISSION_TRIES_MAX,
    KeyChanged,
    admit,
    bound_cheaply,
    cap_bounds,
    refusal,
)
from proxy.gateway.refusals import HELD_RETRY_AFTER_S
from proxy.ledger.records import Admitted, KeyGone, Refused
from proxy.money import format_usd
from proxy.pricing import ModelFacts
from proxy.routing.holds import OUTPUT_TOKENS_FLOOR, hold_of
from proxy.routing.plan import Plan
from proxy.tokens import bound_input
from tests.gateway.stage import FACTS, PRICES
from tests.routing.made import plan_of, target

BODY = {"messages": [{"role": "user", "content": "antidisestablishmentarianism " * 40}], "max_tokens": 1000}
BODY_BYTES = 1_200
RESETS_AT_S = 1_795_046_400.0


class Desk:
    """A ledger that gives prepared answers, the last one again and again, and keeps what it was asked."""

    def __init__(self, *answers: Admitted | Refused | KeyGone) -> None:
        self.asked: list[Plan] = []
        self._answers = list(answers) or [Admitted("req")]

    async def ask(self, plan: Plan) -> Admitted | Refused | KeyGone:
        self.asked.append(plan)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    @property
    def holds(self) -> list[int]:
        """The holds asked for, in order."""
        return [hold_of(plan) for plan in self.asked]


def left(nano_usd: int, *, held: int = 0, resets_at_s: float | None = RESETS_AT_S) -> Refused:
    """Refuse with so much left of a dollar."""
    return Refused("key:app", 10**9, nano_usd, 10**9, held, resets_at_s)


def a_plan(*targets: Any, **more: Any) -> Plan:
    """Plan a request of 1,000 output tokens for a budgeted key."""
    fields = {"body": BODY, "has_budget": True, **more}
    return plan_of(*(targets or (target("one/m", facts=FACTS),)), **fields)


async def get_in(plan: Plan, desk: Desk) -> tuple[Plan, Admitted]:
    """Ask for admission with the cheap bounds, as an exchange does."""
    return await admit(plan, desk.ask, input_bounds=bound_cheaply(plan, BODY_BYTES))


async def refused(plan: Plan, desk: Desk) -> RequestError:
    """Ask for admission and be refused."""
    with pytest.raises(RequestError) as caught:
        await get_in(plan, desk)
    return caught.value


async def test_what_fits_is_asked_once_by_its_bytes() -> None:
    """No tokenizer runs and nothing is clamped."""
    desk = Desk()
    fitted, admitted = await get_in(a_plan(), desk)
    assert admitted == Admitted("req")
    assert desk.asked == [fitted]
    (candidate,) = fitted.candidates
    assert candidate.input_tokens_max >= BODY_BYTES
    assert candidate.output_tokens_max is None
    assert candidate.worst_case_nano_usd == (candidate.input_tokens_max + 2 * 1000) * 1000


async def test_what_the_bytes_overrate_is_tokenized_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second ask has the tokenizer's bound and still nothing is clamped."""
    threads: list[str] = []

    def bound(body: dict[str, Any], model: str) -> int:
        threads.append(threading.current_thread().name)
        return bound_input(body, model)

    monkeypatch.setattr("proxy.gateway.admission.bound_input", bound)
    tight = (bound_input(BODY, "m") + 2 * 1000) * 1000
    desk = Desk(left(tight), Admitted("req"))
    fitted, _ = await get_in(a_plan(), desk)
    assert desk.holds == [desk.holds[0], tight]
    assert desk.holds[0] > tight
    assert fitted.candidates[0].output_tokens_max is None
    assert len(threads) == 1
    assert threading.current_thread().name not in threads


async def test_what_still_does_not_fit_is_clamped_to_the_money_left() -> None:
    """One nano-dollar less than the whole buys a shorter answer."""
    room = (bound_input(BODY, "m") + 2 * 1000) * 1000 - 1
    desk = Desk(left(room), Admitted("req"))
    fitted, _ = await get_in(a_plan(), desk)
    assert fitted.candidates[0].output_tokens_max == 999
    assert hold_of(fitted) <= room


async def test_a_clamp_is_tried_again_while_others_take_the_money() -> None:
    """Each time for less, a few times; then the newest refusal is told."""
    rooms = [2_900_000, 2_500_000, 2_000_000, 1_500_000]
    desk = Desk(*(left(room) for room in rooms))
    error = await refused(a_plan(), desk)
    assert len(desk.asked) == 1 + ADMISSION_TRIES_MAX
    assert all(hold <= room for hold, room in zip(desk.holds[1:], rooms[:-1], strict=True))
    assert isinstance(error, PolicyRefusal)
    assert error.metadata["left"] == format_usd(rooms[-1])


async def test_a_budget_only_held_asks_for_a_little_patience() -> None:
    """What stands in the way are holds of others, which end by themselves: Retry-After, and no word against trying."""
    error = await refused(a_plan(), Desk(left(1_000, held=9_000_000)))
    assert (error.status, error.code) == (402, "budget_exceeded")
    assert (error.retry_after_s, error.should_retry) == (HELD_RETRY_AFTER_S, None)


async def test_too_little_for_a_useful_answer_is_refused_without_another_ask() -> None:
    """With the figures of the ledger's refusal, and what the cheapest target would need."""
    least = (bound_input(BODY, "m") + 2 * OUTPUT_TOKENS_FLOOR) * 1000
    desk = Desk(left(least - 1, held=5_000))
    error = await refused(a_plan(), desk)
    assert len(desk.asked) == 1
    assert (error.status, error.code, error.should_retry) == (402, "budget_exceeded", False)
    assert error.metadata == {
        "needed": format_usd((bound_input(BODY, "m") + 2 * 1000) * 1000),
        "left": format_usd(least - 1),
        "limit": "1.000000000",
        "held": "0.000005000",
        "resets_at": "2026-11-19T00:00:00Z",
        "scope": "key:app",
    }
    assert "$0.000005000 of it is held" in error.message
    assert "It starts anew at 2026-11-19T00:00:00Z." in error.message
    assert await get_in(a_plan(), Desk(left(least), Admitted("req")))


async def test_a_budget_that_never_starts_anew_names_another_remedy() -> None:
    """There is no time to wait for."""
    error = await refused(a_plan(), Desk(left(0, resets_at_s=None)))
    assert error.metadata["resets_at"] is None
    assert error.message.endswith("Ask the operator to raise it.")
    assert "is held" not in error.message


async def test_a_ceiling_too_low_for_the_bytes_is_tokenized_before_the_ledger_is_asked() -> None:
    """One ask is enough when the tokens fit."""
    tight = (bound_input(BODY, "m") + 2 * 1000) * 1000
    desk = Desk()
    fitted, _ = await get_in(a_plan(max_cost_nano_usd=tight, has_budget=False), desk)
    assert desk.holds == [tight]
    assert fitted.candidates[0].output_tokens_max is None


async def test_a_ceiling_clamps_as_a_budget_does() -> None:
    """They are one rule with two limits: the lower one counts."""
    desk = Desk(left(2_000_000), Admitted("req"))
    fitted, _ = await get_in(a_plan(max_cost_nano_usd=2_500_000), desk)
    assert [hold <= room for hold, room in zip(desk.holds, (2_500_000, 2_000_000), strict=True)] == [True, True]
    assert fitted.candidates[0].output_tokens_max is not None


async def test_a_ceiling_too_low_for_any_answer_reaches_no_ledger() -> None:
    """The request's own limit is told, and the budget not blamed."""
    desk = Desk()
    error = await refused(a_plan(max_cost_nano_usd=1_000), desk)
    assert desk.asked == []
    assert (error.status, error.code) == (402, "max_cost_exceeded")
    assert error.metadata["left"] == "0.000001000"
    assert error.metadata["needed"] > error.metadata["left"]


async def test_dear_targets_are_left_out_before_the_request_is_refused() -> None:
    """What the money cannot buy there it may buy elsewhere."""
    dear = target("two/m", facts=ModelFacts(PRICES.__class__(PRICES.input * 1000, PRICES.output * 1000)))
    desk = Desk(left(2_900_000), Admitted("req"))
    fitted, _ = await get_in(a_plan(dear, target("one/m", facts=FACTS)), desk)
    assert [candidate.target.name for candidate in fitted.candidates] == ["one/m"]
    assert [skip.target.name for skip in fitted.skipped] == ["two/m"]


async def test_without_any_price_a_limit_cannot_be_kept() -> None:
    """400 names the targets that lack one, and the ledger is not asked."""
    desk = Desk()
    error = await refused(a_plan(target("one/m"), target("two/m")), desk)
    assert isinstance(error, PriceUnknown)
    assert "one/m, two/m" in error.message
    assert desk.asked == []


async def test_without_a_limit_a_price_is_not_needed() -> None:
    """The hold is nothing, and the attempt will be booked as unknown."""
    desk = Desk()
    fitted, _ = await get_in(a_plan(target("one/m"), has_budget=False), desk)
    assert (hold_of(fitted), len(fitted.candidates)) == (0, 1)


@pytest.mark.parametrize("is_stale", [True, False])
async def test_a_key_that_changed_is_to_be_looked_up_again(*, is_stale: bool) -> None:
    """Even one that is gone: it may live on under another name. Who does not look is told what a stranger is told."""
    error = await refused(a_plan(), Desk(KeyGone(is_stale)))
    assert isinstance(error, KeyChanged | Unauthenticated)
    error = await refused(a_plan(), Desk(left(2_900_000), KeyGone(is_stale)))
    assert isinstance(error, KeyChanged | Unauthenticated)


def test_a_bound_is_capped_at_what_the_model_can_read() -> None:
    """A longer prompt would be refused upstream; the cheap bound itself tells how long it may be."""
    small = target("one/m", facts=ModelFacts(PRICES, context_tokens=100))
    plan = plan_of(small, target("two/m", facts=ModelFacts(PRICES)), body=BODY)
    bounds = bound_cheaply(plan, BODY_BYTES)
    assert bounds[0] == bounds[1] >= BODY_BYTES
    assert cap_bounds(plan, bounds) == [100, bounds[1]]


async def test_what_is_held_is_bound_by_the_context() -> None:
    """Tokens no model reads cost nothing."""
    small = target("one/m", facts=ModelFacts(PRICES, context_tokens=1_100))
    fitted, _ = await get_in(a_plan(small), Desk())
    assert fitted.candidates[0].input_tokens_max == 1_100


def test_a_refusal_without_a_ceiling_left_counts_it_as_nothing() -> None:
    """Never a missing figure."""
    error = refusal(5, None, None)
    assert error.metadata == {"needed": "0.000000005", "left": "0.000000000", "resets_at": None}
