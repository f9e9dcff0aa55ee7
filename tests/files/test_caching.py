"""`cache:` in routes.yaml: its forms, and what they come to."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.routing.caching import CacheRule, Caching
from tests.files.tables import load

MODEL = "models: {{m: {{targets: [simulated/x], cache: {cache}}}}}\n"


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ("true", CacheRule()),
        ("false", CacheRule(is_on=False)),
        ("5m", CacheRule(ttl_s=300.0)),
        ("{ttl: 1h}", CacheRule(ttl_s=3_600.0)),
        ("{}", CacheRule()),
        ("{enabled: false, ttl: 1h}", CacheRule(is_on=False, ttl_s=3_600.0)),
        ("~", None),
    ],
)
def test_a_model_and_a_key_can_be_told(tmp_path: Path, written: str, rule: CacheRule | None) -> None:
    """In the short form or the long one."""
    table = load(tmp_path, MODEL.format(cache=written) + f"keys: [{{name: a, key: abcdefgh, cache: {written}}}]\n")
    assert (table.routes["m"].cache, table.keys[0].cache) == (rule, rule)
    assert table.caching == Caching(is_used=rule is not None and rule.is_on)


def test_the_alias_asked_for_is_what_counts(tmp_path: Path) -> None:
    """What a model it names says of its own answers is that one's own."""
    models = "{a: {targets: [b]}, b: {targets: [simulated/x], cache: true}, 'g/*': {targets: simulated/*, cache: 5m}}"
    table = load(tmp_path, f"models: {models}\n")
    assert (table.routes["a"].cache, table.routes["b"].cache) == (None, CacheRule())
    assert table.globs[0].cache == CacheRule(ttl_s=300.0)


def test_defaults_switch_it_on_for_all(tmp_path: Path) -> None:
    """And the file's own word says for how long."""
    table = load(tmp_path, "models: {m: simulated/x}\ndefaults: {cache: true}\ncache: {ttl: 1m}\n")
    assert table.caching == Caching(is_used=True, ttl_s=60.0, default=CacheRule())
    assert not table.notes


def test_a_word_that_switches_nothing_on_is_noted(tmp_path: Path) -> None:
    """The file allows it and says for how long; somebody has to ask for it."""
    table = load(tmp_path, "models: {m: simulated/x}\ncache: {ttl: 1m}\n")
    assert table.caching == Caching(ttl_s=60.0)
    assert "x-turnpike-cache: on" in table.notes[0]
    assert not load(tmp_path, "models: {m: simulated/x}\ncache: false\n").notes


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("maybe", "is not a duration"),
        ("{ttl: 10}", "with its unit"),
        ("{ttl: 0s}", "at least 1ms"),
        ("{tll: 10m}", "did you mean `ttl`"),
        ("[10m]", "true, false or {ttl: 10m} is wanted"),
        ("{enabled: 1}", "true or false is wanted"),
    ],
)
def test_a_mistake_is_told_with_its_remedy(tmp_path: Path, written: str, said: str) -> None:
    """Wherever it stands."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, MODEL.format(cache=written))
    (problem,) = caught.value.problems
    assert said in problem.message
    assert problem.path.startswith("models.m.cache")


def test_no_provider_may_have_the_name_kept_answers_are_booked_under(tmp_path: Path) -> None:
    """The rows of both could not be told apart."""
    with pytest.raises(ConfigError, match="kept answers"):
        load(tmp_path, "providers: {cache: {dialect: simulated}}\nmodels: {m: simulated/x}\n")
