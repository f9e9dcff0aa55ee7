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
LF = 10
BOM = b"\xef\xbb\xbf"
DONE = b"[DONE]"


class EventTooLong(Exception):
    """An event passed `EVENT_BYTES_MAX` before it ended."""

    def __init__(self, events: list[bytes]) -> None:
        """Keep the whole events that stood before it: they are still the client's."""
        super().__init__(f"an event is longer than {EVENT_BYTES_MAX} bytes")
        self.events = events


class Framer:
    """Cuts a byte stream into events, wherever the network has split it."""

    __slots__ = ("_begun", "_buffer", "_skips_lf")

    def __init__(self) -> None:
        """Begin at the start of a stream."""
        self._buffer = bytearray()
        self._begun = False
        self._skips_lf = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take what arrived and give the events it completes, each ending with a blank line.

        Raises `EventTooLong`; the framer is of no use afterwards.
        """
        if not self._begun:
            data = self._skip_bom(data)
        if self._skips_lf or b"\r" in data:
            data = self._fold_line_ends(data)
        end = len(data) - len(BLANK)
        if not self._buffer and 0 < data.find(BLANK) == end < EVENT_BYTES_MAX - len(BLANK) and data[0] != LF:
            return [make_valid(data)]  # one whole event and nothing else, as most reads bring
        whole = self._take_whole(data)
        events: list[bytes] = []
        for part in whole.split(BLANK):
            if lines := part.strip(b"\n"):
                if len(lines) + len(BLANK) > EVENT_BYTES_MAX:
                    raise EventTooLong(events)
                events.append(make_valid(lines + BLANK))
        if len(self._buffer) > EVENT_BYTES_MAX:
            raise EventTooLong(events)
        return events

    def close(self) -> bytes:
        """Give the event that the end of the stream left without its blank line, empty when there is none.

        Sloppy servers end `data: [DONE]` with one line end; whether the event is whole is for its reader to find out.
        """
        rest, self._buffer = bytes(self._buffer.strip(b"\n")), bytearray()
        return make_valid(rest + BLANK) if rest else b""

    def _take_whole(self, data: bytes) -> bytes:
        """Give everything up to the last blank line and keep the rest.

        Only what is new is searched: a long event that drips in byte by byte must not cost the square of its length.
        """
        if not self._buffer:
            head, _, rest = data.rpartition(BLANK)
            self._buffer += rest.lstrip(b"\n")
            return head
        seam = len(self._buffer) - 1
        self._buffer += data
        end = self._buffer.rfind(BLANK, seam)
        if end < 0:
            return b""
        head, self._buffer = bytes(self._buffer[:end]), self._buffer[end + len(BLANK) :].lstrip(b"\n")
        return head

    def _skip_bom(self, data: bytes) -> bytes:
        """Hold the first bytes until it is clear whether they are a byte-order mark."""
        data = bytes(self._buffer) + data
        self._buffer.clear()
        if len(data) < len(BOM) and BOM.startswith(data):
            self._buffer += data
            return b""
        self._begun = True
        return data.removeprefix(BOM)

    def _fold_line_ends(self, data: bytes) -> bytes:
        """Turn CRLF and CR into LF; a CR at the very end counts at once, and the LF that may follow is left out."""
        if self._skips_lf and data:
            data = data.removeprefix(b"\n")
            self._skips_lf = False
        if data.endswith(b"\r"):
            self._skips_lf = True
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
        return event[5:-2].removeprefix(b" ")
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:") or line == b"data"]
    return b"\n".join(lines) if lines else None


def event(data: bytes) -> bytes:
    """Write one event; `data` must hold no line ends, as JSON written by us never does."""
    return b"data: " + data + BLANK


DONE_EVENT = event(DONE)
