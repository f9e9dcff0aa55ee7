"""How a request was routed, in the shape of `openrouter_metadata` (openrouter.md 4.9)."""

from __future__ import annotations

import pytest

from proxy.errors import Failure, FailureKind
from proxy.routing.eligibility import Skipped
from proxy.routing.metadata import describe_routing
from proxy.routing.plan import Plan
from proxy.routing.steps import Outcome
from tests.routing.made import plan_of, target

TWO = plan_of("or/a", "openai/b")


def failed(index: int, status: int | None = 503) -> Outcome:
    """Make an attempt that failed."""
    return Outcome(index, Failure(FailureKind.SERVER_ERROR, "no", status=status), 12)


def test_a_direct_answer() -> None:
    """One target, one try."""
    assert describe_routing(plan_of("openai/b"), (), 0) == {
        "requested": "chat",
        "strategy": "direct",
        "region": None,
        "summary": "1 targets, 1 tried, served by openai/b",
        "attempt": 1,
        "is_byok": False,
        "endpoints": {"total": 1, "available": [{"provider": "openai", "model": "b", "selected": True}]},
        "attempts": [{"provider": "openai", "model": "b", "status": 200}],
    }


def test_a_fallback_that_served() -> None:
    """Who was tried in vain comes first; who was left out counts among all."""
    plan = TWO._replace(skipped=(Skipped(target("groq/c"), "no"),))
    made = describe_routing(plan, (failed(0),), 1)
    assert (made["strategy"], made["attempt"], made["endpoints"]["total"]) == ("fallback", 2, 3)
    assert [part["selected"] for part in made["endpoints"]["available"]] == [False, True]
    assert made["attempts"] == [
        {"provider": "or", "model": "a", "status": 503},
        {"provider": "openai", "model": "b", "status": 200},
    ]


@pytest.mark.parametrize(
    ("plan", "outcomes", "attempt"),
    [(TWO, (), 0), (TWO, (failed(0),), 1), (TWO, (failed(0), failed(1), failed(1)), 3)],
)
def test_nobody_served(plan: Plan, outcomes: tuple[Outcome, ...], attempt: int) -> None:
    """0 is a request that reached no provider."""
    made = describe_routing(plan, outcomes, None)
    assert (made["attempt"], len(made["attempts"])) == (attempt, attempt)
    assert made["summary"].endswith("served by nobody")
    assert not any(part["selected"] for part in made["endpoints"]["available"])
