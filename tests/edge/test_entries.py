"""A model in OpenRouter's words: every field its schema names, prices exact, capabilities where they are known."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.edge.entries import (
    PARAMETERS,
    architecture_object,
    endpoint_entry,
    list_parameters,
    openrouter_entry,
    pricing_object,
    provider_entry,
)
from proxy.edge.offers import Offer
from proxy.pricing import ModelFacts, Prices, PriceTier
from proxy.routing.table import Dialect, ProviderFlags, Target
from tests.edge.desk import CHEAP, ROUTER, SIM

MODEL_FIELDS = {
    "id",
    "canonical_slug",
    "hugging_face_id",
    "name",
    "created",
    "description",
    "context_length",
    "architecture",
    "pricing",
    "top_provider",
    "per_request_limits",
    "supported_parameters",
    "default_parameters",
    "supported_voices",
    "knowledge_cutoff",
    "expiration_date",
    "links",
}
ENDPOINT_FIELDS = {
    "name",
    "tag",
    "provider_name",
    "model_id",
    "model_name",
    "context_length",
    "max_completion_tokens",
    "max_prompt_tokens",
    "pricing",
    "quantization",
    "supported_parameters",
    "supports_implicit_caching",
    "supports_tool_choice",
    "supports_diarization",
    "native_tools",
    "service_tier",
    "status",
    "uptime_last_5m",
    "uptime_last_30m",
    "uptime_last_1d",
    "latency_last_30m",
    "throughput_last_30m",
}


def an_offer(facts: ModelFacts, *, model: str = "meta/llama-3", name: str = "acme/model") -> Offer:
    """One name with one target."""
    return Offer(name, (Target(ROUTER, model, facts),))


def facts_of(**capabilities: object) -> ModelFacts:
    """Make facts that know only capabilities."""
    return ModelFacts(capabilities=capabilities)


def test_a_model_has_every_field_of_the_schema() -> None:
    """And `reasoning` only when it is known to think: null is refused there."""
    entry = openrouter_entry(an_offer(ModelFacts(CHEAP, 8_192, 1_024)), created_s=7)
    assert entry.keys() == MODEL_FIELDS
    assert entry["architecture"] == {
        "modality": "text->text",
        "input_modalities": ["text"],
        "output_modalities": ["text"],
        "tokenizer": "Llama3",
        "instruct_type": None,
    }
    assert entry["top_provider"] == {"context_length": 8_192, "max_completion_tokens": 1_024, "is_moderated": False}
    assert entry["links"] == {"details": "/api/v1/models/acme/model/endpoints"}
    assert openrouter_entry(an_offer(facts_of(thinking="none")), created_s=7).keys() == MODEL_FIELDS
    thinking = openrouter_entry(an_offer(facts_of(thinking="budget")), created_s=7)
    assert thinking.keys() == MODEL_FIELDS | {"reasoning"}
    assert thinking["reasoning"] == {
        "mandatory": False,
        "default_enabled": False,
        "default_effort": None,
        "supported_efforts": None,
        "supports_max_tokens": True,
    }


def test_a_model_nobody_serves_has_the_same_fields() -> None:
    """Every target was left out, for a suffix that none of them has."""
    entry = openrouter_entry(Offer("chat:online", ()), created_s=7)
    assert entry.keys() == MODEL_FIELDS
    assert (entry["description"], entry["pricing"]) == ("", {"prompt": "-1", "completion": "-1"})


def test_an_endpoint_has_every_field_of_the_schema() -> None:
    """A context that is not known is 0: OpenRouter's client refuses null there."""
    entry = endpoint_entry("chat", Target(SIM, "echo", ModelFacts(CHEAP, 8_192, 1_024)), status=0)
    assert entry.keys() == ENDPOINT_FIELDS
    assert (entry["name"], entry["tag"], entry["provider_name"]) == ("sim | echo", "sim", "sim")
    assert (entry["model_id"], entry["model_name"]) == ("echo", "chat")
    assert (entry["context_length"], entry["max_completion_tokens"]) == (8_192, 1_024)
    assert (entry["quantization"], entry["uptime_last_30m"]) == ("unknown", None)
    unknown = endpoint_entry("chat", Target(SIM, "echo"), status=0)
    assert (unknown["context_length"], unknown["pricing"]["prompt"]) == (0, "-1")


def test_a_provider_has_every_field_of_the_schema() -> None:
    """What it promises is not ours to say."""
    entry = provider_entry(SIM)
    assert (entry.pop("name"), entry.pop("slug")) == ("sim", "sim")
    assert entry == dict.fromkeys(
        ("privacy_policy_url", "terms_of_service_url", "status_page_url", "headquarters", "datacenters")
    )


@pytest.mark.parametrize(
    ("capabilities", "inputs", "outputs"),
    [
        ({}, ["text"], ["text"]),
        ({"input": ("text", "image", "pdf")}, ["text", "image", "file"], ["text"]),
        ({"input": ("text", "audio"), "output": ("text", "image")}, ["text", "audio"], ["text", "image"]),
        ({"input": "text", "output": None}, ["text"], ["text"]),
    ],
)
def test_modalities_are_in_openrouters_words(
    capabilities: dict[str, object], inputs: list[str], outputs: list[str]
) -> None:
    """Plain text unless more is known; a PDF is a file there."""
    shown = architecture_object(an_offer(facts_of(**capabilities)))
    assert (shown["input_modalities"], shown["output_modalities"]) == (inputs, outputs)
    assert shown["modality"] == f"{'+'.join(inputs)}->{'+'.join(outputs)}"


@pytest.mark.parametrize(
    ("model", "tokenizer"),
    [
        ("gpt-4o", "GPT"),
        ("anthropic/claude-sonnet-4.5", "Claude"),
        ("google/gemini-2.5-pro", "Gemini"),
        ("unheard-of", "Other"),
    ],
)
def test_the_tokenizer_is_told_from_the_name(model: str, tokenizer: str) -> None:
    """Of the target that would be tried first."""
    assert architecture_object(an_offer(ModelFacts(), model=model))["tokenizer"] == tokenizer


@pytest.mark.parametrize(
    ("capabilities", "gone", "more"),
    [
        ({}, set(), set()),
        ({"tools": True, "sampling": True}, set(), set()),
        ({"tools": False}, {"tools", "tool_choice"}, set()),
        ({"sampling": False}, {"temperature", "top_p"}, set()),
        ({"unsupported": frozenset({"seed", "stop"})}, {"seed", "stop"}, set()),
        ({"json_schema": True}, set(), {"structured_outputs"}),
        ({"json_schema": False}, set(), set()),
        ({"thinking": "adaptive"}, set(), {"reasoning", "include_reasoning", "reasoning_effort"}),
        ({"efforts": ("low", "high")}, set(), {"reasoning", "include_reasoning", "reasoning_effort"}),
        ({"thinking": "none", "efforts": ("low", "high")}, set(), set()),
        (
            {"thinking": "level", "unsupported": frozenset({"reasoning_effort"})},
            set(),
            {"reasoning", "include_reasoning"},
        ),
    ],
)
def test_parameters_are_those_a_model_takes(capabilities: dict[str, object], gone: set[str], more: set[str]) -> None:
    """What goes to every upstream, less what is refused, and thinking where there is any."""
    assert set(list_parameters(Target(SIM, "echo", facts_of(**capabilities)))) == set(PARAMETERS) - gone | more


@pytest.mark.parametrize(
    ("dialect", "unsupported", "gone"),
    [
        (Dialect.OPENROUTER, set(), set()),
        (Dialect.OPENAI, {"stop", "n"}, {"stop"}),
        (Dialect.GOOGLE, set(), set()),
        (Dialect.ANTHROPIC, set(), {"seed", "frequency_penalty", "presence_penalty"}),
    ],
)
def test_parameters_that_would_be_dropped_are_not_offered(
    dialect: Dialect, unsupported: set[str], gone: set[str]
) -> None:
    """Those a provider refuses for all its models, and those its dialect has no word for."""
    provider = replace(SIM, dialect=dialect, flags=ProviderFlags(unsupported=frozenset(unsupported)))
    assert set(list_parameters(Target(provider, "m"))) == set(PARAMETERS) - gone
    assert list_parameters(None) == list(PARAMETERS)


@pytest.mark.parametrize(
    ("capabilities", "is_mandatory"),
    [
        ({"efforts": ("low", "high")}, True),
        ({"efforts": ("none", "low", "high")}, False),
        ({"thinking": "level", "efforts": ("low", "high")}, True),
        ({"thinking": "level"}, False),
        ({"thinking": "adaptive", "efforts": ("low", "high")}, False),
        ({"thinking": "budget"}, False),
    ],
)
def test_thinking_that_cannot_be_switched_off_is_mandatory(
    capabilities: dict[str, object], *, is_mandatory: bool
) -> None:
    """Told from the efforts: where `none` is not among them and nothing else steers it."""
    entry = openrouter_entry(an_offer(facts_of(**capabilities)), created_s=7)
    assert (entry["reasoning"]["mandatory"], entry["reasoning"]["default_enabled"]) == (is_mandatory, is_mandatory)


@pytest.mark.parametrize(
    ("capabilities", "chosen"),
    [
        ({}, {"auto", "none", "required", "function"}),
        ({"forced_tools": True}, {"auto", "none", "required", "function"}),
        ({"forced_tools": False}, {"auto", "none"}),
        ({"tools": False, "forced_tools": True}, set()),
    ],
)
def test_not_every_model_can_be_made_to_call_a_tool(capabilities: dict[str, object], chosen: set[str]) -> None:
    """One without tools has no choice at all."""
    entry = endpoint_entry("chat", Target(SIM, "echo", facts_of(**capabilities)), status=0)
    choices = entry["supports_tool_choice"]
    assert choices.keys() == {"auto", "none", "required", "function"}
    assert {name for name, is_there in choices.items() if is_there} == chosen


def test_the_efforts_a_model_knows_are_listed() -> None:
    """In the order of the file."""
    entry = openrouter_entry(an_offer(facts_of(thinking="adaptive", efforts=("low", "high"))), created_s=7)
    assert (entry["reasoning"]["supported_efforts"], entry["reasoning"]["supports_max_tokens"]) == (
        ["low", "high"],
        False,
    )


def test_prices_are_strings_of_usd_per_token() -> None:
    """Each column under OpenRouter's name; what is not priced apart is left out."""
    prices = Prices(
        Decimal("2.5"),
        Decimal(10),
        cache_read=Decimal("0.25"),
        cache_read_audio=Decimal("0.5"),
        cache_write=Decimal("3.125"),
        cache_write_1h=Decimal(5),
        audio_input=Decimal(40),
        audio_output=Decimal(80),
        image_input=Decimal(3),
        image_output=Decimal(30),
        request=Decimal("0.005"),
        image=Decimal("0.0010"),
        search=Decimal("0.01"),
    )
    assert pricing_object(prices) == {
        "prompt": "0.0000025",
        "completion": "0.00001",
        "input_cache_read": "0.00000025",
        "input_cache_write": "0.000003125",
        "input_cache_write_1h": "0.000005",
        "audio": "0.00004",
        "audio_output": "0.00008",
        "input_audio_cache": "0.0000005",
        "image_token": "0.000003",
        "image_output": "0.00003",
        "request": "0.005",
        "image": "0.001",
        "web_search": "0.01",
    }
    assert pricing_object(Prices(Decimal(1), Decimal(2))).keys() == {"prompt", "completion", "request"}


@given(st.decimals(min_value=0, max_value=Decimal("999999999999.999999999999999999"), places=18))
def test_a_price_per_token_is_exact(price: Decimal) -> None:
    """A million of them is the price itself, to the last digit a file can hold."""
    text = pricing_object(Prices(price, price))["prompt"]
    assert "E" not in text
    assert Decimal(f"{text}e6") == price


def a_tier(**prices: Decimal) -> PriceTier:
    """A tier above 200,000 tokens."""
    return PriceTier(200_000, Prices(Decimal(4), Decimal(18), **prices))  # type: ignore[arg-type]  # a test's


@pytest.mark.parametrize(
    ("base", "tier", "shown"),
    [
        ({}, {}, {}),
        (
            {"cache_read": Decimal("0.2")},
            {"cache_read": Decimal("0.4")},
            {"input_cache_read": "0.0000004"},
        ),
        ({"cache_read": Decimal("0.2")}, {}, {"input_cache_read": "0.000004"}),
        (
            {"cache_write": Decimal(3), "cache_write_1h": Decimal(4)},
            {"cache_write": Decimal(6)},
            {
                "input_cache_write": "0.000006",
                "input_cache_write_1h": "0.000006",
            },
        ),
        (
            {"cache_write_1h": Decimal(4), "audio_input": Decimal(1)},
            {},
            {
                "input_cache_write_1h": "0.000004",
                "audio": "0.000004",
            },
        ),
        ({}, {"audio_output": Decimal(9), "image_output": Decimal(9), "request": Decimal(1)}, {}),
        (
            {"cache_read_audio": Decimal(1)},
            {"cache_read": Decimal("0.4")},
            {"input_cache_read": "0.0000004", "input_audio_cache": "0.0000004"},
        ),
    ],
)
def test_a_long_prompts_prices_are_overrides(base: dict[str, Any], tier: dict[str, Any], shown: dict[str, str]) -> None:
    """A column left out would keep its base price there: what the tier prices as a part of the input is written out."""
    prices = Prices(Decimal(2), Decimal(12), tiers=(a_tier(**tier),))
    assert pricing_object(replace(prices, **base))["overrides"] == [
        {"min_prompt_tokens": 200_000, "prompt": "0.000004", "completion": "0.000018", **shown}
    ]
