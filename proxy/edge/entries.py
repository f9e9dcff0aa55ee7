"""One model as clients read it (floor 5, no I/O): OpenAI's entry, OpenRouter's, and OpenRouter's of one endpoint.

OpenRouter's fields are those of its OpenAPI file ([S] Model, PublicPricing, PublicEndpoint). Its own client libraries
refuse an entry that lacks one of them, and take null only where the file says so: what may be left out is left out
when it is not known. An unknown price is never shown as 0.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from urllib.parse import quote

from proxy.codecs.wire import Surface, Thinking
from proxy.edge.offers import Offer
from proxy.pricing import PER_TOKEN, ModelFacts, Prices, PriceTier
from proxy.routing.table import Dialect, Provider, Target
from proxy.tokens import Family, family_of

UNKNOWN_PRICE = "-1"
"""What OpenRouter shows for a price that varies."""
STATUS_OK, STATUS_DEGRADED, STATUS_OFF = 0, -2, -10
"""OpenRouter's figures for how an endpoint does; what lies between them it does not say."""
PARAMETERS = (
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "tools",
    "tool_choice",
    "response_format",
)
"""What is passed on to every upstream; some of it a model may refuse."""

_UNSAID = {Dialect.ANTHROPIC: frozenset({"frequency_penalty", "presence_penalty", "seed"})}
"""Of these, what a dialect has no word for, whatever the model (openrouter.md 8.3, 8.5)."""
_TOOLS = frozenset({"tools", "tool_choice"})
_SAMPLING = frozenset({"temperature", "top_p"})
_THINKING = ("reasoning", "include_reasoning", "reasoning_effort")
_WITHOUT_SWITCH = (None, Thinking.LEVEL)
"""Where the efforts are all there is to steer thinking by; Anthropic's is switched on apart from them."""
_MODALITIES = {"pdf": "file"}
"""Where OpenRouter's word differs from ours."""
_TOKENIZERS = {
    Family.O200K: "GPT",
    Family.CL100K: "GPT",
    Family.CLAUDE: "Claude",
    Family.CLAUDE_NEW: "Claude",
    Family.GEMMA: "Gemini",
    Family.LLAMA: "Llama3",
    Family.DEEPSEEK: "DeepSeek",
    Family.QWEN: "Qwen",
    Family.MISTRAL: "Mistral",
}
_PER_TOKEN = {
    "prompt": "input",
    "completion": "output",
    "input_cache_read": "cache_read",
    "input_audio_cache": "cache_read_audio",
    "input_cache_write": "cache_write",
    "input_cache_write_1h": "cache_write_1h",
    "audio": "audio_input",
    "audio_output": "audio_output",
    "image_token": "image_input",
    "image_output": "image_output",
}
"""OpenRouter's columns and ours."""
_NOT_IN_OVERRIDES = frozenset({"audio_output", "image_token", "image_output"})


def openai_entry(offer: Offer, *, created_s: int) -> dict[str, Any]:
    """Give OpenAI's entry, and what else we know beside it."""
    facts, first = offer.facts, offer.first
    return {
        "id": offer.name,
        "object": "model",
        "created": created_s,
        "owned_by": first.provider.name if first is not None else "turnpike",
        "ready": first is not None and first.provider.not_ready is None,
        "context_length": facts.context_tokens,
        "max_output_tokens": facts.output_tokens_max,
        "pricing": pricing_object(facts.prices) if facts.prices is not None else None,
    }


def openrouter_entry(offer: Offer, *, created_s: int) -> dict[str, Any]:
    """Give OpenRouter's entry of the target that would be tried first."""
    facts = offer.facts
    entry = {
        "id": offer.name,
        "canonical_slug": offer.name,
        "hugging_face_id": None,
        "name": offer.name,
        "created": created_s,
        "description": describe(offer),
        "context_length": facts.context_tokens,
        "architecture": architecture_object(offer),
        "pricing": _pricing_or_unknown(facts.prices),
        "top_provider": {
            "context_length": facts.context_tokens,
            "max_completion_tokens": facts.output_tokens_max,
            "is_moderated": False,
        },
        "per_request_limits": None,
        "supported_parameters": list_parameters(offer.first),
        "default_parameters": None,
        "supported_voices": None,
        "knowledge_cutoff": None,
        "expiration_date": None,
        "links": {"details": f"{Surface.OPENROUTER.value}/models/{quote(offer.name)}/endpoints"},
    }
    return {**entry, "reasoning": _reasoning(facts)} if _thinks(facts) else entry


def endpoint_entry(name: str, target: Target, *, status: int) -> dict[str, Any]:
    """Give OpenRouter's entry of one target of a model; a context that is not known is 0, as null is refused there."""
    facts = target.facts
    parameters = list_parameters(target)
    return {
        "name": f"{target.provider.name} | {target.model}",
        "tag": target.provider.name,
        "provider_name": target.provider.name,
        "model_id": target.model,
        "model_name": name,
        "context_length": facts.context_tokens or 0,
        "max_completion_tokens": facts.output_tokens_max,
        "max_prompt_tokens": None,
        "pricing": _pricing_or_unknown(facts.prices),
        "quantization": "unknown",
        "supported_parameters": parameters,
        "supports_implicit_caching": False,
        "supports_tool_choice": _tool_choices(target),
        "supports_diarization": False,
        "native_tools": {},
        "service_tier": None,
        "status": status,
        "uptime_last_5m": None,
        "uptime_last_30m": None,
        "uptime_last_1d": None,
        "latency_last_30m": None,
        "throughput_last_30m": None,
    }


def provider_entry(provider: Provider) -> dict[str, Any]:
    """Give OpenRouter's entry of a provider; where it sits and what it promises is not ours to say."""
    return {
        "name": provider.name,
        "slug": provider.name,
        "privacy_policy_url": None,
        "terms_of_service_url": None,
        "status_page_url": None,
        "headquarters": None,
        "datacenters": None,
    }


def describe(offer: Offer) -> str:
    """Say in a sentence who would answer."""
    return f"Served by {offer.first.name}." if offer.first is not None else ""


def architecture_object(offer: Offer) -> dict[str, Any]:
    """Say what goes in, what comes out, and how it is counted; plain text unless more is known."""
    inputs, outputs = modalities(offer.facts, "input"), modalities(offer.facts, "output")
    return {
        "modality": f"{'+'.join(inputs)}->{'+'.join(outputs)}",
        "input_modalities": inputs,
        "output_modalities": outputs,
        "tokenizer": tokenizer_name(offer),
        "instruct_type": None,
    }


def tokenizer_name(offer: Offer) -> str:
    """Give OpenRouter's word for a model's family, told from its name."""
    return "Other" if offer.first is None else _TOKENIZERS.get(family_of(offer.first.model), "Other")


def modalities(facts: ModelFacts, side: str) -> list[str]:
    """List what a model takes (`input`) or gives (`output`), in OpenRouter's words."""
    words = _words(facts, side) or ["text"]
    return list(dict.fromkeys(_MODALITIES.get(word, word) for word in words))


def list_parameters(target: Target | None) -> list[str]:
    """List the request fields a target takes: what goes to every upstream, less what it is known to refuse."""
    if target is None:
        return list(PARAMETERS)
    known = target.facts.capabilities
    refused = target.unsupported | _UNSAID.get(target.provider.dialect, frozenset())
    if known.get("tools") is False:
        refused |= _TOOLS
    if known.get("sampling") is False:
        refused |= _SAMPLING
    offered = [*PARAMETERS, *(_THINKING if _thinks(target.facts) else ())]
    if known.get("json_schema") is True:
        offered.append("structured_outputs")
    return [name for name in offered if name not in refused]


def pricing_object(prices: Prices) -> dict[str, Any]:
    """Give prices as OpenRouter does: decimal strings, USD per token, and per request; long prompts as `overrides`."""
    given = {shown: getattr(prices, ours) for shown, ours in _PER_TOKEN.items()}
    pricing: dict[str, Any] = {name: _per_token(price) for name, price in given.items() if price is not None}
    pricing["request"] = _plain(prices.request)
    if prices.image:
        pricing["image"] = _plain(prices.image)
    if prices.search is not None:
        pricing["web_search"] = _plain(prices.search)
    if prices.tiers:
        pricing["overrides"] = [_override(prices, tier) for tier in prices.tiers]
    return pricing


def _pricing_or_unknown(prices: Prices | None) -> dict[str, Any]:
    return {"prompt": UNKNOWN_PRICE, "completion": UNKNOWN_PRICE} if prices is None else pricing_object(prices)


def _override(base: Prices, tier: PriceTier) -> dict[str, Any]:
    """Give the prices above a threshold.

    A column that an override leaves out keeps its base price there, but is priced as a part of the tier here: such a
    column is written out. What has no place in an override (audio and pictures put out, pieces) is left out.
    """
    row = tier.prices
    shown: dict[str, Any] = {"min_prompt_tokens": tier.above_input_tokens}
    for name, ours in _PER_TOKEN.items():
        if name in _NOT_IN_OVERRIDES:
            continue
        price = getattr(row, ours)
        if price is None and getattr(base, ours) is not None:
            price = _part_of(row, ours)
        if price is not None:
            shown[name] = _per_token(price)
    return shown


def _part_of(row: Prices, name: str) -> Decimal:
    """Give the price of the kind that a kind without a price of its own is part of."""
    price: Decimal | None = None
    while price is None:
        name = PER_TOKEN[name]
        price = getattr(row, name)
    return price


def _tool_choices(target: Target) -> dict[str, bool]:
    """Say which values of `tool_choice` there are; a model may take tools and yet not be made to call one."""
    chooses = "tool_choice" in list_parameters(target)
    is_forced = chooses and target.facts.capabilities.get("forced_tools") is not False
    return {"auto": chooses, "none": chooses, "required": is_forced, "function": is_forced}


def _thinks(facts: ModelFacts) -> bool:
    """Tell whether a model is known to think: by how it is told to, or by the efforts it takes."""
    thinking = facts.capabilities.get("thinking")
    return thinking != Thinking.NONE and (thinking is not None or bool(_words(facts, "efforts")))


def _reasoning(facts: ModelFacts) -> dict[str, Any]:
    """Say how a model's thinking is steered, and whether it is known to go on whatever is asked."""
    efforts, thinking = _words(facts, "efforts"), facts.capabilities.get("thinking")
    is_mandatory = bool(efforts) and "none" not in efforts and thinking in _WITHOUT_SWITCH
    return {
        "mandatory": is_mandatory,
        "default_enabled": is_mandatory,
        "default_effort": None,
        "supported_efforts": efforts or None,
        "supports_max_tokens": thinking == Thinking.BUDGET,
    }


def _words(facts: ModelFacts, name: str) -> list[str]:
    """Read a capability that is several words; one that is not known is none."""
    value = facts.capabilities.get(name)
    return list(value) if isinstance(value, tuple | frozenset) else []


def _per_token(usd_per_million: Decimal) -> str:
    """Divide by a million exactly: the exponent moves, so no digit is lost to any precision."""
    sign, digits, exponent = usd_per_million.as_tuple()
    assert isinstance(exponent, int), "prices are finite"
    return _plain(Decimal((sign, digits, exponent - 6)))


def _plain(price: Decimal) -> str:
    text = f"{price:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
