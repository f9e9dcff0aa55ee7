"""The headers that explain an answer."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.clock import ManualClock
from proxy.codecs.openai import OpenAICodec
from proxy.codecs.surface import Cost
from proxy.gateway.attempt import Attempt, Line
from proxy.gateway.headers import cost_headers, header_text, reply_headers, tried_headers
from proxy.policy.timeouts import Clocks
from proxy.routing.plan import Candidate
from proxy.usage import CostSource
from tests.gateway.stage import FakeUpstream, a_target, an_errand, streamed

CLOCKS = Clocks(connect_s=1.0, first_token_s=5.0, idle_s=5.0, total_s=5.0)


def an_attempt(target: str = "one/m", *, number: int = 1, lost: tuple[str, ...] = (), **fields: Any) -> Attempt:
    """Make an attempt nobody runs, whose codec lost these fields."""
    candidate = Candidate(a_target(target), {"messages": []}, CLOCKS, **fields)
    line = Line(FakeUpstream(streamed()), OpenAICodec(is_openrouter=False))
    errand = an_errand(candidate, line.codec, dropped=lost)
    return Attempt(number, 0, candidate, line=line, hold_nano_usd=0, errand=errand)


def test_a_reply_says_who_answered() -> None:
    """Alias, target, tries and our own time; no clamp is told where there was none."""
    attempt = an_attempt("one/vendor/model:free", number=3)
    assert attempt.elapsed_ms(ManualClock()) == 0
    assert reply_headers("req-1", "chat", attempt, overhead_s=0.00123) == {
        "x-request-id": "req-1",
        "x-generation-id": "gen-req-1",
        "x-turnpike-route": "chat",
        "x-turnpike-provider": "one",
        "x-turnpike-model": "vendor/model:free",
        "x-turnpike-attempts": "3",
        "x-turnpike-overhead-ms": "1.2",
    }


def test_a_clamp_is_told() -> None:
    """With the cap as it was sent upstream."""
    headers = reply_headers("r", "chat", an_attempt(output_tokens_max=512), overhead_s=0.0)
    assert headers["x-turnpike-clamped"] == "max_tokens=512"


def test_what_was_done_to_the_prompt_is_told() -> None:
    """As the plan says it."""
    headers = reply_headers("r", "chat", an_attempt(transforms="middle-out; dropped=12; kept=30"), overhead_s=0.0)
    assert headers["x-turnpike-transforms"] == "middle-out; dropped=12; kept=30"


@pytest.mark.parametrize(
    ("dropped", "lost", "told"),
    [
        ((), (), None),
        (("top_k",), (), "top_k"),
        ((), ("reasoning",), "reasoning"),
        (("seed", "top_k"), ("top_k", "n"), "seed, top_k, n"),
    ],
)
def test_fields_left_out_are_told(dropped: tuple[str, ...], lost: tuple[str, ...], told: str | None) -> None:
    """By the plan and by the codec, each once."""
    headers = reply_headers("r", "chat", an_attempt(dropped=dropped, lost=lost), overhead_s=0.0)
    assert headers.get("x-turnpike-dropped") == told


def test_our_own_time_is_never_below_nothing() -> None:
    """Two clocks read one after another may differ by a hair."""
    assert reply_headers("r", "chat", an_attempt(), overhead_s=-1.0)["x-turnpike-overhead-ms"] == "0.0"


def test_a_cost_is_told_with_its_source() -> None:
    """All attempts together; what is not known is left out, never 0."""
    cost = Cost(7, CostSource.COMPUTED)
    assert cost_headers(cost, 1_000_000_007) == {
        "x-turnpike-cost": "1.000000007",
        "x-turnpike-cost-source": "computed",
    }
    unknown = cost._replace(nano_usd=None, source=CostSource.UNKNOWN)
    assert cost_headers(unknown, None) == {"x-turnpike-cost-source": "unknown"}


def test_an_error_says_what_was_tried_and_what_that_cost() -> None:
    """An unknown cost is left out, never 0."""
    told = {"x-turnpike-route": "mod%C3%A8le", "x-turnpike-attempts": "3"}
    assert tried_headers("modèle", 3, 0) == {**told, "x-turnpike-cost": "0.000000000"}
    assert tried_headers("modèle", 3, None) == told


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("gpt-4o", "gpt-4o"),
        ("a b %20", "a b %20"),
        ("modèle", "mod%C3%A8le"),
        ("a\r\nset-cookie: x", "a%0D%0Aset-cookie: x"),
        ("tab\there", "tab%09here"),
    ],
)
def test_a_name_is_made_safe_for_a_header(text: str, shown: str) -> None:
    """Printable ASCII passes as it is, the rest is spelled out."""
    assert header_text(text) == shown


@given(st.text())
def test_no_name_breaks_a_header(text: str) -> None:
    """Whatever it holds, one line of printable ASCII comes out."""
    text = text.encode(errors="replace").decode()
    assert set(header_text(text)) <= set(string.printable) - set("\t\n\r\x0b\x0c")
