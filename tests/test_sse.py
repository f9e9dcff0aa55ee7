"""Framing of server-sent events: any split gives the same events, and no stream can cost more than it is long."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy import sse
from proxy.sse import BOM, DONE_EVENT, EventTooLong, Framer, data_of, event, make_valid

SNIPPETS = [
    b"data: a",
    b"data:b",
    b"data",
    b"data:",
    b"data:  two",
    b": comment",
    b"event: ping",
    b"id: 7",
    b"x",
    b" ",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"\r\r",
    b"\r\n\r\n",
    BOM,
    BOM[:1],
    "data: é😀".encode(),
    "é".encode()[:1],
    b"\xff",
    b"\x00",
]
streams = st.lists(st.one_of(st.sampled_from(SNIPPETS), st.binary(max_size=4)), max_size=40).map(b"".join)
cuts = st.lists(st.integers(min_value=0, max_value=200), max_size=30)


def split(data: bytes, at: list[int]) -> Iterator[bytes]:
    """Cut bytes at these positions, empty pieces included."""
    edges = [0, *sorted(min(place, len(data)) for place in at), len(data)]
    return (data[begin:end] for begin, end in pairwise(edges))


def frame(pieces: Iterator[bytes] | list[bytes]) -> tuple[list[bytes], bool]:
    """Give all events of a stream, and whether one was too long."""
    framer, events = Framer(), []
    try:
        for piece in pieces:
            events += framer.feed(piece)
    except EventTooLong as error:
        return events + error.events, True
    last = framer.close()
    return events + ([last] if last else []), False


def read_slowly(stream: bytes) -> list[bytes]:
    """Read a whole stream by the words of the standard, in the plainest way: lines, ended by empty lines."""
    text = stream.removeprefix(BOM).decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    blocks: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line:
            blocks[-1].append(line)
        else:
            blocks.append([])
    return ["\n".join(lines).encode() + b"\n\n" for lines in blocks if lines]


@given(streams, cuts)
@example(b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [8, 9, 10, 11, 20, 21])
@example(b"a\n\n\nb\n\n", [3])
@example(BOM + b"data: a\n\n", [1, 2, 3])
def test_any_split_gives_the_events_of_the_standard(stream: bytes, at: list[int]) -> None:
    """Whatever the line ends, marks and bad bytes: the same events, whole and in order, wherever the network cuts."""
    expected = (read_slowly(stream), False)
    assert frame([stream]) == expected
    assert frame(split(stream, at)) == expected


@given(streams)
def test_events_split_at_every_byte_are_the_same(stream: bytes) -> None:
    """The finest split of all gives what the coarsest gives."""
    assert frame([stream[place : place + 1] for place in range(len(stream))]) == frame([stream])


@given(streams, cuts)
def test_limits_hold_in_any_split(stream: bytes, at: list[int]) -> None:
    """What is too long is too long in one piece and in many, and the whole events before it are the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sse, "EVENT_BYTES_MAX", 12)
        assert frame(split(stream, at)) == frame([stream])


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [b"data: a\n\n"]),
        (b"data: a\r\n\r\n", [b"data: a\n\n"]),
        (b"data: a\r\r", [b"data: a\n\n"]),
        (b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n", [b"data: a\n\n", b"data: b\n\n"]),
        (b"event: e\nid: 1\ndata: a\n\n", [b"event: e\nid: 1\ndata: a\n\n"]),
        (b": c\n\ndata: a\n\n", [b": c\n\n", b"data: a\n\n"]),
        (b"\ndata: a\n\n", [b"data: a\n\n"]),
        (BOM + b"data: a\n\n", [b"data: a\n\n"]),
        (BOM + BOM + b"data: a\n\n", [BOM + b"data: a\n\n"]),
        (b"data: \xff!\n\n", ["data: \ufffd!\n\n".encode()]),
        (b"", []),
        (b"\n\r\n\r", []),
    ],
)
def test_framing_by_example(stream: bytes, events: list[bytes]) -> None:
    """Line ends become LF, a mark at the very start goes, empty events do not exist."""
    assert Framer().feed(stream) == events


def test_an_event_leaves_as_soon_as_its_blank_line_is_in() -> None:
    """Nothing waits for the event after it, not even a carriage return whose line feed may follow."""
    framer = Framer()
    assert framer.feed(b"data: a\n") == []
    assert framer.feed(b"\ndata: b") == [b"data: a\n\n"]
    assert framer.feed(b"\r\r") == [b"data: b\n\n"]
    assert framer.feed(b"\ndata: c\r\n\r") == [b"data: c\n\n"]
    assert framer.feed(b"") == []
    assert framer.feed(b"\n") == []
    assert framer.close() == b""


@pytest.mark.parametrize("left", [b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\r\n", b"\ndata: [DONE]\r"])
def test_the_end_gives_the_event_that_lacks_its_blank_line(left: bytes) -> None:
    """Servers that end with one line end, or with none, are understood; the framer is empty afterwards."""
    framer = Framer()
    assert framer.feed(left) == []
    assert framer.close() == DONE_EVENT
    assert framer.close() == b""


@pytest.mark.parametrize("mark", [BOM[:1], BOM[:2], BOM])
def test_a_stream_of_a_mark_alone_ends(mark: bytes) -> None:
    """A byte-order mark without anything, or a part of one, breaks nothing."""
    framer = Framer()
    assert framer.feed(mark) == []
    assert framer.close() == (b"" if mark == BOM else b"\xef\xbf\xbd\n\n")


def test_an_event_of_the_greatest_length_passes() -> None:
    """The limit counts the blank line: one byte more is refused, however it comes."""
    longest = b"x" * (sse.EVENT_BYTES_MAX - 2) + b"\n\n"
    assert Framer().feed(longest) == [longest]
    for pieces in ([b"a\n\nx" + longest], [b"a\n\nx", longest], [b"a\n\nx" + longest[:-1], b"\n"]):
        assert frame(pieces) == ([b"a\n\n"], True)


def test_a_line_without_end_is_refused_before_it_ends() -> None:
    """Memory is bounded: the error comes with the byte that passes the limit."""
    framer = Framer()
    assert framer.feed(b"a\n\n" + b"x" * sse.EVENT_BYTES_MAX) == [b"a\n\n"]
    with pytest.raises(EventTooLong, match=str(sse.EVENT_BYTES_MAX)) as caught:
        framer.feed(b"x")
    assert caught.value.events == []


def test_many_events_in_one_read_are_not_one_long_event() -> None:
    """The limit is each event's own: a read of many events may be longer."""
    one = b"data: " + b"x" * 1000 + b"\n\n"
    count = sse.EVENT_BYTES_MAX // len(one) + 2
    assert Framer().feed(one * count) == [one] * count


def test_a_long_event_may_drip_in_byte_by_byte() -> None:
    """Each byte costs the same: were all before it copied or searched again, this would take minutes."""
    framer = Framer()
    length = 500_000
    assert framer.feed(b"data: ") == []
    for _ in range(length):
        assert not framer.feed(b"x")
    assert framer.feed(b"\n\n") == [event(b"x" * length)]


@pytest.mark.parametrize(
    ("whole", "data"),
    [
        (b"data: a\n\n", b"a"),
        (b"data:a\n\n", b"a"),
        (b"data:  a\n\n", b" a"),
        (b"data: a \n\n", b"a "),
        (b"data:\n\n", b""),
        (b"data\n\n", b""),
        (b"data: a\ndata:b\n\n", b"a\nb"),
        (b"data: a\ndata\ndata:  b\n\n", b"a\n\n b"),
        (b"event: error\ndata: a\n\n", b"a"),
        (b"data: a\nid: 1\n\n", b"a"),
        (b": c\ndata: a\n\n", b"a"),
        (b": data: a\n\n", None),
        (b"event: ping\n\n", None),
        (b"database: a\n\n", None),
        (b" data: a\n\n", None),
    ],
)
def test_data_is_what_the_standard_says(whole: bytes, data: bytes | None) -> None:
    """One space after the colon belongs to the field; lines are joined by LF; comments and other fields have none."""
    assert data_of(whole) == data


@given(st.text(alphabet=st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])).map(str.encode))
def test_an_event_we_write_is_read_back(data: bytes) -> None:
    """What is written as data comes back as data, through the framer too."""
    assert data_of(event(data)) == data
    assert Framer().feed(event(data)) == [event(data)]


@given(st.binary())
def test_valid_bytes_stay_and_all_bytes_become_text(data: bytes) -> None:
    """UTF-8 passes untouched; anything else becomes UTF-8 with U+FFFD where it was not."""
    assert make_valid(data) == data.decode(errors="replace").encode()
    assert make_valid(make_valid(data)) == make_valid(data)
