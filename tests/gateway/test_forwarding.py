"""The few headers of a client's that a provider is told too."""

from __future__ import annotations

import pytest

from proxy.codecs.wire import Call
from proxy.gateway.forwarding import FORWARDED, forward, wants_metadata
from proxy.routing.table import Dialect

CALL = Call("/chat/completions", b"{}", is_stream=False, headers={"accept": "x"})
SENT = {"x-session-id": "s", "x-openrouter-metadata": "enabled", "x-anthropic-beta": "a,b", "anthropic-beta": "c"}


def test_openrouter_is_told_what_it_understands() -> None:
    """As it came, beside what the codec says."""
    assert forward(CALL, SENT, Dialect.OPENROUTER).headers == {
        "accept": "x",
        "x-session-id": "s",
        "x-openrouter-metadata": "enabled",
        "x-anthropic-beta": "a,b",
    }


@pytest.mark.parametrize(
    ("own", "sent", "betas"),
    [
        (None, {"anthropic-beta": "c"}, "c"),
        (None, {"x-anthropic-beta": "a,b"}, "a,b"),
        (None, SENT, "c,a,b"),
        ("own", SENT, "own,c,a,b"),
        ("own", {"x-session-id": "s"}, "own"),
        ("own", {"anthropic-beta": ""}, "own"),
        (None, {"x-session-id": "s"}, None),
    ],
)
def test_anthropic_is_told_of_betas_under_either_name(own: str | None, sent: dict[str, str], betas: str | None) -> None:
    """Behind those the codec needs."""
    call = Call("/messages", b"{}", is_stream=False, headers={"anthropic-beta": own} if own else {})
    made = forward(call, sent, Dialect.ANTHROPIC)
    assert made.headers.get("anthropic-beta") == betas
    assert made.headers.keys() <= {"anthropic-beta"}


@pytest.mark.parametrize("dialect", [Dialect.OPENAI, Dialect.GOOGLE, Dialect.SIMULATED])
def test_nobody_else_is_told_anything(dialect: Dialect) -> None:
    """The call itself goes on."""
    assert forward(CALL, SENT, dialect) is CALL


@pytest.mark.parametrize("dialect", list(Dialect))
def test_what_is_not_named_stays_here(dialect: Dialect) -> None:
    """Whatever else the caller was handed."""
    assert forward(CALL, {"authorization": "Bearer k", "cookie": "c", "x-api-key": "k"}, dialect) is CALL
    assert b"authorization" not in FORWARDED


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, False),
        ({"x-session-id": "s"}, False),
        ({"x-openrouter-metadata": "enabled"}, True),
        ({"x-openrouter-metadata": " Enabled "}, True),
        ({"x-openrouter-metadata": "true"}, True),
        ({"x-openrouter-metadata": "disabled"}, False),
        ({"x-openrouter-metadata": ""}, False),
    ],
)
def test_metadata_is_for_who_asked(headers: dict[str, str], *, wanted: bool) -> None:
    """In the header's own word, or a plain yes."""
    assert wants_metadata(headers) is wanted


def test_the_old_name_of_the_header_counts_too() -> None:
    """OpenRouter renamed it (openrouter.md 1.8)."""
    assert b"x-openrouter-experimental-metadata" in FORWARDED
    assert wants_metadata({"x-openrouter-experimental-metadata": "enabled"})
    assert wants_metadata({"x-openrouter-metadata": "", "x-openrouter-experimental-metadata": "true"})
    assert not wants_metadata({"x-openrouter-experimental-metadata": "disabled"})
    sent = {"x-openrouter-experimental-metadata": "enabled"}
    assert forward(CALL, sent, Dialect.OPENROUTER).headers == {"accept": "x", **sent}
    assert forward(CALL, sent, Dialect.ANTHROPIC) is CALL
