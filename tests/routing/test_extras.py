"""OpenRouter's own request fields: what is understood, and which is refused by name."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ClientError
from proxy.routing.extras import (
    ENTRIES_MAX,
    NAME_CHARS_MAX,
    NO_EXTRAS,
    SORTS,
    Extras,
    MaxPrice,
    Preferences,
    read_extras,
)

PREFERENCES: dict[str, Any] = {
    "order": ["anthropic", "openai"],
    "only": ["openai"],
    "ignore": ["azure"],
    "allow_fallbacks": False,
    "require_parameters": True,
    "data_collection": "deny",
    "zdr": True,
    "enforce_distillable_text": True,
    "quantizations": ["fp8"],
    "sort": "price",
    "max_price": {"prompt": 1, "completion": "2.5"},
    "preferred_min_throughput": 50,
    "preferred_max_latency": {"p90": 3},
}


def test_a_request_without_any_says_nothing() -> None:
    """Most requests, and nothing is made for them."""
    assert read_extras({"model": "chat", "messages": [], "tools": []}) is NO_EXTRAS


@pytest.mark.parametrize("field", ["models", "route", "provider", "plugins", "transforms", "preset"])
def test_a_field_that_is_null_says_nothing(field: str) -> None:
    """As if it had not been sent."""
    assert read_extras({field: None}) == NO_EXTRAS


def test_every_preference_is_read() -> None:
    """Those about an order among OpenRouter's own endpoints are known and not needed here."""
    assert read_extras({"provider": PREFERENCES}).preferences == Preferences(
        order=("anthropic", "openai"),
        only=("openai",),
        ignore=("azure",),
        allow_fallbacks=False,
        require_parameters=True,
        denies_collection=True,
        zdr=True,
        distillable=True,
        quantizations=("fp8",),
        max_price=MaxPrice(Decimal(1), Decimal("2.5")),
    )


def test_a_preference_that_is_null_is_its_default() -> None:
    """Fallbacks are allowed, everything else is off."""
    assert read_extras({"provider": dict.fromkeys(PREFERENCES)}).preferences == Preferences()


def test_a_preference_nobody_here_knows_is_kept_by_name() -> None:
    """Whoever cannot keep it is left out later."""
    assert read_extras({"provider": {"zzz": 1, "new": None}}).preferences.unknown == ("new", "zzz")


@pytest.mark.parametrize("route", ["fallback", "sort", None])
def test_the_old_route_is_taken(route: str | None) -> None:
    """Without `models` it says nothing."""
    assert read_extras({"route": route}) == Extras()


def test_models_are_read_once_each() -> None:
    """In their order."""
    assert read_extras({"models": ["b", "a", "b"]}).models == ("b", "a")


@pytest.mark.parametrize(
    ("value", "price"),
    [
        ({}, MaxPrice()),
        ({"prompt": None}, MaxPrice()),
        ({"prompt": 0.1, "request": "0"}, MaxPrice(prompt=Decimal("0.1"), request=Decimal(0))),
        ({"image": 1}, MaxPrice(has_others=True)),
        ({"audio": "0.5", "completion": 3}, MaxPrice(completion=Decimal(3), has_others=True)),
    ],
)
def test_a_price_is_a_number_or_text(value: dict[str, Any], price: MaxPrice) -> None:
    """The guide writes one, the reference the other; exact in both."""
    assert read_extras({"provider": {"max_price": value}}).preferences.max_price == price


def test_plugins_that_are_on_are_kept_as_they_came() -> None:
    """The one for middle-out is a wish of its own."""
    web = {"id": "web", "max_results": 2}
    plugins = [web, {"id": "moderation", "enabled": False}, {"id": "context-compression"}, {"id": "web-fetch"}]
    made = read_extras({"plugins": plugins})
    assert made.plugins == (web, {"id": "web-fetch"})
    assert made.middle_out is True


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"transforms": ["middle-out"]}, True),
        ({"transforms": []}, False),
        ({"plugins": [{"id": "context-compression", "engine": "middle-out"}]}, True),
        ({"plugins": [{"id": "context-compression", "enabled": False}]}, False),
        ({"plugins": []}, None),
        ({"transforms": ["middle-out"], "plugins": [{"id": "context-compression", "enabled": False}]}, False),
        ({"transforms": [], "plugins": [{"id": "context-compression"}]}, False),
    ],
)
def test_an_explicit_off_wins_over_any_other_word(fields: dict[str, Any], asked: bool | None) -> None:
    """Two forms of one wish."""
    assert read_extras(fields).middle_out is asked


@pytest.mark.parametrize(
    ("fields", "param", "told"),
    [
        ({"models": "gpt"}, "models", "`models` must be a list"),
        ({"models": [1]}, "models", "`models` must be a list"),
        ({"models": [""]}, "models", "`models` must be a list"),
        ({"models": ["x" * (NAME_CHARS_MAX + 1)]}, "models", "`models` must be a list"),
        ({"models": ["x"] * (ENTRIES_MAX + 1)}, "models", f"at most {ENTRIES_MAX} names"),
        ({"route": "random"}, "route", "fallback, sort or left out"),
        ({"route": "sort", "models": ["a"]}, "route", "Sorting the endpoints of several models"),
        ({"models": ["a"], "provider": {"sort": {"by": "price", "partition": "none"}}}, "provider", "Sorting"),
        ({"preset": ""}, "preset", "a preset's name"),
        ({"preset": 7}, "preset", "a preset's name"),
        ({"preset": "x" * (NAME_CHARS_MAX + 1)}, "preset", "a preset's name"),
        ({"provider": "openai"}, "provider", "must be an object"),
        ({"provider": {"data_collection": "maybe"}}, "provider", "allow or deny"),
        ({"provider": {"data_collection": False}}, "provider", "allow or deny"),
        ({"provider": {"order": "openai"}}, "provider", "`provider.order` must be a list"),
        ({"provider": {"only": [None]}}, "provider", "`provider.only` must be a list"),
        ({"provider": {"ignore": {}}}, "provider", "`provider.ignore` must be a list"),
        ({"provider": {"quantizations": "fp8"}}, "provider", "`provider.quantizations` must be a list"),
        ({"provider": {"zdr": "yes"}}, "provider", "`provider.zdr` must be true or false"),
        ({"provider": {"zdr": 0}}, "provider", "`provider.zdr` must be true or false"),
        ({"provider": {"allow_fallbacks": 1}}, "provider", "`provider.allow_fallbacks` must be"),
        ({"provider": {"require_parameters": []}}, "provider", "`provider.require_parameters` must be"),
        ({"provider": {"enforce_distillable_text": ""}}, "provider", "`provider.enforce_distillable_text` must be"),
        ({"provider": {"max_price": 3}}, "provider", "`provider.max_price` must be an object"),
        ({"provider": {"max_price": {"prompt": "cheap"}}}, "provider", "prices in USD"),
        ({"provider": {"max_price": {"prompt": True}}}, "provider", "prices in USD"),
        ({"provider": {"max_price": {"prompt": -1}}}, "provider", "prices in USD"),
        ({"provider": {"max_price": {"completion": "NaN"}}}, "provider", "prices in USD"),
        ({"provider": {"max_price": {"request": "Infinity"}}}, "provider", "prices in USD"),
        ({"provider": {"max_price": {"image": []}}}, "provider", "prices in USD"),
        ({"plugins": {"id": "web"}}, "plugins", "must be a list"),
        ({"plugins": [{"id": "web"}] * (ENTRIES_MAX + 1)}, "plugins", f"at most {ENTRIES_MAX} plugins"),
        ({"plugins": ["web"]}, "plugins", "with an `id`"),
        ({"plugins": [{}]}, "plugins", "with an `id`"),
        ({"plugins": [{"id": 3}]}, "plugins", "with an `id`"),
        ({"transforms": "middle-out"}, "transforms", "knows"),
        ({"transforms": ["outer"]}, "transforms", "knows"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_name(fields: dict[str, Any], param: str, told: str) -> None:
    """400 with the field at fault; a condition is never forgotten."""
    with pytest.raises(ClientError) as caught:
        read_extras(fields)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "invalid_value", param)
    assert told in caught.value.message


@pytest.mark.parametrize("sort", ["cheapest", 7, {"by": "speed"}, {"by": {}}, ["price"]])
def test_a_sort_there_is_not_is_refused(sort: object) -> None:
    """As OpenRouter itself does, which no direct target would notice."""
    with pytest.raises(
        ClientError, match=r"`provider\.sort` must be one of price, throughput, latency, exacto"
    ) as caught:
        read_extras({"provider": {"sort": sort}})
    assert caught.value.param == "provider"


@pytest.mark.parametrize("by", SORTS)
def test_a_sort_of_openrouters_is_taken(by: str) -> None:
    """In either form."""
    for sort in (by, {"by": by}, {"by": by, "partition": "model"}):
        assert read_extras({"provider": {"sort": sort}}).preferences == Preferences()


@pytest.mark.parametrize("sort", ["price", {"by": "price"}, {"by": "price", "partition": "model"}, None])
def test_sorting_within_a_model_is_openrouters_matter(sort: object) -> None:
    """Only an order across models would contradict the chain."""
    assert read_extras({"models": ["a"], "provider": {"sort": sort}}).models == ("a",)
    assert read_extras({"provider": {"sort": {"by": "price", "partition": "none"}}}).models == ()


json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*PREFERENCES, "id", "x"]), inner),
    max_leaves=8,
)
fields = st.dictionaries(
    st.sampled_from(["models", "route", "provider", "plugins", "transforms", "preset"]), json, max_size=6
)


@given(fields)
def test_no_value_is_more_than_refused(body: dict[str, Any]) -> None:
    """Whatever JSON stands there, it is read or the client is told; the body stays as it was."""
    before = repr(body)
    with suppress(ClientError):
        read_extras(body)
    assert repr(body) == before
