"""Presets in names: `@preset/NAME` and `MODEL@preset/NAME`, two spellings of the field `preset` (openrouter.md 1.7)."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.errors import ClientError, NotFound, RequestError
from proxy.routing.eligibility import Reason
from proxy.routing.extras import NAME_CHARS_MAX, take_preset
from proxy.routing.plan import Plan
from proxy.routing.principal import Principal
from proxy.routing.table import Route, Table
from tests.routing.made import ANYONE, table, target
from tests.routing.test_plan import plan

TABLE = table({"a": ["or/a", "openai/a"], "b": ["openai/b"], "direct/*": ["openai/*"], "*": ["or/*"]})
LISTED = Principal("app", models=("*",))
BUDGETED = Principal("app", has_budget=True)


def sent(planned: Plan) -> list[tuple[str, Any]]:
    """Give each target with the preset OpenRouter is sent; every other codec takes the field out."""
    return [
        (made.target.name, made.body.get("preset") if made.target.provider.name == "or" else None)
        for made in planned.candidates
    ]


@pytest.mark.parametrize(
    ("model", "taken"),
    [
        ("a@preset/mine", {"model": "a", "preset": "mine"}),
        ("@preset/mine", {"model": "@preset/mine", "preset": "mine"}),
        ("v/m:free@preset/mine", {"model": "v/m:free", "preset": "mine"}),
        ("a@preset/", {"model": "a", "preset": ""}),
    ],
)
def test_a_preset_in_a_name_is_the_field(model: str, taken: dict[str, Any]) -> None:
    """The request itself is not changed."""
    body = {"model": model}
    assert take_preset(body) == taken
    assert body == {"model": model}


@pytest.mark.parametrize("model", [None, "a", "a@preset", "preset/a", 7])
def test_a_name_without_one_is_left_alone(model: object) -> None:
    """Most requests: nothing is copied."""
    body = {"model": model}
    assert take_preset(body) is body
    assert take_preset({}) == {}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model": "a@preset/mine"}, [("or/a", "mine")]),
        ({"model": "v/m@preset/mine"}, [("or/v/m", "mine")]),
        ({"model": "@preset/mine"}, [("or/@preset/mine", None)]),
        ({"model": "@preset/b"}, [("openai/b", None)]),
        ({"model": "a@preset/b"}, [("or/a", None), ("openai/a", None), ("openai/b", None)]),
        ({"model": "a:nitro@preset/mine"}, [("or/a:nitro", "mine")]),
        ({"model": "a@preset/mine", "preset": "other"}, [("or/a", "mine")]),
    ],
)
def test_a_preset_goes_where_it_is_known(fields: dict[str, Any], expected: list[tuple[str, str | None]]) -> None:
    """OpenRouter's as the field, or by its whole name where it stands alone; an alias of ours is that alias."""
    assert sent(plan(TABLE, **fields)) == expected


@pytest.mark.parametrize("model", ["b@preset/mine", "direct/m@preset/mine"])
def test_a_direct_target_knows_no_preset(model: str) -> None:
    """It is left out rather than sent a name nobody has."""
    planned = plan(TABLE, model=model)
    assert planned.candidates == ()
    assert [skip.kind for skip in planned.skipped] == [Reason.ONLY_OPENROUTER]


def test_a_preset_alone_needs_a_glob() -> None:
    """It is a name like any other."""
    with pytest.raises(NotFound, match="'@preset/mine' does not exist"):
        plan(table({"a": ["or/a"]}), model="@preset/mine")


@pytest.mark.parametrize("model", ["a@preset/", "@preset/", "a@preset/" + "x" * (NAME_CHARS_MAX + 1)])
def test_a_preset_without_a_name_is_refused(model: str) -> None:
    """As the field is."""
    with pytest.raises(ClientError) as caught:
        plan(TABLE, model=model)
    assert caught.value.param == "preset"


@pytest.mark.parametrize("principal", [LISTED, BUDGETED])
@pytest.mark.parametrize("fields", [{"model": "a@preset/x"}, {"model": "@preset/x"}, {"model": "a", "preset": "x"}])
def test_no_spelling_passes_a_limit(principal: Principal, fields: dict[str, Any]) -> None:
    """What a preset may choose is not known here; one that is an alias is."""
    assert plan(TABLE, principal=ANYONE, **fields).candidates
    with pytest.raises(RequestError) as caught:
        plan(TABLE, principal=principal, **fields)
    assert (caught.value.status, caught.value.param) == (400, "preset")
    assert plan(TABLE, principal=principal, model="@preset/b").candidates


@pytest.mark.parametrize("fields", [{"model": "a@preset/x"}, {"preset": "x"}, {"plugins": [{"id": "web"}]}])
def test_a_ceiling_of_the_model_is_a_limit_too(fields: dict[str, Any]) -> None:
    """`max_cost`, whoever asks; that of a further model as well."""
    capped = Table(
        "t", {}, {"a": Route("a", (target("or/a"),), max_cost_nano_usd=5), "b": Route("b", (target("or/b"),))}
    )
    with pytest.raises(ClientError):
        plan(capped, **{"model": "a", **fields})
    with pytest.raises(ClientError):
        plan(capped, **{"model": "b", "models": ["a"], **fields})
    plain = {name: value.replace("a@", "b@") if name == "model" else value for name, value in fields.items()}
    assert plan(capped, **{"model": "b", **plain}).candidates


@pytest.mark.parametrize("principal", [LISTED, BUDGETED])
def test_no_further_model_passes_a_limit_with_a_preset(principal: Principal) -> None:
    """`models` is one more place for a name."""
    with pytest.raises(RequestError):
        plan(TABLE, principal=principal, model="a", models=["v/m@preset/x"])


def test_a_direct_target_is_sent_no_preset_of_a_further_model() -> None:
    """Nobody there knows the model `m@preset/x`."""
    planned = plan(TABLE, model="b", models=["direct/m@preset/x"])
    assert "openai/m@preset/x" not in [candidate.target.name for candidate in planned.candidates]


def test_an_alias_behind_a_bare_preset_is_looked_up_once() -> None:
    """A target that is left out is told of once."""
    planned = plan(table({"b": [target("openai/b", not_ready="no key")]}), model="@preset/b")
    assert [skip.target.name for skip in planned.skipped] == ["openai/b"]


def test_an_alias_keeps_its_suffix_behind_the_preset_s_mark() -> None:
    """`@preset/NAME` is NAME, with whatever may stand behind NAME."""
    made = plan(table({"chat": ["or/a"]}), model="@preset/chat:nitro")
    assert [name for name, _ in sent(made)] == ["or/a:nitro"]
