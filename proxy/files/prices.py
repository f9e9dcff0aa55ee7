"""The words for prices in routes.yaml, and the rows they become (part of `files`, floor 2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field

from proxy.files import values
from proxy.files.options import Options
from proxy.pricing import PER_PIECE, PER_TOKEN, Prices, PriceTier, ServiceTier


class PartPriceOptions(Options):
    """What may be priced apart from plain tokens; a part without a price costs what it is part of."""

    cache_read: values.TokenPrice | None = Field(None, description="Prompt tokens read from the provider's cache.")
    cache_read_audio: values.TokenPrice | None = Field(None, description="Audio read from its cache.")
    cache_write: values.TokenPrice | None = Field(None, description="Prompt tokens written to its cache.")
    cache_write_1h: values.TokenPrice | None = Field(None, description="The same, kept for an hour.")
    audio_input: values.TokenPrice | None = Field(None, description="Audio in the prompt.")
    audio_output: values.TokenPrice | None = Field(None, description="Audio in the answer.")
    image_input: values.TokenPrice | None = Field(None, description="Tokens of pictures in the prompt.")
    image_output: values.TokenPrice | None = Field(None, description="Tokens of pictures in the answer.")
    request: values.PiecePrice | None = Field(None, description="Charged once a request, besides its tokens.")
    image: values.PiecePrice | None = Field(None, description="Each picture in the prompt, besides its tokens.")
    search: values.PiecePrice | None = Field(None, description="Each web search the provider reports.")


class LongPriceOptions(PartPriceOptions):
    """Prices of a long prompt; what is not named keeps its price."""

    input: values.TokenPrice | None = Field(None, description="Prompt tokens.")
    output: values.TokenPrice | None = Field(None, description="Answer tokens.")


class WholePriceOptions(PartPriceOptions):
    """A whole row of prices."""

    input: values.TokenPrice = Field(description="Prompt tokens. `$0/M` for a free local model.")
    output: values.TokenPrice = Field(description="Answer tokens, reasoning included.")
    above: dict[values.InputLength, LongPriceOptions] | None = Field(
        None,
        description="Prices of requests whose prompt is longer than that many tokens, for all of their tokens.",
        examples=[{"200k": {"input": "$2.50/M", "output": "$15/M"}}],
    )


class PriceOptions(WholePriceOptions):
    """Prices in US dollars, per million tokens and per piece."""

    service_tiers: dict[values.ServiceName, WholePriceOptions] | None = Field(
        None,
        description="Prices of requests that the provider served by another `service_tier` than the usual one.",
        examples=[{"priority": {"input": "$4.25/M", "output": "$17/M"}}],
    )


class PricesOptions(Options):
    """Where prices come from, besides the catalogue that ships."""

    refresh: values.RefreshPeriod | None = Field(
        None, description="Fetch OpenRouter's prices so often; nothing is fetched when left out.", examples=["24h"]
    )


def build_prices(options: PriceOptions | None) -> Prices | None:
    """Turn a `price:` into a price row."""
    if options is None:
        return None
    shared = _columns(options, PER_PIECE)
    services = (options.service_tiers or {}).items()
    rows = tuple(ServiceTier(name, _build_row({**shared, **_columns(row)}, row.above)) for name, row in services)
    return replace(_build_row(_columns(options), options.above), service_tiers=rows)


def _build_row(columns: Mapping[str, Any], above: Mapping[int, LongPriceOptions] | None) -> Prices:
    """Build one service's row with its tiers; a tier takes from the row what it does not name."""
    tiers = [PriceTier(length, Prices(**{**columns, **_columns(tier)})) for length, tier in (above or {}).items()]
    return Prices(**columns, tiers=tuple(sorted(tiers, key=lambda tier: tier.above_input_tokens)))


def _columns(options: PartPriceOptions, names: Iterable[str] = (*PER_TOKEN, *PER_PIECE)) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(options, name)) is not None}
