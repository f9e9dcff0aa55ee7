"""What an attempt counts towards, and which limits hold for it."""

from __future__ import annotations

import pytest

from proxy.money import Budget, Period
from proxy.policy.limits import Limits
from proxy.policy.scopes import (
    PAYER_TENANT,
    Rules,
    Scope,
    Subject,
    accounts_of,
    is_upstream,
    join_rules,
    parse_scope,
    places_of,
    rules_of,
    tag_scopes,
)

BARE = Subject("app", None, None, (), "chat", "sim", "echo")
FULL = Subject("app", "ac/me", "u 1", (("job", "42"),), "chat", "sim", "echo", "2")


def test_a_bare_attempt_counts_for_its_key_and_what_it_calls() -> None:
    """Key, model, provider and the whole gateway."""
    assert accounts_of(BARE) == ("key:app", "model:chat", "provider:sim", "global")
    assert places_of(BARE) == ("key:app", "model:chat", "global", "provider:sim", "target:sim/echo")


def test_users_and_tags_belong_to_a_tenant_or_a_key() -> None:
    """The same user of another tenant is somebody else; a slash in an owner's name confuses nobody."""
    assert accounts_of(FULL)[4:] == ("tenant:ac/me", "user:ac%2Fme/u 1", "tag:ac%2Fme/job=42")
    assert tag_scopes(FULL) == ["tag:ac%2Fme/job=42"]
    assert accounts_of(BARE._replace(user="u 1"))[-1] == "user:app/u 1"
    assert places_of(FULL)[-1] == "upstream:sim/2"


def test_a_tenants_own_credential_costs_the_operator_nothing() -> None:
    """Neither the provider's budget nor the gateway's counts it; those of its key and tenant do."""
    paid = FULL._replace(payer=PAYER_TENANT)
    assert accounts_of(paid) == ("key:app", "model:chat", "tenant:ac/me", "user:ac%2Fme/u 1", "tag:ac%2Fme/job=42")
    assert places_of(paid) == ("key:app", "model:chat", "tenant:ac/me")


def test_a_places_limits_hold_for_its_scope_and_for_its_users_and_tags() -> None:
    """What is said of a tag that the request does not have holds for nobody."""
    users, jobs = Limits(parallel=1), Limits(parallel=2)
    place = Limits(budgets=(Budget(5, Period.DAY),), users=users, tags=(("customer", users), ("job", jobs)))
    rules = rules_of(FULL, {"global": place})
    assert rules == Rules(
        (("global", place.budgets[0]),), (), (("user:ac%2Fme/u 1", 1, 0.0), ("tag:ac%2Fme/job=42", 2, 0.0))
    )
    assert join_rules([rules, rules]) == rules
    assert rules_of(BARE, {"global": place}) == Rules((("global", place.budgets[0]),))
    assert rules_of(BARE, {}).is_empty


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("global", Scope("global", "")),
        ("key:a:b", Scope("key", "a:b")),
        ("target:sim/echo", Scope("target", "sim/echo")),
        ("user:ac%2Fme/u/1", Scope("user", "u/1", "ac/me")),
        ("tag:app/job=4/2", Scope("tag", "job=4/2", "app")),
    ],
)
def test_a_scope_can_be_taken_apart(text: str, scope: Scope) -> None:
    """Its name may hold what separates."""
    assert parse_scope(text) == scope


@pytest.mark.parametrize("text", ["", "key", "team:a", "user:u", "tag:job=42"])
def test_what_is_no_scope_is_refused(text: str) -> None:
    """A kind nobody counts in, or nobody's user."""
    with pytest.raises(ValueError, match=r"no scope|names nobody"):
        parse_scope(text)


def test_upstream_scopes_are_told_from_those_of_requests() -> None:
    """Of the first a request may have several calls."""
    assert [is_upstream(scope) for scope in ("provider:a", "target:a/b", "upstream:a/1", "key:a", "global")] == [
        True, True, True, False, False
    ]  # fmt: skip
