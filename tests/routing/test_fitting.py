"""Prompts and contexts: refused before the upstream in OpenRouter's words, cut where wanted, or sent elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ContextLengthExceeded
from proxy.pricing import ModelFacts
from proxy.routing.bodies import MiddleOut
from proxy.routing.eligibility import Reason
from proxy.routing.fitting import CLAUDE_MESSAGES_MAX, fit_contexts, list_doubtful
from proxy.routing.plan import Plan
from proxy.routing.principal import asked_output_tokens
from proxy.routing.table import Target
from proxy.routing.transforms import PromptTokens, count_prompt
from tests.routing.made import plan_of, static, target

WORDS = "over the hills and far away "
CLAUDE = "or/anthropic/claude-sonnet-4.5"


def sized(name: str, context_tokens: int | None) -> Target:
    """Make a target of this context."""
    return target(name, facts=ModelFacts(context_tokens=context_tokens))


def talk(turns: int, *, words: int = 10, **fields: Any) -> dict[str, Any]:
    """Make a conversation of this many messages, some 62 tokens each, asked by a user at its end."""
    roles = ["user" if (turns - index) % 2 else "assistant" for index in range(turns)]
    said = [{"role": role, "content": f"{index}: {WORDS * words}"} for index, role in enumerate(roles)]
    return {"messages": [{"role": "system", "content": "Be brief."}, *said], **fields}


def a_plan(*targets: Target, body: dict[str, Any], middle_out: MiddleOut = "off", prefers_larger: bool = False) -> Plan:
    """Plan this conversation for these targets."""
    plan = plan_of(*targets, body=body)
    candidates = tuple(candidate._replace(middle_out=middle_out) for candidate in plan.candidates)
    return plan._replace(
        candidates=candidates,
        route=replace(plan.route, prefers_larger=prefers_larger),
        asked_output_tokens=asked_output_tokens(body),
    )


def fit(plan: Plan, counts: dict[int, PromptTokens] | None = None) -> Plan:
    """Fit it by what each model's tokenizer says."""
    if counts is None:
        counts = {
            index: count_prompt(dict(candidate.body), candidate.target.model)
            for index, candidate in enumerate(plan.candidates)
        }
    return fit_contexts(plan, counts)


def names(plan: Plan) -> list[str]:
    """Give the targets left, in their order."""
    return [candidate.target.name for candidate in plan.candidates]


def counted(text: int, *, tools: int = 0, model: str = "m") -> PromptTokens:
    """Count a prompt of one message."""
    return PromptTokens(model, (text,), tools, 0)


ONE = {"messages": [{"role": "user", "content": "Hi"}]}

# ---------------------------------------------------------------- who is to be counted


@pytest.mark.parametrize(
    ("context_tokens", "bound", "body", "is_doubtful"),
    [
        (1_000, 1_000, ONE, False),
        (1_000, 1_001, ONE, True),
        (1_000, 500, {**ONE, "max_tokens": 500}, False),
        (1_000, 501, {**ONE, "max_tokens": 500}, True),
        (1_000, 501, {**ONE, "max_completion_tokens": 500}, True),
        (None, 10**9, ONE, False),
    ],
)
def test_only_what_may_be_too_long_is_counted(
    context_tokens: int | None, bound: int, body: dict[str, Any], *, is_doubtful: bool
) -> None:
    """Counting takes long; an unknown context is the provider's to keep."""
    plan = plan_of(sized("openai/m", context_tokens), body=body)
    assert list_doubtful(plan, [bound]) == ([0] if is_doubtful else [])


def test_the_doubtful_are_told_by_their_places() -> None:
    """Each with a bound of its own; a fixed answer reads nothing."""
    fixed = replace(static(), facts=ModelFacts(context_tokens=1))
    plan = plan_of(sized("openai/a", 10), sized("groq/b", 10), fixed, sized("xai/c", 10), body=ONE)
    assert list_doubtful(plan, [11, 10, 11, 99]) == [0, 3]


@pytest.mark.parametrize(
    ("name", "middle_out", "messages", "is_doubtful"),
    [
        (CLAUDE, "ours", CLAUDE_MESSAGES_MAX + 1, True),
        (CLAUDE, "ours", CLAUDE_MESSAGES_MAX, False),
        (CLAUDE, "off", CLAUDE_MESSAGES_MAX + 1, False),
        ("or/openai/gpt-4o", "ours", CLAUDE_MESSAGES_MAX + 1, False),
        ("anthropic/claude-sonnet-4-5", "ours", CLAUDE_MESSAGES_MAX + 1, False),
    ],
)
def test_openrouters_claude_reads_so_many_messages(
    name: str, middle_out: MiddleOut, messages: int, *, is_doubtful: bool
) -> None:
    """Where we cut for it; Anthropic itself has no such limit."""
    body = {"messages": [{"role": "user", "content": "Hi"}] * messages}
    plan = a_plan(sized(name, 10**6), body=body, middle_out=middle_out)
    assert list_doubtful(plan, [1]) == ([0] if is_doubtful else [])


# ---------------------------------------------------------------- refused here


@pytest.mark.parametrize(
    ("body", "tokens", "told"),
    [
        (ONE, counted(1_001), "you requested about 1001 tokens (1001 of text input)."),
        (
            {**ONE, "max_tokens": 700},
            counted(301),
            "you requested about 1001 tokens (301 of text input, 700 in the output).",
        ),
        (
            {**ONE, "max_tokens": 1},
            counted(600, tools=400),
            "you requested about 1001 tokens (600 of text input, 400 of tool input, 1 in the output).",
        ),
    ],
)
def test_an_overlong_request_is_refused_in_openrouters_words(
    body: dict[str, Any], tokens: PromptTokens, told: str
) -> None:
    """Agents look for them, and for the tag."""
    with pytest.raises(ContextLengthExceeded) as caught:
        fit(a_plan(sized("openai/m", 1_000), body=body), {0: tokens})
    error = caught.value
    assert error.message == (
        f"This endpoint's maximum context length is 1000 tokens. However, {told} Please reduce the length of either "
        'one, or use the "middle-out" transform to compress your prompt automatically.'
    )
    assert (error.status, error.code, error.param) == (400, "context_length_exceeded", "messages")
    assert error.metadata == {"error_type": "context_length_exceeded"}


def test_what_just_fits_is_sent() -> None:
    """To the token."""
    plan = a_plan(sized("openai/m", 1_000), body={**ONE, "max_tokens": 700})
    assert fit(plan, {0: counted(300)}).candidates == plan.candidates


def test_the_largest_target_speaks_for_all() -> None:
    """Its figures are those that would have to be met."""
    plan = a_plan(sized("openai/a", 100), sized("groq/b", 900), sized("xai/c", 500), body=ONE)
    with pytest.raises(ContextLengthExceeded, match="maximum context length is 900 tokens"):
        fit(plan, {index: counted(1_000) for index in range(3)})


def test_an_overlong_request_goes_on_to_whoever_can_read_it() -> None:
    """Without a call to those who cannot, and they are named."""
    plan = a_plan(sized("openai/a", 100), sized("groq/b", None), sized("xai/c", 5_000), body=ONE)
    fitted = fit(plan, {0: counted(1_000), 2: counted(1_000)})
    assert names(fitted) == ["groq/b", "xai/c"]
    (skip,) = fitted.skipped
    assert (skip.target.name, skip.kind) == ("openai/a", Reason.CONTEXT)
    assert "maximum context length is 100 tokens" in skip.reason


def test_a_last_resort_answers_what_nobody_can_read() -> None:
    """It reads nothing."""
    assert names(fit(a_plan(sized("openai/a", 100), static(), body=ONE), {0: counted(1_000)})) == ["static/fixed"]


def test_what_was_not_counted_stays() -> None:
    """It was not in doubt."""
    plan = a_plan(sized("openai/a", 100), body=ONE)
    assert fit(plan, {}).candidates == plan.candidates


@pytest.mark.parametrize(
    ("model", "context_tokens", "is_refused"),
    [
        ("claude-sonnet-4-5", 1_000, False),
        ("claude-sonnet-4-5", 999, True),
        ("claude-opus-5", 772, False),
        ("claude-opus-5", 770, True),
        ("gpt-4o", 1_349, True),
    ],
)
def test_where_counts_are_guesses_the_provider_decides(model: str, context_tokens: int, *, is_refused: bool) -> None:
    """Claude's are raised by what was measured: only what is too long without that is refused here."""
    plan = a_plan(sized(f"anthropic/{model}", context_tokens), body=ONE)
    if is_refused:
        with pytest.raises(ContextLengthExceeded):
            fit(plan, {0: counted(1_350, model=model)})
    else:
        assert fit(plan, {0: counted(1_350, model=model)}).candidates == plan.candidates


# ---------------------------------------------------------------- cut


def test_the_middle_is_cut_out_where_that_is_wanted() -> None:
    """First and last stay, it fits with room to spare, and the header says how many went."""
    body = talk(40, max_tokens=200)
    plan = a_plan(sized("openai/gpt-4o", 1_500), body=body, middle_out="ours")
    (candidate,) = fit(plan).candidates
    kept = candidate.body["messages"]
    assert (kept[0], kept[-1]) == (body["messages"][0], body["messages"][-1])
    assert candidate.transforms == f"middle-out; dropped={41 - len(kept)}; kept={len(kept)}"
    assert count_prompt(dict(candidate.body), "gpt-4o").text + 200 <= 1_500
    assert (candidate.body["max_tokens"], len(body["messages"])) == (200, 41)
    again = fit(a_plan(sized("openai/gpt-4o", 1_500), body=dict(candidate.body), middle_out="ours"))
    assert (again.candidates[0].body, again.candidates[0].transforms) == (candidate.body, None)


def test_nothing_is_cut_unless_it_is_too_long() -> None:
    """And nothing is told."""
    plan = a_plan(sized("openai/gpt-4o", 100_000), body=talk(40), middle_out="ours")
    assert fit(plan).candidates == plan.candidates


@pytest.mark.parametrize("middle_out", ["off", "theirs"])
def test_nothing_is_cut_unless_that_is_wanted_of_us(middle_out: MiddleOut) -> None:
    """What is too long is refused."""
    with pytest.raises(ContextLengthExceeded):
        fit(a_plan(sized("openai/gpt-4o", 1_500), body=talk(40), middle_out=middle_out))


@pytest.mark.parametrize("body", [talk(40, max_tokens=1_500), talk(40, tools=[{"x": WORDS * 400}])])
def test_what_no_cut_can_save_is_refused(body: dict[str, Any]) -> None:
    """A cap of the client's as large as the context, or tools that fill it: never changed by us."""
    with pytest.raises(ContextLengthExceeded):
        fit(a_plan(sized("openai/gpt-4o", 1_500), body=body, middle_out="ours"))


def test_openrouters_claude_is_cut_to_so_many_messages() -> None:
    """Half from the start and half from the end, though its context would hold all."""
    body = talk(CLAUDE_MESSAGES_MAX + 200, words=0)
    plan = a_plan(sized(CLAUDE, 10**6), sized("anthropic/claude-sonnet-4-5", 10**6), body=body, middle_out="ours")
    routed, direct = fit(plan).candidates
    kept = routed.body["messages"]
    assert CLAUDE_MESSAGES_MAX - 5 <= len(kept) <= CLAUDE_MESSAGES_MAX
    assert (kept[:400], kept[-400:]) == (body["messages"][:400], body["messages"][-400:])
    assert direct.body is plan.candidates[1].body


def test_claudes_messages_that_cannot_be_cut_are_sent() -> None:
    """They fit the context, so the provider may decide."""
    body = {"messages": [{"role": "user", "content": "Hi"}, *[{"role": "assistant", "content": "."}] * 1_100]}
    plan = a_plan(sized(CLAUDE, 10**6), body=body, middle_out="ours")
    assert fit(plan).candidates == plan.candidates


# ---------------------------------------------------------------- larger ones first


def test_a_larger_context_comes_before_a_cut_where_the_alias_prefers_it() -> None:
    """Otherwise the order stays."""
    targets = [
        sized("openai/gpt-4o", 1_500),
        sized("xai/m", 1_600),
        sized("groq/m", 100_000),
        sized("together/m", None),
    ]
    body = talk(40)
    assert names(fit(a_plan(*targets, body=body, middle_out="ours"))) == [made.name for made in targets]
    preferring = fit(a_plan(*targets, body=body, middle_out="ours", prefers_larger=True))
    assert names(preferring) == ["groq/m", "together/m", "openai/gpt-4o", "xai/m"]
    assert [candidate.transforms is None for candidate in preferring.candidates] == [True, True, False, False]


def test_a_short_request_keeps_its_order_whatever_the_alias_prefers() -> None:
    """Nothing overflows."""
    targets = [sized("openai/gpt-4o", 1_500), sized("groq/m", 100_000)]
    assert names(fit(a_plan(*targets, body=ONE, middle_out="ours", prefers_larger=True))) == ["openai/gpt-4o", "groq/m"]


def test_a_last_resort_stays_the_last() -> None:
    """It has no larger context: an answer to a cut prompt is better than none."""
    targets = [sized("openai/gpt-4o", 1_500), static()]
    fitted = fit(a_plan(*targets, body=talk(40), middle_out="ours", prefers_larger=True))
    assert names(fitted) == ["openai/gpt-4o", "static/fixed"]


@given(
    st.lists(st.sampled_from([None, 700, 1_500, 3_000, 100_000]), min_size=1, max_size=4),
    st.integers(1, 60),
    st.sampled_from(["off", "ours"]),
    st.booleans(),
)
def test_whoever_is_called_can_read_it(
    contexts: list[int | None], turns: int, middle_out: MiddleOut, prefers_larger: bool
) -> None:
    """Everyone left has room for what it is sent, everyone left out has not, and nobody is lost."""
    targets = [sized(f"openai/gpt-4o-{index}", context) for index, context in enumerate(contexts)]
    plan = a_plan(*targets, body=talk(turns), middle_out=middle_out, prefers_larger=prefers_larger)
    whole = count_prompt(talk(turns), "gpt-4o").text
    try:
        fitted = fit(plan)
    except ContextLengthExceeded:
        assert all(context is not None and whole > context for context in contexts)
        return
    for candidate in fitted.candidates:
        context = candidate.target.facts.context_tokens
        tokens = count_prompt(dict(candidate.body), "gpt-4o").text
        assert context is None or tokens <= context
        assert candidate.transforms is None or middle_out == "ours"
    assert len(fitted.candidates) + len(fitted.skipped) == len(targets)
    assert all(whole > (skip.target.facts.context_tokens or 0) for skip in fitted.skipped)
