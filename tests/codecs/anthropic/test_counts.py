"""Token counts: Anthropic's become OpenAI's and are read back, streams count twice, cut streams once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.codecs.anthropic.counts import Totals, read_usage
from proxy.codecs.wire import JsonObject
from proxy.usage import Usage
from tests.codecs.anthropic.reading import CODEC, begin, reading, replied, sse, stop, take_in, words


def caches(five: int = 0, hour: int = 0) -> JsonObject:
    """Make the split of what was written to the cache."""
    return {"cache_creation": {"ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour}}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 10, "output_tokens": 5}, Usage(10, 5)),
        (
            {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20},
            Usage(130, 5, cached_tokens=100, cache_write_tokens=20),
        ),
        (
            {"input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 50, **caches(20, 30)},
            Usage(60, 5, cache_write_tokens=20, cache_write_1h_tokens=30),
        ),
        (
            {"input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 60, **caches(20, 30)},
            Usage(70, 5, cache_write_tokens=30, cache_write_1h_tokens=30),
        ),
        (
            {"input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 60, **caches(0, 30)},
            Usage(70, 5, cache_write_1h_tokens=60),
        ),
        (
            {"input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 10, **caches(20, 30)},
            Usage(20, 5, cache_write_1h_tokens=10),
        ),
        (
            {"input_tokens": 10, "output_tokens": 5, **caches(20, 30)},
            Usage(60, 5, cache_write_tokens=20, cache_write_1h_tokens=30),
        ),
        (
            {"input_tokens": 10, "output_tokens": 5, "output_tokens_details": {"thinking_tokens": 3}},
            Usage(10, 5, reasoning_tokens=3),
        ),
        ({"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": None}, Usage(10, 5)),
        ({"input_tokens": 10, "output_tokens": 5, "cache_creation": "x", "output_tokens_details": None}, Usage(10, 5)),
        ({"input_tokens": 10, "output_tokens": 5, **caches(-1, 0)}, Usage(10, 5)),
        (
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "cache_read_input_tokens": 7,
                "iterations": [
                    {"type": "compaction", "input_tokens": 100, "output_tokens": 50, "cache_creation_input_tokens": 9},
                    {"type": "message", "input_tokens": 10, "output_tokens": 5, **caches(3, 6)},
                    5,
                ],
            },
            Usage(126, 55, cached_tokens=7, cache_write_tokens=3, cache_write_1h_tokens=6),
        ),
        ({"input_tokens": 10, "output_tokens": 5, "iterations": []}, Usage(10, 5)),
    ],
)
def test_counts_of_a_whole_message(usage: JsonObject, expected: Usage) -> None:
    """The cache counts beside the input there and within it here; what is written for an hour is told apart."""
    assert CODEC.read_usage(replied(usage=usage)) == expected


@pytest.mark.parametrize("count", [-1, 1.5, "5", True, 10**13, []])
@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", "cache_read_input_tokens"])
def test_a_total_that_cannot_be_read_makes_usage_missing(name: str, count: Any) -> None:
    """Half of it would book too little; so it is counted here."""
    reply = replied(usage={"input_tokens": 10, "output_tokens": 5, name: count})
    assert CODEC.read_usage(reply) is None


@pytest.mark.parametrize("usage", [None, {}, [], "x"])
def test_no_counts_are_no_usage(usage: Any) -> None:
    """Rather than zeros."""
    reply = replied(usage=usage)
    assert "usage" not in reply
    assert CODEC.read_usage(reply) is None


def test_searches_are_told() -> None:
    """Where OpenRouter tells them."""
    reply = replied(usage={"input_tokens": 1, "output_tokens": 1, "server_tool_use": {"web_search_requests": 2}})
    assert reply["usage"]["server_tool_use_details"] == {"web_search_requests": 2}


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ({"input_tokens": 10, "output_tokens": 1}, {"output_tokens": 50}, Usage(10, 50)),
        ({"input_tokens": 10, "output_tokens": 8}, {"output_tokens": 5}, Usage(10, 5)),
        ({"input_tokens": 10, "output_tokens": 1}, {"input_tokens": 30, "output_tokens": 50}, Usage(30, 50)),
        ({"input_tokens": 10, "output_tokens": 1}, {"input_tokens": 0, "output_tokens": 50}, Usage(10, 50)),
        ({"output_tokens": 1}, {"input_tokens": 0, "output_tokens": 0}, Usage(0, 1)),
        ({}, {"input_tokens": 30, "output_tokens": 50}, Usage(30, 50)),
        (
            {"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 50, **caches(20, 30)},
            {"input_tokens": 1, "output_tokens": 9, "cache_creation_input_tokens": 50, "cache_read_input_tokens": 0},
            Usage(51, 9, cache_write_tokens=20, cache_write_1h_tokens=30),
        ),
        (
            {"input_tokens": 2, "output_tokens": 1, "cache_creation_input_tokens": 30, **caches(30)},
            {"input_tokens": 6, "output_tokens": 9, "cache_creation_input_tokens": 33, "cache_read_input_tokens": 60},
            Usage(99, 9, cached_tokens=60, cache_write_tokens=33),
        ),
    ],
)
def test_a_stream_counts_twice(first: JsonObject, last: JsonObject, expected: Usage) -> None:
    """Later figures replace earlier ones, each by itself, never added; the split stays the first one's."""
    _, usage = take_in([sse(begin(usage=first), *words("A"), stop(usage=last))])
    assert usage == expected


def test_a_stream_cut_short_is_booked_with_its_input() -> None:
    """The output it had counted was that of its first moment: none is said, so that it is counted here."""
    counts = {"input_tokens": 10, "output_tokens": 7, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 50}
    _, usage = take_in([sse(begin(usage={**counts, **caches(20, 30)}), *words("A"))])
    assert usage == Usage(65, 0, cached_tokens=5, cache_write_tokens=20, cache_write_1h_tokens=30)


def test_a_stream_cut_before_its_end_is_booked_whole() -> None:
    """When its last counts are in."""
    decoder = CODEC.stream(reading())
    for event in (begin(), stop()):
        decoder.decode(sse(event))
    assert decoder.usage == Usage(10, 5)


def test_a_stream_without_last_counts_has_no_usage_to_show() -> None:
    """Its output is not known: the client gets none, the books count it here."""
    batch, usage = take_in([sse(begin(), *words("A"), stop(usage="x"))])
    assert batch.is_end
    assert not any("usage" in frame.chunk for frame in batch.frames if frame.chunk)
    assert usage == Usage(10, 0)


def test_a_stream_that_never_counted_has_no_usage() -> None:
    """Nor one whose counts cannot be read."""
    assert take_in([sse(begin(usage="x"), stop(usage="x"))])[1] is None
    assert take_in([sse(begin(usage={"input_tokens": "x"}), stop())])[1] is None


counts = st.integers(0, 10**6)


@given(counts, counts, counts, counts, counts, counts)
def test_what_is_written_is_read_back(
    input_: int, output: int, cached: int, five: int, hour: int, thinking: int
) -> None:
    """Every part, exactly: the books and the client see the same."""
    totals = Totals()
    usage = {
        "input_tokens": input_,
        "output_tokens": output,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": five + hour,
        "output_tokens_details": {"thinking_tokens": thinking},
        **caches(five, hour),
    }
    totals.add(usage, is_final=True)
    expected = Usage(
        input_tokens=input_ + cached + five + hour,
        output_tokens=output,
        cached_tokens=cached,
        cache_write_tokens=five,
        cache_write_1h_tokens=hour,
        reasoning_tokens=thinking,
    )
    assert totals.usage() == expected
    written = totals.write()
    assert written is not None
    assert read_usage({"usage": written}) == expected
    assert written["total_tokens"] == written["prompt_tokens"] + written["completion_tokens"]
