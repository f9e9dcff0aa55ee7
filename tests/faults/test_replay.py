"""The replaying upstream: recordings come through torn, byte for byte."""

from __future__ import annotations

import pytest

from tests.faults.client import ask, chat
from tests.faults.framing import Framing, inside_characters, torn
from tests.faults.replay import Recording, recordings, replay
from tests.faults.upstream import FaultUpstream

LOADED = recordings()
MADE_UP = Recording(
    id="made-up",
    vendor="made-up",
    dialect="openai",
    features=frozenset(),
    path="/v1/chat/completions",
    request={},
    is_made_up=True,
    status=200,
    headers=(("content-type", "text/event-stream"), ("content-length", "999"), ("x-request-id", "r1")),
    body='data: {"text": "Zürich 日本 🙂"}\n\n'.encode() * 20,
)


@pytest.mark.parametrize("framing", list(Framing))
@pytest.mark.parametrize("seed", [None, 1, 2])
async def test_a_recording_arrives_byte_for_byte(framing: Framing, seed: int | None) -> None:
    """However it is framed and torn, the body joins to what was recorded; framing headers are not copied."""
    async with FaultUpstream([replay(MADE_UP, seed=seed, framing=framing)]) as up:
        answer = await ask(up.url, chat("m"))
    assert answer.body == MADE_UP.body
    assert answer.headers["x-request-id"] == "r1"
    assert answer.headers.get("content-length") != "999"


def test_a_seed_tears_inside_characters() -> None:
    """At least one cut lies inside a character, the same cuts come back, other seeds cut elsewhere."""
    parts = torn(MADE_UP.body, seed=3)
    assert b"".join(parts) == MADE_UP.body
    ends = {len(b"".join(parts[:count])) for count in range(len(parts))}
    assert ends & set(inside_characters(MADE_UP.body))
    assert torn(MADE_UP.body, seed=3) == parts
    assert torn(MADE_UP.body, seed=4) != parts


@pytest.mark.skipif(not LOADED, reason="no recordings beside the repository")
async def test_the_recordings_load_by_dialect() -> None:
    """The folder's files are read with their dialects."""
    assert {each.dialect for each in recordings({"openai", "openrouter"})} == {"openai", "openrouter"}
    assert len({each.id for each in LOADED}) == len(LOADED)
    async with FaultUpstream([replay(each, seed=7) for each in LOADED]) as up:
        for each in LOADED:
            answer = await ask(up.url, chat("m"))
            assert (answer.status, answer.body) == (each.status, each.body)
