"""Models to chains: forms, references, options on the way, limits."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from proxy.files.chains import REFERENCES_DEEP_MAX, TARGETS_MAX
from proxy.files.values import CONTENT_CHARACTERS_MAX
from proxy.pricing import ModelFacts, Prices, PriceTier, ServiceTier
from proxy.routing.table import Route, Timeouts
from tests.files.tables import GPT_4O, find_problems, load, load_models


def names(route: Route) -> list[str]:
    """Give a route's targets as written in routes.yaml."""
    return [target.name for target in route.targets]


@pytest.mark.parametrize(
    ("form", "targets"),
    [
        ("a/x", ["a/x"]),
        ("[a/x]", ["a/x"]),
        ("[a/x, b/y/z:free, a/x]", ["a/x", "b/y/z:free", "a/x"]),
        ("{targets: [a/x, b/y]}", ["a/x", "b/y"]),
        ("{targets: a/x}", ["a/x"]),
        ("{targets: {target: a/x}}", ["a/x"]),
        ("{target: a/x, context: 4k}", ["a/x"]),
        ("{model: other}", ["b/other"]),
        ("other", ["b/other"]),
        ("[other, {target: other}, {model: other}]", ["b/other", "b/other", "b/other"]),
        ("[a/other]", ["a/other"]),
    ],
)
def test_every_form_of_a_model_is_a_chain(tmp_path: Path, form: str, targets: list[str]) -> None:
    """A string, a list, a mapping, one target; a name without provider is another model."""
    assert names(load_models(tmp_path, f"  m: {form}\n  other: b/other\n")["m"]) == targets


def test_a_name_with_a_providers_first_segment_is_that_providers_model(tmp_path: Path) -> None:
    """Unless `model:` says that an alias is meant."""
    routes = load_models(tmp_path, "  a/x: b/real\n  direct: a/x\n  named: [{model: a/x}]\n")
    assert names(routes["direct"]) == ["a/x"]
    assert names(routes["named"]) == ["b/real"]


def test_an_alias_may_be_called_like_its_own_target(tmp_path: Path) -> None:
    """`a/x: [a/x, b/x]` is no circle."""
    assert names(load_models(tmp_path, "  a/x: [a/x, b/x]\n")["a/x"]) == ["a/x", "b/x"]


def test_the_built_in_provider_shares_its_name_with_a_model(tmp_path: Path) -> None:
    """Without a slash the name is the model."""
    routes = load_models(tmp_path, "  simulated: simulated/simulated\n  x: [simulated]\n")
    assert names(routes["x"]) == ["simulated/simulated"]


def test_aliases_are_flattened_in_order_wherever_they_stand(tmp_path: Path) -> None:
    """Depth first, in the order written; order in the file does not matter."""
    models = "  outer: [a/1, inner, a/4]\n  inner: [a/2, deepest]\n  deepest: a/3\n"
    routes = load_models(tmp_path, models)
    assert names(routes["outer"]) == ["a/1", "a/2", "a/3", "a/4"]
    assert list(routes) == ["outer", "inner", "deepest"]


def test_options_add_up_on_the_way(tmp_path: Path) -> None:
    """Clocks and ceilings tighten, outer params win."""
    models = """\
  inner:
    targets:
      - {target: a/1, timeouts: {connect: 1s, idle: 9s}}
      - a/2
    max_cost: $3
    timeouts: {connect: 2s, total: 60s}
    params: {temperature: 0, top_p: 1}
  outer:
    targets: [{model: inner, timeouts: {idle: 5s, first_token: 4s}}, b/3]
    max_cost: $1.50
    timeouts: {total: 90s, connect: 3s}
    params: {temperature: 1, seed: 3}
"""
    routes = load_models(tmp_path, models)
    first, second, third = routes["outer"].targets
    assert first.timeouts == Timeouts(1, 4, 5, 60)
    assert second.timeouts == Timeouts(2, 4, 5, 60)
    assert third.timeouts == Timeouts(3, None, None, 90)
    assert first.params == {"temperature": 1, "top_p": 1, "seed": 3}
    assert third.params == {"temperature": 1, "seed": 3}
    assert routes["inner"].targets[0].params == {"temperature": 0, "top_p": 1}
    assert routes["outer"].max_cost_nano_usd == 1_500_000_000
    assert routes["inner"].max_cost_nano_usd == 3_000_000_000


def test_a_nested_ceiling_holds_outside_too(tmp_path: Path) -> None:
    """The lowest on the way."""
    routes = load_models(
        tmp_path, "  in: {targets: a/1, max_cost: $1}\n  out: {targets: [in], max_cost: $5}\n  o: [in]\n"
    )
    assert routes["out"].max_cost_nano_usd == routes["o"].max_cost_nano_usd == 1_000_000_000


def price(route: Route, index: int = 0) -> Decimal | None:
    """Give the input price of one target."""
    prices = route.targets[index].facts.prices
    return prices.input if prices else None


def test_the_nearest_price_counts(tmp_path: Path) -> None:
    """Target, then model, then the models around it, then provider, then catalogue."""
    models = """\
  plain: [a/x, b/x, openai/gpt-4o, a/nothing]
  model: {targets: [{target: b/x, price: {input: $1/M, output: $1/M}}, b/x], price: {input: $2/M, output: $2/M}}
  around: {targets: [{model: model, price: {input: $5/M, output: $5/M}}, plain], price: {input: $6/M, output: $6/M}}
"""
    routes = load_models(tmp_path, models)
    assert [price(routes["plain"], index) for index in range(4)] == [None, Decimal(3), Decimal("2.5"), None]
    assert [price(routes["model"], index) for index in range(2)] == [Decimal(1), Decimal(2)]
    assert [price(routes["around"], index) for index in range(4)] == [Decimal(1), Decimal(2), Decimal(6), Decimal(6)]


def test_a_price_has_all_its_kinds(tmp_path: Path) -> None:
    """Per million tokens and per request, exact."""
    text = "{input: $1/M, output: $2/1M, cache_read: $0.1/M, cache_write: $1.25/M, cache_write_1h: $2/M, "
    text += "audio_input: $3/M, audio_output: $0.004/K, request: $0.001}"
    prices = load_models(tmp_path, f"  m: [{{target: a/x, price: {text}}}]\n")["m"].targets[0].facts.prices
    assert prices == Prices(
        input=Decimal(1),
        output=Decimal(2),
        cache_read=Decimal("0.1"),
        cache_write=Decimal("1.25"),
        cache_write_1h=Decimal(2),
        audio_input=Decimal(3),
        audio_output=Decimal(4),
        request=Decimal("0.001"),
    )


def test_a_price_knows_pieces_long_prompts_and_services(tmp_path: Path) -> None:
    """A long prompt keeps what it does not name; a service takes that from its own input, and fees from the row."""
    text = "{input: $1/M, output: $2/M, cache_read: $0.1/M, cache_read_audio: $0.2/M, image_input: $3/M, "
    text += "image_output: $30/M, image: $0.002, search: $0.01, request: $0.001, "
    text += "above: {272k tokens: {input: $4/M}, 1000: {output: $3/M, search: $0.02}}, "
    text += "service_tiers: {flex: {input: $0.5/M, output: $1/M, above: {1000: {input: $0.7/M}}}}}"
    prices = load_models(tmp_path, f"  m: [{{target: a/x, price: {text}}}]\n")["m"].targets[0].facts.prices
    assert prices is not None
    fees: dict[str, Any] = {"request": Decimal("0.001"), "image": Decimal("0.002"), "search": Decimal("0.01")}
    base = Prices(
        input=Decimal(1),
        output=Decimal(2),
        cache_read=Decimal("0.1"),
        cache_read_audio=Decimal("0.2"),
        image_input=Decimal(3),
        image_output=Decimal(30),
        **fees,
    )
    flex = Prices(Decimal("0.5"), Decimal(1), **fees)
    assert prices == replace(
        base,
        tiers=(
            PriceTier(1_000, replace(base, output=Decimal(3), search=Decimal("0.02"))),
            PriceTier(272_000, replace(base, input=Decimal(4))),
        ),
        service_tiers=(
            ServiceTier("flex", replace(flex, tiers=(PriceTier(1_000, replace(flex, input=Decimal("0.7"))),))),
        ),
    )


def test_context_is_the_targets_then_the_catalogues(tmp_path: Path) -> None:
    """The nearest entry's, and what else the catalogue knows stays."""
    models = "  m: [openai/gpt-4o, {target: openai/gpt-4o, context: 4k}]\n  n: [{model: m, context: 8k}]\n"
    routes = load_models(tmp_path, models)
    assert routes["m"].targets[0].facts == GPT_4O
    assert routes["m"].targets[1].facts == ModelFacts(GPT_4O.prices, 4_000, 16_384)
    assert [target.facts.context_tokens for target in routes["n"].targets] == [8_000, 4_000]


def test_globs_come_longest_literal_prefix_first(tmp_path: Path) -> None:
    """Then the longer name; exact names are kept apart."""
    globs = '"*": openai/*, "gpt-*": openai/gpt-*, "g*-mini": openai/x, "g*": openai/y'
    table = load(tmp_path, f"models: {{{globs}, gpt-4o: openai/gpt-4o}}")
    assert [glob.name for glob in table.globs] == ["gpt-*", "g*-mini", "g*", "*"]
    assert list(table.routes) == ["gpt-4o"]


def test_a_glob_target_knows_only_what_the_file_says(tmp_path: Path) -> None:
    """Its model is not known before a request fills the star in; one without a star is."""
    routes = load_models(tmp_path, '  "g*": [b/g*, openai/*, {target: openai/gpt-4o*, context: 4k}, openai/gpt-4o]\n')
    facts = [target.facts for target in routes["g*"].targets]
    assert facts == [ModelFacts(Prices(Decimal(3), Decimal(4))), ModelFacts(), ModelFacts(context_tokens=4_000), GPT_4O]


def test_references_go_eight_deep(tmp_path: Path) -> None:
    """One more is refused where it begins."""

    def chain(depth: int) -> str:
        return "".join(f"  m{level}: [m{level + 1}]\n" for level in range(depth)) + f"  m{depth}: a/x\n"

    assert names(load_models(tmp_path, chain(REFERENCES_DEEP_MAX))["m0"]) == ["a/x"]
    (problem,) = find_problems(
        tmp_path, "providers: {a: {dialect: simulated}}\nmodels:\n" + chain(REFERENCES_DEEP_MAX + 1)
    )
    assert (problem.path, problem.line) == ("models.m0", 3)
    assert "more than 8 deep" in problem.message


def test_a_chain_has_eight_targets(tmp_path: Path) -> None:
    """Counted once names are followed."""
    listed = ", ".join(["a/x"] * (TARGETS_MAX - 1))
    assert len(load_models(tmp_path, f"  m: [n, {listed}]\n  n: [a/y]\n")["m"].targets) == TARGETS_MAX
    text = f"providers: {{a: {{dialect: simulated}}}}\nmodels:\n  n: [a/y, a/z]\n  m: [n, {listed}]\n"
    (problem,) = find_problems(tmp_path, text)
    assert (problem.path, problem.line) == ("models.m", 4)
    assert "more than 8 targets" in problem.message


def test_every_circle_is_named_once(tmp_path: Path) -> None:
    """What only leads into one is left alone; a long one is cut in the middle."""
    long = "".join(f"  l{number}: l{(number + 1) % 20}\n" for number in range(20))
    text = "models:\n  leads: [x]\n  x: [y]\n  y: [openai/a, x]\n  self: [self]\n" + long
    found = find_problems(tmp_path, text)
    assert [problem.message.partition(": ")[2].partition(";")[0] for problem in found] == [
        "x -> y -> x",
        "self -> self",
        "l0 -> l1 -> l2 -> l3 -> l4 -> l5 -> l6 -> l7 -> ... -> l0",
    ]


def test_thousands_of_models_cost_no_recursion(tmp_path: Path) -> None:
    """A chain of ten thousand names is a finding, not a crash."""
    text = "models:\n" + "".join(f"  m{number}: m{number + 1}\n" for number in range(10_000)) + "  m10000: openai/x\n"
    found = find_problems(tmp_path, text)
    assert "more than 8 deep" in found[0].message


def said(routes: dict[str, Route]) -> dict[str, tuple[tuple[str, ...] | None, bool]]:
    """Give what each route says of requests that are too long."""
    return {name: (route.transforms, route.prefers_larger) for name, route in routes.items()}


def test_the_outermost_word_on_transforms_counts(tmp_path: Path) -> None:
    """Its own, else that of the names it leads to, the nearest first; `[]` is a word too."""
    models = """\
  quiet: a/x
  cuts: {targets: a/x, transforms: [middle-out, middle-out]}
  never: {targets: [cuts], transforms: []}
  waits: {targets: [cuts], prefer: larger_context}
  deep: [never]
  nearest: [deep, cuts]
  first: [never, cuts]
"""
    assert said(load_models(tmp_path, models)) == {
        "quiet": (None, False),
        "cuts": (("middle-out",), False),
        "never": ((), False),
        "waits": (("middle-out",), True),
        "deep": ((), False),
        "nearest": (("middle-out",), False),
        "first": ((), False),
    }


def test_defaults_speak_for_models_that_do_not(tmp_path: Path) -> None:
    """For transforms and direct backups alike."""
    text = """
models:
  quiet: openrouter/openai/gpt-4o
  own: {targets: openrouter/openai/gpt-4o, transforms: [], direct_backup: false}
  "*": openrouter/*
defaults: {transforms: [middle-out], direct_backup: true}
"""
    table = load(tmp_path, text)
    assert (table.routes["quiet"].transforms, names(table.routes["quiet"])[1:]) == (("middle-out",), ["openai/gpt-4o"])
    assert (table.routes["own"].transforms, names(table.routes["own"])[1:]) == ((), [])
    assert table.globs[0].transforms == ("middle-out",)
    assert table.globs[0].targets[0].wants_backup


def test_a_direct_backup_stands_behind_its_target(tmp_path: Path) -> None:
    """Once, with the maker's facts and the target's clocks and params, and only where the chain does not name it."""
    models = """\
  plain: {targets: [openrouter/openai/gpt-4o, a/x, work/openai/gpt-4o], direct_backup: true}
  named: {targets: [openrouter/openai/gpt-4o, openai/GPT-4o], direct_backup: true}
  other: {targets: [openai/gpt-4o, openrouter/openai/gpt-4o], direct_backup: true}
  nobody: {targets: [openrouter/openai/gpt-4o-mini, a/x], direct_backup: true}
  dear:
    targets:
      - {target: openrouter/openai/gpt-4o, price: {input: $9/M, output: $9/M}, context: 4k, timeouts: {idle: 3s}}
    params: {seed: 1}
    direct_backup: true
"""
    text = f"providers: {{a: {{dialect: simulated}}, work: {{dialect: openrouter}}}}\nmodels:\n{models}"
    table = load(tmp_path, text, {"OPENAI_API_KEY": "k"})
    chains = {name: names(route) for name, route in table.routes.items()}
    assert chains == {
        "plain": ["openrouter/openai/gpt-4o", "openai/gpt-4o", "a/x", "work/openai/gpt-4o"],
        "named": ["openrouter/openai/gpt-4o", "openai/GPT-4o"],
        "other": ["openai/gpt-4o", "openrouter/openai/gpt-4o"],
        "nobody": ["openrouter/openai/gpt-4o-mini", "a/x"],
        "dear": ["openrouter/openai/gpt-4o", "openai/gpt-4o"],
    }
    assert [target.is_backup for target in table.routes["plain"].targets] == [False, True, False, False]
    first, backup = table.routes["dear"].targets
    assert (first.wants_backup, backup.wants_backup) == (True, False)
    assert (backup.facts, backup.provider) == (GPT_4O, table.providers["openai"])
    assert (backup.timeouts, backup.params) == (first.timeouts, first.params) == (Timeouts(idle_s=3), {"seed": 1})
    assert table.notes == (
        "openrouter is not ready, OPENROUTER_API_KEY is not set: skipped in plain, named, other, nobody, dear",
        "direct_backup: no maker's name is known for openrouter/openai/gpt-4o-mini; write the target yourself",
    )


def test_the_outermost_word_on_direct_backups_counts(tmp_path: Path) -> None:
    """An outer name may want none, or all."""
    models = """\
  inner: {targets: openrouter/openai/gpt-4o, direct_backup: true}
  off: {targets: [inner], direct_backup: false}
  silent: [inner]
  on: {targets: [off, a/x], direct_backup: true}
"""
    routes = load_models(tmp_path, models)
    assert {name: len(route.targets) for name, route in routes.items()} == {"inner": 2, "off": 1, "silent": 2, "on": 3}


def test_a_maker_that_is_not_ready_is_noted_like_any_other(tmp_path: Path) -> None:
    """Its backup stands in the chain and is skipped."""
    text = "models: {m: {targets: [openrouter/openai/gpt-4o], direct_backup: true}}"
    table = load(tmp_path, text, {"OPENROUTER_API_KEY": "k"})
    assert names(table.routes["m"]) == ["openrouter/openai/gpt-4o", "openai/gpt-4o"]
    assert table.notes == ("openai is not ready, OPENAI_API_KEY is not set: skipped in m",)


def test_direct_backups_count_towards_the_eight(tmp_path: Path) -> None:
    """Seven and one are eight; one more is told at the model."""

    def text(fillers: int) -> str:
        listed = ", ".join(f"a/{number}" for number in range(fillers))
        options = f"{{targets: [openrouter/openai/gpt-4o, {listed}], direct_backup: true}}"
        return f"providers: {{a: {{dialect: simulated}}}}\nmodels:\n  m: {options}\n"

    assert len(load(tmp_path, text(TARGETS_MAX - 2)).routes["m"].targets) == TARGETS_MAX
    (problem,) = find_problems(tmp_path, text(TARGETS_MAX - 1))
    assert (problem.path, problem.line) == ("models.m", 3)
    assert "more than 8 targets with its direct backups" in problem.message


def test_a_backup_needs_no_price_of_its_own_to_keep_a_budget(tmp_path: Path) -> None:
    """Prices are asked of what the file names."""
    text = "models: {m: {targets: [openrouter/openai/gpt-4o, openai/gpt-4o], direct_backup: true}}\n"
    text += "keys: [{name: x, key: abcdefgh, budget: $5}]\n"
    assert load(tmp_path, text).keys[0].limits.has_hard_budget
    (problem,) = find_problems(tmp_path, text.replace("openrouter/openai/gpt-4o", "openrouter/odd"))
    assert "the price of `openrouter/odd` is not known" in problem.message


def test_a_fixed_answer_is_a_target_like_any_other(tmp_path: Path) -> None:
    """Free whatever the model around it costs, kept nowhere, its text as written."""
    models = """\
  last: {targets: [a/x, {static: {content: Later.}}], price: {input: $5/M, output: $5/M}, timeouts: {total: 9s}}
  alone: {static: {content: Closed.}}
  listed: [{static: {content: 404}}]
  "gone-*": {static: {content: Gone.}}
  static: [last]
"""
    routes = load_models(tmp_path, models)
    assert {name: names(route)[-1] for name, route in routes.items()} == dict.fromkeys(routes, "static/static")
    texts = [route.targets[-1].provider.simulation for route in routes.values()]
    assert [simulation.content for simulation in texts if simulation] == ["Later.", "Closed.", "404", "Later.", "Gone."]
    last = routes["last"].targets[-1]
    assert last.facts == ModelFacts(Prices(Decimal(0), Decimal(0)), output_tokens_max=CONTENT_CHARACTERS_MAX)
    assert (last.provider.zdr, last.provider.data_collection, last.provider.not_ready) == (True, "deny", None)
    assert (last.provider.is_static, routes["last"].targets[0].provider.is_static) == (True, False)
    assert last.timeouts == Timeouts(total_s=9)


def test_a_fixed_answer_has_a_limit(tmp_path: Path) -> None:
    """It is held in memory for as long as the table."""
    text = "models: {m: {static: {content: '%s'}}}"
    assert load(tmp_path, text % ("x" * CONTENT_CHARACTERS_MAX)).routes
    assert "at most 32768 characters" in find_problems(tmp_path, text % ("x" * (CONTENT_CHARACTERS_MAX + 1)))[0].message
