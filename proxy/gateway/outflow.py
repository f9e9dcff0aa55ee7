"""What one client gets of one stream (part of the gateway, floor 4): frames in, bytes out; no I/O.

What makes the end of a stream, usage on its own and `[DONE]`, is held back until the stream has ended and been settled:
its cost is then the booked one, and a client that has seen the end finds it in the figures.
"""

from __future__ import annotations

from collections.abc import Callable

from proxy.codecs.surface import Cost, View, show_error, show_frame
from proxy.codecs.wire import Frame, JsonObject
from proxy.errors import Failure
from proxy.sse import DONE_EVENT

TAIL_FRAMES_MAX = 8
"""Frames held back because they may be the end of a stream; some providers send usage all the time."""
BROKEN_STATUS = 502
"""What a stream that broke after its start would have been, had it not begun."""

Price = Callable[[JsonObject], Cost | None]
"""What a chunk's usage comes to, None when it has none."""


class Outflow:
    """One stream on its way out."""

    def __init__(self, view: View, *, price: Price) -> None:
        """Begin; `price` is asked for usage that comes with content, whose cost is not yet booked."""
        self._view = view
        self._price = price
        self._tail: list[Frame] = []
        self._is_first = True

    def take(self, frames: list[Frame]) -> bytes:
        """Write what of these frames can go out now."""
        pieces: list[bytes] = []
        for frame in frames:
            if frame.is_done or (_is_usage_alone(frame) and len(self._tail) < TAIL_FRAMES_MAX):
                self._tail.append(frame)
                continue
            if self._tail:
                pieces += [self._show(due) for due in self._tail]
                self._tail.clear()
            pieces.append(self._show(frame))
        return b"".join(pieces)

    def finish(self, cost: Cost) -> bytes:
        """Write the end of a whole stream, `[DONE]` included also when the upstream sent none."""
        is_done = any(frame.is_done for frame in self._tail)
        return self._write_tail(cost) + (b"" if is_done else DONE_EVENT)

    def break_off(self, cost: Cost, failure: Failure, *, seed: JsonObject) -> bytes:
        """Write the end of a broken stream: what was held back, then the error and nothing after it."""
        return self._write_tail(cost) + show_error(failure, self._view, seed=seed, status=BROKEN_STATUS)

    def _write_tail(self, cost: Cost) -> bytes:
        return b"".join(show_frame(frame, self._view, cost=cost, is_first=self._is_first) for frame in self._tail)

    def _show(self, frame: Frame) -> bytes:
        """Write one frame; most pass as they came."""
        if frame.chunk is None:
            return frame.raw
        shown = show_frame(frame, self._view, cost=self._price(frame.chunk), is_first=self._is_first)
        self._is_first = False
        return shown


def _is_usage_alone(frame: Frame) -> bool:
    """Tell whether a frame holds usage and nothing else: with `[DONE]` it makes the end of a stream."""
    return frame.chunk is not None and not frame.chunk.get("choices") and bool(frame.chunk.get("usage"))
