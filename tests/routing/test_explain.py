"""What would happen to a request, in words and figures: the real planner's answer."""

from __future__ import annotations

from decimal import Decimal

import pytest

from proxy.pricing import ModelFacts, Prices
from proxy.routing.eligibility import Skipped
from proxy.routing.explain import Explained, as_json, explain, price_json
from proxy.routing.holds import size
from proxy.routing.plan import Plan
from tests.routing.made import plan_of, prices, target

CHEAP = ModelFacts(prices(1, 2), 128_000, 1_000)
DEAR = ModelFacts(Prices(Decimal("3.5"), Decimal("0.0000001"), source="catalogue", as_of="2026-11-01"), 8_000, 1_000)


def explained(*, has_budget: bool = False) -> Plan:
    """Size a plan of two priced targets and one without a price, with one left out before."""
    plan = plan_of(target("or/a", facts=CHEAP), target("b/b", facts=DEAR), "c/c", has_budget=has_budget)
    plan = plan._replace(skipped=(Skipped(target("d/d", facts=CHEAP), "D_KEY is not set"),))
    return size(plan, [100, 100, 100], room_nano_usd=None)


def test_targets_are_told_in_the_order_they_are_tried() -> None:
    """First those that are tried, each with when; then those that are not, each with why."""
    rows = explain(explained(has_budget=True))
    assert rows == (
        Explained(
            "or/a",
            included=True,
            reason="tried first",
            price=CHEAP.prices,
            worst_case_nano_usd=2_100_000,
            context_tokens=128_000,
        ),
        Explained(
            "b/b",
            included=True,
            reason="tried when or/a fails",
            price=DEAR.prices,
            worst_case_nano_usd=350_001,
            context_tokens=8_000,
        ),
        Explained("d/d", included=False, reason="D_KEY is not set", price=CHEAP.prices),
        Explained("c/c", included=False, reason="its price is not known, and a limit in money holds"),
    )


def test_a_target_without_a_price_has_no_worst_case() -> None:
    """Unknown is not 0."""
    row = explain(explained())[2]
    assert (row.target, row.included, row.price, row.worst_case_nano_usd) == ("c/c", True, None, None)


def test_the_explanation_as_json() -> None:
    """The shape of `turnpike explain --json`: money in decimal strings, null where nothing is known."""
    shown = as_json(explained(has_budget=True))
    assert {name: shown[name] for name in ("model", "route", "worst_case_usd")} == {
        "model": "chat",
        "route": "chat",
        "worst_case_usd": "0.002100000",
    }
    first, second, third, fourth = shown["candidates"]
    assert first == {
        "target": "or/a",
        "included": True,
        "reason": "tried first",
        "context_tokens": 128_000,
        "price": {"input": "1", "output": "2", "source": "routes.yaml", "as_of": ""},
        "worst_case_usd": "0.002100000",
    }
    assert second["price"] == {"input": "3.5", "output": "0.0000001", "source": "catalogue", "as_of": "2026-11-01"}
    assert (third["included"], third["worst_case_usd"]) == (False, None)
    assert (fourth["price"], fourth["context_tokens"]) == (None, None)


def test_without_any_price_there_is_no_worst_case() -> None:
    """Nor for the whole."""
    assert as_json(plan_of("c/c"))["worst_case_usd"] is None


@pytest.mark.parametrize(("price", "text"), [("1E+1", "10"), ("1E-7", "0.0000001"), ("0", "0"), ("2.50", "2.50")])
def test_prices_are_plain_decimals(price: str, text: str) -> None:
    """No exponents: people and spreadsheets read them."""
    assert price_json(prices(price, price)) == {"input": text, "output": text, "source": "routes.yaml", "as_of": ""}


def test_a_direct_backup_is_told_from_what_the_table_names() -> None:
    """Its reason says why it stands there."""
    plan = plan_of("or/a", target("b/a", is_backup=True), "c/c")
    plan = plan._replace(skipped=(Skipped(target("d/d", is_backup=True), "D_KEY is not set"),))
    assert [row.reason for row in explain(plan)] == [
        "tried first",
        "direct backup, tried when or/a fails",
        "tried when b/a fails",
        "direct backup, D_KEY is not set",
    ]
    assert explain(plan_of(target("b/a", is_backup=True)))[0].reason == "direct backup, tried first"
