"""Output caps no client asked for: lowered to what a prompt leaves, never a reason to refuse (openrouter.md 2.1)."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.errors import ContextLengthExceeded
from proxy.pricing import ModelFacts
from proxy.routing.fitting import fit_contexts
from proxy.routing.holds import OUTPUT_TOKENS_FLOOR
from proxy.routing.plan import Plan
from proxy.routing.principal import Principal, asked_output_tokens
from proxy.routing.transforms import PromptTokens
from tests.routing.made import table, target
from tests.routing.test_plan import plan

CONTEXT = 10_000
MARGIN = 200


def planned(default: dict[str, Any], *, of_key: dict[str, Any] | None = None, **fields: Any) -> Plan:
    """Plan a request for a model with default params."""
    made = target("openai/m", facts=ModelFacts(context_tokens=CONTEXT), params=default)
    return plan(table({"chat": [made]}), principal=Principal("app", params=of_key or {}), **fields)


def fit(made: Plan, text: int, *, tools: int = 0) -> dict[str, Any]:
    """Give the output caps sent behind a prompt of so many tokens."""
    (candidate,) = fit_contexts(made, {0: PromptTokens("m", (text,), tools, 0)}).candidates
    return {name: candidate.body[name] for name in ("max_tokens", "max_completion_tokens") if name in candidate.body}


@pytest.mark.parametrize(
    ("text", "tools", "cap"),
    [
        (100, 0, 8_000),
        (CONTEXT - MARGIN - 8_000, 0, 8_000),
        (CONTEXT - MARGIN - 7_999, 0, 7_999),
        (5_000, 0, 4_800),
        (4_000, 1_000, 4_800),
        (CONTEXT - MARGIN - OUTPUT_TOKENS_FLOOR, 0, OUTPUT_TOKENS_FLOOR),
    ],
)
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_default_is_lowered_to_what_the_prompt_leaves(name: str, text: int, tools: int, cap: int) -> None:
    """With a margin, as counts are estimates; what fits is left alone."""
    assert fit(planned({name: 8_000}), text, tools=tools) == {name: cap}


def test_both_names_are_lowered() -> None:
    """A model may heed either; the lower one stays."""
    assert fit(planned({"max_tokens": 8_000, "max_completion_tokens": 100}), 5_000) == {
        "max_tokens": 4_800,
        "max_completion_tokens": 100,
    }


def test_the_default_itself_is_not_changed() -> None:
    """The next request begins with it again."""
    default = {"max_tokens": 8_000}
    made = planned(default)
    fit(made, 5_000)
    assert (default, made.candidates[0].body["max_tokens"]) == ({"max_tokens": 8_000}, 8_000)


@pytest.mark.parametrize(
    "said",
    [
        {"max_tokens": 8_000},
        {"max_completion_tokens": 8_000},
        {"of_key": {"max_tokens": 8_000}},
    ],
)
def test_a_cap_that_was_asked_for_is_never_lowered(said: dict[str, Any]) -> None:
    """The client's own, and its key's (openrouter.md 2.1): too long is too long."""
    made = planned({"max_tokens": 1_000}, **said)
    assert made.asked_output_tokens == 8_000
    with pytest.raises(ContextLengthExceeded, match="8000 in the output"):
        fit(made, 5_000)


def test_a_prompt_that_leaves_no_useful_answer_is_refused() -> None:
    """A cap is not lowered below that."""
    with pytest.raises(ContextLengthExceeded, match="8000 in the output"):
        fit(planned({"max_tokens": 8_000}), CONTEXT - MARGIN - OUTPUT_TOKENS_FLOOR + 1)


def test_a_prompt_without_any_cap_is_judged_alone() -> None:
    """There is nothing to lower."""
    made = planned({})
    assert (made.asked_output_tokens, fit(made, CONTEXT)) == (None, {})


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ({}, None),
        ({"max_tokens": None}, None),
        ({"max_tokens": 0}, None),
        ({"max_tokens": "9"}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 5}, 5),
        ({"max_tokens": 5, "max_completion_tokens": 9}, 9),
        ({"max_tokens": 9, "max_completion_tokens": 5}, 9),
    ],
)
def test_of_two_caps_the_higher_counts(body: dict[str, Any], asked: int | None) -> None:
    """A model may heed either."""
    assert asked_output_tokens(body) == asked
