"""What providers say is left of their limits, in every spelling seen."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.codecs.allowances import NOTHING_SAID, Allowance, Windowed, read_allowances, read_wait_s, read_window

NOW_S = datetime(2026, 11, 20, 12, 0, tzinfo=UTC).timestamp()
OPENAI = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-limit-tokens": "150000",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-tokens": "6m0s",
}
ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "1000",
    "anthropic-ratelimit-requests-remaining": "999",
    "anthropic-ratelimit-requests-reset": "2026-11-20T12:00:30Z",
    "anthropic-ratelimit-input-tokens-limit": "80000",
    "anthropic-ratelimit-input-tokens-remaining": "0",
    "anthropic-ratelimit-input-tokens-reset": "2026-11-20T12:01:00+00:00",
}
GROQ = {
    "x-ratelimit-limit-requests": "14400",
    "x-ratelimit-remaining-requests": "14370",
    "x-ratelimit-reset-requests": "2m59.56s",
    "x-ratelimit-remaining-tokens": "17997",
    "x-ratelimit-reset-tokens": "7.66s",
}


@pytest.mark.parametrize(
    ("headers", "allowances"),
    [
        ({}, ()),
        ({"content-type": "application/json", "retry-after": "3"}, ()),
        (OPENAI, (Allowance(59, 60, 1.0), Allowance(149_984, 150_000, 360.0))),
        (GROQ, (Allowance(14_370, 14_400, 179.56), Allowance(17_997, None, 7.66))),
        (ANTHROPIC, (Allowance(999, 1_000, 30.0), Allowance(0, 80_000, 60.0))),
        ({"ratelimit-limit": "10", "ratelimit-remaining": "4", "ratelimit-reset": "20"}, (Allowance(4, 10, 20.0),)),
        (
            {
                "x-ratelimit-limit": "20",
                "x-ratelimit-remaining": "0",
                "x-ratelimit-reset": f"{NOW_S * 1000 + 5000:.0f}",
            },
            (Allowance(0, 20, 5.0),),
        ),
        ({"x-ratelimit-remaining": "3", "x-ratelimit-reset": f"{NOW_S + 7:.0f}"}, (Allowance(3, None, 7.0),)),
        ({"x-ratelimit-remaining": "3", "x-ratelimit-reset": f"{NOW_S - 7:.0f}"}, (Allowance(3, None, 0.0),)),
        ({"x-ratelimit-remaining": "3", "x-ratelimit-reset": "120ms"}, (Allowance(3, None, 0.12),)),
        ({"x-ratelimit-remaining": "3", "x-ratelimit-reset": "1d2h3m4s"}, (Allowance(3, None, 93_784.0),)),
        ({"x-ratelimit-remaining": "3", "x-ratelimit-reset": "soon"}, (Allowance(3, None, None),)),
        ({"x-ratelimit-remaining": "3", "x-ratelimit-reset": "2026-11-20T12:01:00"}, (Allowance(3, None, None),)),
        ({"x-ratelimit-remaining": "many", "x-ratelimit-limit": "5"}, ()),
        ({"x-ratelimit-remaining": "-1"}, ()),
        ({"x-ratelimit-limit": "5"}, ()),
    ],
)
def test_what_is_left(headers: dict[str, str], allowances: tuple[Allowance, ...]) -> None:
    """OpenAI's, Groq's, Anthropic's, OpenRouter's and the draft's headers; nonsense is nothing."""
    found = read_allowances(headers, NOW_S)
    assert [one._replace(returns_in_s=None) for one in found] == [one._replace(returns_in_s=None) for one in allowances]
    for one, wanted in zip(found, allowances, strict=True):
        assert one.returns_in_s == pytest.approx(wanted.returns_in_s)


@pytest.mark.parametrize(
    ("allowance", "begun", "share"),
    [
        (Allowance(50, 100), 0, 0.5),
        (Allowance(50, 100), 10, 0.4),
        (Allowance(5, 100), 10, 0.0),
        (Allowance(200, 100), 0, 1.0),
        (Allowance(5), 0, 1.0),
        (Allowance(5), 5, 0.0),
        (Allowance(5, 0), 0, 1.0),
    ],
)
def test_a_share(allowance: Allowance, begun: int, share: float) -> None:
    """Of the limit; without one it is all or nothing. What began since is gone too."""
    assert allowance.share(begun) == share


def told(message: str, **metadata: object) -> bytes:
    """Write OpenRouter's error."""
    return orjson.dumps({"error": {"code": 429, "message": message, "metadata": metadata}})


HEADERS = {"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{NOW_S * 1000 + 9000:.0f}"}
DAY = "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day"


@pytest.mark.parametrize(
    ("headers", "body", "window"),
    [
        ({}, b"", NOTHING_SAID),
        ({}, b"not json", NOTHING_SAID),
        ({}, b"[]", NOTHING_SAID),
        ({}, orjson.dumps({"error": "slow down"}), NOTHING_SAID),
        ({}, orjson.dumps({"error": {"message": 7}}), NOTHING_SAID),
        (
            {},
            told(DAY, headers=HEADERS, provider_name=None),
            Windowed(is_free_window=True, is_daily=True, limit=50, returns_in_s=9.0),
        ),
        (
            {name.lower(): value for name, value in HEADERS.items()},
            told("Rate limit exceeded: free-models-per-min."),
            Windowed(is_free_window=True, limit=50, returns_in_s=9.0),
        ),
        (
            {},
            told("Rate limit exceeded: free-models-per-day-high-balance."),
            Windowed(is_free_window=True, is_daily=True),
        ),
        ({}, told("Provider returned error", provider_name="Made Up"), Windowed(is_of_others=True)),
        ({"retry-after": "3"}, told("Provider returned error", provider_name="Made Up"), Windowed(is_of_others=True)),
        ({}, told("Slow down", headers=HEADERS, provider_name="Made Up"), Windowed(limit=50, returns_in_s=9.0)),
        (OPENAI | {"x-ratelimit-remaining-tokens": "0"}, b"", Windowed(returns_in_s=360.0)),
        (
            OPENAI | {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-remaining-requests": "0"},
            b"",
            Windowed(returns_in_s=360.0),
        ),
        (OPENAI, b"", NOTHING_SAID),
    ],
)
def test_which_window_is_used_up(headers: dict[str, str], body: bytes, window: Windowed) -> None:
    """As far as headers and body say; the wait is that of what has nothing left."""
    found = read_window(headers, body, NOW_S)
    assert found._replace(returns_in_s=None) == window._replace(returns_in_s=None)
    assert found.returns_in_s == pytest.approx(window.returns_in_s)


@pytest.mark.parametrize(
    ("value", "wait_s"), [(None, None), ("7", 7.0), (" 86400 ", 86_400.0), ("0.5", 0.5), ("soon", None), ("-1", None)]
)
def test_retry_after_in_full(value: str | None, wait_s: float | None) -> None:
    """However long: a key may rest for a day."""
    assert read_wait_s(value) == wait_s


@given(st.dictionaries(st.sampled_from([*OPENAI, *ANTHROPIC, "x-ratelimit-reset"]), st.text(max_size=30)), st.binary())
def test_whatever_is_said_can_be_read(headers: dict[str, str], body: bytes) -> None:
    """No header and no body of a provider's ends a request."""
    for allowance in read_allowances(headers, NOW_S):
        assert allowance.left >= 0
    read_window(headers, body, NOW_S)
