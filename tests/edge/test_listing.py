"""The query parameters of OpenRouter's model list."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from starlette.datastructures import QueryParams

from proxy.edge.listing import cut_page, select
from proxy.edge.offers import Offer
from proxy.errors import ClientError
from proxy.pricing import ModelFacts, Prices
from proxy.routing.table import Target
from tests.edge.desk import ROUTER, SIM

CLAUDE = ModelFacts(Prices(Decimal(3), Decimal(15)), 200_000, capabilities={"input": ("text", "image")})
GPT = ModelFacts(Prices(Decimal("0.15"), Decimal("0.6")), 128_000, capabilities={"tools": False})
PAINTER = ModelFacts(Prices(Decimal(5), Decimal(5)), capabilities={"output": ("image",)})

OFFERS = [
    Offer("anthropic/claude-opus", (Target(ROUTER, "anthropic/claude-opus", CLAUDE),)),
    Offer("cheap", (Target(SIM, "gpt-4o-mini", GPT), Target(ROUTER, "openai/gpt-4o-mini"))),
    Offer("painter", (Target(SIM, "painter", PAINTER),)),
    Offer("mystery", (Target(SIM, "mystery"),)),
]
TEXT = ["anthropic/claude-opus", "cheap", "mystery"]
ALL = ["anthropic/claude-opus", "cheap", "painter", "mystery"]


def names(query: str) -> list[str]:
    """Select and give the names."""
    return [offer.name for offer in select(OFFERS, QueryParams(query))]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", TEXT),
        ("output_modalities=all", ALL),
        ("output_modalities=", TEXT),
        ("output_modalities=image", ["painter"]),
        ("output_modalities=image,text", ALL),
        ("input_modalities=image", ["anthropic/claude-opus"]),
        ("input_modalities=text, image", ["anthropic/claude-opus"]),
        ("q=CLAUDE", ["anthropic/claude-opus"]),
        ("q=nothing", []),
        ("supported_parameters=tools", ["anthropic/claude-opus", "mystery"]),
        ("supported_parameters=temperature,tools", ["anthropic/claude-opus", "mystery"]),
        ("supported_parameters=telepathy", []),
        ("context=128000", ["anthropic/claude-opus", "cheap"]),
        ("context=128001", ["anthropic/claude-opus"]),
        ("providers=SIM", ["cheap", "mystery"]),
        ("providers=openrouter", ["anthropic/claude-opus", "cheap"]),
        ("model_authors=anthropic,google", ["anthropic/claude-opus"]),
        ("model_authors=cheap", []),
        ("arch=gpt", ["cheap"]),
        ("min_price=0.15", ["anthropic/claude-opus", "cheap"]),
        ("min_price=0.16", ["anthropic/claude-opus"]),
        ("max_price=3", ["anthropic/claude-opus", "cheap"]),
        ("max_price=2.999", ["cheap"]),
        ("min_output_price=0.6&max_output_price=14", ["cheap"]),
        ("max_price=1&context=200000", []),
    ],
)
def test_filters_hold_together(query: str, expected: list[str]) -> None:
    """Both ends of a span are in it; a model whose figure is not known passes no filter for it."""
    assert names(query) == expected


def test_what_keeps_nothing_is_what_the_operator_says_keeps_nothing() -> None:
    """`zdr: true` of a provider that serves the model; elsewhere the filter finds nothing."""
    keeper = replace(ROUTER, name="vault", zdr=True)
    offers = [*OFFERS, Offer("safe", (Target(SIM, "m"), Target(keeper, "m")))]
    assert [offer.name for offer in select(offers, QueryParams("zdr=true"))] == ["safe"]
    assert len(select(offers, QueryParams("zdr=false"))) == len(TEXT) + 1


@pytest.mark.parametrize("query", ["zdr=true", "region=eu", "distillable=true"])
def test_a_promise_nobody_gave_finds_nothing(query: str) -> None:
    """Fails closed: a list of models that do not keep it would be taken for those that do."""
    assert names(query) == []


@pytest.mark.parametrize(
    "query", ["category=programming", "distillable=false", "min_intelligence_index=50", "sort=top-weekly", "x=y"]
)
def test_what_is_not_known_changes_nothing(query: str) -> None:
    """Neither which models there are nor their order."""
    assert names(query) == TEXT


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("pricing-low-to-high", ["cheap", "painter", "anthropic/claude-opus", "mystery"]),
        ("pricing-high-to-low", ["anthropic/claude-opus", "painter", "cheap", "mystery"]),
        ("context-high-to-low", ["anthropic/claude-opus", "cheap", "painter", "mystery"]),
    ],
)
def test_what_is_not_known_comes_last(order: str, expected: list[str]) -> None:
    """In whichever direction; the rest by the mean of both prices."""
    assert names(f"output_modalities=all&sort={order}") == expected


@pytest.mark.parametrize(
    ("query", "param"),
    [("context=long", "context"), ("max_price=-1", "max_price"), ("min_output_price=1e3", "min_output_price")],
)
def test_a_filter_that_is_no_number_is_named(query: str, param: str) -> None:
    """400."""
    with pytest.raises(ClientError, match=param) as raised:
        names(query)
    assert raised.value.param == param


@pytest.mark.parametrize(
    ("query", "expected", "following"),
    [
        ("", ALL, None),
        ("q=x", ALL, None),
        ("offset=1&limit=2", ALL[1:3], "/models?offset=3&limit=2"),
        ("limit=2&q=a+b", ALL[:2], "/models?offset=2&limit=2&q=a+b"),
        ("offset=2&limit=2", ALL[2:], None),
        ("offset=", ALL, None),
        ("offset=7", [], None),
    ],
)
def test_a_page_leads_to_the_next(query: str, expected: list[str], following: str | None) -> None:
    """With the filters it was asked for; without `offset` and `limit` the list is whole."""
    page, link = cut_page(OFFERS, QueryParams(query), "/models")
    assert [offer.name for offer in page] == expected
    assert link == following


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "offset=x", "offset=1234567890"])
def test_a_page_nobody_can_cut_is_refused(query: str) -> None:
    """One of no models would lead to itself for ever."""
    with pytest.raises(ClientError):
        cut_page(OFFERS, QueryParams(query), "/models")
