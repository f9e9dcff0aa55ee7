"""What every ledger answers about keys, sums and rows, held against each of them alike."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.ledger import memory, reports
from proxy.ledger.protocol import Ledger
from proxy.ledger.records import ProviderStats, UsageQuery, UsageSum
from proxy.money import Budget, Period
from proxy.usage import Usage
from tests.ledger.entries import DAY_S, HOUR_S, NOON_S, ask, key, onward, over, posted, start, voided


async def test_a_minted_key_is_kept_as_it_is(ledger: Ledger) -> None:
    """Every field comes back, by digest and in the list."""
    minted = key(
        "mobile",
        tenant="acme",
        models=("chat", "gpt-*"),
        default_model="chat",
        params={"temperature": 0.2, "stop": ["\n"]},
        created_at_s=NOON_S,
        expires_at_s=NOON_S + 1,
    )
    assert await ledger.create_key(minted)
    assert await ledger.find_key("digest of mobile") == minted
    assert await ledger.create_key(key("bare", limit=None, models=()))
    assert await ledger.list_keys() == [key("bare", limit=None, models=()), minted]
    assert await ledger.find_key("digest of nobody") is None


async def test_a_name_is_given_once(ledger: Ledger) -> None:
    """A second key of the same name is refused, even when the first is revoked."""
    assert await ledger.create_key(key("mobile", 100))
    assert not await ledger.create_key(key("mobile", 200))
    await ledger.revoke_key("mobile")
    assert not await ledger.create_key(replace(key("mobile", 200), digest="another"))
    (found,) = await ledger.list_keys()
    assert found.limits.budgets == (Budget(100, Period.DAY),)


async def test_declared_keys_are_what_the_file_says(ledger: Ledger) -> None:
    """Added by name, changed in place, disabled when they leave, back when they return; minted ones stay."""
    await ledger.create_key(key("minted"))
    await ledger.declare_keys([key("a", created_at_s=NOON_S), key("b")])
    await ledger.declare_keys([key("a", created_at_s=NOON_S + 9), key("c")])
    a, b, c, minted = await ledger.list_keys()
    assert (a.is_declared, a.is_enabled, a.revision, a.created_at_s) == (True, True, 1, NOON_S)
    assert (b.is_declared, b.is_enabled, b.revision) == (True, False, 2)
    assert (c.is_declared, c.is_enabled, c.revision) == (True, True, 1)
    assert minted == key("minted")

    await ledger.declare_keys([key("a", limit=7), key("b"), key("minted", limit=8)])
    a, b, c, minted = await ledger.list_keys()
    assert (a.limits.budgets, a.revision) == ((Budget(7, Period.DAY),), 2)
    assert (b.is_enabled, b.revision) == (True, 3)
    assert (c.is_enabled, c.revision) == (False, 2)
    assert (minted.is_declared, minted.limits.budgets, minted.revision) == (True, (Budget(8, Period.DAY),), 2)

    await ledger.declare_keys([])
    await ledger.declare_keys([])
    assert [(found.is_enabled, found.revision) for found in await ledger.list_keys()] == [
        (False, 3),
        (False, 4),
        (False, 2),
        (False, 3),
    ]


async def test_a_renamed_key_keeps_working(ledger: Ledger) -> None:
    """Of two names with one digest the enabled one is found, whichever way it was renamed."""
    for name in ("new", "old", "new"):
        await ledger.declare_keys([replace(key(name), digest="same")])
        found = await ledger.find_key("same")
        assert found is not None
        assert (found.name, found.is_enabled) == (name, True)


async def test_rows_come_in_pages(ledger: Ledger) -> None:
    """Each page begins after the last row of the one before, from a time on if asked for."""
    await ledger.declare_keys([key(limit=None)])
    for number in range(5):
        await ledger.admit(ask(f"r{number}", at_s=NOON_S + number))
    await ledger.advance(onward("r1", voided(1), start(2, 10), at_s=NOON_S + 9))

    async def page(after_seq: int, rows_max: int, since_s: float | None = None) -> list[tuple[int, str, int]]:
        rows = await ledger.export(since_s=since_s, after_seq=after_seq, rows_max=rows_max)
        return [(row.seq, row.request_id, row.attempt) for row in rows]

    assert await page(0, 2) == [(1, "r0", 1), (2, "r1", 1)]
    assert await page(2, 3) == [(3, "r2", 1), (4, "r3", 1), (5, "r4", 1)]
    assert await page(5, 3) == [(6, "r1", 2)]
    assert await page(6, 3) == []
    assert await page(0, 9, NOON_S + 3) == [(4, "r3", 1), (5, "r4", 1), (6, "r1", 2)]
    assert await page(0, 1, NOON_S + 3) == [(4, "r3", 1)]
    assert await ledger.find_request("unknown") == []


async def reply(ledger: Ledger, request_id: str, generation_id: str, *, key_name: str = "a", at_s: float) -> None:
    """Book a request whose second upstream gave a reply of this id."""
    await ledger.admit(ask(request_id, key_name=key_name, at_s=at_s))
    await ledger.advance(onward(request_id, voided(1), start(2, provider="other"), at_s=at_s))
    await ledger.settle(over(request_id, posted(2)._replace(generation_id=generation_id), at_s=at_s))


async def test_a_request_is_found_by_its_upstreams_id(ledger: Ledger) -> None:
    """All its attempts, of the newest request when the id came twice, and of that key only."""
    await ledger.declare_keys([key("a", None), key("b", None)])
    await reply(ledger, "newer", "twice", at_s=NOON_S + 9)
    await reply(ledger, "older", "twice", at_s=NOON_S)
    await reply(ledger, "once", "once", at_s=NOON_S + 20)
    await reply(ledger, "foreign", "twice", key_name="b", at_s=NOON_S + 30)

    async def find(generation_id: str, key_name: str = "a") -> list[tuple[str, int]]:
        rows = await ledger.find_generation(generation_id, key_name=key_name)
        return [(row.request_id, row.attempt) for row in rows]

    assert await find("twice") == [("newer", 1), ("newer", 2)]
    assert await find("once") == [("once", 1), ("once", 2)]
    assert await find("twice", "b") == [("foreign", 1), ("foreign", 2)]
    assert await find("once", "b") == []
    assert await find("newer") == []
    assert await find("twice", "nobody") == []


async def test_only_so_many_attempts_are_looked_through(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the key's newest: no client can make a look-up go through all of the books."""
    for module in (memory, reports):
        monkeypatch.setattr(module, "GENERATIONS_SEARCHED_MAX", 3)
    await ledger.declare_keys([key("a", None), key("b", None)])
    for number in range(4):
        await ledger.admit(ask(f"r{number}", key_name="a", at_s=NOON_S + number))
        await ledger.settle(over(f"r{number}", posted()._replace(generation_id=f"gen-{number}")))
        await ledger.admit(ask(f"other{number}", key_name="b", at_s=NOON_S + number + 10))
    found = [bool(await ledger.find_generation(f"gen-{number}", key_name="a")) for number in range(4)]
    assert found == [False, True, True, True]


async def spend(ledger: Ledger) -> None:
    """Four requests of two keys: one fell back, one failed, one has no known cost, one still runs."""
    await ledger.declare_keys([key("a", None), key("b", None)])
    usage = Usage(input_tokens=100, output_tokens=50, cached_tokens=20, reasoning_tokens=30)
    await ledger.admit(ask("fell-back", 10, key_name="a"))
    await ledger.advance(onward("fell-back", posted(1, 3, error="broken_stream"), start(2, 10, provider="other")))
    await ledger.settle(over("fell-back", posted(2, 4, usage=usage)._replace(first_token_ms=60)))
    await ledger.admit(ask("failed", 10, key_name="a", at_s=NOON_S + HOUR_S)._replace(app="App", tenant=None))
    await ledger.settle(over("failed", voided(1)))
    await ledger.admit(ask("unpriced", 0, key_name="b", at_s=NOON_S + DAY_S))
    await ledger.settle(over("unpriced", posted(1, None)))
    await ledger.admit(ask("running", 10, key_name="b", at_s=NOON_S + DAY_S))


async def test_without_dimensions_there_is_one_sum(ledger: Ledger) -> None:
    """Requests are counted, not attempts; costs are told apart by their source."""
    empty = UsageSum((), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {})
    assert await ledger.sum_usage(UsageQuery()) == [empty]
    await spend(ledger)
    assert await ledger.sum_usage(UsageQuery()) == [
        UsageSum(
            group=(),
            requests=4,
            failed=1,
            fallbacks=1,
            input_tokens=3 + 100 + 3,
            output_tokens=4 + 50 + 4,
            cached_tokens=20,
            reasoning_tokens=30,
            cost_nano_usd=7,
            held_nano_usd=10,
            unknown_cost=1,
            cost_by_source={"computed": 7},
        )
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (UsageQuery(("key",)), {("a",): (2, 1, 1, 7), ("b",): (2, 0, 0, 0)}),
        (UsageQuery(("tenant",)), {("",): (1, 1, 0, 0), ("acme",): (3, 0, 1, 7)}),
        (UsageQuery(("app", "route")), {("", "chat"): (3, 0, 1, 7), ("App", "chat"): (1, 1, 0, 0)}),
        # A request counts with every provider it touched, and how it ended counts with it.
        (UsageQuery(("provider",)), {("other",): (1, 0, 1, 4), ("sim",): (4, 1, 1, 3)}),
        (
            UsageQuery(("model", "key"), key_name="a"),
            {("other/model", "a"): (1, 0, 1, 4), ("sim/model", "a"): (2, 1, 1, 3)},
        ),
        (UsageQuery(("day",)), {("2026-11-20",): (2, 1, 1, 7), ("2026-11-21",): (2, 0, 0, 0)}),
        (UsageQuery(("month",)), {("2026-11",): (4, 1, 1, 7)}),
        (
            UsageQuery(("hour",), to_s=NOON_S + DAY_S),
            {("2026-11-20T12:00",): (1, 0, 1, 7), ("2026-11-20T13:00",): (1, 1, 0, 0)},
        ),
        (UsageQuery(("key",), from_s=NOON_S + HOUR_S), {("a",): (1, 1, 0, 0), ("b",): (2, 0, 0, 0)}),
        (UsageQuery(("key",), from_s=NOON_S + 2 * DAY_S), {}),
        (UsageQuery(("key",), key_name="nobody"), {}),
    ],
)
async def test_usage_is_summed_by_dimensions(
    ledger: Ledger, query: UsageQuery, expected: dict[tuple[str, ...], tuple[int, int, int, int]]
) -> None:
    """Groups come in the order of their values; a missing value is the empty text."""
    await spend(ledger)
    sums = await ledger.sum_usage(query)
    assert {
        found.group: (found.requests, found.failed, found.fallbacks, found.cost_nano_usd) for found in sums
    } == expected
    assert [found.group for found in sums] == sorted(expected)


async def test_an_unknown_dimension_is_named(ledger: Ledger) -> None:
    """Summing by what is not kept is an error, not an empty answer."""
    with pytest.raises(ValueError, match="colour"):
        await ledger.sum_usage(UsageQuery(("key", "colour")))


async def test_days_end_at_their_last_fraction_of_a_second(ledger: Ledger) -> None:
    """A request at the very end of a day belongs to it."""
    await ledger.declare_keys([key("a", None)])
    await ledger.admit(ask("late", key_name="a", at_s=NOON_S + DAY_S / 2 - 0.0001))
    (found,) = await ledger.sum_usage(UsageQuery(("day", "hour")))
    assert found.group == ("2026-11-20", "2026-11-20T23:00")


async def test_providers_are_told_apart(ledger: Ledger) -> None:
    """Attempts count, with the lower median of their first tokens."""
    await spend(ledger)
    assert await ledger.provider_stats(since_s=0, key_name=None) == [
        ProviderStats("other", 1, 0, 4, 60),
        ProviderStats("sim", 4, 2, 3, 40),
    ]
    assert await ledger.provider_stats(since_s=NOON_S + HOUR_S, key_name="a") == [ProviderStats("sim", 1, 1, 0, None)]
    assert await ledger.provider_stats(since_s=NOON_S + 9 * DAY_S, key_name=None) == []


@pytest.mark.parametrize(("first_tokens", "median"), [([5], 5), ([9, 5], 5), ([9, 5, 7], 7), ([9, 5, 7, 1], 5)])
async def test_the_median_is_the_lower_of_two(ledger: Ledger, first_tokens: list[int], median: int) -> None:
    """Attempts without a first token do not move it."""
    await ledger.declare_keys([key("a", None)])
    for number, first_token_ms in enumerate(first_tokens):
        await ledger.admit(ask(f"r{number}", key_name="a"))
        await ledger.settle(over(f"r{number}", posted(1, 1)._replace(first_token_ms=first_token_ms)))
    await ledger.admit(ask("pending", key_name="a"))
    (stats,) = await ledger.provider_stats(since_s=0, key_name=None)
    assert stats.first_token_ms_p50 == median
