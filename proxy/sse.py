"""Framing of server-sent events (floor 0, pure): bytes in as they arrive, whole events out.

Only framing: what an event means is the codec's business. An event leaves with the bytes it came with, so that a relay
changes nothing it does not mean to change; only streams with CR line ends, a byte-order mark or invalid UTF-8 are
written again, with LF, because clients differ in what they do with them. (WHATWG HTML, "Server-sent events".)
"""

from __future__ import annotations

EVENT_BYTES_MAX = 4 << 20
"""One event may not be longer: past it the stream counts as broken (an endless line is a memory attack). Models that
paint send a whole picture as one event, so it may not be much shorter either."""

BLANK = b"\n\n"
BOM = b"\xef\xbb\xbf"
DONE = b"[DONE]"


class EventTooLong(Exception):
    """An event passed `EVENT_BYTES_MAX` before it ended."""


class Framer:
    """Cuts a byte stream into events, wherever the network has split it."""

    __slots__ = ("_begun", "_buffer", "_held_cr")

    def __init__(self) -> None:
        """Begin at the start of a stream."""
        self._buffer = b""
        self._begun = False
        self._held_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take what arrived and give the events it completes, each ending with a blank line.

        Raises `EventTooLong`; the framer is of no use afterwards.
        """
        if not self._begun:
            data = self._skip_bom(data)
        if self._held_cr or b"\r" in data:
            data = self._fold_line_ends(data)
        if self._buffer:
            data = self._buffer + data
        head, blank, rest = data.rpartition(BLANK)
        if len(data) > EVENT_BYTES_MAX and max(map(len, data.split(BLANK))) > EVENT_BYTES_MAX:
            raise EventTooLong
        self._buffer = rest
        if not blank:
            return []
        return [make_valid(event + BLANK) for part in head.split(BLANK) if (event := part.lstrip(b"\n"))]

    def close(self) -> bytes:
        """Give the event that the end of the stream left without its blank line, empty when there is none.

        Sloppy servers end `data: [DONE]` with one line end; whether the event is whole is for its reader to find out.
        """
        rest, self._buffer = self._buffer.strip(b"\n"), b""
        return make_valid(rest + BLANK) if rest else b""

    def _skip_bom(self, data: bytes) -> bytes:
        """Hold the first bytes until it is clear whether they are a byte-order mark."""
        data, self._buffer = self._buffer + data, b""
        if len(data) < len(BOM) and BOM.startswith(data):
            self._buffer = data
            return b""
        self._begun = True
        return data.removeprefix(BOM)

    def _fold_line_ends(self, data: bytes) -> bytes:
        """Turn CRLF and CR into LF, holding back a CR at the very end: its LF may be on the way."""
        if self._held_cr:
            data = b"\r" + data
        self._held_cr = data.endswith(b"\r")
        if self._held_cr:
            data = data[:-1]
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def make_valid(event: bytes) -> bytes:
    """Replace bytes that are not UTF-8 by U+FFFD: one bad byte must not crash a client's parser."""
    if event.isascii():
        return event
    try:
        event.decode()
    except UnicodeDecodeError:
        return event.decode(errors="replace").encode()
    return event


def data_of(event: bytes) -> bytes | None:
    """Give an event's data with multiple `data:` lines joined by LF; None when it is a comment or has no data."""
    if event.startswith(b"data:") and event.find(b"\n") == len(event) - len(BLANK):
        return event[5:-2].lstrip(b" ")
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def event(data: bytes) -> bytes:
    """Write one event; `data` must hold no line ends, as JSON written by us never does."""
    return b"data: " + data + BLANK


DONE_EVENT = event(DONE)
