"""Past requests under another table: prices, budgets, and what cannot be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.files import load_table
from proxy.routing.replay import Outcome, PastRequest, Replay, total_of
from proxy.routing.table import Catalogue, Table
from proxy.usage import Usage

NOON_S = 1_795_176_000.0
"""2026-11-20 12:00 UTC."""
DAY_S = 86_400.0
CHEAP = "{input: $1/M, output: $2/M}"
PROVIDERS = f"""\
providers:
  cheap: {{dialect: simulated, price: {CHEAP}}}
  dear: {{dialect: simulated, price: {{input: $10/M, output: $20/M}}}}
  away: {{dialect: openai, base_url: "https://h.example/v1", api_key: "${{AWAY_KEY}}", price: {CHEAP}}}
  free: {{dialect: openai, base_url: "http://127.0.0.1:1/v1"}}
"""
USAGE = Usage(input_tokens=1000, output_tokens=500)
"""2,000,000 nano-USD where tokens are cheap, 20,000,000 where they are dear."""


def table_of(folder: Path, text: str) -> Table:
    """Read a table."""
    file = folder / "other.yaml"
    file.write_text(PROVIDERS + text)
    return load_table(file, environ={}, catalogue=Catalogue())


def past(model: str = "chat", **words: Any) -> PastRequest:
    """One request of the books."""
    fields = {"key": "app", "tenant": None, "user": None, "tags": (), "at_s": NOON_S, "usage": USAGE}
    return PastRequest(**{**fields, "cost_nano_usd": 5_000_000, "model": model, **words})


def play(folder: Path, text: str, *requests: PastRequest) -> Replay:
    """Play requests against a table."""
    replay = Replay(table_of(folder, text), Catalogue().find)
    for request in requests:
        replay.take(request)
    return replay


@pytest.mark.parametrize(
    ("models", "model", "targets", "cost"),
    [
        ("chat: cheap/a", "chat", {"cheap/a": True}, 2_000_000),
        ("chat: dear/a", "chat", {"dear/a": True}, 20_000_000),
        ("chat: [away/a, dear/a]", "chat", {"dear/a": True}, 20_000_000),
        ("chat: away/a", "chat", {"away/a": False}, 2_000_000),
        ("'gpt-*': cheap/gpt-*", "gpt-5", {"cheap/gpt-5": True}, 2_000_000),
        ("chat: {targets: cheap/a, price: {input: $3/M, output: $0/M}}", "chat", {"cheap/a": True}, 3_000_000),
    ],
)
def test_a_request_is_priced_where_it_would_go(
    tmp_path: Path, models: str, model: str, targets: dict[str, bool], cost: int
) -> None:
    """At the first target that is ready, or the first, which is said."""
    replay = play(tmp_path, f"models: {{{models}}}", past(model), past(model))
    expected = Outcome(requests=2, spent_nano_usd=10_000_000, cost_nano_usd=2 * cost, targets=targets)
    assert replay.outcomes == {("app", model): expected}
    assert not replay.hits


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (past(usage=None), {"uncounted": 1, "targets": {"cheap/a": True}}),
        (past("local"), {"unpriced": 1, "targets": {"free/b": True}}),
        (past("gone"), {"unrouted": 1}),
        (past("chat", key="narrow"), {"unrouted": 1}),
        (past("local", key="inner"), {"unrouted": 1}),
        (past("or:thinking"), {"unrouted": 1}),
        (past(cost_nano_usd=None), {"spent_unknown": 1, "cost_nano_usd": 2_000_000, "targets": {"cheap/a": True}}),
        (past(is_free=True, cost_nano_usd=0), {}),
    ],
)
def test_what_cannot_be_told_is_counted_and_never_nothing(
    tmp_path: Path, request_: PastRequest, expected: dict[str, Any]
) -> None:
    """Unknown tokens, prices, models; models a key may not ask for; what cost nothing stays so."""
    text = """
models: {chat: cheap/a, local: free/b, "or*": cheap/*}
tenants: {acme: {models: [chat]}}
keys:
  - {name: narrow, key: sk-narrow-1, models: [local]}
  - {name: inner, key: sk-inner-12, tenant: acme}
"""
    (outcome,) = play(tmp_path, text, request_).outcomes.values()
    assert outcome == Outcome(requests=1, **expected)


KEY = "keys: [{name: app, key: sk-app-1234, "


@pytest.mark.parametrize(
    ("text", "requests", "refused", "cost", "scopes"),
    [
        (KEY + "budget: $0.005/day}]", [past()] * 4, 2, 4, {"key:app": 2}),
        # A new day, a new budget.
        (KEY + "budget: $0.003/day}]", [past(), past(), past(at_s=NOON_S + DAY_S)], 1, 4, {"key:app": 1}),
        (KEY + "budget: $0.003}]", [past(), past(), past(at_s=NOON_S + DAY_S)], 2, 2, {"key:app": 2}),
        # A soft one refuses nobody.
        (KEY + "budget: {limit: $0.001/day, soft: true}}]", [past()] * 3, 0, 6, {}),
        # The tightest speaks.
        ("budget: $0.005/day\n" + KEY + "budget: $0.003/day}]", [past()] * 2, 1, 2, {"key:app": 1}),
        # Somebody else's requests count in everybody's budget.
        ("budget: $0.003/day", [past(key="other"), past()], 1, 2, {"global": 1}),
        # Each user, each value of a tag, each provider.
        ("users: {budget: $0.003/day}", [past(user="a"), past(user="b"), past(user="a")], 1, 4, {"user:app/a": 1}),
        (
            "tags: {job: $0.003/day}",
            [past(tags=(("job", "1"),)), past(tags=(("job", "2"),)), past(tags=(("job", "1"),))],
            1,
            4,
            {"tag:app/job=1": 1},
        ),
        # A tenant's own credential is its own money.
        (
            "budget: $0.003/day\ntenants: {acme: {provider_keys: {cheap: sk-theirs-1}}}",
            [past(tenant="acme")] * 3,
            0,
            6,
            {},
        ),
    ],
)
def test_budgets_refuse_what_they_have_no_room_for(  # a table
    tmp_path: Path, text: str, requests: list[PastRequest], refused: int, cost: int, scopes: dict[str, int]
) -> None:
    """In the order of time; what is refused is not spent."""
    replay = play(tmp_path, f"models: {{chat: cheap/a}}\n{text}\n", *requests)
    total = total_of(replay.outcomes)
    assert (total.requests, total.refused, total.cost_nano_usd) == (len(requests), refused, cost * 1_000_000)
    assert {hit.scope: count for hit, count in replay.hits.items()} == scopes


@pytest.mark.parametrize(
    ("words", "cheap", "outcome"),
    [
        # Two fit, the others go on to the cheap one.
        ("budget: {limit: $0.04/day, when_spent: small, soft: true}", "small: cheap/b", (0, 2, 44)),
        # A wall holds for the cheap one too.
        ("budget: {limit: $0.043/day, when_spent: small}", "small: cheap/b", (1, 2, 42)),
        ("budget: {limit: $0.04/day, when_spent: small}", "small: cheap/b", (2, 2, 40)),
        # What it costs there nobody knows, or the key may not go there.
        ("budget: {limit: $0.04/day, when_spent: small, soft: true}", "small: free/b", (0, 2, 40)),
        ("models: [chat], budget: {limit: $0.04/day, when_spent: small}", "small: cheap/b", (2, 0, 40)),
        # The tighter wall says nothing of another model, the other one does.
        ("budget: [$0.04/day, {limit: $0.041/week, when_spent: small}]", "small: cheap/b", (2, 2, 40)),
        ("budget: [$0.043/day, {limit: $0.044/week, when_spent: small}]", "small: cheap/b", (1, 2, 42)),
        # Where a wall is in the way, the soft one is not asked.
        ("budget: [{limit: $0.01/day, when_spent: small, soft: true}, $0.042/day]", "small: cheap/b", (1, 2, 24)),
    ],
)
def test_a_spent_budget_sends_requests_on(
    tmp_path: Path, words: str, cheap: str, outcome: tuple[int, int, int]
) -> None:
    """Refused, redirected, cost in thousandths."""
    text = f"models: {{chat: dear/a, {cheap}}}\nkeys: [{{name: app, key: sk-app-1234, {words}}}]\n"
    total = total_of(play(tmp_path, text, *[past()] * 4).outcomes)
    assert (total.refused, total.redirected, total.cost_nano_usd // 1_000_000) == outcome


def test_what_is_remembered_of_names_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names were asked for."""
    monkeypatch.setattr("proxy.routing.replay.CHOICES_KEPT_MAX", 2)
    replay = play(tmp_path, 'models: {"*": cheap/*}', *(past(f"m{number}") for number in range(5)))
    assert len(replay._choices) <= 2  # noqa: SLF001  # there is no other way to see it
    assert total_of(replay.outcomes).cost_nano_usd == 10_000_000
