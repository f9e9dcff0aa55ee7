"""Detail that goes: no sum changes, no wall moves, and what is not over stays, on each ledger alike."""

from __future__ import annotations

import asyncio
import csv
import io
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.edge.report import write_usage
from proxy.ledger import sqlite
from proxy.ledger.folder import find_owners
from proxy.ledger.protocol import Ledger
from proxy.ledger.records import AttemptEnd, Refused, UsageQuery, UsageSum
from proxy.ledger.resolution import Reason, Truth
from proxy.ledger.schema import connect, find_file
from proxy.ledger.verification import Check, verify
from proxy.money import Budget, Period, format_usd
from proxy.policy.limits import Limits
from proxy.usage import CostSource, Usage
from tests.ledger.entries import DAY_S, HOUR_S, NOON_S, ask, key, onward, over, posted, start, voided
from tests.ledger.houses import House, MemoryHouse, SqliteHouse

MIDNIGHT_S = NOON_S - 12 * HOUR_S
GROUPINGS: Sequence[tuple[str, ...]] = (
    (),
    ("key",),
    ("tenant", "app"),
    ("user",),
    ("tag",),
    ("tag:job", "key"),
    ("payer",),
    ("route",),
    ("provider",),
    ("model", "provider"),
    ("day",),
    ("month", "provider"),
    ("day", "tag", "model"),
)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "ROLLING_PAUSE_S", 0.0)


async def spend(ledger: Ledger, request_id: str, at_s: float, *ends: AttemptEnd, **labels: object) -> None:
    """One finished request, with a fallback for each further end."""
    admission = ask(request_id, 50, at_s=at_s)._replace(**labels)  # type: ignore[arg-type]  # a test's
    await ledger.admit(admission)
    for number, end in enumerate(ends[:-1], 1):
        begins = start(number + 1, 50, provider=f"backup-{number}")
        await ledger.advance(onward(request_id, end, begins, at_s=at_s + number))
    await ledger.settle(over(request_id, ends[-1], at_s=at_s + 9))


async def list_ids(ledger: Ledger) -> list[str]:
    """Requests whose detail is there."""
    rows = await ledger.export(since_s=None, after_seq=0, rows_max=99)
    return list(dict.fromkeys(row.request_id for row in rows))


async def test_detail_goes_and_sums_stay(ledger: Ledger) -> None:
    """Everything older than the day of the moment, and nothing else."""
    await ledger.declare_keys([key("app", None)])
    for days in range(4):
        await spend(ledger, f"r{days}", NOON_S + days * DAY_S, posted(1, 5 + days))
    before = await ledger.sum_usage(UsageQuery(("day",)))
    assert await ledger.roll_up(NOON_S + 2 * DAY_S) == 2
    assert await list_ids(ledger) == ["r2", "r3"]
    assert not await ledger.find_request("r1")
    assert await ledger.sum_usage(UsageQuery(("day",))) == before
    assert await ledger.roll_up(NOON_S + 2 * DAY_S) == 0


async def test_hours_of_days_without_detail_are_their_days(ledger: Ledger) -> None:
    """A group of `hour` that is a date is a whole day of which no more is known; UTC's, in every time zone."""
    await ledger.declare_keys([key("app", None)])
    await spend(ledger, "old", NOON_S, posted(1, 5))
    await spend(ledger, "new", NOON_S + DAY_S, posted(1, 6))
    await ledger.roll_up(NOON_S + DAY_S)
    query = UsageQuery(("hour", "day"), timezone="America/New_York")
    assert [one.group for one in await ledger.sum_usage(query)] == [
        ("2026-11-20", "2026-11-20"),
        ("2026-11-21T07:00", "2026-11-21"),
    ]


async def test_what_is_not_over_stays(ledger: Ledger) -> None:
    """An open hold, and a request that went on into a day that stays."""
    await ledger.declare_keys([key("app", None)])
    await ledger.admit(ask("open", 10, at_s=NOON_S))
    await ledger.admit(ask("half", 10, at_s=NOON_S))
    await ledger.advance(onward("half", voided(1), start(2, 10), at_s=NOON_S))
    late = MIDNIGHT_S + 2 * DAY_S
    await spend(ledger, "across", late - 0.5, voided(1), posted(2, 5))
    await spend(ledger, "over", NOON_S, posted(1, 5))
    assert await ledger.roll_up(late) == 1
    assert await list_ids(ledger) == ["open", "half", "across"]
    await ledger.settle(over("open", posted(1, 7)))
    assert await ledger.roll_up(late + DAY_S) == 1 + 2
    assert await list_ids(ledger) == ["half"]


async def test_what_is_still_to_be_asked_stays(ledger: Ledger) -> None:
    """Until its provider has told what it cost; then it goes, and so does what was written of the correction."""
    await ledger.declare_keys([key("app", None)])
    guess = posted(1, 5)._replace(cost_source=CostSource.ESTIMATED, is_lookup_due=True)
    await spend(ledger, "asked", NOON_S, guess)
    assert await ledger.roll_up(NOON_S + 9 * DAY_S) == 0
    (lookup,) = await ledger.resolution.claim_lookups(NOON_S + DAY_S, count_max=9)
    truth = Truth(lookup.attempt_seq, 7, CostSource.REPORTED, Usage(3, 4), Reason.LOOKUP, NOON_S + DAY_S)
    assert await ledger.resolution.correct(truth) is not None
    assert await ledger.roll_up(NOON_S + 9 * DAY_S) == 1
    assert await ledger.resolution.correct(truth._replace(cost_nano_usd=9, reason=Reason.LATE)) is None
    (total,) = await ledger.sum_usage(UsageQuery())
    assert (total.cost_nano_usd, total.cost_by_source) == (7, {"reported": 7})


async def test_an_id_may_come_back(ledger: Ledger) -> None:
    """It is a request of its own."""
    await ledger.declare_keys([key("app", None)])
    for days in range(3):
        await spend(ledger, "same", NOON_S + days * DAY_S, voided(1), posted(2, 5))
        await ledger.roll_up(NOON_S + (days + 1) * DAY_S)
    (total,) = await ledger.sum_usage(UsageQuery())
    assert (total.requests, total.fallbacks, total.cost_nano_usd) == (3, 3, 15)
    assert await list_ids(ledger) == []


SCOPES = ("key:app", "tenant:acme", "model:chat", "provider:sim", "global", "user:acme/ann", "tag:acme/job=42")


def wall(scope: str, limit: int) -> tuple[str, Limits]:
    """A budget for all time of a scope, with the place it is written at."""
    limits = Limits(budgets=(Budget(limit, Period.TOTAL),))
    kind, _, name = scope.partition(":")
    if kind == "user":
        return "tenant:acme", Limits(users=limits)
    if kind == "tag":
        return "tenant:acme", Limits(tags=((name.rpartition("/")[2].partition("=")[0], limits),))
    return scope, limits


@pytest.mark.parametrize("is_kept", [True, False])
@pytest.mark.parametrize("scope", SCOPES)
async def test_a_budget_for_all_time_counts_what_has_no_detail(ledger: Ledger, scope: str, is_kept: bool) -> None:
    """Whether it was there before the detail went or came after."""
    labels = {"user": "ann", "tags": (("job", "42"),)}
    place, limits = wall(scope, 100)
    await ledger.declare_keys([key("app", None)])
    if is_kept:
        await ledger.set_limits(place, limits)
    for days in range(3):
        (known,) = await ledger.list_keys()
        await spend(ledger, f"r{days}", NOON_S + days * DAY_S, posted(1, 25), key_revision=known.revision, **labels)
    assert await ledger.roll_up(NOON_S + 2 * DAY_S) == 2
    await ledger.set_limits(place, limits)
    (known,) = await ledger.list_keys()
    admission = ask("new", 26, at_s=NOON_S + 3 * DAY_S, revision=known.revision)._replace(**labels)  # type: ignore[arg-type]
    refused = await ledger.admit(admission)
    assert isinstance(refused, Refused)
    assert (refused.scope, refused.left_nano_usd) == (scope, 25)
    states = await ledger.list_budgets(NOON_S + 3 * DAY_S)
    assert [(one.scope, one.posted_nano_usd) for one in states] == [(scope, 75)]


requests = st.lists(
    st.fixed_dictionaries(
        {
            "days": st.integers(0, 4),
            "hours": st.floats(0, 23.999),
            "key_name": st.sampled_from(["app", "other"]),
            "tenant": st.sampled_from([None, "acme"]),
            "user": st.sampled_from([None, "ann", "bob"]),
            "app": st.sampled_from([None, "Chat"]),
            "tags": st.sampled_from([(), (("job", "1"),), (("job", "1"), ("who", "x")), (("job", "2"),)]),
            "route": st.sampled_from(["chat", "fast"]),
            "ends": st.lists(
                st.tuples(
                    st.sampled_from(
                        [None, *(CostSource(name) for name in ("reported", "computed", "held", "unknown"))]
                    ),
                    st.integers(0, 10**12),
                    st.sampled_from([None, "timeout"]),
                    st.booleans(),
                    st.sampled_from([None, 0, 9]),
                ),
                min_size=1,
                max_size=3,
            ),
        }
    ),
    max_size=12,
)


def make_end(number: int, source: CostSource | None, cost: int, error: str | None, saved: int | None) -> AttemptEnd:
    """An end of any kind; without a source it is voided."""
    if source is None:
        return voided(number)
    end = posted(number, None if source is CostSource.UNKNOWN else cost, usage=Usage(cost % 97, 4, 3, 2, 1, 1, 2, 1))
    return end._replace(cost_source=source, error=error, saved_nano_usd=saved)


async def question(ledger: Ledger) -> list[Sequence[UsageSum]]:
    """Ask by every grouping, each for all, for one key, and for a tenant's days."""
    words: tuple[dict[str, Any], ...] = (
        {},
        {"key_name": "app"},
        {"tenant": "acme", "from_s": MIDNIGHT_S + DAY_S, "to_s": MIDNIGHT_S + 3 * DAY_S},
    )
    return [await ledger.sum_usage(UsageQuery(by, **given)) for by in GROUPINGS for given in words]


async def compare(ledger: Ledger, sums: list[Sequence[UsageSum]]) -> None:
    """I13: the export, the report and what a client reads of it come to the same."""
    rows = await ledger.export(since_s=None, after_seq=0, rows_max=999)
    for by, (of_all, *_) in zip(GROUPINGS, zip(*[iter(sums)] * 3, strict=True), strict=True):
        read = list(csv.DictReader(io.StringIO(write_usage("csv", by)(of_all), newline="")))
        if "tag" in by:
            continue
        for name in ("input_tokens", "output_tokens", "cached_tokens", "cache_write_1h_tokens"):
            booked = sum(getattr(row.usage, name) for row in rows)
            assert booked == sum(getattr(one, name) for one in of_all) == sum(int(line[name]) for line in read)
        cost = sum(row.cost_nano_usd or 0 for row in rows)
        assert cost == sum(one.cost_nano_usd for one in of_all)
        assert format_usd(cost) == f"{sum(Decimal(line['cost_usd']) for line in read):.9f}"
        assert cost == sum(amount for one in of_all for amount in one.cost_by_source.values())


async def live(house: House, asked: list[dict[str, Any]], rolled_days: list[int]) -> list[Sequence[UsageSum]]:
    """Book everything, then let detail go again and again; gives what was answered each time."""
    ledger = await house.open()
    await ledger.declare_keys([key("app", None), key("other", None)])
    for number, words in enumerate(asked):
        await book(ledger, f"r{number}", dict(words))
    before = await question(ledger)
    await compare(ledger, before)
    for days in rolled_days:
        await ledger.roll_up(MIDNIGHT_S + days * DAY_S)
        assert await question(ledger) == before
    await house.close()
    return before


async def book(ledger: Ledger, request_id: str, words: dict[str, Any]) -> None:
    """One request as it was drawn."""
    at_s = MIDNIGHT_S + words.pop("days") * DAY_S + words.pop("hours") * HOUR_S
    ends = [
        make_end(number, source, cost, error, saved)._replace(is_overrun=overrun)
        for number, (source, cost, error, overrun, saved) in enumerate(words.pop("ends"), 1)
    ]
    await spend(ledger, request_id, at_s, *ends, **words)


@settings(max_examples=25, deadline=None)
@given(asked=requests, rolled_days=st.lists(st.integers(0, 6), min_size=1, max_size=3))
def test_no_sum_knows_whether_there_is_detail(asked: list[dict[str, Any]], rolled_days: list[int]) -> None:
    """By anything, for any key, tenant and span of days: before and after, twice, and in both ledgers."""
    with tempfile.TemporaryDirectory() as folder:
        houses: list[House] = [MemoryHouse(), SqliteHouse(Path(folder))]
        first, second = (asyncio.run(live(house, asked, rolled_days)) for house in houses)
    assert first == second
    (total,) = first[0]
    for by, (sums, *_) in zip(GROUPINGS, zip(*[iter(first)] * 3, strict=True), strict=True):
        if "tag" not in by:
            assert sum(one.cost_nano_usd for one in sums) == total.cost_nano_usd


async def test_the_books_add_up_afterwards(tmp_path: Path) -> None:
    """Balances kept of windows that passed go with the detail, those for all time stay; nothing is left of the tags."""
    house = SqliteHouse(tmp_path)
    ledger = await house.open()
    budgets = tuple(Budget(10**6, period) for period in Period)
    await ledger.declare_keys([replace(key("app", None), limits=Limits(budgets=budgets))])
    for days in range(40):
        await spend(ledger, f"r{days}", NOON_S + days * DAY_S, voided(1), posted(2, 5), tags=(("job", str(days % 3)),))
    assert await ledger.roll_up(NOON_S + 38 * DAY_S) == 2 * 38
    await house.close()
    found = verify(find_file(house.data_dir), owners=find_owners(house.data_dir))
    assert found.findings == ()
    connection = connect(find_file(house.data_dir))
    assert connection.execute("SELECT count(*), min(at_s) FROM attempt_tags").fetchone() == (4, NOON_S + 38 * DAY_S)
    (balances,) = connection.execute("SELECT count(*) FROM balances").fetchone()
    # All time; the two days that are left, their two hours, and their week.
    assert balances == 1 + 2 + 2 + 1
    connection.execute("UPDATE days SET failed = 1, cost_nano_usd = cost_nano_usd + 1 WHERE number = 2")
    connection.close()
    broken = verify(find_file(house.data_dir), owners=find_owners(house.data_dir))
    assert {finding.check for finding in broken.findings} == {Check.DAY, Check.BALANCE}
