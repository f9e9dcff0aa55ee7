"""What every ledger keeps of incidents and tells of the last minutes, held against each of them alike."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.ledger.incidents import (
    ENDED_S_MAX,
    Delivery,
    DeliveryState,
    Event,
    ProviderEndings,
    ProviderOddities,
    Recent,
    rank_p95,
)
from proxy.ledger.protocol import Ledger
from proxy.ledger.records import AttemptEnd
from proxy.money import Period
from proxy.policy.calendar import find_window
from proxy.policy.incidents import Incident
from tests.ledger.entries import DAY_S, NOON_S, ask, key, onward, over, posted, start, voided
from tests.ledger.houses import House


def incident(id: str = "i1", subject: str = "key:app/day", **more: object) -> Incident:  # noqa: A002  # its own name
    """One that is open."""
    told = {
        "turn": 0,
        "figure": "82%",
        "what": "key app has spent",
        "advice": "raise it",
        "opened_at_s": NOON_S,
        **more,
    }
    return Incident(id, "spend > 80%", subject, **told)  # type: ignore[arg-type]  # a test's


def ended(one: Incident, at_s: float = NOON_S + 60) -> Incident:
    """The same, over."""
    return replace(one, ended_at_s=at_s, ending="a new period has begun")


async def due(ledger: Ledger, now_s: float = NOON_S + 1_000, webhook: str = "w") -> list[tuple[str, Event]]:
    """Messages that are due, by incident."""
    found = await ledger.incidents.list_due(webhook, now_s, rows_max=10)
    return [(one.incident.id, one.event) for one in found]


async def first_due(ledger: Ledger, now_s: float = NOON_S + 1_000) -> Delivery:
    """The message that is due first."""
    (first, *_) = await ledger.incidents.list_due("w", now_s, rows_max=10)
    return first


async def deliver(ledger: Ledger, state: DeliveryState = DeliveryState.DELIVERED) -> None:
    """Claim and record the message that is due first."""
    one = await first_due(ledger)
    assert await ledger.incidents.claim(one, due_at_s=NOON_S + 2_000)
    await ledger.incidents.record(replace(one, state=state, tried_at_s=NOON_S + 1_000, status=200))


async def test_an_incident_is_open_once(ledger: Ledger) -> None:
    """The second of its place writes nothing; once it is over the next one may open."""
    assert await ledger.incidents.open(incident(), webhooks=["w"])
    assert not await ledger.incidents.open(incident("i2"), webhooks=["w"])
    assert await ledger.incidents.open(incident("i3", turn=7), webhooks=[]), "another window is another incident"
    assert await ledger.incidents.list_open() == [incident(), incident("i3", turn=7)]
    assert await ledger.incidents.end(ended(incident()))
    assert not await ledger.incidents.end(ended(incident()))
    assert not await ledger.incidents.end(ended(incident("nobody")))
    assert await ledger.incidents.open(incident("i2"), webhooks=["w"])
    assert [one.id for one in await ledger.incidents.list_open()] == ["i2", "i3"]


async def test_the_end_is_told_to_who_was_told_of_the_beginning(ledger: Ledger) -> None:
    """Each webhook once, in this order: an ending waits for its beginning."""
    await ledger.incidents.open(incident(), webhooks=["w", "v", "w"])
    assert await due(ledger, NOON_S - 1) == []
    assert await due(ledger) == [("i1", Event.OPENED)]
    await ledger.incidents.end(ended(incident()))
    assert await due(ledger) == [("i1", Event.OPENED)]
    await deliver(ledger)
    assert await due(ledger) == [("i1", Event.ENDED)]
    assert await due(ledger, webhook="v") == [("i1", Event.OPENED)]
    assert (await first_due(ledger)).incident == ended(incident())
    assert await ledger.incidents.list_waiting(NOON_S + 1_000) == ["v", "w"]
    await deliver(ledger)
    assert await due(ledger) == []
    assert await ledger.incidents.list_waiting(NOON_S + 1_000) == ["v"]
    assert await ledger.incidents.list_waiting(NOON_S - 1) == []


async def test_a_message_is_claimed_by_one(ledger: Ledger) -> None:
    """Who lists it later, or at the same time, does not get it; not sent, it is due again."""
    await ledger.incidents.open(incident(), webhooks=["w"])
    one = await first_due(ledger)
    assert await ledger.incidents.claim(one, due_at_s=NOON_S + 30)
    assert not await ledger.incidents.claim(one, due_at_s=NOON_S + 40)
    assert await due(ledger, NOON_S + 29) == []
    again = await first_due(ledger, NOON_S + 30)
    assert (again.tries, again.due_at_s, again.message_id) == (1, NOON_S + 30, "i1-opened")
    assert await ledger.incidents.claim(again, due_at_s=NOON_S + 90)


@pytest.mark.parametrize("state", [DeliveryState.DELIVERED, DeliveryState.GIVEN_UP])
async def test_what_is_over_is_never_sent_again(ledger: Ledger, state: DeliveryState) -> None:
    """Accepted or given up: it cannot be claimed, and nothing changes it."""
    await ledger.incidents.open(incident(), webhooks=["w"])
    one = await first_due(ledger)
    await deliver(ledger, state)
    assert await due(ledger, NOON_S + 9_000) == []
    assert not await ledger.incidents.claim(replace(one, tries=1), due_at_s=NOON_S)
    await ledger.incidents.record(replace(one, state=DeliveryState.PENDING, problem="HTTP 500"))
    (found,) = await ledger.incidents.list_deliveries(rows_max=10)
    assert (found.state, found.tries, found.status, found.problem) == (state, 1, 200, None)


async def test_a_failed_try_keeps_its_reason(ledger: Ledger) -> None:
    """And stays pending."""
    await ledger.incidents.open(incident(), webhooks=["w"])
    one = await first_due(ledger)
    await ledger.incidents.claim(one, due_at_s=NOON_S + 30)
    tried = replace(one, tried_at_s=NOON_S + 1, status=500, problem="HTTP 500")
    await ledger.incidents.record(tried)
    assert await first_due(ledger) == replace(tried, tries=1, due_at_s=NOON_S + 30)


async def test_messages_are_listed_newest_first(ledger: Ledger) -> None:
    """By when they came to be, at most as many as asked for."""
    await ledger.incidents.open(incident(), webhooks=["w", "v"])
    await ledger.incidents.open(incident("i2", "provider:openai", opened_at_s=NOON_S + 5), webhooks=["w"])
    await ledger.incidents.end(ended(incident()))
    found = await ledger.incidents.list_deliveries(rows_max=10)
    assert [(one.message_id, one.webhook) for one in found] == [
        ("i1-ended", "v"),
        ("i1-ended", "w"),
        ("i2-opened", "w"),
        ("i1-opened", "v"),
        ("i1-opened", "w"),
    ]
    assert await ledger.incidents.list_deliveries(rows_max=2) == found[:2]


async def test_what_was_over_long_ago_is_forgotten(ledger: Ledger) -> None:
    """With its messages, when another incident ends; what is open stays."""
    late_s = NOON_S + 60 + ENDED_S_MAX + 1
    await ledger.incidents.open(incident(), webhooks=["w"])
    await ledger.incidents.end(ended(incident()))
    for id_ in ("i2", "i3"):
        await ledger.incidents.open(incident(id_, f"provider:{id_}"), webhooks=["w"])
    await ledger.incidents.end(ended(incident("i2", "provider:i2"), late_s))
    found = await ledger.incidents.list_deliveries(rows_max=10)
    assert {one.incident.id for one in found} == {"i2", "i3"}
    assert [one.id for one in await ledger.incidents.list_open()] == ["i3"]


async def test_incidents_survive_a_process_that_dies(house: House) -> None:
    """The next one goes on where it stopped."""
    first = await house.open()
    await first.incidents.open(incident(), webhooks=["w"])
    await first.incidents.claim(await first_due(first), due_at_s=NOON_S + 30)
    await house.kill(first)
    second = await house.open()
    assert await second.incidents.list_open() == [incident()]
    assert (await first_due(second)).tries == 1


def took(end: AttemptEnd, latency_ms: int, first_token_ms: int | None = None) -> AttemptEnd:
    """The same, with its times."""
    return end._replace(latency_ms=latency_ms, first_token_ms=first_token_ms)


async def book(ledger: Ledger, name: str, end: AttemptEnd, *, at_s: float = NOON_S, provider: str = "sim") -> None:
    """Write one request of one attempt."""
    await ledger.admit(ask(name, at_s=at_s, attempts=[start(1, 1, provider=provider)]))
    await ledger.settle(over(name, end, at_s=at_s))


async def test_spend_is_what_a_scope_has_posted_in_a_window(ledger: Ledger) -> None:
    """Counted from before anybody asked, and on from there; other days and other keys apart."""
    await ledger.declare_keys([key("app", None), key("other", None)])
    day = find_window(Period.DAY, NOON_S)
    await book(ledger, "old", posted(cost=1_000), at_s=NOON_S - DAY_S)
    await book(ledger, "a", posted(cost=5))
    assert await ledger.signals.spend("global", day) == 5
    await ledger.admit(ask("b", key_name="other"))
    await ledger.settle(over("b", posted(cost=7)))
    assert await ledger.signals.spend("global", day) == 12
    assert await ledger.signals.spend("key:other", day) == 7
    assert await ledger.signals.spend("tenant:acme", day) == 12
    assert await ledger.signals.spend("global", find_window(Period.TOTAL, NOON_S)) == 1_012


async def test_recent_requests_are_counted_by_how_they_ended(ledger: Ledger) -> None:
    """A fallback that helped is no failure, nor is the client's own doing; what is pending has not ended."""
    await ledger.declare_keys([key("app", None)])
    await book(ledger, "good", posted())
    await book(ledger, "bad", voided())
    await book(ledger, "left", posted(error="client_left"))
    await book(ledger, "refused", voided()._replace(error="bad_request"))
    await ledger.admit(ask("helped"))
    await ledger.advance(onward("helped", voided(), start(2, 1)))
    await ledger.settle(over("helped", posted(2)))
    await ledger.admit(ask("pending"))
    recent = await ledger.signals.recent(ended_s=NOON_S)
    assert (recent.requests, recent.failed) == (5, 1)


async def test_recent_is_told_by_the_end_of_an_attempt(ledger: Ledger) -> None:
    """A call that ran into its timeout began long before the window."""
    await ledger.declare_keys([key("app", None)])
    await book(ledger, "long", took(voided(), 600_000), at_s=NOON_S - 600)
    await book(ledger, "gone", took(voided(), 100), at_s=NOON_S - 600)
    assert await ledger.signals.recent(ended_s=NOON_S) == Recent(1, 1, 0, None)


async def test_the_95th_percentile_is_a_value_that_was_seen(ledger: Ledger) -> None:
    """Nearest rank, over streams only; 20 values leave one above it."""
    await ledger.declare_keys([key("app", None)])
    for number in range(20):
        await book(ledger, f"r{number}", took(posted(), 3_000, 100 * (number + 1)))
    await ledger.admit(ask("json")._replace(is_stream=False))
    await ledger.settle(over("json", took(posted(), 90_000, 90_000)))
    recent = await ledger.signals.recent(ended_s=NOON_S)
    assert (recent.requests, recent.streams, recent.first_token_ms_p95) == (21, 20, 1_900)


@pytest.mark.parametrize(("count", "rank"), [(0, 0), (1, 0), (19, 18), (20, 18), (21, 19), (100, 94), (101, 95)])
def test_ranks(count: int, rank: int) -> None:
    """ceil(0.95 n) - 1 values stand before it."""
    assert rank_p95(count) == rank


async def test_endings_are_the_newest_of_each_provider(ledger: Ledger) -> None:
    """In the order in which they ended; a 429 and a client that left say nothing, a refusal is a sign of life."""
    await ledger.declare_keys([key("app", None)])
    await book(ledger, "a", took(posted(), 9_000))
    await book(ledger, "b", took(voided(), 100))
    await book(ledger, "c", took(voided()._replace(error="rate_limited"), 20_000))
    await book(ledger, "d", took(posted(error="client_left"), 20_000))
    await book(ledger, "e", took(voided()._replace(error="bad_request"), 10_000))
    await book(ledger, "f", voided(), provider="openai")
    found = await ledger.signals.endings(ended_s=NOON_S, attempts_max=2)
    assert found == [ProviderEndings("openai", (False,)), ProviderEndings("sim", (True, True))]
    (_, sim) = await ledger.signals.endings(ended_s=NOON_S, attempts_max=9)
    assert sim.answered == (True, True, False)


async def test_a_tenants_own_credential_says_nothing_of_a_provider(ledger: Ledger) -> None:
    """It is refused for that tenant and touches no other."""
    await ledger.declare_keys([key("app", None)])
    await ledger.admit(ask("own", attempts=[start(1, 1)._replace(payer="tenant")]))
    await ledger.settle(over("own", voided()._replace(error="credentials")))
    assert await ledger.signals.endings(ended_s=NOON_S, attempts_max=5) == []


async def test_oddities_are_counted_by_provider(ledger: Ledger) -> None:
    """What nobody could price, and what cost more than was held."""
    await ledger.declare_keys([key("app", None)])
    await book(ledger, "fine", posted())
    await book(ledger, "unknown", posted(cost=None))
    await book(ledger, "over", posted()._replace(is_overrun=True), provider="openai")
    await book(ledger, "old", posted(cost=None), at_s=NOON_S - DAY_S)
    assert await ledger.signals.oddities(ended_s=NOON_S) == [
        ProviderOddities("openai", 0, "", 1, "openai/model"),
        ProviderOddities("sim", 1, "sim/model", 0, ""),
    ]
