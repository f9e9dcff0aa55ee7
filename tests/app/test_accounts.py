"""What alerts are told of accounts: by provider, and nothing that is old."""

from __future__ import annotations

from proxy.app.accounts import STALE_S, ReadAccounts
from proxy.clock import ManualClock
from proxy.ledger.bills import DRIFT_FLOOR_NANO_USD, Bill
from proxy.ledger.memory import MemoryLedger
from proxy.policy.figures import CreditFigure, DriftFigure

NOW_S = 1_795_176_000.0
USD = 1_000_000_000


async def told(*bills: Bill, passed_s: float = 0.0) -> tuple[object, object]:
    """Credits and drifts, some time after the last bill."""
    clock = ManualClock(NOW_S + passed_s)
    ledger = MemoryLedger(clock=clock)
    for bill in bills:
        await ledger.bills.add(bill)
    accounts = ReadAccounts(ledger, clock)
    return await accounts.credits(), await accounts.drifts()


def bill(hours: int, billed: int, booked: int, left: int | None = None, *, key: str = "", name: str = "or") -> Bill:
    """One look at an account, so many hours before now."""
    return Bill(name, key, NOW_S - hours * 3600, "f", billed, booked, left)


async def test_nothing_is_told_of_what_nobody_asked() -> None:
    """None is not 0."""
    assert await told() == (None, None)
    assert await told(bill(0, 5, 5)) == (None, None)


async def test_of_several_credentials_the_one_with_the_least_is_told() -> None:
    """And their drifts together."""
    bills = [
        bill(1, 10 * USD, 10 * USD, 9 * USD, key="a"),
        bill(0, 12 * USD, 11 * USD, 7 * USD, key="a"),
        bill(1, 0, 0, 5 * USD, key="b"),
        bill(0, 3 * USD, 3 * USD, 2 * USD, key="b"),
        bill(0, 1, 1, 4 * USD, name="other"),
    ]
    credits_, drifts = await told(*bills)
    assert credits_ == [CreditFigure("or", 2 * USD), CreditFigure("other", 4 * USD)]
    assert drifts == [DriftFigure("or", 4 * USD, 5 * USD)]


async def test_what_is_under_way_is_no_drift() -> None:
    """However large a share of little it is."""
    _, drifts = await told(bill(1, 0, 0), bill(0, DRIFT_FLOOR_NANO_USD, 0))
    assert drifts == [DriftFigure("or", DRIFT_FLOOR_NANO_USD, DRIFT_FLOOR_NANO_USD)]


async def test_old_bills_tell_nothing() -> None:
    """A provider that has not answered for hours may have more or less by now."""
    bills = (bill(1, 0, 0, 5), bill(0, 2 * USD, 0, 5))
    assert await told(*bills, passed_s=STALE_S) == ([CreditFigure("or", 5)], [DriftFigure("or", 0, 2 * USD)])
    assert await told(*bills, passed_s=STALE_S + 1) == (None, None)
