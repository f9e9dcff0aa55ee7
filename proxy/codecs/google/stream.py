"""Streams of Gemini in OpenAI's shape (part of the Google codec, pure; openrouter.md 4.3, 8.5)."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from proxy.codecs.google.reply import Candidates
from proxy.codecs.google.usage import read_usage
from proxy.codecs.objects import parse_object
from proxy.codecs.wire import Frame, JsonObject, Reading
from proxy.sse import DONE_EVENT, data_of, event
from proxy.usage import Usage

CHUNK = "chat.completion.chunk"


class GoogleStream:
    """Reads one stream; each event is a reply of its own that goes on from the last.

    Usage comes with every event and counts from the beginning, so the last one is kept and given at the end.
    """

    def __init__(self, reading: Reading) -> None:
        """Begin a stream."""
        self._candidates = Candidates(reading)
        self._parse_all = reading.parse_all
        self._begun: set[int] = set()
        self._finished: set[int] = set()

    @property
    def usage(self) -> Usage | None:
        """Give the usage said so far."""
        return read_usage({"usage": self._candidates.usage})

    def decode(self, event: bytes) -> Sequence[Frame]:
        """Translate one event; raises `UpstreamError` when its data is no JSON object, or is an error."""
        data = (data_of(event) or b"").strip()
        if not data:
            return (Frame(event),)
        choices = self._candidates.read(parse_object(data))
        if not choices:
            return ()
        self._begun.update(choice["index"] for choice in choices)
        finished = {choice["index"] for choice in choices if choice["finish_reason"]}
        self._finished |= finished
        frame = self._frame({"choices": choices})
        return (frame if finished or self._parse_all else Frame(frame.raw),)

    def close(self) -> Sequence[Frame]:
        """Give the usage and the `[DONE]` that Gemini does not send, once every answer begun is finished.

        Google may give fewer candidates than asked for; by ending the stream properly it says that there are no more.
        """
        if not self._finished or self._begun > self._finished:
            return ()
        usage = self._candidates.usage
        counts = () if usage is None else (self._frame({"choices": [], "usage": usage}),)
        return (*counts, Frame(DONE_EVENT, is_done=True))

    def _frame(self, fields: JsonObject) -> Frame:
        chunk = {**self._candidates.write_head(CHUNK), **fields}
        return Frame(event(orjson.dumps(chunk)), chunk)
