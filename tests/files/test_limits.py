"""Limits of a file: budgets, rates, requests at once, for every place that may have some."""

from __future__ import annotations

import zoneinfo
from pathlib import Path

import pytest

from proxy.files.limits import list_zones
from proxy.money import Budget, Period
from proxy.policy.limits import Limits, Measure, Rate
from proxy.routing.table import Table
from tests.files.tables import find_problems, load

FREE = {"target:openrouter/*:free": Limits(rates=(Rate(Measure.REQUESTS, 20, 60),))}
"""What config/providers.yaml says of OpenRouter."""
MODELS = "models: {chat: openai/gpt-4o, cheap: openai/gpt-4o}\n"
USD = 1_000_000_000
PER_MINUTE = Rate(Measure.REQUESTS, 60, 60)


def limits_of(table: Table) -> dict[str, Limits]:
    """Give the limits that the file itself speaks of."""
    return {place: limits for place, limits in table.limits.items() if place not in FREE}


def of_gateway(folder: Path, text: str) -> Limits:
    """Load a file with limits for the whole gateway and nothing else."""
    return limits_of(load(folder, MODELS + text + "\n"))["global"]


def test_a_file_that_limits_nothing_has_the_known_limits_alone(tmp_path: Path) -> None:
    """A place with empty words has none."""
    text = MODELS + "tenants: {acme: {budget: [], rate: [], users: {}, tags: {job: {}}}, bare: }\nbudget:\n"
    assert load(tmp_path, text).limits == FREE


@pytest.mark.parametrize(
    ("text", "budgets"),
    [
        ("budget: $5/day", (Budget(5 * USD, Period.DAY),)),
        ("budget: $5", (Budget(5 * USD, Period.TOTAL),)),
        ("budget: [$5/day, $100/month]", (Budget(5 * USD, Period.DAY), Budget(100 * USD, Period.MONTH))),
        ("budget: {limit: $5/hour}", (Budget(5 * USD, Period.HOUR),)),
        (
            "budget: {limit: $5/day, soft: true, when_spent: cheap, timezone: Europe/Berlin}",
            (Budget(5 * USD, Period.DAY, "Europe/Berlin", is_soft=True, when_spent="cheap"),),
        ),
        (
            "budget: [{limit: $5/week, soft: true}, $9/week]\nwhen_spent: cheap",
            (
                Budget(5 * USD, Period.WEEK, is_soft=True, when_spent="cheap"),
                Budget(9 * USD, Period.WEEK, when_spent="cheap"),
            ),
        ),
        (
            "budget: [{limit: $5, when_spent: chat}, $9/day]\nwhen_spent: cheap\ntimezone: Asia/Tokyo",
            (
                Budget(5 * USD, Period.TOTAL, "Asia/Tokyo", when_spent="chat"),
                Budget(9 * USD, Period.DAY, "Asia/Tokyo", when_spent="cheap"),
            ),
        ),
    ],
)
def test_a_budget_is_a_text_a_mapping_or_a_list_of_them(tmp_path: Path, text: str, budgets: tuple[Budget, ...]) -> None:
    """What stands beside it holds where it does not say itself."""
    assert of_gateway(tmp_path, text) == Limits(budgets)


def test_the_nearest_time_zone_counts(tmp_path: Path) -> None:
    """Budget, key, tenant, file, else UTC; models and providers go by the file's."""
    text = """
timezone: Asia/Tokyo
budget: $1/day
providers: {openai: {budget: $1/day}}
models: {chat: {targets: openai/gpt-4o, budget: $1/day}}
tenants: {acme: {timezone: Europe/Berlin, budget: $1/day, users: $1/day, tags: {job: $1/day}}, plain: {budget: $1/day}}
keys:
  - {name: a, key: sk-test-a, tenant: acme, budget: $1/day}
  - {name: b, key: sk-test-b, tenant: acme, timezone: America/Lima, budget: [$1/day, {limit: $2/day, timezone: UTC}]}
  - {name: c, key: sk-test-c, tenant: plain, budget: $1/day}
"""
    found = limits_of(load(tmp_path, text))
    zones = {place: [budget.timezone for budget in limits.budgets] for place, limits in found.items()}
    assert zones == {
        "global": ["Asia/Tokyo"],
        "tenant:acme": ["Europe/Berlin"],
        "tenant:plain": ["Asia/Tokyo"],
        "key:a": ["Europe/Berlin"],
        "key:b": ["America/Lima", "UTC"],
        "key:c": ["Asia/Tokyo"],
        "model:chat": ["Asia/Tokyo"],
        "provider:openai": ["Asia/Tokyo"],
    }
    acme = found["tenant:acme"]
    assert acme.users is not None
    assert [each.budgets[0].timezone for each in (acme.users, acme.tags[0][1])] == ["Europe/Berlin"] * 2


def test_every_zone_offered_can_be_used() -> None:
    """The package tzdata has them where the system has none."""
    assert {"UTC", "Europe/Berlin", "Asia/Kathmandu", "Africa/Cairo"} <= list_zones()
    for name in list_zones():
        assert zoneinfo.ZoneInfo(name).key == name


def test_every_place_has_limits_of_its_own(tmp_path: Path) -> None:
    """Key, tenant, model, provider, target, upstream key, gateway; keys hold theirs as well."""
    text = """
rate: 60/min
providers:
  openai: {rate: 1/s, parallel: 2, model_rates: {"gpt-*": [3/s, 4/min]}, api_keys: ["${A}", {key: "${B}", rate: 5/s}]}
models:
  chat: {targets: [{target: openai/gpt-4o, rate: 6/s, parallel: 7}], rate: 8/s, parallel: 9, wait: 1s}
tenants: {acme: {rate: 10/s, wait: 2s}}
keys: [{name: mobile, key: sk-test-1, tenant: acme, rate: [11/s, 100k tokens/min], parallel: 12, wait: 500ms}]
"""
    table = load(tmp_path, text, {"A": "sk-first-key", "B": "sk-second-key"})

    def per_second(limit: int) -> Rate:
        return Rate(Measure.REQUESTS, limit, 1)

    assert limits_of(table) == {
        "global": Limits(rates=(PER_MINUTE,)),
        "tenant:acme": Limits(rates=(per_second(10),), wait_s=2),
        "key:mobile": Limits(rates=(per_second(11), Rate(Measure.TOKENS, 100_000, 60)), parallel=12, wait_s=0.5),
        "model:chat": Limits(rates=(per_second(8),), parallel=9, wait_s=1),
        "provider:openai": Limits(rates=(per_second(1),), parallel=2),
        "upstream:openai/2": Limits(rates=(per_second(5),)),
        "target:openai/gpt-*": Limits(rates=(per_second(3), Rate(Measure.REQUESTS, 4, 60))),
        "target:openai/gpt-4o": Limits(rates=(per_second(6),), parallel=7),
    }
    assert table.keys[0].limits == table.limits["key:mobile"]


def test_users_and_tags_have_limits_each(tmp_path: Path) -> None:
    """A text is a budget; the mapping says all that a key may, but for users and tags."""
    text = """
users: $1/day
tags:
  job: $0.50/total
  customer: {budget: [$1/day, $9/month], when_spent: cheap, rate: 60/min, parallel: 2, wait: 2s}
  list: [$1/day, $2/month]
"""
    a_day, in_all = Budget(USD, Period.DAY), Budget(USD // 2, Period.TOTAL)
    customer = Limits(
        (Budget(USD, Period.DAY, when_spent="cheap"), Budget(9 * USD, Period.MONTH, when_spent="cheap")),
        rates=(PER_MINUTE,),
        parallel=2,
        wait_s=2,
    )
    assert of_gateway(tmp_path, text) == Limits(
        users=Limits((a_day,)),
        tags=(
            ("job", Limits((in_all,))),
            ("customer", customer),
            ("list", Limits((a_day, Budget(2 * USD, Period.MONTH)))),
        ),
    )


def test_what_several_mentions_say_of_a_target_holds_together(tmp_path: Path) -> None:
    """All rates, the lowest number at once; a mention that says nothing takes nothing away."""
    text = """
models:
  a: [{target: openai/gpt-4o, rate: 60/min, parallel: 5}]
  b: [{target: openai/gpt-4o, rate: [60/min, 5/s], parallel: 3}]
  c: [openai/gpt-4o, {target: openrouter/x:free, parallel: 4}, a]
"""
    found = limits_of(load(tmp_path, text))
    assert found == {
        "target:openai/gpt-4o": Limits(rates=(PER_MINUTE, Rate(Measure.REQUESTS, 5, 1)), parallel=3),
        "target:openrouter/x:free": Limits(parallel=4),
    }


def test_the_known_rates_of_models_can_be_changed(tmp_path: Path) -> None:
    """OpenRouter's rule for free models is data, for its other accounts too."""
    text = "providers: {spare: {dialect: openrouter}, openrouter: {model_rates: {}}}\n" + MODELS
    table = load(tmp_path, text)
    assert table.limits == {"target:spare/*:free": FREE["target:openrouter/*:free"]}
    assert table.providers["spare"].list_patterns("deepseek/deepseek-r1:free") == ("*:free",)
    assert table.providers["spare"].list_patterns("openai/gpt-4o") == ()


def test_a_wall_before_every_user_is_a_wall(tmp_path: Path) -> None:
    """Nobody is priced in the dark; a soft budget, a rate and a budget nobody reaches are no walls."""
    odd = "models: {odd: openai/odd, chat: openai/gpt-4o}\n"
    for fine in (
        "budget: {limit: $5, soft: true}",
        "rate: 60/min",
        "tenants: {acme: {budget: $5, models: [chat]}}\nkeys: [{name: x, key: sk-test-1, tenant: acme, max_cost: $1}]",
        "tenants: {acme: {models: [chat]}}\nkeys: [{name: x, key: sk-test-1, tenant: acme, budget: $1, models: ['*']}]",
        "tenants: {acme: {models: [chat]}}\nkeys: [{name: x, key: sk-test-1, tenant: acme, budget: $1, models: [odd]}]",
        "providers: {openrouter: {budget: $5}}",
    ):
        assert load(tmp_path, odd + fine + "\n").routes
    (problem,) = find_problems(tmp_path, odd + "users: {budget: $1/day}\n")
    assert "the budget of the whole gateway cannot be kept" in problem.message


def test_findings_about_limits_come_together(tmp_path: Path) -> None:
    """A zone, a model and a unit in one reading; what is wrong with one key is not said of another."""
    text = """\
timezone: Mars/Olympus
budget: {limit: $5/day, when_spent: chap}
models:
  chat: {targets: openai/gpt-4o, rate: 60}
keys:
  - {name: x, key: sk-test-1, budget: $5/dya, when_spent: chat, timezone: Nowhere}
  - {name: y, key: sk-test-2, wait: 1s, rate: 5}
  - {name: z, key: sk-test-3, wait: 1s, rate: [5], budget: [5], when_spent: chat}
"""
    found = find_problems(tmp_path, text)
    assert [problem.path for problem in found] == [
        "timezone",
        "budget.when_spent",
        "models.chat.rate",
        "keys.0.budget",
        "keys.0.timezone",
        "keys.1.rate",
        "keys.2.rate.0",
        "keys.2.budget.0",
    ]
