"""One upstream stream as it comes in (floor 1a, pure): bytes to frames, and what they add up to.

The intake keeps what the gateway must know at the end: the last usage, whether the answer is whole, what went wrong. A
failure is a value that stands behind the frames which came before it, because those are still the client's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from proxy.codecs.failures import find_fault
from proxy.codecs.objects import parse_event
from proxy.codecs.wire import Codec, Frame, JsonObject, Reading
from proxy.errors import Failure, FailureKind, UpstreamError
from proxy.sse import EventTooLong, Framer, data_of
from proxy.usage import Usage, merge_usage


@dataclass(frozen=True, slots=True)
class Batch:
    """What one read brought."""

    frames: list[Frame]
    failure: Failure | None = None
    """The stream is over and broken; nothing after it is read."""
    is_end: bool = False
    """The stream is over and whole."""


class Intake:
    """Reads one stream; sans-IO, so any split of the bytes gives the same frames."""

    def __init__(self, codec: Codec, reading: Reading, *, choices: int) -> None:
        """Begin a stream of `choices` answers (`n`)."""
        self._codec = codec
        self._choices = choices
        self._tracks_choices = choices > 1
        self._decoder = codec.stream(replace(reading, parse_all=True) if self._tracks_choices else reading)
        self._framer = Framer()
        self._begun: set[int] = set()
        self._finished: set[int] = set()
        self._has_final_usage = False
        self._usage: Usage | None = None

    @property
    def usage(self) -> Usage | None:
        """Give the last usage that says anything."""
        return self._usage or self._decoder.usage

    def feed(self, data: bytes) -> Batch:
        """Take what arrived."""
        try:
            events = self._framer.feed(data)
        except EventTooLong as error:
            batch = self._read(error.events)
            if batch.failure is not None or batch.is_end:
                return batch
            return Batch(batch.frames, broken("The provider sent an event beyond any sensible size."))
        return self._read(events)

    def end(self) -> Batch:
        """Take note that the upstream ended the body without `[DONE]`."""
        rest = self._framer.close()
        batch = self._read([rest] if rest else [])
        if batch.failure is not None or batch.is_end:
            return batch
        closing = self._take(self._decoder.close(), batch.frames)
        if closing is not None:
            return closing
        if not self.is_whole:
            return Batch(batch.frames, broken("The provider's stream ended before the answer was finished."))
        return Batch(batch.frames, is_end=True)

    @property
    def is_whole(self) -> bool:
        """Tell whether every answer asked for has its finish reason."""
        return self._finished >= self._begun and len(self._finished) >= self._choices

    def _read(self, events: list[bytes]) -> Batch:
        frames: list[Frame] = []
        for event in events:
            try:
                decoded = self._decoder.decode(event)
            except UpstreamError as error:
                return Batch(frames, error.failure)
            if (batch := self._take(decoded, frames)) is not None:
                return batch
        return Batch(frames)

    def _take(self, decoded: Sequence[Frame], frames: list[Frame]) -> Batch | None:
        """Add frames to those read so far; gives the batch that ends the stream, None while it goes on."""
        for frame in decoded:
            if frame.is_done:
                return self._close(frames, frame)
            if frame.chunk is not None and (failure := self._note(frame.chunk)) is not None:
                return Batch(frames, failure)
            frames.append(frame)
        return None

    def _close(self, frames: list[Frame], done: Frame) -> Batch:
        """End at `[DONE]`: after a finish reason, or after a closing usage of a provider that sends no finish reasons.

        Snowflake is such a one in a recorded answer. A server that cuts an answer short has no final usage to send. One
        that gives fewer answers than `n` has said so by its `[DONE]`.
        """
        is_finished = bool(self._finished) and self._finished >= self._begun
        if is_finished or (self._has_final_usage and not self._finished):
            return Batch([*frames, done], is_end=True)
        return Batch(frames, broken("The provider's stream ended before the answer was finished."))

    def _note(self, chunk: JsonObject) -> Failure | None:
        usage = self._codec.read_usage(chunk)
        if usage is not None and not usage.is_empty:
            self._usage = merge_usage(self._usage, usage)
            self._has_final_usage = not chunk.get("choices")
        failure = find_fault(chunk)
        if failure is not None:
            return failure
        for choice in choices_of(chunk):
            index = choice.get("index") if self._tracks_choices else 0
            index = index if isinstance(index, int) else 0
            self._begun.add(index)
            if choice.get("finish_reason"):
                self._finished.add(index)
        return None


def broken(message: str) -> Failure:
    """Make the failure of a stream that cannot go on."""
    return Failure(FailureKind.BROKEN_STREAM, message, may_have_cost=True)


def parse_frame(frame: Frame) -> Frame:
    """Give a frame with its JSON, parsed when nobody has; a comment has none. Raises `UpstreamError` for other data."""
    if frame.chunk is not None or frame.is_done:
        return frame
    data = (data_of(frame.raw) or b"").strip()
    return parse_event(frame.raw, data) if data else frame


def is_meaningful(chunk: JsonObject) -> bool:
    """Tell whether a chunk says something: text, reasoning, a tool call, a finish reason; a role alone does not."""
    return any(
        choice.get("finish_reason") or choice.get("text") or _has_content(choice.get("delta"))
        for choice in choices_of(chunk)
    )


def choices_of(chunk: JsonObject) -> list[dict[str, Any]]:
    """Give the choices that are objects."""
    choices = chunk.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _has_content(delta: object) -> bool:
    return isinstance(delta, dict) and any(value for name, value in delta.items() if name != "role")
