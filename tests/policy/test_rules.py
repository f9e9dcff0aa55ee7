"""How rules are written back: one text for one meaning."""

from __future__ import annotations

import pytest

from proxy.policy.rules import show_ms, show_share, show_usd


@pytest.mark.parametrize(
    ("ppm", "text"), [(800_000, "80%"), (5_000, "0.5%"), (1, "0.0001%"), (0, "0%"), (10_000_000, "1000%")]
)
def test_shares(ppm: int, text: str) -> None:
    """As few digits as say all of it."""
    assert show_share(ppm) == text


@pytest.mark.parametrize(("ms", "text"), [(300, "300ms"), (1_000, "1s"), (14_200, "14.2s"), (1_001, "1.001s")])
def test_times(ms: int, text: str) -> None:
    """Seconds from a second on."""
    assert show_ms(ms) == text


@pytest.mark.parametrize(
    ("nano_usd", "text"),
    [
        (5_000_000_000, "$5.00"),
        (4_100_000_000, "$4.10"),
        (1, "$0.000000001"),
        (1_234_567, "$0.001234567"),
        (-250_000_000, "-$0.25"),
        (0, "$0.00"),
    ],
)
def test_amounts(nano_usd: int, text: str) -> None:
    """All of it, at least the cents."""
    assert show_usd(nano_usd) == text
