"""How much a plan can cost: every candidate kept fits the room, and no cap is higher than was asked or can be."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pricing import Bounds, ModelFacts, Prices, PriceTier, ServiceTier, worst_case
from proxy.routing.holds import (
    OUTPUT_TOKENS_FLOOR,
    OUTPUT_TOKENS_UNKNOWN,
    hold_of,
    least_of,
    size,
)
from proxy.routing.plan import Candidate, Plan
from proxy.routing.principal import asked_output_tokens
from proxy.routing.table import Dialect, Target
from tests.routing.made import plan_of, prices, target

NANO = 1_000
"""One USD per million tokens is 1,000 nano-USD a token."""


def model(
    name: str = "acme/m",
    *,
    per_input: int | None = 1,
    per_output: int = 2,
    output: int | None = None,
    context: int | None = None,
) -> Target:
    """Make a target of this price and size; no price when the input has none."""
    priced = None if per_input is None else prices(per_input, per_output)
    return target(name, facts=ModelFacts(priced, context, output))


def sized(
    *targets: Target,
    room: int | None = None,
    limited: bool = True,
    tokens: int = 100,
    body: dict[str, Any] | None = None,
) -> Plan:
    """Size a plan whose prompt is so many tokens."""
    return size(plan_of(*targets, body=body, has_budget=limited), [tokens] * len(targets), room_nano_usd=room)


def one(*args: Any, **more: Any) -> Candidate:
    """Size a plan of one target that stays."""
    (candidate,) = sized(*args, **more).candidates
    return candidate


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ({}, None),
        ({"max_tokens": None}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 5}, 5),
        ({"max_completion_tokens": 5, "max_tokens": None}, 5),
        ({"max_completion_tokens": 5, "max_tokens": 9}, 9),
        ({"max_completion_tokens": 9, "max_tokens": 5}, 9),
        ({"max_tokens": "5"}, None),
        ({"max_tokens": 0}, None),
        ({"max_tokens": -1}, None),
        ({"max_tokens": 1}, 1),
    ],
)
def test_the_cap_asked_for(body: dict[str, Any], asked: int | None) -> None:
    """Under either name; of two the higher, since nobody knows which the model heeds: a hold must cover both."""
    assert asked_output_tokens(body) == asked


@pytest.mark.parametrize(
    ("target_", "body", "cap", "bound"),
    [
        # Nothing asked: the model's ceiling bounds it, else its context, else a cap of ours.
        (model(output=500), {}, None, 500),
        (model(context=4_000), {}, None, 4_000),
        (model(output=500, context=4_000), {}, None, 500),
        (model(), {}, OUTPUT_TOKENS_UNKNOWN, OUTPUT_TOKENS_UNKNOWN),
        # Asked: that, but never more than the model can write.
        (model(output=500), {"max_tokens": 200}, None, 200),
        (model(output=500), {"max_tokens": 500}, None, 500),
        (model(output=500), {"max_tokens": 501}, 500, 500),
        (model(context=4_000), {"max_tokens": 999_999}, 4_000, 4_000),
        (model(), {"max_tokens": 999_999}, None, 999_999),
        (model(output=500), {"max_completion_tokens": 9_999_999}, 500, 500),
    ],
)
def test_the_output_is_bounded(target_: Target, body: dict[str, Any], cap: int | None, bound: int) -> None:
    """What is held is prompt and bound at their prices; a cap is sent only where the bound would not hold itself."""
    candidate = one(target_, body=body)
    assert candidate.output_tokens_max == cap
    assert candidate.worst_case_nano_usd == 100 * NANO + bound * 2 * NANO
    assert candidate.input_tokens_max == 100


def test_without_a_limit_nothing_is_capped() -> None:
    """The hold is still sized, so that an orphan can be booked; the client's words are left alone."""
    assert one(model(), limited=False).output_tokens_max is None
    huge = one(model(output=500), limited=False, body={"max_tokens": 501})
    assert (huge.output_tokens_max, huge.worst_case_nano_usd) == (None, 100 * NANO + 501 * 2 * NANO)


@pytest.mark.parametrize(("n", "choices"), [(None, 1), (1, 1), (2, 2), (128, 128), ("2", 1), (0, 1), (-3, 1)])
def test_every_choice_is_paid_for(n: object, choices: int) -> None:
    """`n` multiplies the output, never the prompt."""
    candidate = one(model(output=500), body={"n": n})
    assert candidate.worst_case_nano_usd == 100 * NANO + choices * 500 * 2 * NANO


def test_a_target_without_a_price() -> None:
    """It stays only where no limit in money holds; then nothing is held for it."""
    unpriced = model("acme/u", per_input=None)
    free = sized(unpriced, limited=False, tokens=7)
    assert [(c.input_tokens_max, c.worst_case_nano_usd, c.output_tokens_max) for c in free.candidates] == [(7, 0, None)]
    for walled in (sized(unpriced, model()), sized(unpriced, model(), limited=False, room=10**12)):
        assert [candidate.target.name for candidate in walled.candidates] == ["acme/m"]
        assert [(skip.target.name, skip.reason) for skip in walled.skipped] == [
            ("acme/u", "its price is not known, and a limit in money holds")
        ]


PAINTER = ModelFacts(prices(source="openrouter"), capabilities={"output": ("image", "text")})
WRITER = ModelFacts(prices(source="openrouter"), capabilities={"output": ("text",)})
PAINTING: dict[str, Any] = {"modalities": ["image", "text"]}


@pytest.mark.parametrize(
    ("target_", "body", "stays"),
    [
        (target("or/a/m", facts=WRITER), {}, True),
        (target("or/a/m", facts=WRITER), {"modalities": ["text"]}, True),
        (target("or/a/m", facts=WRITER), {"modalities": "image"}, True),
        (target("or/a/m", facts=WRITER), PAINTING, False),
        (target("or/a/m", facts=PAINTER), {}, False),
        (target("or/a/m-image", facts=WRITER), {}, False),
        (target("or/a/m", facts=ModelFacts(prices(source="openrouter"))), {}, True),
        (target("or/a/m-image", facts=ModelFacts(prices())), PAINTING, True),
        (
            target("or/a/m-image", facts=ModelFacts(replace(prices(source="openrouter"), image_output=Decimal(30)))),
            PAINTING,
            True,
        ),
        (target("openai/m", facts=WRITER), PAINTING, True),
        (target("google/m-image", facts=WRITER, owner={"dialect": Dialect.GOOGLE}), {}, False),
    ],
)
def test_pictures_without_a_price_are_refused_under_a_limit(
    target_: Target, body: dict[str, Any], *, stays: bool
) -> None:
    """They are billed far above the text rate a catalogue names; a price in routes.yaml is the operator's word."""
    assert sized(target_, body=body, limited=False).candidates
    plan = sized(target_, body=body)
    assert bool(plan.candidates) is stays
    assert [skip.reason for skip in plan.skipped] == (
        [] if stays else ["it may answer with images, which are priced apart, and a limit in money holds"]
    )


def test_pictures_put_out_are_held_at_their_price() -> None:
    """Any token of the answer may be one of a picture."""
    drawn = ModelFacts(replace(prices(source="openrouter"), image_output=Decimal(30)), None, 500)
    candidate = one(target("or/a/m-image", facts=drawn), body={"n": 2})
    assert candidate.worst_case_nano_usd == 100 * NANO + 2 * 500 * 30 * NANO


@pytest.mark.parametrize(("in_tier", "images"), [(False, 3), (True, 3)])
def test_pictures_charged_by_the_piece_are_counted(in_tier: bool, images: int) -> None:
    """Each has its fee besides its tokens, wherever in the price that stands; no other prompt is looked through."""
    row = replace(prices(), image=Decimal("0.002"))
    priced = replace(prices(), tiers=(PriceTier(50, row),)) if in_tier else row
    picture = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
    messages = [{"role": "user", "content": [picture, {"type": "text", "text": "?"}, picture]}]
    messages += [{"role": "assistant", "content": "No."}, {"role": "user", "content": [{"type": "input_image"}]}]
    candidate = one(target("a/m", facts=ModelFacts(priced, None, 10)), body={"messages": messages})
    assert candidate.images == images
    assert candidate.worst_case_nano_usd == 100 * NANO + 10 * 2 * NANO + images * 2_000_000
    assert one(model(output=10), body={"messages": messages}).images == 0


TIERED = replace(prices(), service_tiers=(ServiceTier("priority", prices(4, 8)), ServiceTier("flex", prices(0, 0))))


@pytest.mark.parametrize(
    ("facts", "tier", "per_input", "per_output"),
    [
        (TIERED, None, 1, 2),
        (TIERED, "auto", 1, 2),
        (TIERED, "default", 1, 2),
        (TIERED, "priority", 4, 8),
        (TIERED, "flex", 1, 2),
        (prices(), "flex", 1, 2),
        (prices(), "batch", 1, 2),
    ],
)
def test_the_dearest_service_that_may_be_given_is_held(
    facts: Prices, tier: str | None, per_input: int, per_output: int
) -> None:
    """What was asked for, or the usual one in its place."""
    candidate = one(target("openai/m", facts=ModelFacts(facts, None, 10)), body={"service_tier": tier})
    assert candidate.worst_case_nano_usd == 100 * per_input * NANO + 10 * per_output * NANO


def test_a_service_without_a_price_is_left_out_under_a_limit() -> None:
    """Nobody could say what it costs at most."""
    bare, known = target("openai/m", facts=ModelFacts(prices())), target("azure/m", facts=ModelFacts(TIERED))
    plan = sized(bare, known, body={"service_tier": "priority"})
    assert [candidate.target.name for candidate in plan.candidates] == ["azure/m"]
    assert [skip.reason for skip in plan.skipped] == [
        "the price of its service tier `priority` is not known, and a limit in money holds"
    ]
    assert len(sized(bare, known, body={"service_tier": "priority"}, limited=False).candidates) == 2


def test_the_hold_is_the_dearest_alternative() -> None:
    """Any of them may be the one that answers; a refusal names what the cheapest would need."""
    both = sized(model(output=10), model(per_output=9, output=10))
    assert hold_of(both) == 100 * NANO + 10 * 9 * NANO
    assert least_of(both) == 100 * NANO + 10 * 2 * NANO
    assert hold_of(plan_of()) == least_of(plan_of()) == 0


# The room.

PROMPT = 100 * NANO


@pytest.mark.parametrize(
    ("target_", "body", "room", "cap"),
    [
        # It fits, to the last nano-dollar.
        (model(output=500), {}, PROMPT + 500 * 2 * NANO, None),
        (model(output=500), {}, PROMPT + 500 * 2 * NANO - 1, 499),
        # The money buys less than was asked.
        (model(output=500), {"max_tokens": 300}, PROMPT + 200 * 2 * NANO, 200),
        (model(output=500), {"max_tokens": 300}, PROMPT + 200 * 2 * NANO + 2 * NANO - 1, 200),
        # The floor.
        (model(output=500), {}, PROMPT + 64 * 2 * NANO, 64),
        (model(output=500), {}, PROMPT + 64 * 2 * NANO - 1, "refused"),
        (model(output=500), {"max_tokens": 64}, PROMPT + 64 * 2 * NANO, None),
        (model(output=500), {"max_tokens": 64}, PROMPT + 64 * 2 * NANO - 1, "refused"),
        (model(output=500), {"max_tokens": 10}, PROMPT + 10 * 2 * NANO, None),
        (model(output=500), {"max_tokens": 10}, PROMPT + 10 * 2 * NANO - 1, "refused"),
        (model(output=500), {}, PROMPT - 1, "refused"),
        (model(output=500), {}, 0, "refused"),
        # Several answers share the money.
        (model(output=500), {"n": 3}, PROMPT + 300 * 2 * NANO, 100),
        (model(output=500), {"n": 3}, PROMPT + 300 * 2 * NANO - 1, 99),
        (model(output=500), {"n": 3}, PROMPT + 3 * 64 * 2 * NANO - 1, "refused"),
        # A ceiling that is not known: no higher cap is sent than every model accepts.
        (model(context=100_000), {}, PROMPT + 50_000 * 2 * NANO, OUTPUT_TOKENS_UNKNOWN),
        (model(context=100_000), {"max_tokens": 90_000}, PROMPT + 50_000 * 2 * NANO, 50_000),
        (model(output=90_000), {}, PROMPT + 50_000 * 2 * NANO, 50_000),
        # What costs nothing always fits.
        (model(per_input=0, per_output=0, output=500), {}, 0, None),
    ],
)
def test_what_does_not_fit_is_clamped_or_refused(
    target_: Target, body: dict[str, Any], room: int, cap: int | str | None
) -> None:
    """The output becomes what the money buys; below a useful answer the target is left out (design.md section 7)."""
    plan = sized(target_, room=room, body=body)
    if cap == "refused":
        assert plan.candidates == ()
        assert plan.skipped[0].reason == "the money left does not buy a useful answer"
        return
    (candidate,) = plan.candidates
    assert candidate.output_tokens_max == cap
    assert candidate.worst_case_nano_usd <= room


def test_a_room_alone_is_a_limit() -> None:
    """Whatever the plan says of itself: where money ends, the model's ceiling and the unknown cap count."""
    candidate = one(model(output=500), limited=False, room=PROMPT + 9_000 * NANO, body={"max_tokens": 9_999})
    assert candidate.output_tokens_max == 500
    assert one(model(), limited=False, room=10**12).output_tokens_max == OUTPUT_TOKENS_UNKNOWN


def test_a_cheaper_target_may_stay_where_a_dearer_goes() -> None:
    """Each is fitted on its own; order and earlier skips are kept."""
    plan = sized(model("a/x", per_output=1000), model("a/y"), model("a/z", per_output=9), room=PROMPT + 70 * 9 * NANO)
    assert [candidate.target.name for candidate in plan.candidates] == ["a/y", "a/z"]
    assert [skip.target.name for skip in plan.skipped] == ["a/x"]


tokens = st.integers(min_value=0, max_value=200_000)
sizes = st.none() | st.integers(min_value=1, max_value=200_000)
rates = st.integers(min_value=0, max_value=500)
models = st.builds(
    lambda per_input, per_output, output, context: model(
        per_input=per_input, per_output=per_output, output=output, context=context
    ),
    st.none() | rates,
    rates,
    sizes,
    sizes,
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens": st.none() | st.integers(min_value=1, max_value=10**7),
        "max_completion_tokens": st.none() | st.integers(min_value=1, max_value=10**7),
        "n": st.integers(min_value=1, max_value=128),
    },
)


@given(
    st.lists(st.tuples(models, tokens), min_size=1, max_size=4),
    bodies,
    st.integers(min_value=0, max_value=10**12),
    st.booleans(),
)
def test_what_is_kept_fits_and_no_cap_is_too_high(
    parts: list[tuple[Target, int]], body: dict[str, Any], room: int, limited: bool
) -> None:
    """For any prices, prompts, caps and rooms: the walls hold, and whoever is told a cap can use it."""
    plan = plan_of(*(part for part, _ in parts), body=body, has_budget=limited)
    fitted = size(plan, [bound for _, bound in parts], room_nano_usd=room)
    assert len(fitted.candidates) + len(fitted.skipped) == len(parts)
    assert hold_of(fitted) <= room
    asked = asked_output_tokens(body)
    choices = body.get("n", 1)
    for candidate in fitted.candidates:
        facts, cap = candidate.target.facts, candidate.output_tokens_max
        assert facts.prices is not None
        ceiling = facts.output_tokens_max or facts.context_tokens
        assert candidate.worst_case_nano_usd <= room
        bound = cap if cap is not None else asked if asked is not None else ceiling
        assert bound is not None
        bounds = Bounds(candidate.input_tokens_max, bound * choices)
        assert candidate.worst_case_nano_usd >= worst_case(bounds, facts.prices)
        if cap is not None:
            assert 1 <= cap <= min(asked or cap, ceiling or cap)
            assert cap >= OUTPUT_TOKENS_FLOOR or cap == ceiling


@given(
    st.lists(st.tuples(models, tokens), min_size=1, max_size=4), bodies, st.integers(0, 10**12), st.integers(0, 10**12)
)
def test_more_money_never_buys_less(
    parts: list[tuple[Target, int]], body: dict[str, Any], room: int, more: int
) -> None:
    """What fits a room fits a larger one, and its cap does not fall."""
    plan = plan_of(*(replace(part) for part, _ in parts), body=body, has_budget=True)
    bounds = [bound for _, bound in parts]
    small, large = (size(plan, bounds, room_nano_usd=money) for money in (room, room + more))
    assert len(small.candidates) <= len(large.candidates)
    if len(small.candidates) == len(large.candidates) == len(parts):
        for tight, wide in zip(small.candidates, large.candidates, strict=True):
            assert tight.worst_case_nano_usd <= wide.worst_case_nano_usd
