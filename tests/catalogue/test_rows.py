"""Ids are found only when it is certain, and facts are put together from rows, families and makers."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from proxy.catalogue import load_catalogue
from proxy.catalogue.corrections import Rule
from proxy.codecs.wire import Thinking
from proxy.pricing import Prices
from proxy.routing.table import Catalogue
from tests.catalogue.made import direct_of, input_price, write


@pytest.mark.parametrize(
    ("provider", "model", "price"),
    [
        ("openrouter", "maker/one", "1"),
        ("openrouter", "Maker/One", "1"),
        ("openrouter", "maker/one:nitro", "1"),
        ("openrouter", "maker/one:floor", "1"),
        ("openrouter", "maker/one:online", "1"),
        ("openrouter", "maker/one:exacto", "1"),
        ("openrouter", "maker/one-20260101:nitro", "1"),
        ("openrouter", "maker/one:free", "0"),
        ("openrouter", "maker/other:free", "0"),
        ("openrouter", "maker/one:batch", "0.5"),
        ("openrouter", "maker/one:extended", None),
        ("openrouter", "maker/one:thinking", None),
        ("openrouter", "maker/varies", None),
        ("openrouter", "maker/half", None),
        ("openrouter", "maker/nothing", None),
        ("maker", "one", "3"),
        ("maker", "one:nitro", None),
        ("maker", "one-2024-05-13", "9"),
        ("maker", "one-2030-01-01", None),
        ("maker", "two-20250101", "1"),
        ("maker", "two-20300101", "1"),
        ("maker", "two@20300101", "1"),
        ("maker", "two-2030-01-01", "1"),
        ("maker", "two-0613", None),
        ("maker", "nothing-20300101", None),
        ("maker", "other:free", None),
        ("maker", "unpriced", None),
        ("maker", "new", "5"),
        ("house", "local", "0"),
        ("reseller", "own", "7"),
        ("reseller", "one", "3"),
        ("reseller", "two-20300101", "1"),
        ("reseller", "nothing", None),
        ("nobody", "one", None),
    ],
)
def test_an_id_is_found_only_when_it_is_certain(small: Catalogue, provider: str, model: str, price: str | None) -> None:
    """Routing variants and unambiguous dates are the same model; anything else is unknown, never 0."""
    assert input_price(small.find(provider, model)) == (None if price is None else Decimal(price))


def test_corrections_lie_over_the_shipped_row(small: Catalogue) -> None:
    """Field by field, for the row's other ids too, and what is new brings its own source and date."""
    one = small.find("maker", "one")
    assert (one.context_tokens, one.output_tokens_max) == (2_000, 500)
    assert one.prices is not None
    assert (one.prices.source, one.prices.as_of) == ("somewhere", "2026-11-20")
    assert small.find("maker", "two").output_tokens_max is None
    assert small.find("maker", "two-20250101").output_tokens_max == 100
    new = small.find("maker", "new")
    assert new.prices == Prices(Decimal(5), Decimal(6), source="https://maker.example", as_of="2026-10-01")
    assert new.capabilities == {"sampling": False}


def test_a_tier_takes_from_its_row_what_it_does_not_name(small: Catalogue) -> None:
    """Only the input gets dearer here; output and the fee of a request stay."""
    prices = small.find("maker", "one").prices
    assert prices is not None
    tier = prices.tiers[0]
    assert tier.above_input_tokens == 200
    assert (tier.prices.input, tier.prices.output, tier.prices.request) == (Decimal(6), Decimal(4), Decimal("0.01"))
    assert tier.prices.tiers == ()


def test_limits_unknown_at_openrouter_come_from_the_maker(small: Catalogue) -> None:
    """What OpenRouter says itself stands; a maker we do not know changes nothing."""
    one = small.find("openrouter", "maker/one")
    assert (one.context_tokens, one.output_tokens_max) == (1_000, 500)
    assert one.capabilities == {"direct": ("maker/one",), "input": ("text", "image")}
    assert small.find("openrouter", "maker/varies").output_tokens_max is None


@pytest.mark.parametrize(
    ("model", "direct"),
    [
        ("maker/one", ("maker/one",)),
        ("maker/one:nitro", ("maker/one",)),
        ("maker/one:free", ()),
        ("maker/one:batch", ()),
        ("maker/two", ("maker/two",)),
        ("maker/one-2024-05-13", ("maker/one-2024-05-13",)),
        ("maker/one-2024.05.13", ()),
        ("maker/varies", ("house/local",)),
        ("maker/open", ("house/local", "reseller/Own")),
        ("maker/half", ()),
        ("maker/nothing", ()),
    ],
)
def test_a_model_is_had_directly_where_that_is_certain(small: Catalogue, model: str, direct: tuple[str, ...]) -> None:
    """As written, else by a rule whose answer the maker sells, else at a host; a variant of OpenRouter's never."""
    assert direct_of(small.find("openrouter", model)) == direct


def test_dots_may_be_dashes_at_the_maker() -> None:
    """Claude 4.5 is `claude-opus-4.5` here and `claude-opus-4-5` there."""
    assert Rule("a/c-*", "b/c-*", dashes=True).apply("a/c-4.5") == "b/c-4-5"
    assert Rule("a/c-*", "b/c-*").apply("a/c-4.5") == "b/c-4.5"
    assert Rule("a/c-*", "b/c-*", excepted=("a/*.5",)).apply("a/c-4.5") is None
    assert Rule("a/c-*", "b/c-*").apply("a/d") is None


def test_a_family_tells_what_its_models_have_in_common(small: Catalogue) -> None:
    """A later family wins over an earlier one, capability by capability; models without a row have families too."""
    assert small.find("maker", "one").capabilities == {
        "thinking": Thinking.BUDGET,
        "prefill": False,
        "input": ("text", "image"),
    }
    dated = small.find("maker", "one-2024-05-13").capabilities
    assert (dated["thinking"], dated["prefill"], dated["efforts"]) == (Thinking.ADAPTIVE, False, ("low", "max"))
    assert (dated["unsupported"], dated["renamed"], dated["tools"]) == (frozenset({"seed"}), {"stop": "halt"}, False)
    newest = small.find("maker", "NEXT-thinks")
    assert (newest.prices, newest.capabilities["thinking"]) == (None, Thinking.BUDGET)
    assert small.find("maker", "next").capabilities == {}


def test_facts_are_made_once(small: Catalogue) -> None:
    """A glob route asks for them at every request."""
    assert small.find("maker", "one") is small.find("maker", "ONE")


def test_a_providers_rows_are_a_mapping(tmp_path: Path) -> None:
    """They can be listed and counted without being read."""
    rows = load_catalogue(write(tmp_path))._facts["reseller"]  # noqa: SLF001 -- as above
    assert list(rows) == ["own"]
    assert len(rows) == 1
