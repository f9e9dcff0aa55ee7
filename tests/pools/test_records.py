"""What is remembered of each key: rests by what was refused, shares by what was told, days of free models."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from proxy.clock import ManualClock
from proxy.codecs.allowances import NOTHING_SAID, Windowed
from proxy.errors import Failure, FailureKind
from proxy.policy.pools import Resting
from proxy.pools import Pools, RefusedKey, Turn, records
from proxy.pricing import ModelFacts, Prices
from proxy.routing.table import Dialect, Provider, Secret, Target, UpstreamKey

K = FailureKind
MIDDAY_S = 1_800_000_000.0 // 86_400 * 86_400 + 43_200
PAID = ModelFacts(Prices(Decimal(1), Decimal(2)))


def a_provider(*keys: UpstreamKey | str, dialect: Dialect = Dialect.OPENAI, name: str = "up") -> Provider:
    """Make a provider with a pool."""
    pool = tuple(key if isinstance(key, UpstreamKey) else UpstreamKey(key, Secret(f"sk-{key}")) for key in keys)
    return Provider(name, dialect, base_url="https://up.example/v1", api_key=pool[0].secret, pool=pool)


def a_target(*keys: UpstreamKey | str, model: str = "m", dialect: Dialect = Dialect.OPENAI) -> Target:
    """Make a target of such a provider."""
    return Target(a_provider(*keys, dialect=dialect), model, facts=PAID)


def free(label: str) -> UpstreamKey:
    """Make a key without credit."""
    return UpstreamKey(label, Secret(f"sk-{label}"), is_free=True)


@pytest.fixture
def clock() -> ManualClock:
    """Start at midday."""
    return ManualClock(MIDDAY_S)


@pytest.fixture
def pools(clock: ManualClock) -> Pools:
    """Remember nothing yet."""
    return Pools(clock)


def take(pools: Pools, target: Target) -> Turn:
    """Choose a key that must be there."""
    turn = pools.choose(target)
    assert isinstance(turn, Turn)
    pools.give_back(turn)
    return turn


def label_of(pools: Pools, target: Target) -> str | None:
    """Give the label of the key that is next, None when all rest."""
    turn = pools.choose(target)
    if not isinstance(turn, Turn):
        return None
    pools.give_back(turn)
    return turn.key.label


def wait_s(found: object) -> float | None:
    """Give the wait of a pool that is limited."""
    assert isinstance(found, Resting)
    assert found.kind is K.RATE_LIMITED
    return found.returns_in_s


def refuse(pools: Pools, turn: Turn, kind: FailureKind = K.RATE_LIMITED, **how: Any) -> None:
    """Refuse a call."""
    window, told_s = how.pop("window", NOTHING_SAID), how.pop("told_s", None)
    pools.note_refusal(turn, Failure(kind, "no", **how), window, told_s)


def test_a_limit_of_one_model_leaves_the_others(pools: Pools, clock: ManualClock) -> None:
    """Most limits are a model's; it rests a second, then two, and a good answer begins anew."""
    one, other = a_target("a"), a_target("a", model="n")
    for rest_s in (1.0, 2.0, 4.0):
        refuse(pools, take(pools, one))
        assert wait_s(pools.choose(one)) == pytest.approx(rest_s)
        assert label_of(pools, other) == "a"
        clock.advance(rest_s)
        assert label_of(pools, one) == "a"
    pools.note_reply(take(pools, one), {}, is_good=True)
    refuse(pools, take(pools, one))
    assert wait_s(pools.choose(one)) == pytest.approx(1.0)


def test_a_good_answer_to_an_older_call_ends_no_rest(pools: Pools) -> None:
    """It was begun before the refusal."""
    target = a_target("a")
    older, newer = take(pools, target), take(pools, target)
    refuse(pools, newer, told_s=30.0)
    pools.note_reply(older, {}, is_good=True)
    assert label_of(pools, target) is None


@pytest.mark.parametrize(
    ("kind", "status", "resting"),
    [
        (K.CREDENTIALS, 401, {"m", "n", "free"}),
        (K.CREDENTIALS, 400, {"m", "n", "free"}),
        (K.CREDENTIALS, 403, {"m"}),
        (K.CREDITS, 402, {"m", "n"}),
        (K.CREDITS, 429, {"m", "n"}),
        (K.RATE_LIMITED, 402, {"m", "n", "free"}),
        (K.RATE_LIMITED, 429, {"m"}),
    ],
)
def test_a_key_rests_as_widely_as_what_was_refused(
    pools: Pools, kind: FailureKind, status: int, resting: set[str]
) -> None:
    """Everything, what costs money, or one model."""
    targets = {
        "m": a_target("a", dialect=Dialect.OPENROUTER),
        "n": a_target("a", model="n", dialect=Dialect.OPENROUTER),
        "free": a_target("a", model="f:free", dialect=Dialect.OPENROUTER),
    }
    refuse(pools, take(pools, targets["m"]), kind, status=status)
    assert {name for name, target in targets.items() if label_of(pools, target) is None} == resting


def test_a_purse_that_does_not_pay_for_what_is_free_pays_for_nothing(pools: Pools) -> None:
    """OpenRouter refuses everything to an account in debt (openrouter.md 6.2)."""
    gratis = a_target("a", model="f:free", dialect=Dialect.OPENROUTER)
    refuse(pools, take(pools, gratis), K.CREDITS, status=402)
    assert label_of(pools, a_target("a", dialect=Dialect.OPENROUTER)) is None


def test_a_refused_key_is_listed_and_told_once(clock: ManualClock) -> None:
    """Until a call succeeds again; a limited key is not listed, nor a provider without a pool."""
    told: list[tuple[str, dict[str, object]]] = []
    counts: list[int] = []
    pools = Pools(clock, tell=lambda event, **fields: told.append((event, fields)), count=counts.append)
    target = a_target("a", "b")
    refuse(pools, take(pools, target), K.CREDENTIALS, status=401)
    refuse(pools, take(pools, target), told_s=5.0)
    assert pools.list_refused() == [RefusedKey("up", "a", K.CREDENTIALS)]
    for _ in range(2):
        clock.advance(60)
        refuse(pools, Turn(*take(pools, target)), K.CREDENTIALS, status=401)
    assert [fields["label"] for _, fields in told] == ["a", "b"]
    assert told[0] == ("upstream_key_refused", {"provider": "up", "label": "a", "why": "credentials"})
    clock.advance(60)
    for _ in range(2):
        pools.note_reply(take(pools, target), {}, is_good=True)
    assert pools.list_refused() == []
    assert counts == [1, 2, 1, 0]


def test_keys_that_left_the_table_are_forgotten(clock: ManualClock) -> None:
    """With what was held against them."""
    counts: list[int] = []
    pools = Pools(clock, count=counts.append)
    refuse(pools, take(pools, a_target("a")), K.CREDENTIALS, status=401)
    pools.keep_only([a_provider("a"), a_provider("b", name="other")])
    assert label_of(pools, a_target("a")) is None
    pools.keep_only([a_provider("b")])
    assert label_of(pools, a_target("a")) == "a"
    assert counts == [1, 1, 0]


def test_a_new_secret_under_an_old_name_begins_anew(pools: Pools) -> None:
    """The operator has replaced it."""
    refuse(pools, take(pools, a_target("a")), K.CREDENTIALS, status=401)
    assert label_of(pools, a_target("a")) is None
    assert label_of(pools, a_target(UpstreamKey("a", Secret("sk-new")))) == "a"


def test_what_a_reply_says_is_left_decides(pools: Pools, clock: ManualClock) -> None:
    """Calls begun since are gone from it; when its window ends the key is full again."""
    target = a_target("a", "b")
    first, second = take(pools, target), take(pools, target)
    told = {"x-ratelimit-limit-requests": "10", "x-ratelimit-reset-requests": "30s"}
    pools.note_reply(first, told | {"x-ratelimit-remaining-requests": "5"}, is_good=True)
    pools.note_reply(second, told | {"x-ratelimit-remaining-requests": "8"}, is_good=True)
    chosen = []
    for _ in range(5):
        turn = take(pools, target)
        pools.note_call(turn)
        chosen.append(turn.key.label)
    assert chosen == ["b", "b", "b", "a", "b"]
    pools.note_reply(first, told | {"x-ratelimit-remaining-requests": "0"}, is_good=True)
    pools.note_reply(second, told | {"x-ratelimit-remaining-requests": "0"}, is_good=True)
    assert wait_s(pools.choose(target)) == pytest.approx(30.0)
    clock.advance(30)
    assert label_of(pools, target) in {"a", "b"}


def test_what_is_left_for_an_unknown_time_counts_a_minute(pools: Pools, clock: ManualClock) -> None:
    """A key with nothing left and no moment told is the last to be chosen, not one that rests."""
    target = a_target("a", "b")
    pools.note_reply(take(pools, target), {"x-ratelimit-remaining-requests": "0"}, is_good=True)
    assert [label_of(pools, target) for _ in range(3)] == ["b"] * 3
    clock.advance(60)
    assert {label_of(pools, target) for _ in range(2)} == {"a", "b"}


def test_calls_under_way_count(pools: Pools) -> None:
    """The idle key is next, whoever had the last turn; who chooses at once does not choose alike."""
    target = a_target("a", "b")
    turns = [pools.choose(target) for _ in range(3)]
    assert [turn.key.label for turn in turns if isinstance(turn, Turn)] == ["a", "b", "a"]
    assert [label_of(pools, target) for _ in range(2)] == ["b", "b"]
    assert isinstance(turns[2], Turn)
    pools.give_back(turns[2])
    assert {label_of(pools, target) for _ in range(2)} == {"a", "b"}


def test_keys_left_out_are_not_chosen(pools: Pools) -> None:
    """And when nobody is left it is their own return that counts."""
    target = a_target("a", "b")
    assert {label_of(pools, target) for _ in range(4)} == {"a", "b"}
    turn = pools.choose(target, besides={"a"})
    assert isinstance(turn, Turn)
    assert turn.key.label == "b"
    assert pools.find_resting(target, besides={"a"}) is None
    refuse(pools, turn, told_s=7.0)
    assert wait_s(pools.find_resting(target, besides={"a"})) == pytest.approx(7.0)


def test_a_key_without_credit_is_for_what_is_free(pools: Pools) -> None:
    """First there, never elsewhere."""
    keys = (UpstreamKey("paid", Secret("sk-paid")), free("gratis"))
    assert label_of(pools, a_target(*keys, model="f:free", dialect=Dialect.OPENROUTER)) == "gratis"
    assert label_of(pools, a_target(*keys, dialect=Dialect.OPENROUTER)) == "paid"
    assert pools.choose(a_target(free("gratis"))) == Resting(K.CREDITS)


def spend_free(pools: Pools, target: Target, count: int) -> list[str | None]:
    """Call a free model so often."""
    chosen: list[str | None] = []
    for _ in range(count):
        turn = pools.choose(target)
        if not isinstance(turn, Turn):
            chosen.append(None)
            continue
        pools.note_call(turn)
        pools.give_back(turn)
        chosen.append(turn.key.label)
    return chosen


def test_a_days_free_requests_are_counted(pools: Pools, clock: ManualClock) -> None:
    """Accounts share by what a day grants them; a limit nobody has named stops no call."""
    keys = [free("a"), free("b")]
    target = a_target(*keys, model="f:free", dialect=Dialect.OPENROUTER)
    chosen = spend_free(pools, target, 120)
    assert (chosen.count("a"), chosen.count("b")) == (60, 60)


def test_a_limit_once_named_is_kept_without_another_429(pools: Pools, clock: ManualClock) -> None:
    """Fifty a day, as a 429 said: the next day exactly fifty go out, and the 51st waits for midnight."""
    target = a_target(free("a"), model="f:free", dialect=Dialect.OPENROUTER)
    named = Windowed(is_free_window=True, is_daily=True, limit=50)
    refuse(pools, take(pools, target), window=named, told_s=43_200.0, status=429)
    assert wait_s(pools.choose(target)) == pytest.approx(43_200.0)
    clock.advance(43_200)
    assert spend_free(pools, target, 51) == [*["a"] * 50, None]
    clock.advance(3_600)
    assert wait_s(pools.choose(target)) == pytest.approx(82_800.0)
    clock.advance(82_800)
    assert label_of(pools, target) == "a"


def test_a_minutes_window_rests_free_models_alone(pools: Pools) -> None:
    """Any of them, with nothing learnt about the day."""
    target = a_target("a", model="f:free", dialect=Dialect.OPENROUTER)
    refuse(pools, take(pools, target), window=Windowed(is_free_window=True, limit=20), told_s=20.0, status=429)
    assert label_of(pools, a_target("a", model="g:free", dialect=Dialect.OPENROUTER)) is None
    assert label_of(pools, a_target("a", dialect=Dialect.OPENROUTER)) == "a"


def test_a_clock_that_jumps_moves_no_rest(pools: Pools, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Durations run on the monotonic clock."""
    target = a_target("a")
    refuse(pools, take(pools, target), told_s=30.0)
    monkeypatch.setattr(clock, "now_s", lambda: MIDDAY_S + 3_600)
    assert wait_s(pools.choose(target)) == pytest.approx(30.0)


def test_memory_has_an_end(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of keys the oldest goes; of a key's models all, when there are too many."""
    monkeypatch.setattr(records, "KEYS_MAX", 2)
    monkeypatch.setattr(records, "MODELS_MAX", 2)
    for name in "abc":
        refuse(pools, take(pools, a_target(name)), K.CREDENTIALS, status=401)
    assert [refused.label for refused in pools.list_refused()] == ["b", "c"]
    monkeypatch.setattr(records, "KEYS_MAX", 9)
    turn = take(pools, a_target("z"))
    for model in "mno":
        turn = take(pools, a_target("z", model=model))
        pools.note_reply(turn, {"x-ratelimit-remaining-requests": "1"}, is_good=True)
        refuse(pools, turn, told_s=30.0)
    assert [label_of(pools, a_target("z", model=model)) for model in "mno"] == ["z", "z", None]
    assert len(turn.record.told) == 1
