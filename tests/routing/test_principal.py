"""Who may ask for what: patterns with one `*`, matched in linear time, and defaults laid over one another."""

from __future__ import annotations

import fnmatch
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.routing.principal import Principal, fill, lay_over, matches


@pytest.mark.parametrize(
    ("pattern", "name", "star"),
    [
        ("chat", "chat", ""),
        ("chat", "chats", None),
        ("chat", "Chat", None),
        ("chat", " chat", None),
        ("chat", "chat:free", None),
        ("*", "", ""),
        ("*", "a/b:c", "a/b:c"),
        ("openai/*", "openai/gpt-4o", "gpt-4o"),
        ("openai/*", "openai/", ""),
        ("openai/*", "openai", None),
        ("openai/*", "xopenai/gpt", None),
        ("*:free", "a:free", "a"),
        ("*:free", "a:freed", None),
        ("gpt-*-mini", "gpt-4o-mini", "4o"),
        ("gpt-*-mini", "gpt--mini", ""),
        ("gpt-*-mini", "gpt-mini", None),
        ("aa*aa", "aaa", None),
        ("aa*aa", "aaaa", ""),
        ("a.c", "abc", None),
        ("a?c", "abc", None),
        ("[a]", "a", None),
        ("", "", ""),
        ("", "a", None),
    ],
)
def test_a_pattern_matches_as_written(pattern: str, name: str, star: str | None) -> None:
    """One `*` stands for anything, nothing included; every other character is itself, case and all."""
    assert fill(pattern, name) == star
    assert matches(pattern, name) is (star is not None)


@given(st.text("ab/:-", max_size=6), st.text("ab/:-", max_size=6), st.text("ab/:-", max_size=12))
def test_a_star_repeats_what_it_stood_for(head: str, tail: str, name: str) -> None:
    """Put back in place of the `*`, what it stood for gives the name again; it matches what a shell would."""
    star = fill(f"{head}*{tail}", name)
    assert (star is not None) is bool(re.fullmatch(fnmatch.translate(f"{head}*{tail}"), name))
    if star is not None:
        assert f"{head}{star}{tail}" == name


def test_a_key_without_a_list_may_ask_for_anything() -> None:
    """No list is no limit; an empty list is the strictest."""
    assert Principal("app").may_ask("anything:free")
    assert not Principal("app", models=()).may_ask("anything")


@pytest.mark.parametrize(
    ("model", "may"),
    [("chat", True), ("chat:free", False), ("openai/gpt-4o:free", True), ("openai", False), ("CHAT", False)],
)
def test_a_key_may_ask_for_what_its_list_names(model: str, may: bool) -> None:
    """Exactly as written, suffix and all; a suffix is something asked for."""
    assert Principal("app", models=("chat", "openai/*")).may_ask(model) is may
    assert Principal("app", tenant_models=("chat", "openai/*")).may_ask(model) is may


def test_a_key_and_its_tenant_must_both_allow_a_model() -> None:
    """A key's list narrows that of its tenant and never widens it."""
    both = Principal("app", models=("chat", "best"), tenant_models=("chat", "openai/*"))
    assert both.may_ask("chat")
    assert not both.may_ask("best")
    assert not both.may_ask("openai/gpt-4o")
    assert (both.lists, Principal("app").lists) == ((("chat", "best"), ("chat", "openai/*")), ())


@pytest.mark.parametrize(
    ("lower", "upper", "laid"),
    [
        ({}, {}, {}),
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, {"a": 1, "b": 3, "c": 4}),
        ({"a": 1}, {"a": None}, {"a": None}),
        ({"max_tokens": 1}, {"max_tokens": 2}, {"max_tokens": 2}),
        ({"max_tokens": 1}, {"max_completion_tokens": 2}, {"max_completion_tokens": 2}),
        ({"max_completion_tokens": 1, "a": 1}, {"max_tokens": None}, {"max_tokens": None, "a": 1}),
        (
            {"max_tokens": 1, "max_completion_tokens": 2},
            {"a": 1},
            {"max_tokens": 1, "max_completion_tokens": 2, "a": 1},
        ),
    ],
)
def test_upper_fields_win_and_a_cap_has_two_names(
    lower: dict[str, Any], upper: dict[str, Any], laid: dict[str, Any]
) -> None:
    """A default never stands beside what was said, not even under the other name of the same option."""
    before = (dict(lower), dict(upper))
    assert lay_over(lower, upper) == laid
    assert (lower, upper) == before
