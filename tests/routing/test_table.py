"""The table's own words: secrets that hide, names of targets, globs, and facts by name."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from proxy.codecs.wire import UNKNOWN_ABILITIES, Abilities, Thinking
from proxy.pricing import ModelFacts
from proxy.routing.table import (
    Catalogue,
    Dialect,
    Provider,
    ProviderFlags,
    Retry,
    Route,
    Secret,
    Table,
    Target,
    UpstreamKey,
)
from tests.routing.made import prices, provider, target


def test_a_secret_shows_itself_only_by_name() -> None:
    """No repr, no text, no formatting gives it away, not even as a member of something else."""
    secret = Secret("sk-canary")
    holder = Provider("acme", Dialect.OPENAI, api_key=secret)
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r}", repr(holder), repr([secret])):
        assert "canary" not in shown
    assert repr(secret) == "***"
    assert secret.reveal() == "sk-canary"


def test_secrets_compare_by_value() -> None:
    """Two tables with the same key are the same table."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert not hasattr(Secret("a"), "__dict__")
    with pytest.raises(AttributeError):
        Secret("a").other = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["acme/gpt-4o", "acme/openai/gpt-4o:free", "acme/*"])
def test_a_target_is_named_as_the_file_names_it(name: str) -> None:
    """Provider, slash, and the rest, slashes and colons and all."""
    assert target(name).name == name


def test_a_glob_holds_its_star() -> None:
    """Only such a name matches others than itself."""
    assert Route("openai/*", ()).is_glob
    assert not Route("openai/gpt-4o", ()).is_glob


def test_a_catalogue_knows_what_it_was_told() -> None:
    """What is not known has empty facts, never none."""
    facts = ModelFacts(context_tokens=5)
    catalogue = Catalogue({"acme": {"m": facts, "n": ModelFacts()}})
    assert catalogue.find("acme", "m") == facts
    assert catalogue.find("acme", "x") == catalogue.find("other", "m") == Catalogue().find("a", "b") == ModelFacts()
    assert list(catalogue.list_models("acme")) == ["m", "n"]
    assert list(catalogue.list_models("other")) == []


def test_abilities_are_what_is_known_of_the_model() -> None:
    """What is not known is given the benefit of the doubt, and costs nothing to ask."""
    assert target("a/m").abilities is UNKNOWN_ABILITIES
    assert target("a/m", facts=ModelFacts(output_tokens_max=5)).abilities == Abilities(output_tokens_max=5)
    assert target("a/m", facts=ModelFacts(capabilities={"direct": ("b/m",)})).abilities == UNKNOWN_ABILITIES
    known: dict[str, object] = {
        "thinking": Thinking.ADAPTIVE,
        "sampling": False,
        "forced_tools": False,
        "prefill": False,
    }
    facts = ModelFacts(output_tokens_max=5, capabilities={**known, "json_schema": False})
    assert target("a/m", facts=facts).abilities == Abilities(5, Thinking.ADAPTIVE, False, False, False, False)
    facts = ModelFacts(capabilities={"sampling": True, "json_schema": True})
    assert target("a/m", facts=facts).abilities == Abilities()


def test_a_target_refuses_and_renames_what_its_provider_or_its_model_does() -> None:
    """Both lists together; of two names for a field the model's counts."""
    flags = ProviderFlags(unsupported=frozenset({"n"}), renamed={"seed": "random_seed", "stop": "halt"})
    strict = replace(provider("a"), flags=flags)
    plain, apart = Target(strict, "m"), Target(strict, "m", ModelFacts(capabilities={"sampling": False}))
    assert plain.unsupported is flags.unsupported
    assert plain.renamed is flags.renamed
    assert (apart.unsupported, apart.renamed) == (plain.unsupported, plain.renamed)
    own: dict[str, object] = {"unsupported": frozenset({"logprobs"}), "renamed": {"seed": "dice"}}
    picky = Target(strict, "m", ModelFacts(capabilities=own))
    assert picky.unsupported == {"n", "logprobs"}
    assert picky.renamed == {"seed": "dice", "stop": "halt"}
    assert (target("b/m").unsupported, target("b/m").renamed) == (frozenset(), {})


@pytest.mark.parametrize("value", [Table("t", {}, {}), Route("r", ()), Target(provider("a"), "m"), provider("a")])
def test_a_table_cannot_be_changed_under_a_request(value: Any) -> None:
    """A request sees one table from start to end."""
    for field in fields(value):
        with pytest.raises(FrozenInstanceError):
            setattr(value, field.name, "x")


def test_a_target_is_tried_three_times_unless_said() -> None:
    """design.md section 5: `retry.attempts` (3)."""
    assert Retry().attempts == 3


@pytest.mark.parametrize(
    ("name", "facts", "is_gratis"),
    [
        ("or/x/y:free", ModelFacts(), True),
        ("or/x/y:free", ModelFacts(prices(1)), True),
        ("or/x/y", ModelFacts(), False),
        ("or/x/y", ModelFacts(prices(0, 0)), True),
        ("or/x/y", ModelFacts(prices(0, 1)), False),
        ("acme/x:free", ModelFacts(), False),
        ("acme/x", ModelFacts(prices(0, 0)), True),
    ],
)
def test_what_costs_nothing_is_known_by_its_price_or_its_name(name: str, facts: ModelFacts, *, is_gratis: bool) -> None:
    """OpenRouter's free variants cost nothing whatever a price of the provider says; an unknown price is none."""
    assert target(name, facts=facts).is_gratis is is_gratis


@pytest.mark.parametrize(
    ("place", "header"),
    [("authorization", ("authorization", "Bearer sk-1")), ("x-api-key", ("x-api-key", "sk-1"))],
)
def test_a_credential_has_its_header(place: str, header: tuple[str, str]) -> None:
    """Behind `Bearer` in one, alone in others."""
    assert provider("acme", flags=ProviderFlags(key_header=place)).credential_header(Secret("sk-1")) == header


def test_a_model_counts_in_every_pattern_it_matches() -> None:
    """In none, in one, in several."""
    rates = {"*:free": (), "deepseek/*": (), "other": ()}
    acme = provider("acme", model_rates=rates)
    assert acme.list_patterns("deepseek/r1:free") == ("*:free", "deepseek/*")
    assert acme.list_patterns("other") == ("other",)
    assert acme.list_patterns("gpt-4o") == ()


def test_every_key_of_a_pool_is_a_secret() -> None:
    """The first is not named twice."""
    pool = (UpstreamKey("1", Secret("sk-1")), UpstreamKey("2", Secret("sk-2")))
    assert provider("acme", api_key=Secret("sk-1"), pool=pool).secrets == ("sk-1", "sk-2")
    assert provider("acme", api_key=Secret("sk-1")).secrets == ("sk-1",)
