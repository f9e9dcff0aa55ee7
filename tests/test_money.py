"""Money: exact decimals in, whole nano-USD out, rounded up, and nothing else understood."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.money import (
    AMOUNT_NANO_USD_MAX,
    Budget,
    Period,
    format_usd,
    parse_amount,
    parse_budget,
    parse_token_price,
    parse_usd,
    to_nano_usd,
)

amounts = st.decimals(min_value=0, max_value=10**12, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("text", "usd"),
    [("$5", "5"), ("$0.001", "0.001"), (" $12.50 ", "12.50"), ("$0", "0"), ("$999999999999", "999999999999")],
)
def test_an_amount_is_read_exactly(text: str, usd: str) -> None:
    """Whatever is written is kept digit for digit."""
    assert parse_usd(text) == Decimal(usd)


@pytest.mark.parametrize(
    "text",
    ["5", "5$", "$", "$.5", "$5.", "$-5", "-$5", "$1e3", "$1,000", "€5", "$\u0665", "$1234567890123", "", "$NaN"],
)
def test_what_is_not_an_amount_is_refused_with_the_form_wanted(text: str) -> None:
    """No guess is made about money."""
    with pytest.raises(ValueError, match=r"write it as \$5"):
        parse_usd(text)


@pytest.mark.parametrize(
    ("text", "nano_usd"),
    [
        ("$1", 1_000_000_000),
        ("$0.000000001", 1),
        ("$0.0000000001", 1),  # a tenth of a nano is a nano
        ("$0.0000000011", 2),  # 1.1 nano is 2
        ("$0", 0),
    ],
)
def test_an_amount_rounds_up_to_nano_usd(text: str, nano_usd: int) -> None:
    """Rounding is up, always."""
    assert parse_amount(text) == nano_usd


def test_an_amount_the_books_cannot_hold_is_refused() -> None:
    """A 64-bit column ends at about nine billion dollars; the largest amount that fits is taken."""
    assert parse_amount("$9000000000") == AMOUNT_NANO_USD_MAX
    with pytest.raises(ValueError, match="most the books can hold"):
        parse_amount("$9000000000.000000001")


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("$5", Budget(5_000_000_000, Period.TOTAL)),
        ("$0.50/day", Budget(500_000_000, Period.DAY)),
        ("$1 / hour", Budget(1_000_000_000, Period.HOUR)),
        ("$1/week", Budget(1_000_000_000, Period.WEEK)),
        ("$200/month", Budget(200_000_000_000, Period.MONTH)),
        ("$3/total", Budget(3_000_000_000, Period.TOTAL)),
    ],
)
def test_a_budget_is_an_amount_per_period(text: str, budget: Budget) -> None:
    """A bare amount is for all time."""
    assert parse_budget(text) == budget


@pytest.mark.parametrize("text", ["$5/year", "$5/", "$5/Day", "$5/day/hour"])
def test_an_unknown_period_is_refused_with_those_there_are(text: str) -> None:
    """A budget without a readable period must not become one for all time."""
    with pytest.raises(ValueError, match="use hour, day, week, month or total"):
        parse_budget(text)


@pytest.mark.parametrize(
    ("text", "usd_per_million"),
    [
        ("$1.25/M", "1.25"),
        ("$1.25/1M", "1.25"),
        ("$1.25 / m", "1.25"),
        ("$0.002/K", "2"),
        ("$0.002/1k", "2"),
        ("$123456789012.123456789012345678/K", "123456789012123.456789012345678"),
    ],
)
def test_a_token_price_is_per_million_tokens(text: str, usd_per_million: str) -> None:
    """Prices per thousand are turned into prices per million without losing a digit."""
    assert parse_token_price(text) == Decimal(usd_per_million)


@pytest.mark.parametrize("text", ["$1.25", "$1.25/", "$1.25/token", "$1.25/G"])
def test_a_price_without_a_unit_is_refused(text: str) -> None:
    """Per token, per thousand or per million is never guessed."""
    with pytest.raises(ValueError, match="per million tokens"):
        parse_token_price(text)


@given(amounts)
def test_rounding_up_adds_less_than_a_nano(usd: Decimal) -> None:
    """The books say the bill or up to one nano-USD more, at any size and precision."""
    exact = Fraction(usd) * 10**9
    assert 0 <= to_nano_usd(usd) - exact < 1


@given(st.floats(min_value=0, max_value=1e300))
def test_any_reported_float_is_converted_without_leaving_decimals(cost: float) -> None:
    """What a vendor's JSON holds is read by its digits: no figure is too long to be exact."""
    exact = Fraction(Decimal(repr(cost))) * 10**9
    assert 0 <= to_nano_usd(Decimal(repr(cost))) - exact < 1


@given(st.integers(min_value=0, max_value=AMOUNT_NANO_USD_MAX))
def test_nano_usd_survive_the_way_to_usd_and_back(nano_usd: int) -> None:
    """Nothing is lost in either direction, nor in what is printed."""
    assert to_nano_usd(Decimal(format_usd(nano_usd))) == nano_usd


@pytest.mark.parametrize(
    ("nano_usd", "text"),
    [(1_234_567, "0.001234567"), (0, "0.000000000"), (5_000_000_000, "5.000000000"), (10**18, "1000000000.000000000")],
)
def test_usd_is_written_with_nine_places(nano_usd: int, text: str) -> None:
    """The form of our own JSON: no exponent, no float."""
    assert format_usd(nano_usd) == text
