"""Sums by every dimension, held against each ledger alike: no grouping loses or doubles anything."""

from __future__ import annotations

import pytest

from proxy.ledger.protocol import Ledger
from proxy.ledger.records import Admission, AttemptEnd, AttemptFilter, UsageQuery, UsageSum
from proxy.usage import Usage
from tests.ledger.entries import DAY_S, HOUR_S, NOON_S, ask, key, onward, over, posted, start, voided

USAGE = Usage(1000, 500, 100, 20, 10, 5, 50, 7)


def labelled(request_id: str, *, at_s: float = NOON_S, **labels: object) -> Admission:
    """A request with labels."""
    return ask(request_id, 50, at_s=at_s)._replace(**labels)  # type: ignore[arg-type]  # a test's


async def book(ledger: Ledger, admission: Admission, *ends: AttemptEnd) -> None:
    """One finished request; every end but the first is of a fallback."""
    await ledger.admit(admission)
    for number, end in enumerate(ends[:-1], 1):
        begins = start(number + 1, 50, provider=f"backup-{number}")
        await ledger.advance(onward(admission.request_id, end, begins, at_s=admission.at_s + number))
    await ledger.settle(over(admission.request_id, ends[-1], at_s=admission.at_s + 9))


async def fill(ledger: Ledger) -> None:
    """Requests with every kind of label and every kind of end."""
    await ledger.declare_keys([key("app", None), key("other", None)])
    tags = (("customer", "acme"), ("job", "42"))
    await book(ledger, labelled("a", user="ann", tags=tags, app="Chat"), posted(1, 5, usage=USAGE))
    await book(ledger, labelled("b", user="ann", tags=(("job", "43"),)), voided(1), posted(2, 7))
    await book(ledger, labelled("c", tenant=None, key_name="other", at_s=NOON_S + HOUR_S), posted(1, None))
    hit = posted(1, 0, usage=Usage())._replace(saved_nano_usd=11)
    await book(ledger, labelled("d", user="bob", tags=(("job", "42"),), at_s=NOON_S + DAY_S), hit)
    dear = posted(1, 90, error="broken_stream")._replace(is_overrun=True)
    await book(ledger, labelled("e", at_s=NOON_S + 40 * DAY_S), dear, posted(2, 1, error="timeout"))
    await ledger.admit(labelled("f", at_s=NOON_S + 40 * DAY_S))


async def test_everything_that_is_kept_is_summed(ledger: Ledger) -> None:
    """Tokens by kind, costs by source, hits and what they saved, overruns, what is open."""
    await fill(ledger)
    (total,) = await ledger.sum_usage(UsageQuery())
    assert total == UsageSum(
        group=(),
        requests=6,
        failed=1,
        fallbacks=2,
        input_tokens=1000 + 4 * 3,
        output_tokens=500 + 4 * 4,
        cached_tokens=100,
        reasoning_tokens=50,
        cost_nano_usd=5 + 7 + 91,
        held_nano_usd=50,
        unknown_cost=1,
        cost_by_source={"computed": 103},
        cache_write_tokens=20,
        cache_write_1h_tokens=10,
        audio_input_tokens=5,
        audio_output_tokens=7,
        overruns=1,
        cache_hits=1,
        saved_nano_usd=11,
    )


@pytest.mark.parametrize(
    ("by", "requests"),
    [
        (("user",), {("",): 3, ("ann",): 2, ("bob",): 1}),
        (("tag",), {("",): 3, ("customer=acme",): 1, ("job=42",): 2, ("job=43",): 1}),
        (("tag:job",), {("",): 3, ("42",): 2, ("43",): 1}),
        (("tag:customer", "tag:job"), {("", ""): 3, ("", "42"): 1, ("", "43"): 1, ("acme", "42"): 1}),
        (("tag:job", "user"), {("", ""): 3, ("42", "ann"): 1, ("42", "bob"): 1, ("43", "ann"): 1}),
        (("tag:nobody's",), {("",): 6}),
        (("payer",), {("gateway",): 6}),
        (("provider",), {("backup-1",): 2, ("sim",): 6}),
        (("month", "app"), {("2026-11", ""): 3, ("2026-11", "Chat"): 1, ("2026-12", ""): 2}),
    ],
)
async def test_requests_count_once_in_each_group_they_touch(
    ledger: Ledger, by: tuple[str, ...], requests: dict[tuple[str, ...], int]
) -> None:
    """An attempt with two tags counts in two groups of `tag`; a missing value is the empty text."""
    await fill(ledger)
    sums = await ledger.sum_usage(UsageQuery(by))
    assert {one.group: one.requests for one in sums} == requests
    assert [one.group for one in sums] == sorted(requests)


async def test_only_what_was_asked_for_is_summed(ledger: Ledger) -> None:
    """By key, tenant and time, together with a dimension that has a parameter of its own."""
    await fill(ledger)

    async def count(**words: object) -> int:
        query = UsageQuery(("tag:job",), **words)  # type: ignore[arg-type]  # a test's
        return sum(one.requests for one in await ledger.sum_usage(query))

    assert await count(key_name="other") == 1
    assert await count(tenant="acme") == 5
    assert await count(tenant="acme", from_s=NOON_S + 1, to_s=NOON_S + 2 * DAY_S, key_name="app") == 2
    assert await count(tenant="nobody") == 0


async def test_so_many_groups_are_given_as_were_asked_for(ledger: Ledger) -> None:
    """The first ones."""
    await fill(ledger)
    sums = await ledger.sum_usage(UsageQuery(("user",), groups_max=2))
    assert [one.group for one in sums] == [("",), ("ann",)]


@pytest.mark.parametrize(
    ("timezone", "group"),
    [
        ("UTC", ("2026-10-25T00:00", "2026-10-25", "2026-10")),
        ("Europe/Berlin", ("2026-10-25T02:00", "2026-10-25", "2026-10")),
        ("America/New_York", ("2026-10-24T20:00", "2026-10-24", "2026-10")),
        ("Asia/Kathmandu", ("2026-10-25T06:00", "2026-10-25", "2026-10")),
        ("Pacific/Kiritimati", ("2026-10-25T14:00", "2026-10-25", "2026-10")),
    ],
)
async def test_hours_days_and_months_are_those_of_a_time_zone(
    ledger: Ledger, timezone: str, group: tuple[str, ...]
) -> None:
    """2026-10-25 00:30 UTC, half an hour before Berlin's clocks go back."""
    await ledger.declare_keys([key("app", None)])
    await book(ledger, labelled("a", at_s=1_792_888_200.0), posted())
    (found,) = await ledger.sum_usage(UsageQuery(("hour", "day", "month"), timezone=timezone))
    assert found.group == group


async def test_a_clock_that_is_changed_moves_its_hours(ledger: Ledger) -> None:
    """Berlin, 2026-10-25: 02:30 comes twice, then it is 03:30 an hour from UTC."""
    await ledger.declare_keys([key("app", None)])
    for hour in range(3):
        await book(ledger, labelled(f"r{hour}", at_s=1_792_888_200.0 + hour * HOUR_S), posted())
    sums = await ledger.sum_usage(UsageQuery(("hour",), timezone="Europe/Berlin"))
    assert [(one.group[0][-5:], one.requests) for one in sums] == [("02:00", 2), ("03:00", 1)]


async def test_pages_of_groups_are_the_same_groups(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are."""
    monkeypatch.setattr("proxy.ledger.reports.PAGE_ROWS", 2)
    await fill(ledger)
    query = UsageQuery(("user", "tag", "provider", "day"))
    pages = [page async for page in ledger.walk_usage(query)]
    assert [one for page in pages for one in page] == await ledger.sum_usage(query)
    with pytest.raises(ValueError, match="colour"):
        await anext(aiter(ledger.walk_usage(UsageQuery(("colour",)))))


async def test_an_export_can_leave_out(ledger: Ledger) -> None:
    """By end, key and tenant."""
    await fill(ledger)

    async def export(only: AttemptFilter, since_s: float | None = None) -> list[str]:
        rows = await ledger.export(since_s=since_s, after_seq=0, rows_max=99, only=only)
        return [row.request_id for row in rows]

    assert await export(AttemptFilter()) == ["a", "b", "b", "c", "d", "e", "e", "f"]
    assert await export(AttemptFilter(until_s=NOON_S + 1)) == ["a", "b"]
    assert await export(AttemptFilter(key_name="other")) == ["c"]
    assert await export(AttemptFilter(tenant="acme", until_s=NOON_S + DAY_S), NOON_S + 1) == ["b"]
