"""What the ledger's refusals are to a client."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.errors import FailureKind, RateLimited, UpstreamUnusable
from proxy.gateway.refusals import (
    Spent,
    limit_failure,
    over_budget,
    over_ceiling,
    over_rate,
    pool_rests,
    resting_failure,
    unpriced,
)
from proxy.ledger.records import Limited, Refused, Unpriced
from proxy.policy.limits import Measure
from proxy.policy.pools import Resting
from tests.gateway.stage import a_target

MIDNIGHT_S = 1_795_046_400
K = FailureKind


def refused(**fields: Any) -> Refused:
    """Make a refusal of a day's budget."""
    given: dict[str, Any] = {
        "scope": "key:app",
        "needed_nano_usd": 500,
        "left_nano_usd": 100,
        "limit_nano_usd": 1_000,
        "held_nano_usd": 0,
        "resets_at_s": MIDNIGHT_S,
    }
    return Refused(**(given | fields))


def test_a_spent_budget_is_told_with_its_figures() -> None:
    """Needed, left, limit, held, place and the next start; no SDK tries again."""
    error = over_budget(500, refused())
    assert (error.status, error.code, error.should_retry, error.retry_after_s) == (402, "budget_exceeded", False, None)
    assert error.metadata == {
        "needed": "0.000000500",
        "left": "0.000000100",
        "limit": "0.000001000",
        "held": "0.000000000",
        "resets_at": "2026-11-19T00:00:00Z",
        "scope": "key:app",
    }
    assert "starts anew at 2026-11-19T00:00:00Z" in error.message


def test_a_budget_that_never_starts_anew_is_the_operators() -> None:
    """The remedy is another."""
    error = over_budget(500, refused(resets_at_s=None))
    assert error.metadata["resets_at"] is None
    assert "Ask the operator" in error.message


@pytest.mark.parametrize(("held", "is_temporary"), [(399, False), (400, True), (900, True)])
def test_money_that_is_only_held_may_come_back(held: int, *, is_temporary: bool) -> None:
    """Then, and only then, waiting helps: Retry-After, and no word against trying again."""
    error = over_budget(500, refused(held_nano_usd=held))
    assert (error.retry_after_s is not None, error.should_retry is None) == (is_temporary, is_temporary)
    assert "held by requests under way" in error.message


def test_a_ceiling_is_told_with_its_figures() -> None:
    """It has no next start."""
    error = over_ceiling(500, 100)
    assert (error.status, error.code) == (402, "max_cost_exceeded")
    assert error.metadata == {"needed": "0.000000500", "left": "0.000000100", "resets_at": None}


def test_a_way_out_is_kept() -> None:
    """Where to go and whose budget it was."""
    spent = Spent(refused(when_spent="cheap"))
    assert (spent.instead, spent.scope) == ("cheap", "key:app")


@pytest.mark.parametrize(
    ("limited", "measure", "words"),
    [
        (Limited("key:app", Measure.REQUESTS, 60, 60, 12.34), "requests", "60 requests in 60 s"),
        (Limited("key:app", Measure.TOKENS, 1_000, 60, 12.34), "tokens", "1000 tokens in 60 s"),
        (Limited("key:app", None, 3, None, 12.34), "parallel", "3 requests at once"),
    ],
)
def test_a_rate_is_told_with_its_figures(limited: Limited, measure: str, words: str) -> None:
    """429 with place, measure, limit, window and wait."""
    error = over_rate(limited)
    assert (error.status, error.code, error.retry_after_s) == (429, "rate_limit_exceeded", 12.34)
    assert error.metadata == {
        "scope": "key:app",
        "measure": measure,
        "limit": limited.limit,
        "window_s": limited.window_s,
    }
    assert words in error.message


def test_a_targets_own_limits_are_failures_of_it() -> None:
    """A rate is waited for, a budget is not."""
    rate = limit_failure(Limited("provider:up", Measure.REQUESTS, 60, 60, 7.0))
    assert (rate.kind, rate.retry_after_s) == (K.RATE_LIMITED, 7.0)
    budget = limit_failure(refused(scope="provider:up"))
    assert (budget.kind, budget.retry_after_s) == (K.CREDITS, None)


def test_an_unknown_price_is_a_matter_of_the_file() -> None:
    """It names the budget that cannot be kept."""
    error = unpriced(Unpriced("global"))
    assert (error.status, error.code, error.param) == (400, "price_unknown", "model")
    assert "global" in error.message


@pytest.mark.parametrize(
    ("resting", "wait_s"),
    [(Resting(K.RATE_LIMITED, 7.0), 7.0), (Resting(K.RATE_LIMITED, 9_000.0), 60.0), (Resting(K.RATE_LIMITED), None)],
)
def test_a_pool_at_its_limit_is_waited_for(resting: Resting, wait_s: float | None) -> None:
    """But nobody is told to stay away longer than a minute."""
    error = pool_rests(resting, a_target("up/m"))
    assert isinstance(error, RateLimited)
    assert (error.retry_after_s, error.metadata) == (wait_s, {"scope": "target:up/m"})
    assert resting_failure(resting, a_target("up/m")).retry_after_s == wait_s


@pytest.mark.parametrize(("kind", "code"), [(K.CREDENTIALS, "upstream_credentials"), (K.CREDITS, "upstream_credits")])
def test_a_pool_that_is_refused_is_the_gateways_matter(kind: FailureKind, code: str) -> None:
    """503 that nobody tries again, however soon a key is back."""
    error = pool_rests(Resting(kind, 7.0), a_target("up/m"))
    assert isinstance(error, UpstreamUnusable)
    assert (error.status, error.code, error.should_retry, error.retry_after_s) == (503, code, False, None)
