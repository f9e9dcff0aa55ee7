"""A streamed message as chunks of a chat completion (floor 1a, pure; openrouter.md 8.4).

Anthropic sends a message as numbered blocks that open, grow and close. A client of OpenAI's knows text, reasoning and
numbered tool calls instead; so what kind of block a number stands for must be remembered while the block is open, and
little else. Blocks and events of kinds unknown here say nothing and break nothing.

Three things differ from a plain relay:

* A message may begin with blocks already in it, or begin anew in the middle: blocks in it are read as if they had been
  streamed, and a new beginning takes up the block numbers again but neither the id nor the count of tool calls.
* A call whose arguments never came gets `{}`, the input it was opened with, or nothing more if any came.
* Where a tool stands for the answer, its arguments are the content. Text is then held back until the message says which
  it is: words around such an answer would spoil it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from proxy.codecs.anthropic.counts import Totals
from proxy.codecs.anthropic.endings import annotate, arguments_of, finish_of, refusal_of, tier_of
from proxy.codecs.anthropic.reasoning import detail_of_data, detail_of_text, more_of_text
from proxy.codecs.anthropic.refusals import failure_inside
from proxy.codecs.anthropic.values import object_of, objects_of, text_of
from proxy.codecs.objects import parse_object
from proxy.codecs.wire import Frame, JsonObject, Reading
from proxy.errors import Failure, FailureKind, UpstreamError
from proxy.sse import DONE, DONE_EVENT, data_of, event
from proxy.usage import Usage

BLOCKS_MAX = 1_000
"""Blocks open at once; a message has one. More are an attack, and the stream is broken."""
CITATIONS_MAX = 1_000
"""Of one block; the rest is left out."""
HELD_CHARS_MAX = 1 << 20
"""Text held back before it is clear what it is; what is longer is the answer itself."""
_PING = Frame(b": ping\n\n")


class _Block:
    """One open block."""

    __slots__ = ("citations", "has_arguments", "has_thought", "kind", "number", "opened", "start")

    def __init__(self, opened: JsonObject, *, number: int = 0, start: int = 0) -> None:
        self.kind = text_of(opened.get("type"))
        self.opened = opened
        self.number = number
        """Of the tool call, or of the reasoning detail."""
        self.start = start
        """Where its text begins in the content."""
        self.has_arguments = False
        self.has_thought = False
        self.citations: list[JsonObject] = []


class AnthropicStream:
    """Reads one stream."""

    def __init__(self, reading: Reading) -> None:
        """Begin before the first event."""
        self._head: JsonObject = {
            "id": "",
            "object": "chat.completion.chunk",
            "created": reading.created_s,
            "model": "",
        }
        self._parse_all = reading.parse_all
        self._schema_tool = reading.call.schema_tool
        self._totals = Totals()
        self._blocks: dict[int, _Block] = {}
        self._has_begun = False
        self._is_finished = False
        self._is_done = False
        self._is_formed = False
        self._stopped: JsonObject = {}
        self._calls = 0
        self._details = 0
        self._length = 0
        self._cited = 0
        self._held: list[str] | None = [] if self._schema_tool else None

    @property
    def usage(self) -> Usage | None:
        """Give the counts so far; without the output while it is only begun, which would book too little."""
        return self._totals.usage()

    def decode(self, event: bytes) -> Sequence[Frame]:
        """Translate one event; raises `UpstreamError` for an error in it and for what cannot be read."""
        data = data_of(event)
        if data is None:
            return (Frame(event),) if event.startswith(b":") else ()
        data = data.strip()
        if not data:
            return ()
        if data == DONE:
            return self.close()
        if not (data.startswith(b"{") and data.endswith(b"}")):
            raise UpstreamError(Failure(FailureKind.BROKEN_STREAM, "The provider sent an event that is not JSON."))
        fields = parse_object(data)
        read = _READERS.get(text_of(fields.get("type")))
        if read is None:
            if fields.get("error"):
                self._fail(fields)
            return ()
        return read(self, fields)

    def close(self) -> Sequence[Frame]:
        """End a message that is finished, in case the upstream has not; an unfinished one gets nothing."""
        frames = self._finish()
        if self._is_done or not self._is_finished:
            return frames
        self._is_done = True
        if (usage := self._totals.write()) is not None:
            frames.append(_write({**self._head, "choices": [], "usage": usage}))
        return [*frames, Frame(DONE_EVENT, is_done=True)]

    def _begin(self, fields: JsonObject) -> list[Frame]:
        message = object_of(fields.get("message"))
        frames = self._complete_all()
        self._stopped = message if message.get("stop_reason") else {}
        self._totals.add(message.get("usage"), is_final=bool(self._stopped))
        if not self._has_begun:
            self._has_begun = True
            self._head |= {"id": text_of(message.get("id")), "model": text_of(message.get("model")), **tier_of(message)}
            frames.append(self._say(role="assistant", content=""))
        for block in objects_of(message.get("content")):
            opened = {"type": "content_block_start", "content_block": block}
            frames += [*self._open(opened), *self._shut({"type": "content_block_stop"})]
        return frames

    def _open(self, fields: JsonObject) -> list[Frame]:
        opened = object_of(fields.get("content_block"))
        block = _Block(opened, start=self._length)
        if len(self._blocks) >= BLOCKS_MAX:
            raise UpstreamError(Failure(FailureKind.BROKEN_STREAM, "The provider began too many things at once."))
        self._blocks[_index_of(fields)] = block
        match block.kind:
            case "text":
                block.citations = objects_of(opened.get("citations"))[:CITATIONS_MAX]
                return self._say_text(text_of(opened.get("text")))
            case "thinking":
                block.number, self._details = self._details, self._details + 1
                pieces = {"text": text_of(opened.get("thinking")), "signature": text_of(opened.get("signature"))}
                return [frame for name, piece in pieces.items() for frame in self._say_thought(block, name, piece)]
            case "redacted_thinking":
                number, self._details = self._details, self._details + 1
                return [self._say(reasoning_details=[detail_of_data(number, text_of(opened.get("data")))])]
            case "tool_use":
                return self._open_call(block)
        return []

    def _open_call(self, block: _Block) -> list[Frame]:
        name = text_of(block.opened.get("name"))
        if name == self._schema_tool:
            self._is_formed, self._held = True, None
            return []
        frames = self._let_go()
        block.number, self._calls = self._calls, self._calls + 1
        call = {
            "index": block.number,
            "id": text_of(block.opened.get("id")),
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        return [*frames, self._say(tool_calls=[call])]

    def _grow(self, fields: JsonObject) -> list[Frame]:
        block = self._blocks.get(_index_of(fields))
        delta = object_of(fields.get("delta"))
        match delta.get("type"):
            case "text_delta":
                return self._say_text(text_of(delta.get("text")))
            case "thinking_delta" if block is not None:
                return self._say_thought(block, "text", text_of(delta.get("thinking")))
            case "signature_delta" if block is not None:
                return self._say_thought(block, "signature", text_of(delta.get("signature")))
            case "input_json_delta" if block is not None and block.kind == "tool_use":
                return self._say_arguments(block, text_of(delta.get("partial_json")))
            case "citations_delta" if block is not None and len(block.citations) < CITATIONS_MAX:
                block.citations.append(object_of(delta.get("citation")))
        return []

    def _shut(self, fields: JsonObject) -> list[Frame]:
        block = self._blocks.pop(_index_of(fields), None)
        return self._complete(block) if block is not None else []

    def _complete_all(self) -> list[Frame]:
        frames = [frame for block in self._blocks.values() for frame in self._complete(block)]
        self._blocks.clear()
        return frames

    def _complete(self, block: _Block) -> list[Frame]:
        """Say what only the end of a block tells: arguments that never came, and how far its citations reach."""
        if block.kind == "tool_use" and not block.has_arguments:
            return self._say_arguments(block, arguments_of(block.opened))
        if block.citations and not self._is_formed:
            return [self._say(annotations=[self._cite(citation, block.start) for citation in block.citations])]
        return []

    def _cite(self, citation: JsonObject, start: int) -> JsonObject:
        """Number what is cited: OpenAI's SDK joins lists of a stream by `index` and fails without one."""
        cited, self._cited = self._cited, self._cited + 1
        return {"index": cited, **annotate(citation, start=start, end=self._length)}

    def _stop(self, fields: JsonObject) -> list[Frame]:
        delta = object_of(fields.get("delta"))
        self._totals.add(fields.get("usage"), is_final=True)
        if delta.get("stop_reason"):
            self._stopped = delta
        return self._finish()

    def _finish(self) -> list[Frame]:
        """Write the finish reason once it is known."""
        if self._is_finished or not self._stopped:
            return []
        self._is_finished = True
        frames = [*self._complete_all(), *self._let_go()]
        refusal = refusal_of(self._stopped)
        stop_reason = text_of(self._stopped.get("stop_reason"))
        choice = {
            "index": 0,
            "delta": {"refusal": refusal} if refusal else {},
            "finish_reason": finish_of(stop_reason, is_answer=self._is_formed and not self._calls),
            "native_finish_reason": stop_reason,
        }
        return [*frames, _write({**self._head, "choices": [choice]})]

    def _end(self, fields: JsonObject) -> Sequence[Frame]:
        return self.close()

    def _ping(self, fields: JsonObject) -> Sequence[Frame]:
        return (_PING,)

    def _fail(self, fields: JsonObject) -> Sequence[Frame]:
        raise UpstreamError(failure_inside(fields, has_begun=self._has_begun))

    def _say_text(self, text: str) -> list[Frame]:
        if not text or self._is_formed:
            return []
        if self._held is not None:
            self._held.append(text)
            held = self._length + len(text)
            self._length = held
            return self._let_go() if held > HELD_CHARS_MAX else []
        self._length += len(text)
        return [self._say(content=text)]

    def _let_go(self) -> list[Frame]:
        """Say the text held back: it was the answer after all."""
        held, self._held = self._held, None
        return [self._say(content="".join(held))] if held else []

    def _say_thought(self, block: _Block, name: str, piece: str) -> list[Frame]:
        if not piece:
            return []
        write = more_of_text if block.has_thought else detail_of_text
        block.has_thought, details = True, [write(block.number, **{name: piece})]
        return [self._say(**({"reasoning": piece} if name == "text" else {}), reasoning_details=details)]

    def _say_arguments(self, block: _Block, piece: str) -> list[Frame]:
        if not piece:
            return []
        block.has_arguments = True
        if self._schema_tool is not None and block.opened.get("name") == self._schema_tool:
            return [self._say(content=piece)]
        return [self._say(tool_calls=[{"index": block.number, "function": {"arguments": piece}}])]

    def _say(self, **delta: Any) -> Frame:
        chunk = {**self._head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        return Frame(event(orjson.dumps(chunk)), chunk if self._parse_all else None)


def _write(chunk: JsonObject) -> Frame:
    return Frame(event(orjson.dumps(chunk)), chunk)


def _index_of(fields: JsonObject) -> int:
    """Give a block's number; one of another kind stands apart from all."""
    index = fields.get("index")
    return index if isinstance(index, int) else -1


_READERS: dict[str, Callable[[AnthropicStream, JsonObject], Sequence[Frame]]] = {
    "message_start": AnthropicStream._begin,  # noqa: SLF001 -- the table of its own methods
    "content_block_start": AnthropicStream._open,  # noqa: SLF001
    "content_block_delta": AnthropicStream._grow,  # noqa: SLF001
    "content_block_stop": AnthropicStream._shut,  # noqa: SLF001
    "message_delta": AnthropicStream._stop,  # noqa: SLF001
    "message_stop": AnthropicStream._end,  # noqa: SLF001
    "ping": AnthropicStream._ping,  # noqa: SLF001
    "error": AnthropicStream._fail,  # noqa: SLF001
}
