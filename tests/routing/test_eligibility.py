"""Which targets may serve: readiness, abilities, conditions, privacy that fails closed, and an order."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pricing import ModelFacts, Prices
from proxy.routing.eligibility import Reason, judge_target, max_price_of, sort_direct
from proxy.routing.extras import MaxPrice, Preferences, read_extras
from proxy.routing.needs import needs_of
from proxy.routing.table import Dialect, Target
from tests.routing.made import prices, static, target

MESSAGES = [{"role": "user", "content": "Hi"}]
DIRECT = target("openai/m")
ROUTED = target("or/m")


def judge(made: Target, **fields: Any) -> tuple[Reason, str] | None:
    """Judge a target for a request of these fields; None when it may serve."""
    body = {"messages": MESSAGES, **fields}
    verdict = judge_target(made, body, read_extras(body), needs_of(body))
    assert verdict is None or verdict.target is made
    return None if verdict is None else (verdict.kind, verdict.reason)


def wanting(made: Target, **preferences: Any) -> tuple[Reason, str] | None:
    """Judge it for these preferences."""
    return judge(made, provider=preferences)


def test_a_target_serves_what_asks_for_nothing_more() -> None:
    """Both kinds."""
    assert judge(DIRECT) is None
    assert judge(ROUTED) is None
    assert judge(DIRECT, provider={}, plugins=[], tools=[{"type": "function"}]) is None


def test_a_target_that_is_not_ready_serves_nothing() -> None:
    """The first thing asked."""
    made = target("openai/m", not_ready="OPENAI_API_KEY is not set")
    assert judge(made, preset="mine") == (Reason.NOT_READY, "OPENAI_API_KEY is not set")


def test_a_fixed_answer_serves_everything() -> None:
    """It sends nothing anywhere and costs nothing."""
    assert judge(static(), preset="mine", tools=[{"type": "openrouter:web_search"}]) is None
    assert wanting(static(), zdr=True, only=["openai"], max_price={"prompt": 0}) is None


@pytest.mark.parametrize("name", ["openai/m", "or/m"])
def test_a_model_known_to_lack_something_is_left_out(name: str) -> None:
    """OpenRouter's as well: it would only say no later."""
    blind = target(name, facts=ModelFacts(capabilities={"input": ("text",), "tools": False}))
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]}]
    assert judge(blind, messages=picture) == (Reason.ABILITY, "it does not support image input")
    assert judge(blind, tools=[{"type": "function"}]) == (Reason.ABILITY, "it does not support tool use")
    assert judge(blind) is None


def test_openrouter_reads_files_for_every_model() -> None:
    """Its parser makes text of them."""
    blind = target("or/m", facts=ModelFacts(capabilities={"input": ("text",)}))
    document = [{"role": "user", "content": [{"type": "file", "file": {"filename": "a.pdf", "file_data": "data:,"}}]}]
    assert judge(blind, messages=document) is None
    assert judge(blind, messages=document, plugins=[{"id": "file-parser", "pdf": {"engine": "mistral-ocr"}}]) is None


# ---------------------------------------------------------------- what only OpenRouter has


@pytest.mark.parametrize(
    ("fields", "alien"),
    [
        ({"preset": "mine"}, "the preset 'mine'"),
        ({"plugins": [{"id": "web"}]}, "the plugin 'web'"),
        ({"plugins": [{"id": "moderation"}, {"id": "x" * 99}]}, f"the plugin {'x' * 40!r}"),
        ({"plugins": [{"id": "file-parser"}]}, "the plugin 'file-parser'"),
        ({"plugins": [{"id": "file-parser", "pdf": {"engine": "mistral-ocr"}}]}, "the plugin 'file-parser'"),
        ({"plugins": [{"id": "file-parser", "pdf": "native"}]}, "the plugin 'file-parser'"),
        ({"tools": [{"type": "openrouter:web_search"}]}, "the tool 'openrouter:web_search'"),
        (
            {"tools": [{"type": "function"}, {"type": "openrouter:datetime"}], "plugins": []},
            "the tool 'openrouter:datetime'",
        ),
    ],
)
def test_what_only_openrouter_has_rules_out_everyone_else(fields: dict[str, Any], alien: str) -> None:
    """Named, and cut to a length."""
    assert judge(DIRECT, **fields) == (Reason.ONLY_OPENROUTER, f"{alien} exists only at OpenRouter")
    assert judge(ROUTED, **fields) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"plugins": [{"id": "response-healing"}, {"id": "moderation"}]},
        {"plugins": [{"id": "web", "enabled": False}]},
        {"plugins": [{"id": "context-compression"}]},
        {"plugins": [{"id": "file-parser", "pdf": {"engine": "native"}}]},
        {"tools": [{"type": "function"}, {"type": 3}, {}, "tool"]},
        {"tools": {"type": "openrouter:x"}},
    ],
)
def test_what_does_no_harm_rules_out_nobody(fields: dict[str, Any]) -> None:
    """An answer without it is an answer."""
    assert judge(DIRECT, **fields) is None


# ---------------------------------------------------------------- privacy


@pytest.mark.parametrize(
    ("owner", "zdr", "deny"),
    [
        ({}, False, False),
        ({"data_collection": "deny"}, False, True),
        ({"zdr": True}, True, True),
        ({"zdr": True, "data_collection": "deny"}, True, True),
        ({"dialect": Dialect.SIMULATED}, True, True),
        ({"dialect": Dialect.ANTHROPIC}, False, False),
        ({"dialect": Dialect.GOOGLE, "data_collection": "deny"}, False, True),
        ({"dialect": Dialect.OPENROUTER}, True, True),
    ],
)
def test_privacy_is_kept_only_where_the_operator_vouches_for_it(
    owner: dict[str, Any], *, zdr: bool, deny: bool
) -> None:
    """No retention implies no training; OpenRouter keeps it itself; silence counts as no."""
    made = target("some/m", owner=owner)
    for wish, is_kept in (({"zdr": True}, zdr), ({"data_collection": "deny"}, deny)):
        verdict = wanting(made, **wish)
        assert (verdict is None) is is_kept
        assert verdict is None or verdict[0] is Reason.PRIVACY
    assert wanting(made, zdr=False, data_collection="allow") is None


# ---------------------------------------------------------------- conditions


@pytest.mark.parametrize(
    ("slug", "provider", "is_same"),
    [
        ("openai", "openai", True),
        ("OpenAI", "openai", True),
        (" openai ", "openai", True),
        ("openai/flex", "openai", False),
        ("google-ai-studio", "google", True),
        ("Google AI Studio", "google", True),
        ("google-vertex", "google", False),
        ("x-ai", "xai", True),
        ("xai", "xai", True),
        ("mistralai", "mistral", True),
        ("Mistral", "mistral", True),
        ("open", "openai", False),
        ("openai2", "openai", False),
        ("my-box", "My-Box", True),
    ],
)
def test_a_provider_is_known_by_its_slug_or_its_name(slug: str, provider: str, *, is_same: bool) -> None:
    """In all three lists alike."""
    made = target(f"{provider}/m")
    assert (wanting(made, only=[slug]) is None) is is_same
    assert (wanting(made, ignore=[slug]) is not None) is is_same
    assert (wanting(made, order=[slug], allow_fallbacks=False) is None) is is_same
    other = target("zzz/m")
    assert (sort_direct([other, made], Preferences(order=(slug,)))[0] is made) is is_same


def test_another_account_of_a_known_provider_is_that_provider() -> None:
    """By its own name and by the catalogue's."""
    made = target("team-b/m", owner={"catalogue_name": "OpenAI"})
    assert wanting(made, only=["openai"]) is None
    assert wanting(made, only=["team-b"]) is None
    assert wanting(made, ignore=["openai"]) == (Reason.CONDITION, "it is among `provider.ignore`")


def test_a_list_that_holds_nobody_here_rules_out_everyone() -> None:
    """`only` and a bare `order` without fallbacks; with them an order excludes nobody."""
    assert wanting(DIRECT, only=["azure"]) == (Reason.CONDITION, "it is not among `provider.only`")
    told = "it is not in `provider.order`, and fallbacks are not allowed"
    assert wanting(DIRECT, order=["azure"], allow_fallbacks=False) == (Reason.CONDITION, told)
    assert wanting(DIRECT, order=["azure"]) is None
    assert wanting(DIRECT, only=[], ignore=[], order=[], allow_fallbacks=False) is None


@pytest.mark.parametrize(
    ("row", "most", "is_kept"),
    [
        (prices(1, 2), {}, True),
        (prices(1, 2), {"prompt": 1, "completion": 2}, True),
        (prices(1, 2), {"prompt": "0.999999"}, False),
        (prices(1, 2), {"completion": 1.5}, False),
        (prices(1, 2), {"request": 0}, True),
        (Prices(Decimal(0), Decimal(0), request=Decimal("0.01")), {"request": "0.005"}, False),
        (prices(1, 2), {"image": 5}, False),
        (prices(0, 0), {"prompt": 0, "completion": 0}, True),
        (None, {"prompt": 100}, False),
        (None, {}, False),
    ],
)
def test_a_price_above_the_most_rules_a_target_out(row: Prices | None, most: dict[str, Any], *, is_kept: bool) -> None:
    """So does one nobody knows, and a kind nobody here has a price for."""
    made = target("openai/m", facts=ModelFacts(row))
    verdict = wanting(made, max_price=most)
    assert (verdict is None) is is_kept
    assert verdict is None or verdict[0] is Reason.CONDITION
    assert wanting(target("or/m", facts=ModelFacts(row)), max_price=most) is None


@pytest.mark.parametrize(
    ("preferences", "told"),
    [
        ({"enforce_distillable_text": True}, "nobody here knows whether its text may be distilled"),
        ({"quantizations": ["fp8"]}, "nobody here knows its quantization"),
        ({"galaxy": "andromeda"}, "`provider.galaxy` is a condition not known here"),
    ],
)
def test_a_condition_nobody_here_can_keep_counts_as_broken(preferences: dict[str, Any], told: str) -> None:
    """Never forgotten."""
    assert wanting(DIRECT, **preferences) == (Reason.CONDITION, told)
    assert wanting(ROUTED, **preferences) is None


@pytest.mark.parametrize(
    "preferences",
    [
        {"quantizations": ["fp8", "unknown"]},
        {"enforce_distillable_text": False},
        {"sort": "price", "preferred_min_throughput": 10, "preferred_max_latency": {"p50": 1}},
    ],
)
def test_a_soft_wish_rules_out_nobody(preferences: dict[str, Any]) -> None:
    """It only ever was an order."""
    assert wanting(DIRECT, **preferences) is None


# ---------------------------------------------------------------- order


providers = st.lists(st.sampled_from(["or1", "or2", "openai", "groq", "xai", "google"]), max_size=6)


@given(
    providers, st.lists(st.sampled_from(["openai", "groq", "x-ai", "Google AI Studio", "or1", "nobody"]), max_size=4)
)
def test_an_order_moves_only_direct_targets_among_their_places(names: list[str], order: list[str]) -> None:
    """Those named come first in that order, others keep theirs; OpenRouter's stay where they are."""
    targets = [target(f"{name}/{index}") for index, name in enumerate(names)]
    ordered = sort_direct(targets, Preferences(order=tuple(order)))
    assert sorted(made.name for made in ordered) == sorted(made.name for made in targets)
    for before, after in zip(targets, ordered, strict=True):
        is_routed = before.provider.dialect is Dialect.OPENROUTER
        assert is_routed == (after.provider.dialect is Dialect.OPENROUTER)
        assert not is_routed or after is before
    slugs = ["xai" if slug == "x-ai" else "google" if slug.startswith("Google") else slug for slug in order]
    ranks = [
        (slugs.index(made.provider.name) if made.provider.name in slugs else len(slugs), targets.index(made))
        for made in ordered
        if made.provider.dialect is not Dialect.OPENROUTER
    ]
    assert ranks == sorted(ranks)


@pytest.mark.parametrize(
    ("row", "wanted", "most"),
    [
        (prices(3, 15), None, {"prompt": 3.0, "completion": 15.0}),
        (prices(3, 15), MaxPrice(Decimal(1), Decimal(20)), {"prompt": 1.0, "completion": 15.0}),
        (prices(3, 15), MaxPrice(request=Decimal("0.5")), {"prompt": 3.0, "completion": 15.0, "request": 0.0}),
        (
            Prices(Decimal("0.25"), Decimal(1), request=Decimal("0.01")),
            MaxPrice(),
            {"prompt": 0.25, "completion": 1.0, "request": 0.01},
        ),
        (
            Prices(Decimal(1), Decimal(1), request=Decimal("0.01")),
            MaxPrice(request=Decimal("0.001")),
            {"prompt": 1.0, "completion": 1.0, "request": 0.001},
        ),
    ],
)
def test_the_most_openrouter_may_charge_is_what_is_held(
    row: Prices, wanted: MaxPrice | None, most: dict[str, float]
) -> None:
    """Or what the client says, where that is lower."""
    assert max_price_of(row, wanted) == most
