"""A small parser of server-sent events, written against its grammar alone (WHATWG HTML, 9.2.6), to judge by."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.faults.steps import Json

BLANK: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
LINE_END: Final = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Event:
    """One block of an event stream: an event, or only comments (`data` is None then)."""

    at: float
    """Arrival of its last byte, monotonic seconds."""
    raw: bytes
    data: bytes | None
    name: str | None = None
    comments: tuple[bytes, ...] = ()
    is_whole: bool = True
    """False for what was left when the stream ended in the middle of an event."""

    @property
    def is_done(self) -> bool:
        """Whether it is the `[DONE]` of the dialect."""
        return self.data == b"[DONE]"

    @property
    def json(self) -> Json:
        """The parsed data; ValueError when it is no JSON."""
        return json.loads(self.data or b"")

    @property
    def text(self) -> str:
        """The text of a chunk's first choice; empty for whatever has none."""
        if self.data is None or self.is_done:
            return ""
        choices = self.json.get("choices") or [{}]
        return (choices[0].get("delta") or {}).get("content") or ""

    @property
    def finish_reason(self) -> str | None:
        """The finish reason of a chunk's first choice."""
        if self.data is None or self.is_done:
            return None
        choices = self.json.get("choices") or [{}]
        reason: str | None = choices[0].get("finish_reason")
        return reason


class EventReader:
    """Cuts an event stream into blocks; line ends of one stream may be LF, CR LF or CR, not mixed."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes, *, at: float) -> Iterator[Event]:
        """Give the blocks that this data completes."""
        self._pending += data
        while match := BLANK.search(self._pending):
            block, self._pending = self._pending[: match.end()], self._pending[match.end() :]
            if block.strip():
                yield _event(block, at=at)

    def rest(self, *, at: float) -> Iterator[Event]:
        """Give what the end of the stream left unended."""
        if self._pending.strip():
            yield _event(self._pending, at=at, is_whole=False)
        self._pending = b""


def _event(block: bytes, *, at: float, is_whole: bool = True) -> Event:
    fields: dict[bytes, list[bytes]] = {}
    for line in LINE_END.split(block.removeprefix(b"\xef\xbb\xbf")):
        name, _, value = line.partition(b":")
        if line:
            fields.setdefault(name, []).append(value.removeprefix(b" "))
    data = b"\n".join(fields[b"data"]) if b"data" in fields else None
    name = fields[b"event"][-1].decode() if b"event" in fields else None
    return Event(at, block, data, name, tuple(fields.get(b"", ())), is_whole)
