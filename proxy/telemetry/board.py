"""The memory that the workers of one server share (part of `telemetry`, floor 2): every worker sees all figures.

It is anonymous memory, made before the workers are forked, one page for each. A page belongs to its place in the row
and not to the process: the worker that takes a dead one's place goes on counting where that one stopped, so no counter
ever goes backwards and none has to be saved. There is no file; the memory ends with the last process of the server.

A page is written by its one worker, from its event loop, a cell at a time; anybody may read it at any moment. A cell is
an aligned 64-bit integer, so a reader finds the old figure or the new one and never half of it.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

CELL_BYTES = 8
KEY_BYTES_MAX = 510
"""What names a series; two bytes before it hold its length."""
SERIES_CELLS = 64
SERIES_MAX = 2_048
"""Series of one worker; what would need another is counted under `other`."""
VITALS = 64

_KEY_BYTES = KEY_BYTES_MAX + 2
_RECORD_BYTES = _KEY_BYTES + SERIES_CELLS * CELL_BYTES
_PAGE_BYTES = VITALS * CELL_BYTES + SERIES_MAX * _RECORD_BYTES


class Vital:
    """What each worker tells of itself: the first cells of its page. Plain numbers: an enum's cost more to look up."""

    SERIES = 0
    """Series in use."""
    IS_SERVING = 1
    IS_STALE = 2
    """Its routing table is not what the file says."""
    IN_FLIGHT = 3
    """Chat requests it is answering."""
    QUEUED = 4
    """Calls that wait for its ledger writer."""
    KEPT = 5
    """Settlements that do."""
    DEATHS = 6
    """How often the worker in this place died and was replaced."""
    WAIT_MAX_US = 7
    """The longest wait of a ledger call from asking to durable."""
    TURN_MAX_US = 8
    """The longest wait of its ledger writer for other processes."""
    REFUSED_KEYS = 9
    """Keys of pools whose provider refuses them."""
    WAITS = 10
    """Here the histogram of the first waits begins."""
    TURNS = 30
    """And here that of the second."""


class Page:
    """One worker's part."""

    def __init__(self, memory: memoryview) -> None:
        """Take a part of a board that no other page has."""
        self._bytes = memory
        self.cells: memoryview[int] = memory.cast("q")
        """All cells of the page: first the vitals, then those of its series."""
        self._index: dict[bytes, int] = {}
        """The series by name, for the one process that writes here."""

    def begin(self) -> None:
        """Take the place over: what told of the process that had it before is over, what was counted stays."""
        self._index = dict(self.series())
        self.leave()

    def leave(self) -> None:
        """Take back what tells of a process that is no more."""
        for vital in (Vital.IS_SERVING, Vital.IS_STALE, Vital.IN_FLIGHT, Vital.QUEUED, Vital.KEPT, Vital.REFUSED_KEYS):
            self.cells[vital] = 0

    def open_series(self, key: bytes) -> int | None:
        """Find or begin the series of that name; gives its first cell, None when there is no room for another."""
        if key in self._index:
            return self._index[key]
        count = self.cells[Vital.SERIES]
        if count >= SERIES_MAX or len(key) > KEY_BYTES_MAX:
            return None
        start = VITALS * CELL_BYTES + count * _RECORD_BYTES
        self._bytes[start : start + 2] = len(key).to_bytes(2, "big")
        self._bytes[start + 2 : start + 2 + len(key)] = key
        self.cells[Vital.SERIES] = count + 1  # last: from here on others read it
        self._index[key] = (start + _KEY_BYTES) // CELL_BYTES
        return self._index[key]

    def series(self) -> Iterator[tuple[bytes, int]]:
        """Give every series with its first cell."""
        for number in range(min(self.cells[Vital.SERIES], SERIES_MAX)):
            start = VITALS * CELL_BYTES + number * _RECORD_BYTES
            length = int.from_bytes(self._bytes[start : start + 2], "big")
            yield bytes(self._bytes[start + 2 : start + 2 + length]), (start + _KEY_BYTES) // CELL_BYTES


class Board:
    """The pages of all workers."""

    def __init__(self, workers: int = 1) -> None:
        """Make the memory; only processes forked afterwards share it. Pages nobody writes to take no room."""
        memory = memoryview(mmap.mmap(-1, workers * _PAGE_BYTES))
        self.pages = tuple(Page(memory[start : start + _PAGE_BYTES]) for start in _starts(workers))

    def sum_vital(self, vital: int) -> int:
        """Add one vital up over all workers."""
        return sum(page.cells[vital] for page in self.pages)

    @property
    def is_stale(self) -> bool:
        """Tell whether any worker serves another table than the file's."""
        return self.sum_vital(Vital.IS_STALE) > 0

    @property
    def has_refused_keys(self) -> bool:
        """Tell whether any worker has a key of a pool that its provider refuses."""
        return self.sum_vital(Vital.REFUSED_KEYS) > 0

    @property
    def is_complete(self) -> bool:
        """Tell whether every worker serves; one who is alone serves whoever asks it."""
        return len(self.pages) == 1 or self.sum_vital(Vital.IS_SERVING) == len(self.pages)


def _starts(workers: int) -> range:
    return range(0, workers * _PAGE_BYTES, _PAGE_BYTES)
