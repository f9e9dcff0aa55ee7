"""Usage in OpenAI's shape: every vendor's way of counting, and figures that cannot be true."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.codecs.openai import COST_NANO_USD_MAX, COST_USD_MAX, OpenAICodec, read_usage
from proxy.usage import Usage

COUNTS = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "prompt_cache_hit_tokens",
    "prompt_cache_miss_tokens",
)
DETAILS = ("cached_tokens", "cache_write_tokens", "audio_tokens", "reasoning_tokens", "text_tokens", "image_tokens")
HUGE = 10**5000
"""More digits than Python likes to turn into text."""
UPSTREAM_PARTS = {"upstream_inference_prompt_cost": 0.021, "upstream_inference_completions_cost": 0.015}


def usage(prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    """Write the plain usage, the total included, with more members."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {**counts, **more}


# openrouter.md 7.2 and 7.3, vendor by vendor.
OPENAI = usage(
    100,
    50,
    prompt_tokens_details={"audio_tokens": 5, "cached_tokens": 30, "cache_write_tokens": 20, "text_tokens": 95},
    completion_tokens_details={
        "accepted_prediction_tokens": 1,
        "rejected_prediction_tokens": 2,
        "audio_tokens": 7,
        "reasoning_tokens": 40,
    },
)
OPENROUTER = usage(
    100,
    50,
    prompt_tokens_details={"cached_tokens": 30, "cache_write_tokens": 20, "audio_tokens": 0, "video_tokens": 0},
    completion_tokens_details={"reasoning_tokens": 40, "audio_tokens": 0, "image_tokens": 0},
    cost=0.0012345,
    is_byok=False,
    cost_details={"upstream_inference_cost": 0.0012345, "upstream_inference_prompt_cost": 0.001},
    server_tool_use_details={"tool_calls_requested": 1},
)
GROQ = usage(210, 15, queue_time=0.04, prompt_time=0.01, completion_time=0.04, total_time=0.05)
DEEPSEEK = usage(100, 50, prompt_cache_hit_tokens=64, prompt_cache_miss_tokens=36)
XAI = {
    "prompt_tokens": 12,
    "completion_tokens": 2,
    "total_tokens": 354,
    "prompt_tokens_details": {"text_tokens": 12, "cached_tokens": 11},
    "completion_tokens_details": {"reasoning_tokens": 340},
    "num_sources_used": 0,
    "cost_in_usd_ticks": 1_721_250,
}
PLAIN = Usage(input_tokens=100, output_tokens=50)


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        (usage(100, 50), PLAIN),
        (
            OPENAI,
            Usage(
                input_tokens=100,
                output_tokens=50,
                cached_tokens=30,
                cache_write_tokens=20,
                audio_input_tokens=5,
                reasoning_tokens=40,
                audio_output_tokens=7,
            ),
        ),
        (
            OPENROUTER,
            Usage(
                input_tokens=100,
                output_tokens=50,
                cached_tokens=30,
                cache_write_tokens=20,
                reasoning_tokens=40,
                cost_nano_usd=1_234_500,
            ),
        ),
        (GROQ, Usage(input_tokens=210, output_tokens=15)),
        (DEEPSEEK, Usage(input_tokens=100, output_tokens=50, cached_tokens=64)),
        (
            {"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36, "completion_tokens": 50},
            Usage(input_tokens=100, output_tokens=50, cached_tokens=64),
        ),
        (
            XAI,
            Usage(input_tokens=12, output_tokens=342, cached_tokens=11, reasoning_tokens=340, cost_nano_usd=172_125),
        ),
        (
            usage(12, 342, completion_tokens_details={"reasoning_tokens": 340}),
            Usage(input_tokens=12, output_tokens=342, reasoning_tokens=340),
        ),
        ({"completion_tokens": 19, "prompt_tokens": 15, "total_tokens": 34}, Usage(input_tokens=15, output_tokens=19)),
        (
            usage(100, 50, prompt_tokens_details=None, completion_tokens_details=None, cost=None, is_byok=None),
            PLAIN,
        ),
        (usage(100, 50, prompt_tokens_details=[], completion_tokens_details="x"), PLAIN),
        ({"prompt_tokens": 100, "completion_tokens": 50}, PLAIN),
        ({"prompt_tokens": 100}, Usage(input_tokens=100)),
        ({"cost": 0.5}, Usage(cost_nano_usd=500_000_000)),
    ],
)
def test_each_vendor_s_counts_are_made_inclusive(reported: dict[str, Any], expected: Usage) -> None:
    """Totals hold their parts, whatever the vendor leaves out of them."""
    assert read_usage({"choices": [], "usage": reported}) == expected
    assert OpenAICodec(is_openrouter=False).read_usage({"usage": reported}) == expected


ODD_NAMES: list[Any] = [None, 3, True, [], {}, ["flex"], "", "two words", "x" * 33, "<b>"]


@pytest.mark.parametrize(
    ("service", "kept"),
    [
        ("priority", "priority"),
        ("flex", "flex"),
        *((usual, None) for usual in ("default", "auto", "standard", "on_demand")),
        *((odd, None) for odd in ODD_NAMES),
    ],
)
def test_the_service_that_was_given_is_kept(service: object, kept: str | None) -> None:
    """The reply says it beside its usage; the usual one is nothing special, and what is no name is none."""
    found = read_usage({"service_tier": service, "usage": usage(100, 50)})
    assert found == PLAIN._replace(service_tier=kept)


@pytest.mark.parametrize(
    ("reported", "searches"),
    [
        ({"server_tool_use_details": {"web_search_requests": 2}}, 2),
        ({"server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 1}}, 3),
        ({"server_tool_use": None, "server_tool_use_details": {"web_search_requests": None}}, 0),
        ({"num_search_queries": 4}, 4),
        ({"num_sources_used": 5}, 5),
        ({"server_tool_use": {"web_search_requests": 3}, "server_tool_use_details": {"web_search_requests": 3}}, 3),
    ],
)
def test_searches_are_counted_once_wherever_they_stand(reported: dict[str, Any], searches: int) -> None:
    """OpenRouter, Anthropic's shape, Perplexity, xAI."""
    found = read_usage({"usage": usage(100, 50, **reported)})
    assert found == PLAIN._replace(web_searches=searches)


def test_pictures_and_cached_audio_are_counted_apart() -> None:
    """Audio known to be cached is not audio read fresh."""
    into = {"audio_tokens": 60, "cached_tokens": 50, "cached_tokens_details": {"audio_tokens": 20}, "image_tokens": 9}
    found = read_usage(
        {"usage": usage(100, 50, prompt_tokens_details=into, completion_tokens_details={"image_tokens": 40})}
    )
    assert found == PLAIN._replace(
        cached_tokens=50,
        cached_audio_tokens=20,
        audio_input_tokens=40,
        image_input_tokens=9,
        image_output_tokens=40,
    )


@pytest.mark.parametrize("beside", [{}, {"usage": None}, {"usage": {}}, {"usage": "none"}])
def test_groq_s_streams_hold_usage_in_a_field_of_their_own(beside: dict[str, Any]) -> None:
    """`x_groq.usage` counts where there is no other."""
    assert read_usage({**beside, "x_groq": {"id": "req_1", "usage": usage(100, 50)}}) == PLAIN
    assert read_usage({"usage": usage(100, 50), "x_groq": {"usage": usage(1, 1)}}) == PLAIN


@pytest.mark.parametrize(
    "reply",
    [{}, {"usage": None}, {"usage": {}}, {"usage": []}, {"usage": 5}, {"x_groq": None}, {"x_groq": {"usage": None}}],
)
def test_no_usage_is_none(reply: dict[str, Any]) -> None:
    """Missing is not zero."""
    assert read_usage(reply) is None


@pytest.mark.parametrize(
    ("reported", "nano_usd"),
    [
        # BYOK: the fee and what the maker charges (openrouter.md 7.1.2).
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.036}}, 36_000_000),
        ({"cost": 0.0018, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.036}}, 37_800_000),
        # What the maker charges may come in two parts; without it a fee alone is no bill.
        ({"cost": 0.0018, "is_byok": True, "cost_details": UPSTREAM_PARTS}, 37_800_000),
        ({"cost": 0, "is_byok": True, "cost_details": {**UPSTREAM_PARTS, "upstream_inference_cost": None}}, 36_000_000),
        ({"cost": 0, "is_byok": True, "cost_details": {**UPSTREAM_PARTS, "upstream_inference_cost": 0.04}}, 40_000_000),
        ({"cost": 0, "is_byok": True, "cost_details": {**UPSTREAM_PARTS, "upstream_inference_cost": 0}}, 0),
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_prompt_cost": 0.021}}, None),
        ({"cost": 0.0018, "is_byok": True, "cost_details": {"upstream_inference_cost": None}}, None),
        ({"cost": 0.0018, "is_byok": True, "cost_details": {}}, None),
        ({"cost": 0.0018, "is_byok": True}, None),
        # Everyone else: the details repeat the cost and are never added (0.7).
        ({"cost": 0.036, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.036}}, 36_000_000),
        ({"cost": 0.036, "cost_details": {"upstream_inference_cost": 0.036}}, 36_000_000),
        ({"cost": 0.036, "is_byok": "true", "cost_details": {"upstream_inference_cost": 0.036}}, 36_000_000),
        ({"cost": 0}, 0),
        ({"cost": 1}, 1_000_000_000),
        ({"cost": 7.75e-06}, 7_750),
        ({"cost": 1e-10}, 1),
        ({"cost": 1.1e-09}, 2),
        ({"cost": 0.0004970133333333333}, 497_014),
        ({"cost": COST_USD_MAX}, COST_NANO_USD_MAX),
        ({"cost": None}, None),
        ({}, None),
        # xAI's own bill, in 1e-10 USD, where no `cost` is told.
        ({"cost_in_usd_ticks": 0}, 0),
        ({"cost_in_usd_ticks": 1}, 1),
        ({"cost_in_usd_ticks": 10}, 1),
        ({"cost_in_usd_ticks": 11}, 2),
        ({"cost_in_usd_ticks": 1_641_500}, 164_150),
        ({"cost_in_usd_ticks": 10 * COST_NANO_USD_MAX}, COST_NANO_USD_MAX),
        ({"cost_in_usd_ticks": 10, "cost": None}, 1),
        ({"cost_in_usd_ticks": 10, "cost": 0.5}, 500_000_000),
    ],
)
def test_the_reported_cost_is_exact_and_rounded_up(reported: dict[str, Any], nano_usd: int | None) -> None:
    """The amount is what will be charged in all, to the last nano-dollar, never less."""
    read = read_usage({"usage": usage(100, 50, **reported)})
    assert read is not None
    assert read.cost_nano_usd == nano_usd
    assert read.is_byok is (reported.get("is_byok") is True)
    assert read.anomalies == ()


@pytest.mark.parametrize(
    ("reported", "anomaly"),
    [
        ({"cost": True}, "cost_unreadable"),
        ({"cost": "0.5"}, "cost_unreadable"),
        ({"cost": [0.5]}, "cost_unreadable"),
        ({"cost": -0.5}, "cost_out_of_range"),
        ({"cost": float("nan")}, "cost_out_of_range"),
        ({"cost": float("inf")}, "cost_out_of_range"),
        ({"cost": COST_USD_MAX + 0.001}, "cost_out_of_range"),
        pytest.param({"cost": HUGE}, "cost_out_of_range", id="5,000 digits"),
        ({"cost_in_usd_ticks": True}, "cost_unreadable"),
        ({"cost_in_usd_ticks": -1}, "cost_unreadable"),
        ({"cost_in_usd_ticks": 1.5}, "cost_unreadable"),
        ({"cost_in_usd_ticks": "10"}, "cost_unreadable"),
        ({"cost_in_usd_ticks": 10 * COST_NANO_USD_MAX + 1}, "cost_unreadable"),
    ],
)
def test_an_amount_that_cannot_be_is_no_amount(reported: dict[str, Any], anomaly: str) -> None:
    """Nonsense is named and the tokens count instead; it is never booked as 0."""
    read = read_usage({"usage": usage(100, 50, **reported)})
    assert read == Usage(input_tokens=100, output_tokens=50, anomalies=(anomaly,))


@pytest.mark.parametrize(
    ("details", "nano_usd"),
    [
        ({"upstream_inference_cost": "x"}, None),
        ({"upstream_inference_cost": "x", **UPSTREAM_PARTS}, 536_000_000),
        ({**UPSTREAM_PARTS, "upstream_inference_prompt_cost": "x"}, None),
    ],
)
def test_a_byok_part_that_cannot_be_is_named(details: dict[str, Any], nano_usd: int | None) -> None:
    """The fee alone is no amount when the maker's part is nonsense; its two parts may still tell."""
    read = read_usage({"usage": {"cost": 0.5, "is_byok": True, "cost_details": details}})
    assert read == Usage(cost_nano_usd=nano_usd, is_byok=True, anomalies=("cost_unreadable",))


@pytest.mark.parametrize(
    "value",
    [
        -1,
        True,
        False,
        1.5,
        12.0,
        "12",
        [12],
        {"n": 12},
        float("nan"),
        float("inf"),
        10**12 + 1,
        pytest.param(HUGE, id="huge"),
    ],
)
@pytest.mark.parametrize("name", COUNTS)
def test_a_count_that_cannot_be_counts_nothing(name: str, value: object) -> None:
    """Negative, fractional, boolean and huge counts are named and left out; the others stay."""
    read = read_usage({"usage": {**DEEPSEEK, name: value}})
    assert read is not None
    if name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert f"{name}_unreadable" in read.anomalies
        assert len(set(read.anomalies)) == len(read.anomalies)
    assert read.output_tokens == (0 if name == "completion_tokens" else 50)
    assert read.input_tokens == 100


@pytest.mark.parametrize("value", [0, 1, 10**12])
def test_any_count_that_can_be_is_taken(value: int) -> None:
    """The limit is far beyond any model, and belongs to the counts that are taken."""
    assert read_usage({"usage": {"prompt_tokens": value, "completion_tokens": 5}}) == Usage(
        input_tokens=value, output_tokens=5
    )


@pytest.mark.parametrize(
    ("total", "anomalies"),
    [(150, ()), (149, ("total_tokens_differ",)), (151, ("total_tokens_differ",)), (0, ()), (None, ())],
)
def test_a_total_that_contradicts_its_parts_is_named(total: int | None, anomalies: tuple[str, ...]) -> None:
    """The components win (reliability.md 3.3)."""
    assert read_usage({"usage": {**usage(100, 50), "total_tokens": total}}) == Usage(
        input_tokens=100, output_tokens=50, anomalies=anomalies
    )


@pytest.mark.parametrize(
    ("total", "output_tokens", "anomalies"),
    [(190, 90, ()), (150, 50, ()), (189, 50, ("total_tokens_differ",)), (None, 50, ())],
)
def test_reasoning_is_added_only_where_the_total_says_so(
    total: int | None, output_tokens: int, anomalies: tuple[str, ...]
) -> None:
    """Reasoning stands inside the completion everywhere but at xAI, whose total tells."""
    reported = {**usage(100, 50), "total_tokens": total, "completion_tokens_details": {"reasoning_tokens": 40}}
    assert read_usage({"usage": reported}) == Usage(
        input_tokens=100, output_tokens=output_tokens, reasoning_tokens=40, anomalies=anomalies
    )


anything: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=0, max_value=10**6)
    | st.floats()
    | st.text(max_size=3)
    | st.lists(st.integers(), max_size=2)
)
parts = st.dictionaries(st.sampled_from([*DETAILS, "upstream_inference_cost"]), anything, max_size=4)
figures = st.dictionaries(
    st.sampled_from(
        [
            *COUNTS,
            "prompt_tokens_details",
            "completion_tokens_details",
            "cost",
            "cost_details",
            "is_byok",
            "cost_in_usd_ticks",
        ]
    ),
    anything | parts,
)


@given(st.sampled_from(["usage", "x_groq"]), figures | anything)
def test_no_figure_breaks_the_reading(name: str, reported: object) -> None:
    """Whatever a provider reports: counts within bounds, an amount within bounds or none, and names for the rest."""
    read = read_usage({name: {"usage": reported} if name == "x_groq" else reported})
    if read is None:
        return
    counts = [getattr(read, name) for name in Usage._fields if name.endswith("_tokens")]
    assert all(type(count) is int and 0 <= count <= 2 * 10**12 for count in counts)
    assert read.cost_nano_usd is None or 0 <= read.cost_nano_usd <= 2 * COST_NANO_USD_MAX
    assert len(set(read.anomalies)) == len(read.anomalies)
    orjson.dumps(read.anomalies)
