"""What was billed beside what was booked: bills on each ledger alike, and how drift is told from them."""

from __future__ import annotations

import pytest

from proxy.ledger.bills import BILLS_KEPT_S, DRIFT_FLOOR_NANO_USD, Bill, Drift, find_drifts, list_newest
from proxy.ledger.protocol import Ledger
from proxy.policy.scopes import PAYER_TENANT
from tests.ledger.entries import DAY_S, NOON_S, ask, key, over, posted, start

USD = 1_000_000_000


def bill(hours: float, billed: int, booked: int, **more: object) -> Bill:
    """One look at an account, so many hours after noon."""
    fields: dict[str, object] = {"provider": "openrouter", "upstream_key": "", "fingerprint": "f", **more}
    return Bill(at_s=NOON_S + hours * 3600, billed_nano_usd=billed, booked_nano_usd=booked, **fields)  # type: ignore[arg-type]  # a test's


async def test_readings_are_kept_by_account_and_time(ledger: Ledger) -> None:
    """As they were, and so long as drift is looked at."""
    later, other = bill(1, 3, 2, left_nano_usd=5), bill(0, 7, 7, upstream_key="spare")
    first = bill(0, 1, 1)
    for one in (later, other, first, first):
        await ledger.bills.add(one)
    assert await ledger.bills.list() == [first, later, other]
    assert list_newest(await ledger.bills.list()) == [later, other]
    newest = bill(BILLS_KEPT_S / 3600 + 0.5, 9, 9)
    await ledger.bills.add(newest)
    assert await ledger.bills.list() == [later, newest]


async def test_what_was_ever_booked_is_summed_by_credential(ledger: Ledger) -> None:
    """On our account, settled, whether the detail is there or not."""
    await ledger.declare_keys([key("app", None)])
    spends = [("one", None, 5), ("two", "spare", 7), ("three", "spare", 11), ("other", None, 100)]
    for days, (request_id, upstream_key, cost) in enumerate(spends):
        begins = start(1, 20, provider="elsewhere" if request_id == "other" else "sim")
        attempt = begins._replace(upstream_key=upstream_key)
        await ledger.admit(ask(request_id, at_s=NOON_S + days * DAY_S, attempts=[attempt]))
        await ledger.settle(over(request_id, posted(1, cost)))
    await ledger.admit(ask("theirs", at_s=NOON_S, attempts=[start(1, 20)._replace(payer=PAYER_TENANT)]))
    await ledger.settle(over("theirs", posted(1, 1000)))
    await ledger.admit(ask("running", at_s=NOON_S))
    for before_s in (0.0, NOON_S + 2 * DAY_S, NOON_S + 9 * DAY_S):
        await ledger.roll_up(before_s)
        assert await ledger.bills.sum_booked("sim") == {"": 5, "spare": 18}
    assert await ledger.bills.sum_booked("nobody") == {}


@pytest.mark.parametrize(
    ("bills", "drifts"),
    [
        ([], []),
        ([bill(0, 5, 3)], []),
        # What was billed before the first bill is somebody else's, and no drift.
        ([bill(0, 900, 3), bill(1, 910, 12)], [(9, 10)]),
        ([bill(0, 5, 3), bill(1, 6, 4), bill(2, 9, 9)], [(6, 4)]),
        # Another credential, or a figure set back, begins anew.
        ([bill(0, 5, 3, fingerprint="old"), bill(1, 900, 4), bill(2, 901, 5)], [(1, 1)]),
        ([bill(0, 5, 3, fingerprint="old"), bill(1, 900, 4)], []),
        ([bill(0, 900, 3), bill(1, 5, 4), bill(2, 7, 6)], [(2, 2)]),
        (
            [
                bill(0, 1, 1),
                bill(1, 2, 3),
                bill(0, 5, 5, upstream_key="b"),
                bill(1, 8, 5, upstream_key="b"),
            ],
            [(2, 1), (0, 3)],
        ),
    ],
)
def test_drift_is_between_two_readings_of_one_account(bills: list[Bill], drifts: list[tuple[int, int]]) -> None:
    """Ours, theirs."""
    assert [(one.ours_nano_usd, one.theirs_nano_usd) for one in find_drifts(bills)] == drifts


@pytest.mark.parametrize(
    ("ours", "theirs", "is_notable"),
    [
        (100 * USD, 100 * USD, False),
        (100 * USD, 100 * USD + USD // 2, False),
        (100 * USD, 100 * USD + USD // 2 + USD // 100, True),
        (1000 * USD, 1001 * USD, False),
        (1000 * USD, 1001 * USD + 1, True),
        (1001 * USD + 1, 1000 * USD, True),
        (0, DRIFT_FLOOR_NANO_USD, False),
        (0, DRIFT_FLOOR_NANO_USD + 1, True),
        (DRIFT_FLOOR_NANO_USD + 1, 0, True),
        (0, 0, False),
    ],
)
def test_drift_is_notable_above_a_share_and_an_amount(ours: int, theirs: int, is_notable: bool) -> None:
    """0.5 % or $1, in either direction, and never less than a cent."""
    assert Drift("openrouter", "", ours, theirs, 0.0, 1.0).is_notable is is_notable
