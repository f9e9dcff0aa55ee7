"""Limits of every scope, on both kinds of books: budgets, rates, requests at once, and whom they hold for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from proxy.ledger.protocol import Ledger
from proxy.ledger.records import (
    Admission,
    Admitted,
    AttemptStart,
    BudgetState,
    KeyGone,
    Limited,
    Outcome,
    Refused,
    Unpriced,
)
from proxy.money import Budget, Period
from proxy.policy.limits import NO_LIMITS, Limits, Measure, Quota, Rate
from proxy.policy.scopes import PAYER_TENANT
from proxy.usage import Usage
from tests.ledger.entries import DAY_S, NOON_S, key, onward, over, posted, start, voided

WALL = Limits(budgets=(Budget(100, Period.DAY),))
THREE = Limits(rates=(Rate(Measure.REQUESTS, 3, 60),))
NAMES = {"job": "42"}


def ask(
    request_id: str = "r",
    hold: int = 40,
    *,
    begins: AttemptStart | None = None,
    at_s: float = NOON_S,
    user: str | None = "u",
    **more: object,
) -> Admission:
    """One request of a key with a tenant, a user and a tag."""
    first = begins or start(1, hold)
    given: dict[str, object] = {"key_name": "app", "key_revision": 1, "tenant": "acme", "route": "chat"} | more
    fixed: dict[str, object] = {"app": None, "is_stream": False, "at_s": at_s, "attempts": (first,), "user": user}
    return Admission(request_id, tags=tuple(NAMES.items()), **{**given, **fixed})  # type: ignore[arg-type]  # a test's


async def fill(ledger: Ledger, limits: Mapping[str, Limits]) -> int:
    """Open books with these limits; gives the key's revision."""
    await ledger.declare_keys([key(limit=None, tenant="acme")])
    await ledger.declare_limits(limits)
    found = await ledger.find_key("digest of app")
    assert found is not None
    return found.revision


PLACES = [
    ("key:app", "key:app", WALL),
    ("tenant:acme", "tenant:acme", WALL),
    ("model:chat", "model:chat", WALL),
    ("provider:sim", "provider:sim", WALL),
    ("global", "global", WALL),
    ("global", "user:acme/u", Limits(users=WALL)),
    ("tenant:acme", "tag:acme/job=42", Limits(tags=(("job", WALL),))),
]


@pytest.mark.parametrize(("place", "scope", "limits"), PLACES)
async def test_a_budget_is_a_wall_wherever_it_is_written(
    ledger: Ledger, place: str, scope: str, limits: Limits
) -> None:
    """Held and posted together never pass it, and the refusal names it."""
    await fill(ledger, {})
    await ledger.set_limits(place, limits)
    revision = (await ledger.list_keys())[0].revision
    first = await ledger.admit(ask("a", 40, key_revision=revision))
    second = await ledger.admit(ask("b", 40, key_revision=revision))
    assert first == Admitted("a")
    assert second == Admitted("b")
    refused = await ledger.admit(ask("c", 40, key_revision=revision))
    assert isinstance(refused, Refused)
    assert (refused.scope, refused.left_nano_usd, refused.held_nano_usd) == (scope, 20, 80)
    await ledger.settle(over("a", posted(1, 5)))
    assert await ledger.admit(ask("c", 55, key_revision=revision)) == Admitted("c")
    states = {state.scope: state for state in await ledger.list_budgets(NOON_S)}
    assert states[scope] == BudgetState(scope, "day", 100, 5, 95, 1_795_219_200)


@pytest.mark.parametrize(("place", "scope", "limits"), PLACES)
async def test_a_budget_added_later_counts_what_was_spent_before(
    ledger: Ledger, place: str, scope: str, limits: Limits
) -> None:
    """Its window is summed from the attempts of its scope, and of no other."""
    revision = await fill(ledger, {})
    other = start(1, 40, provider="other")
    others = {"key_name": "other", "tenant": None, "route": "else", "begins": other, "user": None}
    await ledger.declare_keys([key(limit=None, tenant="acme"), key("other", limit=None)])
    await ledger.admit(ask("before", 30, key_revision=revision))
    await ledger.admit(ask("yesterday", 30, key_revision=revision, at_s=NOON_S - DAY_S))
    if place != "global" or scope != "global":
        await ledger.admit(ask("elsewhere", **others)._replace(tags=()))  # type: ignore[arg-type]  # a test's
    await ledger.set_limits(place, limits)
    revision = (await ledger.list_keys())[0].revision
    refused = await ledger.admit(ask("after", 71, key_revision=revision))
    assert isinstance(refused, Refused)
    assert (refused.scope, refused.held_nano_usd) == (scope, 30)


async def test_users_and_tag_values_have_budgets_of_their_own(ledger: Ledger) -> None:
    """One who has spent his keeps nobody else from it."""
    limits = Limits(users=WALL, tags=(("job", Limits((Budget(150, Period.TOTAL),))),))
    revision = await fill(ledger, {"tenant:acme": limits})
    asked = ask("a", 90, key_revision=revision)
    assert isinstance(await ledger.admit(asked), Admitted)
    assert isinstance(await ledger.admit(asked), Refused)
    refused = await ledger.admit(asked._replace(user="other"))
    assert isinstance(refused, Refused)
    assert refused.scope == "tag:acme/job=42"
    assert isinstance(await ledger.admit(asked._replace(user="other", tags=(("job", "43"),))), Admitted)
    assert isinstance(await ledger.admit(asked._replace(user=None, tags=())), Admitted)


async def test_the_tightest_of_several_walls_refuses(ledger: Ledger) -> None:
    """What is left by it fits all others too; a model to go to may be named by any of them."""
    walls = {
        "key:app": Limits((Budget(1_000, Period.DAY), Budget(60, Period.MONTH))),
        "tenant:acme": Limits((Budget(50, Period.HOUR, when_spent="cheap"),)),
        "global": Limits((Budget(70, Period.TOTAL, when_spent="other"),)),
    }
    await fill(ledger, {place: limits for place, limits in walls.items() if place != "key:app"})
    await ledger.set_limits("key:app", walls["key:app"])
    revision = (await ledger.list_keys())[0].revision
    refused = await ledger.admit(ask("a", 80, key_revision=revision))
    assert isinstance(refused, Refused)
    assert (refused.scope, refused.left_nano_usd, refused.when_spent) == ("tenant:acme", 50, "cheap")
    redirected = await ledger.admit(ask("a", 80, key_revision=revision)._replace(is_redirected=True))
    assert isinstance(redirected, Refused)
    assert redirected.when_spent is None
    assert await ledger.admit(ask("a", 50, key_revision=revision)) == Admitted("a")


async def test_a_soft_budget_only_sends_elsewhere(ledger: Ledger) -> None:
    """Spent, it names the model to go to; without one it refuses nobody; the redirected may pass it."""
    soft = Limits((Budget(50, Period.DAY, is_soft=True, when_spent="cheap"), Budget(1, Period.DAY, is_soft=True)))
    revision = await fill(ledger, {"tenant:acme": soft})
    assert isinstance(await ledger.admit(ask("a", 80, key_revision=revision)), Admitted)
    spent = await ledger.admit(ask("b", 1, key_revision=revision))
    assert isinstance(spent, Refused)
    assert (spent.when_spent, spent.is_soft) == ("cheap", True)
    assert isinstance(await ledger.admit(ask("b", 1, key_revision=revision)._replace(is_redirected=True)), Admitted)


async def test_a_wall_lets_nothing_through_whose_price_is_unknown(ledger: Ledger) -> None:
    """Its hold would be 0, so there would be no wall."""
    unpriced = ask("a", begins=start(1, 0, is_priced=False))
    revision = await fill(ledger, {"model:chat": WALL})
    assert await ledger.admit(unpriced._replace(key_revision=revision)) == Unpriced("model:chat")
    await ledger.declare_limits({"model:chat": Limits((Budget(1, Period.DAY, is_soft=True),))})
    assert isinstance(await ledger.admit(unpriced._replace(key_revision=revision + 1)), Admitted)


async def test_a_tenants_own_credential_spends_only_its_own_budgets(ledger: Ledger) -> None:
    """The operator's provider and gateway budgets do not count it, the tenant's does."""
    limits = {"global": Limits((Budget(1, Period.DAY),)), "provider:sim": THREE, "tenant:acme": WALL}
    revision = await fill(ledger, limits)
    own = ask("a", begins=start(1, 60)._replace(payer=PAYER_TENANT), key_revision=revision)
    assert await ledger.admit(own) == Admitted("a")
    refused = await ledger.admit(own)
    assert isinstance(refused, Refused)
    assert refused.scope == "tenant:acme"


async def test_a_changed_limit_makes_every_plan_stale(ledger: Ledger) -> None:
    """A plan may have been made without holds, because nothing limited it."""
    revision = await fill(ledger, {})
    for place in ("key:app", "tenant:acme", "global"):
        await ledger.set_limits(place, WALL)
        assert await ledger.find_limits(place) == WALL
        assert await ledger.admit(ask("a", key_revision=revision)) == KeyGone(is_stale=True)
        revision += 1
        assert (await ledger.list_keys())[0].revision == revision
    await ledger.declare_limits({})
    assert (await ledger.list_keys())[0].revision == revision
    await ledger.set_limits("global", NO_LIMITS)
    assert await ledger.find_limits("global") == NO_LIMITS


async def test_declared_limits_are_what_the_file_says(ledger: Ledger) -> None:
    """Those that left it hold no more; those set otherwise stay; the same again changes nothing."""
    revision = await fill(ledger, {"global": WALL, "tenant:acme": THREE, "model:chat": NO_LIMITS})
    await ledger.declare_limits({"global": WALL, "tenant:acme": THREE})
    await ledger.set_limits("tenant:other", WALL)
    await ledger.declare_limits({"tenant:acme": WALL})
    found = [await ledger.find_limits(place) for place in ("global", "tenant:acme", "tenant:other")]
    assert found == [NO_LIMITS, WALL, WALL]
    assert (await ledger.list_keys())[0].revision == revision + 2


@pytest.mark.parametrize(
    ("place", "is_walled"),
    [("key:app", True), ("tenant:acme", True), ("global", True), ("tenant:other", False), ("model:chat", False)],
)
async def test_a_key_tells_whether_a_wall_holds_for_it(ledger: Ledger, place: str, *, is_walled: bool) -> None:
    """Its own, its tenant's or the gateway's; a model's is known by whoever plans the model."""
    await fill(ledger, {})
    await ledger.set_limits(place, Limits(users=WALL))
    found = await ledger.find_key("digest of app")
    assert found is not None
    assert found.is_walled is is_walled
    assert (await ledger.list_keys())[0].is_walled is is_walled


# ------------------------------------------------------------------------------------------------- rates


@pytest.mark.parametrize(
    ("place", "limits"),
    [
        ("key:app", THREE),
        ("tenant:acme", THREE),
        ("model:chat", THREE),
        ("global", THREE),
        ("provider:sim", THREE),
        ("target:sim/sim/model", THREE),
        ("upstream:sim/2", THREE),
        ("global", Limits(users=THREE)),
        ("key:app", Limits(tags=(("job", THREE),))),
    ],
)
async def test_a_rate_lets_so_many_in_and_no_more(house_ledgers: list[Ledger], place: str, limits: Limits) -> None:
    """From two processes at once, exactly; refused ones are not counted; it slides."""
    first, second = house_ledgers
    await fill(first, {})
    await first.set_limits(place, limits)
    revision = (await first.list_keys())[0].revision
    begins = start(1, 0)._replace(upstream_key="2")
    asks = [ask(f"r{number}", begins=begins, key_revision=revision) for number in range(12)]
    outcomes = await asyncio.gather(*((first, second)[n % 2].admit(one) for n, one in enumerate(asks)))
    assert sum(isinstance(outcome, Admitted) for outcome in outcomes) == 3
    (refused,) = {outcome for outcome in outcomes if isinstance(outcome, Limited)}
    assert (refused.measure, refused.limit, refused.window_s, refused.retry_after_s) == (
        Measure.REQUESTS, 3, 60, 61.0,
    )  # fmt: skip
    later = [await second.admit(asks[0]._replace(at_s=NOON_S + after_s)) for after_s in (30, 60.9, 61)]
    assert [isinstance(outcome, Admitted) for outcome in later] == [False, False, True]


async def test_an_admission_tells_what_a_rate_has_left(ledger: Ledger) -> None:
    """The tightest of each measure."""
    tokens, wide = Rate(Measure.TOKENS, 1_000, 60), Rate(Measure.REQUESTS, 99, 3_600)
    revision = await fill(ledger, {"global": Limits(rates=(*THREE.rates, tokens, wide))})
    admitted = await ledger.admit(ask("a", begins=start(1, 0)._replace(tokens=300), key_revision=revision))
    assert admitted == Admitted("a", (Quota(Measure.REQUESTS, 3, 2, 61.0), Quota(Measure.TOKENS, 1_000, 700, 61.0)))


async def test_a_rate_of_tokens_counts_what_was_used(ledger: Ledger) -> None:
    """What was reserved at first, the true count at the end; a voided attempt none."""
    revision = await fill(
        ledger, {"key:app": NO_LIMITS, "tenant:acme": Limits(rates=(Rate(Measure.TOKENS, 1_000, 60),))}
    )
    begins = start(1, 0)._replace(tokens=600)
    first = ask("a", begins=begins, key_revision=revision)
    assert isinstance(await ledger.admit(first), Admitted)
    refused = await ledger.admit(first)
    assert isinstance(refused, Limited)
    assert refused.measure is Measure.TOKENS
    await ledger.settle(over("a", posted(1, 0, usage=Usage(input_tokens=100, output_tokens=50))))
    admitted = await ledger.admit(first._replace(request_id="b"))
    assert isinstance(admitted, Admitted)
    assert admitted.quotas[0].remaining == 250
    await ledger.settle(over("b", voided(1)))
    admitted = await ledger.admit(first._replace(request_id="c"))
    assert isinstance(admitted, Admitted)
    assert admitted.quotas[0].remaining == 250
    await ledger.settle(over("c", posted(1, None, usage=Usage())))
    admitted = await ledger.admit(first._replace(request_id="d", attempts=(begins._replace(tokens=1),)))
    assert isinstance(admitted, Admitted)
    assert admitted.quotas[0].remaining == 249


async def test_a_next_attempt_counts_upstream_and_not_as_a_request(ledger: Ledger) -> None:
    """The key's rate has let the request in; the second provider's own has room or not."""
    of_key, of_provider = Rate(Measure.REQUESTS, 2, 60), Rate(Measure.REQUESTS, 1, 60)
    limits = {"tenant:acme": Limits(rates=(of_key,)), "provider:b": Limits(rates=(of_provider,))}
    revision = await fill(ledger, limits)
    for request_id in ("one", "two"):
        assert isinstance(await ledger.admit(ask(request_id, 0, key_revision=revision)), Admitted)
    steps: list[Outcome] = [
        await ledger.advance(onward(request_id, voided(1), start(2, 0, provider="b"))) for request_id in ("one", "two")
    ]
    assert isinstance(steps[0], Admitted)
    assert isinstance(steps[1], Limited)
    assert steps[1].scope == "provider:b"
    assert isinstance(await ledger.advance(onward("two", voided(1), start(2, 0, provider="c"))), Admitted)


async def test_an_attempt_for_another_model_is_held_by_that_models_limits(ledger: Ledger) -> None:
    """A request may ask for several: each attempt counts where its own model does, in rates as a request of its own."""
    revision = await fill(ledger, {"model:dear": Limits(WALL.budgets, (Rate(Measure.REQUESTS, 2, 60),), parallel=1)})
    for name, hold, outcome in (("a", 90, Admitted), ("b", 20, Refused), ("c", 1, Admitted), ("d", 1, Limited)):
        admitted = await ledger.admit(ask(name, 500, key_revision=revision))
        assert isinstance(admitted, Admitted)
        answer = await ledger.advance(onward(name, voided(1), start(2, hold)._replace(alias="dear")))
        assert isinstance(answer, outcome)
        await ledger.settle(over(name, posted(2 if outcome is Admitted else 1, hold)))
    (state,) = await ledger.list_budgets(NOON_S)
    assert (state.posted_nano_usd, state.held_nano_usd) == (91, 0)
    rows = await ledger.export(since_s=None, after_seq=0, rows_max=10)
    assert [row.alias for row in rows] == ["chat", "dear", "chat", "chat", "dear", "chat"]
    assert {row.route for row in rows} == {"chat"}


async def test_a_next_attempt_is_held_by_every_wall(ledger: Ledger) -> None:
    """As if the one before it had ended: what that gives back, the next may take."""
    revision = await fill(ledger, {"tenant:acme": WALL, "provider:b": Limits((Budget(50, Period.DAY),))})
    await ledger.admit(ask("r", 90, key_revision=revision))
    refused = await ledger.advance(onward("r", posted(1, 20), start(2, 81, provider="c")))
    assert isinstance(refused, Refused)
    assert (refused.scope, refused.left_nano_usd) == ("tenant:acme", 80)
    refused = await ledger.advance(onward("r", posted(1, 20), start(2, 60, provider="b")))
    assert isinstance(refused, Refused)
    assert refused.scope == "provider:b"
    assert await ledger.advance(onward("r", posted(1, 20), start(2, 50, provider="b"))) == Admitted("r")
    unpriced = await ledger.advance(onward("r", posted(2, 20), start(3, 0, is_priced=False)))
    assert unpriced == Unpriced("tenant:acme")


async def test_passed_pieces_of_rates_are_forgotten(ledger: Ledger) -> None:
    """And no others."""
    revision = await fill(ledger, {"global": THREE})
    await ledger.admit(ask("a", 0, key_revision=revision))
    await ledger.admit(ask("b", 0, key_revision=revision, at_s=NOON_S + 30))
    assert await ledger.prune_rates(NOON_S + 60) == 0
    assert await ledger.prune_rates(NOON_S + 70) == 1
    assert await ledger.prune_rates(NOON_S + 3_600) == 1


# ------------------------------------------------------------------------------------------------- at once


@pytest.mark.parametrize(
    ("place", "limits"),
    [
        ("key:app", Limits(parallel=2, wait_s=1.5)),
        ("tenant:acme", Limits(parallel=2, wait_s=1.5)),
        ("model:chat", Limits(parallel=2, wait_s=1.5)),
        ("provider:sim", Limits(parallel=2, wait_s=1.5)),
        ("global", Limits(users=Limits(parallel=2, wait_s=1.5))),
        ("global", Limits(tags=(("job", Limits(parallel=2, wait_s=1.5)),))),
    ],
)
async def test_so_many_at_once_and_no_more(ledger: Ledger, place: str, limits: Limits) -> None:
    """A place is free again when a request has ended, however it ended; its own next attempt needs none."""
    await fill(ledger, {})
    await ledger.set_limits(place, limits)
    revision = (await ledger.list_keys())[0].revision
    for request_id in ("a", "b"):
        assert isinstance(await ledger.admit(ask(request_id, key_revision=revision)), Admitted)
    refused = await ledger.admit(ask("c", key_revision=revision))
    assert isinstance(refused, Limited)
    assert (refused.measure, refused.limit, refused.window_s, refused.wait_s) == (None, 2, None, 1.5)
    assert isinstance(await ledger.advance(onward("a", voided(1), start(2, 1))), Admitted)
    await ledger.settle(over("b", voided(1)))
    assert isinstance(await ledger.admit(ask("c", key_revision=revision)), Admitted)


async def test_attempts_made_together_are_counted_together(ledger: Ledger) -> None:
    """A panel of three holds the sum, is one request to its key, and one call to each provider."""
    limits = {
        "tenant:acme": Limits((Budget(100, Period.DAY),), rates=(Rate(Measure.REQUESTS, 1, 60),), parallel=3),
        "provider:b": Limits((Budget(30, Period.DAY),), rates=(Rate(Measure.REQUESTS, 2, 60),)),
    }
    revision = await fill(ledger, limits)
    three = (start(1, 40), start(2, 30, provider="b"), start(3, 31, provider="b"))
    asked = ask("a", key_revision=revision)._replace(attempts=three)
    refused = await ledger.admit(asked)
    assert isinstance(refused, Refused)
    assert (refused.scope, refused.needed_nano_usd) == ("provider:b", 61)
    fitting = (start(1, 70), start(2, 15, provider="b"), start(3, 15, provider="b"))
    assert isinstance(await ledger.admit(asked._replace(attempts=fitting)), Admitted)
    assert isinstance(await ledger.admit(asked), Limited)
