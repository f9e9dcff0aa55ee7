"""Figures held against rules: the limits, their margins, and what is too little to tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.money import UTC_NAME, Period
from proxy.policy.figures import (
    BudgetFigure,
    CreditFigure,
    DriftFigure,
    EventFigure,
    Figures,
    ProviderFigure,
    RecentFigure,
    SpendFigure,
)
from proxy.policy.incidents import Level, Reading
from proxy.policy.readings import DOWN_ATTEMPTS, REQUESTS_MIN, UP_ATTEMPTS, measure
from proxy.policy.rules import PPM, Rule, Signal

USD = 1_000_000_000
MIDNIGHT_S = 1_795_219_200
"""2026-11-21 00:00 UTC."""
BUDGET = BudgetFigure("key:mobile", "day", 5 * USD, 0, MIDNIGHT_S)
SHARE = Rule(Signal.SPEND, share_ppm=800_000)
RATE = Rule(Signal.ERROR_RATE, share_ppm=100_000)
CREDITS = Rule(Signal.UPSTREAM_CREDITS, amount_nano_usd=5 * USD)


def read(rule: Rule, figures: Figures) -> list[Reading]:
    """Hold a rule against figures that are known."""
    found = measure(rule, figures)
    assert found is not None
    return found


@pytest.mark.parametrize("signal", list(Signal))
def test_what_is_not_known_gives_no_reading(signal: Signal) -> None:
    """So what is open of it stays open."""
    rule = Rule(signal, share_ppm=PPM // 2, limit_ms=1)
    if signal is Signal.UPSTREAM_CREDITS:
        rule = CREDITS
    assert measure(rule, Figures()) is None


def test_amounts_not_known_give_no_reading() -> None:
    """A spend in money is another figure than a share of a budget."""
    assert measure(Rule(Signal.SPEND, amount_nano_usd=1, period=Period.DAY), Figures(budgets=())) is None


# $5 a day, told over 80 %, which is $4, and over when it is a tenth clear of that: $3.60.
@pytest.mark.parametrize(
    ("posted", "level"),
    [
        (4 * USD + 1, Level.OVER),
        (4 * USD, Level.BETWEEN),
        (3_600_000_001, Level.BETWEEN),
        (3_600_000_000, Level.CLEAR),
        (0, Level.CLEAR),
    ],
)
def test_a_share_of_a_budget(posted: int, level: Level) -> None:
    """Over at the first nano past it; over for good a tenth below."""
    (found,) = read(SHARE, Figures(budgets=(replace(BUDGET, posted_nano_usd=posted),)))
    assert found.level is level
    assert (found.rule, found.subject, found.turn) == ("spend > 80%", "key:mobile/day", MIDNIGHT_S)


def test_a_budgets_message() -> None:
    """What, how much of what, and what to do."""
    (found,) = read(SHARE, Figures(budgets=(replace(BUDGET, posted_nano_usd=4_100_000_000),)))
    assert found.what == "key mobile has spent $4.10 of $5.00 today (82%)"
    assert found.advice == "raise the budget, or wait until 2026-11-21T00:00Z"
    assert found.figure == "82%"
    forever = BudgetFigure("global", "total", 5 * USD, 5 * USD, None)
    (found,) = read(SHARE, Figures(budgets=(forever,)))
    assert found.what == "the gateway has spent $5.00 of $5.00 in all (100%)"
    assert (found.advice, found.turn) == ("raise the budget", 0)


def test_a_budget_of_nothing_is_no_division() -> None:
    """It is over with the first cost."""
    for posted, level in ((0, Level.CLEAR), (1, Level.OVER)):
        budget = BudgetFigure("key:a", "day", 0, posted, MIDNIGHT_S)
        (found,) = read(SHARE, Figures(budgets=(budget,)))
        assert found.level is level


def test_scopes_narrow_spend() -> None:
    """Each budget is a subject of its own; a filter leaves the others out."""
    budgets = tuple(replace(BUDGET, scope=scope) for scope in ("key:a", "key:b", "tenant:a"))
    assert len(read(SHARE, Figures(budgets=budgets))) == 3
    narrowed = replace(SHARE, scopes=("key:a", "tenant:a"))
    found = read(narrowed, Figures(budgets=budgets))
    assert [one.subject for one in found] == ["key:a/day", "tenant:a/day"]


def test_spend_in_money_is_of_the_whole_gateway_unless_scoped() -> None:
    """And of the period and the calendar that the rule names."""
    rule = Rule(Signal.SPEND, amount_nano_usd=10 * USD, period=Period.DAY)
    spends = (
        SpendFigure("global", Period.DAY, UTC_NAME, 10 * USD + 1, MIDNIGHT_S),
        SpendFigure("global", Period.DAY, "Europe/Berlin", 1, MIDNIGHT_S),
        SpendFigure("global", Period.TOTAL, UTC_NAME, 99 * USD, None),
        SpendFigure("key:a", Period.DAY, UTC_NAME, 99 * USD, MIDNIGHT_S),
    )
    (found,) = read(rule, Figures(spends=spends))
    assert (found.subject, found.level, found.turn) == ("global/day", Level.OVER, MIDNIGHT_S)
    assert found.what == "the gateway has spent $10.000000001 today"
    (found,) = read(replace(rule, period=Period.TOTAL), Figures(spends=spends))
    assert (found.level, found.turn) == (Level.OVER, 0)
    (found,) = read(replace(rule, scopes=("key:a",)), Figures(spends=spends))
    assert found.what == "key a has spent $99.00 today"


# Told below $5; over when a tenth is there again: $5.50.
@pytest.mark.parametrize(
    ("left", "level"),
    [
        (5 * USD - 1, Level.OVER),
        (-1, Level.OVER),
        (5 * USD, Level.BETWEEN),
        (5_499_999_999, Level.BETWEEN),
        (5_500_000_000, Level.CLEAR),
    ],
)
def test_credits(left: int, level: Level) -> None:
    """From above."""
    (found,) = read(CREDITS, Figures(credits=(CreditFigure("openrouter", left),)))
    assert (found.level, found.subject) == (level, "provider:openrouter")


GOOD, BAD = True, False


@pytest.mark.parametrize(
    ("answered", "level"),
    [
        ([BAD] * DOWN_ATTEMPTS, Level.OVER),
        ([BAD] * (DOWN_ATTEMPTS - 1), Level.BETWEEN),
        ([BAD] * (DOWN_ATTEMPTS - 1) + [GOOD], Level.BETWEEN),
        ([GOOD] + [BAD] * (DOWN_ATTEMPTS - 1), Level.BETWEEN),
        ([GOOD] * (UP_ATTEMPTS - 1) + [BAD] * (DOWN_ATTEMPTS - 2), Level.BETWEEN),
        ([GOOD] * UP_ATTEMPTS + [BAD] * (DOWN_ATTEMPTS - 3), Level.CLEAR),
        ([GOOD] * (UP_ATTEMPTS - 1), Level.BETWEEN),
        ([GOOD] * UP_ATTEMPTS, Level.CLEAR),
        ([], Level.BETWEEN),
    ],
)
def test_a_provider_is_down_or_up_or_nobody_knows(answered: list[bool], level: Level) -> None:
    """So many failures in a row, so many answers in a row; silence says nothing."""
    (found,) = read(Rule(Signal.PROVIDER_DOWN), Figures(providers=(ProviderFigure("openai", tuple(answered)),)))
    assert (found.level, found.subject) == (level, "provider:openai")
    assert found.figure == f"{answered[:DOWN_ATTEMPTS].count(BAD)} of {len(answered)}"


@pytest.mark.parametrize(
    ("requests", "failed", "level"),
    [
        (REQUESTS_MIN, 2, Level.BETWEEN),
        (REQUESTS_MIN, 3, Level.OVER),
        (REQUESTS_MIN - 1, 19, Level.BETWEEN),
        (100, 9, Level.CLEAR),
        (100, 10, Level.BETWEEN),
        (3, 0, Level.CLEAR),
        (0, 0, Level.CLEAR),
    ],
)
def test_error_rates(requests: int, failed: int, level: Level) -> None:
    """Few requests begin nothing; few that are well, or none, end it."""
    (found,) = read(RATE, Figures(recent=RecentFigure(requests, failed, 0, None)))
    assert (found.level, found.subject) == (level, "gateway")


@pytest.mark.parametrize(
    ("streams", "p95_ms", "level"),
    [
        (REQUESTS_MIN, 10_001, Level.OVER),
        (REQUESTS_MIN, 10_000, Level.BETWEEN),
        (REQUESTS_MIN, 9_000, Level.CLEAR),
        (REQUESTS_MIN - 1, 60_000, Level.BETWEEN),
        (0, None, Level.CLEAR),
    ],
)
def test_first_tokens(streams: int, p95_ms: int | None, level: Level) -> None:
    """As rates."""
    rule = Rule(Signal.P95_FIRST_TOKEN, limit_ms=10_000)
    (found,) = read(rule, Figures(recent=RecentFigure(500, 0, streams, p95_ms)))
    assert found.level is level


@pytest.mark.parametrize("signal", [Signal.UNKNOWN_PRICE, Signal.OVERRUN])
def test_events_are_told_by_provider(signal: Signal) -> None:
    """Each provider that has some."""
    events = (EventFigure("openai", "gpt-9", 1), EventFigure("sim", "echo", 3), EventFigure("groq", "", 0))
    found = read(Rule(signal), Figures(unknown_prices=events, overruns=events))
    assert [(one.subject, one.level) for one in found] == [
        ("provider:openai", Level.OVER),
        ("provider:sim", Level.OVER),
    ]
    assert found[0].what.startswith("1 attempt of the last 15 minutes at openai ")
    assert found[1].what.startswith("3 attempts of the last 15 minutes at sim ")
    assert "gpt-9 among them" in found[0].what


@pytest.mark.parametrize(
    ("rule", "booked", "billed", "level"),
    [
        (Rule(Signal.DRIFT), 1_000 * USD, 1_001 * USD, Level.BETWEEN),
        (Rule(Signal.DRIFT), 1_000 * USD, 1_001 * USD + 1, Level.OVER),
        (Rule(Signal.DRIFT), 1_001 * USD + 1, 1_000 * USD, Level.OVER),
        (Rule(Signal.DRIFT), 1_000, 1_006, Level.OVER),
        (Rule(Signal.DRIFT), 1_000, 1_005, Level.BETWEEN),
        (Rule(Signal.DRIFT), 1_000, 1_000, Level.CLEAR),
        (Rule(Signal.DRIFT), 0, 0, Level.CLEAR),
        (Rule(Signal.DRIFT, share_ppm=20_000), 980, 1_000, Level.BETWEEN),
        (Rule(Signal.DRIFT, share_ppm=20_000), 979, 1_000, Level.OVER),
        (Rule(Signal.DRIFT, amount_nano_usd=USD), 5 * USD, 6 * USD, Level.BETWEEN),
        (Rule(Signal.DRIFT, amount_nano_usd=USD), 5 * USD, 6 * USD + 1, Level.OVER),
    ],
)
def test_drift(rule: Rule, booked: int, billed: int, level: Level) -> None:
    """Alone it means more than half a percent of the bill, or more than a dollar; either way round."""
    (found,) = read(rule, Figures(drifts=(DriftFigure("openrouter", booked, billed),)))
    assert found.level is level
