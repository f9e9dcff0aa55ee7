"""Whose word on the response cache counts, and for how long an answer is good."""

from __future__ import annotations

import pytest

from proxy.routing.caching import DEFAULT_TTL_S, CacheRule, Caching, find_ttl_s

ON, OFF = CacheRule(), CacheRule(is_on=False)
BRIEF, LONG = CacheRule(ttl_s=5.0), CacheRule(ttl_s=3_600.0)


@pytest.mark.parametrize(
    ("asked", "key", "route", "default", "ttl_s"),
    [
        (None, None, None, None, None),
        (None, None, None, ON, DEFAULT_TTL_S),
        (None, None, OFF, ON, None),
        (None, None, ON, OFF, DEFAULT_TTL_S),
        (None, OFF, ON, None, None),
        (None, ON, OFF, None, DEFAULT_TTL_S),
        (True, OFF, OFF, OFF, DEFAULT_TTL_S),
        (True, None, None, None, DEFAULT_TTL_S),
        (False, ON, ON, ON, None),
        (None, BRIEF, LONG, None, 5.0),
        (None, ON, LONG, BRIEF, 3_600.0),
        (True, OFF, BRIEF, LONG, 5.0),
        (True, None, None, LONG, 3_600.0),
    ],
)
def test_the_nearest_word_counts(
    asked: bool | None,  # a column of the table
    key: CacheRule | None,
    route: CacheRule | None,
    default: CacheRule | None,
    ttl_s: float | None,
) -> None:
    """Request, key, model, defaults, in this order; so does the nearest time that is given."""
    assert find_ttl_s(Caching(default=default), asked=asked, key=key, route=route) == ttl_s


@pytest.mark.parametrize(("rule", "ttl_s"), [(ON, 60.0), (BRIEF, 5.0)])
def test_the_file_says_how_long_where_nobody_else_does(rule: CacheRule, ttl_s: float) -> None:
    """`cache: {ttl: 1m}` at the top."""
    assert find_ttl_s(Caching(ttl_s=60.0), asked=None, key=None, route=rule) == ttl_s


def test_the_file_can_forbid_it() -> None:
    """Beyond everybody's wish."""
    assert find_ttl_s(Caching(is_allowed=False, ttl_s=60.0), asked=True, key=ON, route=ON) is None
