"""What the admin API says of keys, tenants and places, read into records or refused by field."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxy.edge.shapes import key_object, limits_object
from proxy.edge.terms import LIMIT_FIELDS, check_fields, edit_key, edit_limits, edit_tenant, read_name, read_sha256
from proxy.errors import ClientError, UnknownParameter
from proxy.ledger.records import KeyRecord
from proxy.ledger.tenancy import TenantRecord
from proxy.money import Budget, Period
from proxy.policy.limits import NO_LIMITS, Limits, Measure, Rate

NOW_S = 1_795_000_000.0
KEY = KeyRecord("phone", "d", models=("chat",), expires_at_s=1.0, params={"a": 1}, max_cost_nano_usd=5)
FULL = Limits(
    budgets=(
        Budget(5_000_000_000, Period.DAY),
        Budget(10_000_000, Period.MONTH, timezone="Europe/Berlin", is_soft=True, when_spent="cheap"),
    ),
    rates=(Rate(Measure.REQUESTS, 60, 60), Rate(Measure.TOKENS, 100_000, 3_600), Rate(Measure.REQUESTS, 20, 10)),
    parallel=4,
    wait_s=2.0,
    users=Limits(budgets=(Budget(1_000_000_000, Period.DAY),)),
    tags=(("job", Limits(parallel=1)),),
)
SAID: dict[str, Any] = {
    "budget": [
        "$5/day",
        {"limit": "$0.01/month", "soft": True, "when_spent": "cheap", "timezone": "Europe/Berlin"},
    ],
    "rate": ["60/min", "100k tokens/h", "20/10s"],
    "parallel": 4,
    "wait": "2s",
    "users": "$1/day",
    "tags": {"job": {"parallel": 1}, "none": {"budget": None}},
}


def test_limits_are_read_in_the_words_of_the_file() -> None:
    """And shown in words that read the same again."""
    limits = edit_limits(NO_LIMITS, SAID)
    assert limits == FULL
    shown = limits_object(limits)
    assert edit_limits(NO_LIMITS, shown) == limits
    assert shown["rate"] == ["60/min", "100000 tokens/h", "20/10s"]
    assert limits_object(NO_LIMITS) == {"budget": None, "rate": None, "parallel": None}


def test_what_is_left_out_stays_and_null_takes_away() -> None:
    """Field by field."""
    assert edit_limits(FULL, {}) is FULL
    assert edit_limits(FULL, {"budget": "$1"}) == replace(FULL, budgets=(Budget(10**9, Period.TOTAL),))
    assert edit_limits(FULL, dict.fromkeys(LIMIT_FIELDS)) == NO_LIMITS
    gone = edit_key(KEY, {"models": None, "expires_at": None, "params": None, "max_cost": None}, NOW_S)
    assert (gone.models, gone.expires_at_s, gone.params, gone.max_cost_nano_usd) == (None, None, {}, None)
    assert edit_key(KEY, {}, NOW_S) == KEY


def test_a_key_is_read_with_everything() -> None:
    """Times from now on, or as dates; UTC where none is said."""
    said = {"models": ["a", "b*", "a"], "default_model": "a", "max_cost": "$0.50", "disabled": True, "expires_in": "1h"}
    key = edit_key(KEY, {**said, "params": {"max_tokens": 9}, "may_create_keys": True}, NOW_S)
    assert (key.models, key.default_model, key.max_cost_nano_usd) == (("a", "b*"), "a", 500_000_000)
    assert (key.is_enabled, key.expires_at_s, key.params) == (False, NOW_S + 3_600, {"max_tokens": 9})
    assert key_object(key, NOW_S)["max_cost"] == "$0.5"
    for text in ("2026-11-18T11:06:40", "2026-11-18T11:06:40Z", "2026-11-18T12:06:40+01:00"):
        assert edit_key(KEY, {"expires_at": text}, 0.0).expires_at_s == 1_795_000_000


def test_a_tenant_is_read_as_a_key_is() -> None:
    """With its limits beside it."""
    tenant, limits = edit_tenant(TenantRecord("acme"), NO_LIMITS, {"models": ["a"], "parallel": 3, "disabled": True})
    assert (tenant.models, tenant.is_enabled, limits) == (("a",), False, Limits(parallel=3))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("budget", "5"),
        ("budget", 5),
        ("budget", {"limit": "$5", "timezone": "Mars"}),
        ("budget", {"limit": None}),
        ("budget", {"limit": "$5", "soft": "yes"}),
        ("budget", {"limit": "$5", "when_spent": "a*"}),
        ("budget", ["$5"] * 17),
        ("rate", "60"),
        ("rate", 60),
        ("parallel", 0),
        ("parallel", True),
        ("parallel", "4"),
        ("wait", "1h"),
        ("wait", 5),
        ("tags", ["job"]),
        ("models", []),
        ("models", ["a*b*"]),
        ("models", [""]),
        ("models", ["a\n"]),
        ("models", [1]),
        ("default_model", "a*"),
        ("params", []),
        ("params", {"model": "x"}),
        ("params", {f"p{number}": 1 for number in range(65)}),
        ("max_cost", "0.5"),
        ("disabled", None),
        ("disabled", 1),
        ("may_create_keys", "yes"),
        ("expires_in", "soon"),
        ("expires_at", "soon"),
        ("expires_at", 5),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_field(name: str, value: object) -> None:
    """Never taken for something else, never for nothing."""
    with pytest.raises(ClientError) as refused:
        edit_key(KEY, {name: value}, NOW_S)
    assert refused.value.param == name
    assert name in refused.value.message


def test_an_end_is_said_once() -> None:
    """A span or a moment."""
    with pytest.raises(ClientError, match="one of"):
        edit_key(KEY, {"expires_in": "1h", "expires_at": "2030-01-01"}, NOW_S)


@pytest.mark.parametrize("fields", [{"budget": {"limit": "$5", "per": "day"}}, {"users": {"tags": {}}}])
def test_a_misspelt_field_is_no_limit_left_out(fields: dict[str, Any]) -> None:
    """At every depth."""
    with pytest.raises(UnknownParameter):
        edit_limits(NO_LIMITS, fields)
    with pytest.raises(UnknownParameter, match="bugdet"):
        check_fields({"bugdet": "$5"}, LIMIT_FIELDS)


@pytest.mark.parametrize("value", [None, 5, "", " a", "a" * 65, "a\tb"])
def test_a_name_is_visible(value: object) -> None:
    """And short: it stands in every row and line."""
    with pytest.raises(ClientError):
        read_name(value)
    assert read_name("team/phone 7") == "team/phone 7"


def test_a_hash_is_a_hash() -> None:
    """In either case of its letters."""
    assert read_sha256("AB" * 32) == "ab" * 32
    for bad in (None, "ab", "zz" * 32):
        with pytest.raises(ClientError):
            read_sha256(bad)
