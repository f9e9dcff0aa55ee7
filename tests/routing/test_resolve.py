"""From a client's `model` to targets: exact, suffix, glob, preset, default, and the names near a mistake."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ClientError, NotFound, PermissionRefused
from proxy.pricing import ModelFacts, Prices
from proxy.routing.principal import Principal
from proxy.routing.resolve import NEAR_NAMES_MAX, NEAR_SEARCHED_MAX, Resolved, merge_facts, near_names, resolve, shown
from proxy.routing.table import Catalogue, Dialect, Provider, Simulation, Table, Target, Timeouts
from tests.routing.made import ANYONE, prices, provider, table, target

FILE = prices(1)
CATALOGUED = prices(3, source="catalogue")
FREE = prices(0, 0, source="catalogue")
CATALOGUE = Catalogue(
    {
        "or": {
            "openai/gpt-4o": ModelFacts(CATALOGUED, 128_000, 16_000, {"tools": True}),
            "openai/gpt-4o:free": ModelFacts(FREE, 8_000, None),
        },
        "openai": {"gpt-4o": ModelFacts(CATALOGUED, 128_000, 16_000)},
    }
)
TABLE = table(
    {
        "chat": ["or/openai/gpt-4o", "openai/gpt-4o"],
        "chat:free": ["or/special"],
        "qwen:7b": ["local/qwen:7b"],
        "openai/*": ["or/openai/*", "openai/*"],
        "*-mini": ["openai/*-mini-2025", "openai/fixed"],
        "*": ["or/*"],
    },
    default_model="chat",
)
NARROW = table({"chat": ["or/a"], "chat-large": ["or/b"], "chat-small": ["or/c"], "other": ["or/d"]})


def ask(model: str | None, *, principal: Principal = ANYONE, asked_of: Table = TABLE) -> Resolved:
    """Resolve a name with the catalogue above."""
    return resolve(model, principal=principal, table=asked_of, facts=CATALOGUE.find)


def names(resolved: Resolved) -> list[str]:
    """Give the targets by name."""
    return [part.name for part in resolved.targets]


@pytest.mark.parametrize(
    ("model", "route", "targets"),
    [
        # Exact names come first, with or without what looks like a suffix.
        ("chat", "chat", ["or/openai/gpt-4o", "openai/gpt-4o"]),
        ("chat:free", "chat:free", ["or/special"]),
        ("qwen:7b", "qwen:7b", ["local/qwen:7b"]),
        # Then a known suffix is split off; OpenRouter gets it, others drop an order among its own endpoints.
        ("chat:nitro", "chat", ["or/openai/gpt-4o:nitro", "openai/gpt-4o"]),
        ("chat:floor", "chat", ["or/openai/gpt-4o:floor", "openai/gpt-4o"]),
        ("chat:exacto", "chat", ["or/openai/gpt-4o:exacto", "openai/gpt-4o"]),
        ("qwen:7b:nitro", "qwen:7b", ["local/qwen:7b"]),
        # Then globs, in the table's order; the target's `*` repeats what was matched.
        ("openai/gpt-4o", "openai/*", ["or/openai/gpt-4o", "openai/gpt-4o"]),
        ("openai/gpt-4o:nitro", "openai/*", ["or/openai/gpt-4o:nitro", "openai/gpt-4o"]),
        ("openai/a-mini", "openai/*", ["or/openai/a-mini", "openai/a-mini"]),
        ("a-mini", "*-mini", ["openai/a-mini-2025", "openai/fixed"]),
        ("chat:8b", "*", ["or/chat:8b"]),
        ("x/y:free", "*", ["or/x/y:free"]),
        ("chat:", "*", ["or/chat:"]),
        (":free", "*", ["or/:free"]),
        ("Chat", "*", ["or/Chat"]),
        # `@preset/NAME` is NAME where that is an alias, else a name like any other.
        ("@preset/chat", "chat", ["or/openai/gpt-4o", "openai/gpt-4o"]),
        ("@preset/mine", "*", ["or/@preset/mine"]),
        ("@preset/openai/gpt-4o", "*", ["or/@preset/openai/gpt-4o"]),
    ],
)
def test_a_name_finds_its_route(model: str, route: str, targets: list[str]) -> None:
    """Exact, then without a known suffix, then globs."""
    resolved = ask(model)
    assert (resolved.route.name, names(resolved)) == (route, targets)
    assert resolved.asked == (route if model == "@preset/chat" else model)
    assert resolved.skipped == ()


@pytest.mark.parametrize("suffix", ["free", "online", "extended", "thinking", "batch"])
@pytest.mark.parametrize("name", ["qwen:7b", "openai/gpt-4o"])
def test_a_suffix_only_openrouter_knows_skips_all_others(name: str, suffix: str) -> None:
    """Elsewhere the same id would be another product: the target is left out, and the reason says so."""
    resolved = ask(f"{name}:{suffix}")
    assert names(resolved) == ([f"or/openai/gpt-4o:{suffix}"] if "/" in name else [])
    ((left_out, reason),) = resolved.skipped
    assert left_out.name in ("local/qwen:7b", f"openai/gpt-4o:{suffix}")
    assert reason == f"`:{suffix}` exists only at OpenRouter"


def test_a_suffix_that_a_target_has_already_is_not_said_twice() -> None:
    """Another one is added."""
    cheap = table({"cheap": ["or/openai/gpt-4o:free"]})
    assert names(ask("cheap:free", asked_of=cheap)) == ["or/openai/gpt-4o:free"]
    assert names(ask("cheap:online", asked_of=cheap)) == ["or/openai/gpt-4o:free:online"]


def test_a_suffix_of_a_glob_without_a_star_in_its_target_is_part_of_the_name() -> None:
    """The target is fixed: what the client wrote there is only a name."""
    assert names(ask("anything:free", asked_of=table({"*": ["openai/fixed", "or/fixed"]}))) == [
        "openai/fixed",
        "or/fixed",
    ]


def test_globs_are_tried_in_the_order_of_the_table() -> None:
    """The table has them longest literal prefix first; the first that matches is the one."""
    globs = table({"a/b/*": ["or/long"], "a/*": ["or/short"], "*": ["or/any"]})
    assert [names(ask(model, asked_of=globs)) for model in ("a/b/c", "a/c", "c")] == [
        ["or/long"],
        ["or/short"],
        ["or/any"],
    ]


@given(st.text(min_size=1, max_size=30))
def test_any_name_resolves_behind_a_star(model: str) -> None:
    """Behind `*` every name is one; nothing a client writes breaks the look-up."""
    (found,) = ask(model, asked_of=table({"*": ["or/*"]})).targets
    assert found.model == model.removeprefix("@preset/")


# Direct backups.

SOLD = Catalogue(
    {
        "or": {
            "openai/gpt-4o": ModelFacts(CATALOGUED, capabilities={"direct": ("openai/gpt-4o",)}),
            "openai/gpt-4o:nitro": ModelFacts(CATALOGUED, capabilities={"direct": ("openai/gpt-4o",)}),
            "openai/gpt-4o:online": ModelFacts(CATALOGUED, capabilities={"direct": ("openai/gpt-4o",)}),
            "openai/gpt-4o:free": ModelFacts(FREE),
            "meta/llama": ModelFacts(CATALOGUED, capabilities={"direct": ("down/llama", "groq/llama", "gone/llama")}),
            "meta/alone": ModelFacts(CATALOGUED, capabilities={"direct": ("down/alone",)}),
            "meta/strange": ModelFacts(CATALOGUED, capabilities={"direct": ("gone/strange",)}),
        },
        "openai": {"gpt-4o": ModelFacts(CATALOGUED, 128_000)},
    }
)
MAKERS = {
    "openai": provider("openai"),
    "groq": replace(provider("groq"), price=FILE),
    "down": provider("down", not_ready="DOWN_KEY is not set"),
}


def backed(*targets: str | Target) -> Table:
    """Make a table of one glob whose OpenRouter targets want backups."""
    made = [target(part, wants_backup=part.startswith("or")) if isinstance(part, str) else part for part in targets]
    return replace(table({"*": made}), providers=MAKERS)


@pytest.mark.parametrize(
    ("model", "chain", "targets", "skipped"),
    [
        ("openai/gpt-4o", ["or/*"], ["or/openai/gpt-4o", "openai/gpt-4o"], []),
        ("openai/gpt-4o", ["or/*", "groq/x"], ["or/openai/gpt-4o", "openai/gpt-4o", "groq/x"], []),
        ("openai/gpt-4o", ["or/*", "openai/gpt-4o"], ["or/openai/gpt-4o", "openai/gpt-4o"], []),
        ("openai/gpt-4o", ["or/*", "or2/*"], ["or/openai/gpt-4o", "openai/gpt-4o", "or2/openai/gpt-4o"], []),
        ("openai/gpt-4o:nitro", ["or/*"], ["or/openai/gpt-4o:nitro", "openai/gpt-4o"], []),
        ("openai/gpt-4o:online", ["or/*"], ["or/openai/gpt-4o:online"], ["openai/gpt-4o"]),
        ("openai/gpt-4o:free", ["or/*"], ["or/openai/gpt-4o:free"], []),
        ("x:online", [target("or/openai/gpt-4o", wants_backup=True)], ["or/openai/gpt-4o"], []),
        ("meta/llama", ["or/*"], ["or/meta/llama", "groq/llama"], []),
        ("meta/alone", ["or/*"], ["or/meta/alone", "down/alone"], []),
        ("meta/strange", ["or/*"], ["or/meta/strange"], []),
        ("qwen/unknown", ["or/*"], ["or/qwen/unknown"], []),
    ],
)
def test_behind_a_glob_the_backup_is_found_at_the_request(
    model: str, chain: list[str | Target], targets: list[str], skipped: list[str]
) -> None:
    """The same model at its maker, of several the first that is ready; not twice, nor for what only OpenRouter has."""
    resolved = resolve(model, principal=ANYONE, table=backed(*chain), facts=SOLD.find)
    assert names(resolved) == targets
    assert [left_out.name for left_out, _ in resolved.skipped] == skipped


def test_a_backup_has_the_maker_s_facts() -> None:
    """Price and context are the maker's, its own price beats the catalogue's; clocks and defaults are the target's."""
    clocks = Timeouts(idle_s=3)
    asking = target("or/*", wants_backup=True, timeouts=clocks, params={"seed": 1}, facts=ModelFacts(FILE, 9))
    _, backup = resolve("openai/gpt-4o", principal=ANYONE, table=backed(asking), facts=SOLD.find).targets
    assert (backup.facts, backup.is_backup, backup.wants_backup) == (ModelFacts(CATALOGUED, 128_000), True, False)
    assert (backup.timeouts, backup.params) == (clocks, {"seed": 1})
    _, hosted = resolve("meta/llama", principal=ANYONE, table=backed("or/*"), facts=SOLD.find).targets
    assert hosted.facts.prices == FILE


def test_another_account_s_models_are_looked_up_under_the_known_name() -> None:
    """The catalogue knows companies, not accounts."""
    spare = replace(provider("or-spare"), catalogue_name="or")
    asking = Target(spare, "*", wants_backup=True)
    resolved = resolve("openai/gpt-4o", principal=ANYONE, table=backed(asking), facts=SOLD.find)
    assert names(resolved) == ["or-spare/openai/gpt-4o", "openai/gpt-4o"]
    assert resolved.targets[0].facts.prices == CATALOGUED


def test_a_fixed_answer_serves_every_suffix() -> None:
    """It is the last resort of whatever was asked for."""
    static = Target(Provider("static", Dialect.SIMULATED, simulation=Simulation(content="Later.")), "static")
    chain = table({"chat": [target("or/a"), target("openai/a"), static], "*": [static]})
    assert names(ask("chat:free", asked_of=chain)) == ["or/a:free", "static/static"]
    assert names(ask("other:online", asked_of=chain)) == ["static/static"]


# Defaults.


@pytest.mark.parametrize(
    ("own", "of_table", "route"),
    [
        ("chat", "qwen:7b", "chat"),
        (None, "qwen:7b", "qwen:7b"),
        ("@preset/chat", None, "chat"),
        ("x-mini", None, "*-mini"),
    ],
)
@pytest.mark.parametrize("model", [None, ""])
def test_without_a_model_the_default_counts(
    model: str | None, own: str | None, of_table: str | None, route: str
) -> None:
    """The key's (or its tenant's) before the table's."""
    routes = {name: list(found.targets) for name, found in TABLE.routes.items()}
    routes |= {found.name: list(found.targets) for found in TABLE.globs}
    principal = Principal("app", default_model=own)
    assert ask(model, principal=principal, asked_of=table(routes, default_model=of_table)).route.name == route


def test_a_default_is_the_operator_s_word() -> None:
    """A key with a list gets its default even when the list does not name it."""
    assert ask(None, principal=Principal("app", models=("other",))).route.name == "chat"


def test_no_model_and_no_default_is_the_client_s_error() -> None:
    """400 with the parameter and the remedy."""
    with pytest.raises(ClientError, match="name one of the models of GET /v1/models") as caught:
        ask(None, asked_of=NARROW)
    assert (caught.value.status, caught.value.param) == (400, "model")


# What a key may ask for.


@pytest.mark.parametrize(
    ("models", "model", "may"),
    [
        (("chat",), "chat", True),
        (("chat",), "@preset/chat", True),
        (("chat",), "chat:nitro", False),
        (("chat", "chat:nitro"), "chat:nitro", True),
        (("chat*",), "chat:nitro", True),
        (("openai/*",), "openai/gpt-4o:free", True),
        (("openai/*",), "anthropic/x", False),
        ((), "chat", False),
        (None, "anything", True),
    ],
)
def test_a_key_s_list_holds_what_it_may_ask_for(models: tuple[str, ...] | None, model: str, may: bool) -> None:
    """The name as written, suffix included; what an allowed alias resolves to is the operator's word."""
    principal = Principal("app", models=models)
    if may:
        assert ask(model, principal=principal).targets
        return
    with pytest.raises(PermissionRefused) as caught:
        ask(model, principal=principal)
    assert (caught.value.status, caught.value.code, caught.value.param) == (403, "model_not_allowed", "model")


def test_an_unknown_name_is_not_found_whoever_asks() -> None:
    """404 with the nearest names the key may ask for, and no others (reliability.md S7)."""
    with pytest.raises(NotFound) as caught:
        ask("chta", asked_of=NARROW)
    assert caught.value.message == "The model 'chta' does not exist. Did you mean 'chat'?"
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert caught.value.metadata == {"near": ["chat"]}
    with pytest.raises(NotFound) as caught:
        ask("chat-lrge", principal=Principal("app", models=("chat-*",)), asked_of=NARROW)
    assert caught.value.metadata == {"near": ["chat-large", "chat-small"]}
    with pytest.raises(NotFound) as caught:
        ask("chat-lrge", principal=Principal("app", models=("other",)), asked_of=NARROW)
    assert caught.value.metadata == {"near": []}
    assert caught.value.message == "The model 'chat-lrge' does not exist."


def test_near_names_are_few_and_like() -> None:
    """The most alike first, at most a few, none that is only remotely alike."""
    assert near_names("chat-larg", ANYONE, NARROW) == ["chat-large", "chat-small", "chat"]
    assert near_names("zzz", ANYONE, NARROW) == []
    assert near_names("chat" * 100_000, ANYONE, NARROW) == []


@pytest.mark.parametrize("count", [NEAR_SEARCHED_MAX, NEAR_SEARCHED_MAX + 1, 40 * NEAR_SEARCHED_MAX])
def test_near_names_are_found_among_many(count: int) -> None:
    """A long table has the same answer: the name with one letter wrong is found."""
    many = table({f"team{number % 9}/model-{number}": ["or/a"] for number in range(count)})
    near = near_names("team2/modl-38", ANYONE, many)
    assert near[0] == "team2/model-38"
    assert len(near) == NEAR_NAMES_MAX


def test_what_a_client_wrote_is_shown_harmlessly() -> None:
    """Printable, short, and nothing that could end a line or a header."""
    assert shown("a\r\nb\x00c\u202ed") == "a??b?c?d"
    assert shown("x" * 101) == "x" * 100
    with pytest.raises(NotFound, match=r"The model 'a\?\?b' does not exist"):
        ask("a\r\nb", asked_of=NARROW)


# Facts.


def facts_of(model: str, part: int = 0, asked_of: Table = TABLE) -> ModelFacts:
    """Resolve a name and give the facts of one of its targets."""
    return ask(model, asked_of=asked_of).targets[part].facts


def test_a_filled_glob_is_looked_up() -> None:
    """Behind a `*` facts are known only once the name is; without the suffix for whom it is dropped."""
    assert facts_of("openai/gpt-4o") == CATALOGUE.find("or", "openai/gpt-4o")
    assert facts_of("openai/gpt-4o:free") == CATALOGUE.find("or", "openai/gpt-4o:free")
    assert facts_of("openai/gpt-4o:nitro", 1) == CATALOGUE.find("openai", "gpt-4o")
    assert facts_of("openai/unheard-of") == ModelFacts()


def test_what_the_file_says_beats_the_catalogue() -> None:
    """Price and context of a glob's target win, field by field."""
    glob = table({"*": [target("or/*", facts=ModelFacts(FILE, 4_000, None, {"vision": True}))]})
    assert facts_of("openai/gpt-4o", asked_of=glob) == ModelFacts(FILE, 4_000, 16_000, {"tools": True, "vision": True})


def test_a_suffix_has_facts_of_its_own() -> None:
    """A free variant is another row of the catalogue; what that row lacks is the plain model's."""
    known = CATALOGUE.find("or", "openai/gpt-4o")
    chat = table({"chat": [target("or/openai/gpt-4o", facts=known)]})
    assert facts_of("chat:free", asked_of=chat) == ModelFacts(FREE, 8_000, 16_000, {"tools": True})
    assert facts_of("chat:nitro", asked_of=chat) == known


def test_a_price_of_the_file_holds_for_every_variant() -> None:
    """The operator's word is not changed by what the client adds."""
    facts = ModelFacts(FILE, 4_000)
    assert facts_of("chat:free", asked_of=table({"chat": [target("or/openai/gpt-4o", facts=facts)]})) == facts


maybe_prices: st.SearchStrategy[Prices | None] = st.sampled_from([None, FILE, CATALOGUED])
counts = st.sampled_from([None, 1, 2])
facts = st.builds(ModelFacts, maybe_prices, counts, counts, st.sampled_from([{}, {"a": 1}, {"a": 2, "b": 3}]))


@given(facts, facts)
def test_merging_fills_only_gaps(first: ModelFacts, then: ModelFacts) -> None:
    """Each field is the first's, or the other's where the first does not know it."""
    merged = merge_facts(first, then)
    assert merged.prices == (first.prices or then.prices)
    assert merged.context_tokens == (first.context_tokens or then.context_tokens)
    assert merged.output_tokens_max == (first.output_tokens_max or then.output_tokens_max)
    assert merged.capabilities == {**then.capabilities, **first.capabilities}
    assert merge_facts(first, ModelFacts()) == merge_facts(ModelFacts(), first) == first
