"""The four clocks of an attempt: what the operator says, and what holds where nothing is said."""

from __future__ import annotations

import pytest

from proxy.policy.timeouts import Clocks, clocks


@pytest.mark.parametrize(
    ("is_stream", "first_token_s"),
    [(True, 60.0), (False, 600.0)],
)
def test_clocks_have_defaults(is_stream: bool, first_token_s: float) -> None:
    """A JSON answer comes only when all of it is written, so its first byte may take as long as SDKs wait."""
    filled = clocks(connect_s=None, first_token_s=None, idle_s=None, total_s=None, is_stream=is_stream)
    assert filled == Clocks(connect_s=3, first_token_s=first_token_s, idle_s=60, total_s=900)


@pytest.mark.parametrize("is_stream", [True, False])
def test_each_clock_is_the_operator_s_own(is_stream: bool) -> None:
    """What is said holds for both kinds of answers."""
    assert clocks(connect_s=0.1, first_token_s=0.2, idle_s=0.3, total_s=0.4, is_stream=is_stream) == Clocks(
        connect_s=0.1, first_token_s=0.2, idle_s=0.3, total_s=0.4
    )


@pytest.mark.parametrize("name", ["connect_s", "first_token_s", "idle_s", "total_s"])
def test_clocks_are_separate(name: str) -> None:
    """Setting one leaves the others at their defaults."""
    given: dict[str, float | None] = dict.fromkeys(("connect_s", "first_token_s", "idle_s", "total_s"))
    plain = clocks(**given, is_stream=True)
    changed = clocks(**{**given, name: 5.5}, is_stream=True)
    assert getattr(changed, name) == 5.5
    others = set(given) - {name}
    assert all(getattr(changed, other) == getattr(plain, other) for other in others)
