"""A whole message as a chat completion (floor 1a, pure; openrouter.md 8.4)."""

from __future__ import annotations

from typing import Any

from proxy.codecs.anthropic.counts import Totals
from proxy.codecs.anthropic.endings import annotate, arguments_of, finish_of, refusal_of, tier_of
from proxy.codecs.anthropic.reasoning import detail_of_data, detail_of_text
from proxy.codecs.anthropic.refusals import failure_inside
from proxy.codecs.anthropic.values import objects_of, text_of
from proxy.codecs.objects import parse_object
from proxy.codecs.wire import JsonObject, Reading
from proxy.errors import Failure, FailureKind, UpstreamError


def read_reply(body: bytes, reading: Reading) -> JsonObject:
    """Translate a message; raises `UpstreamError` for an error in its place and for what is no message."""
    message = parse_object(body)
    if message.get("error"):
        raise UpstreamError(failure_inside(message, has_begun=False))
    if not isinstance(message.get("content"), list):
        raise UpstreamError(Failure(FailureKind.INVALID_REPLY, "The provider's answer has no content.", status=200))
    answer = _Answer(schema_tool=reading.call.schema_tool)
    for block in objects_of(message["content"]):
        answer.add(block)
    totals = Totals()
    totals.add(message.get("usage"), is_final=True)
    usage = totals.write()
    stop_reason = text_of(message.get("stop_reason"))
    choice = {
        "index": 0,
        "message": answer.write(refusal_of(message)),
        "finish_reason": finish_of(stop_reason, is_answer=answer.is_answer),
        "native_finish_reason": stop_reason or None,
        "logprobs": None,
    }
    return {
        "id": text_of(message.get("id")),
        "object": "chat.completion",
        "created": reading.created_s,
        "model": text_of(message.get("model")),
        **tier_of(message),
        "choices": [choice],
        **({"usage": usage} if usage else {}),
    }


class _Answer:
    """Gathers blocks into one message; blocks it does not know, such as those of server tools, say nothing."""

    def __init__(self, *, schema_tool: str | None) -> None:
        self._schema_tool = schema_tool
        self._texts: list[str] = []
        self._length = 0
        self._formed: str | None = None
        self._thoughts: list[str] = []
        self._details: list[JsonObject] = []
        self._calls: list[JsonObject] = []
        self._annotations: list[JsonObject] = []

    @property
    def is_answer(self) -> bool:
        """Tell whether the tool that stands for the answer was called, and no other."""
        return self._formed is not None and not self._calls

    def add(self, block: JsonObject) -> None:
        match block.get("type"):
            case "text":
                self._add_text(block)
            case "thinking":
                thinking, signature = text_of(block.get("thinking")), text_of(block.get("signature"))
                self._thoughts.append(thinking)
                pieces = {"text": thinking} | ({"signature": signature} if signature else {})
                self._details.append(detail_of_text(len(self._details), **pieces))
            case "redacted_thinking":
                self._details.append(detail_of_data(len(self._details), text_of(block.get("data"))))
            case "tool_use" if block.get("name") == self._schema_tool:
                self._formed = arguments_of(block)
            case "tool_use":
                function = {"name": text_of(block.get("name")), "arguments": arguments_of(block)}
                self._calls.append({"id": text_of(block.get("id")), "type": "function", "function": function})

    def write(self, refusal: str | None) -> JsonObject:
        content = "".join(self._texts) or None
        message: dict[str, Any] = {
            "role": "assistant",
            "content": content if self._formed is None else self._formed,
            "refusal": refusal,
        }
        if thoughts := "".join(self._thoughts):
            message["reasoning"] = thoughts
        if self._details:
            message["reasoning_details"] = self._details
        if self._calls:
            message["tool_calls"] = self._calls
        if self._annotations and self._formed is None:
            message["annotations"] = self._annotations
        return message

    def _add_text(self, block: JsonObject) -> None:
        text = text_of(block.get("text"))
        start, self._length = self._length, self._length + len(text)
        self._texts.append(text)
        citations = objects_of(block.get("citations"))
        self._annotations += [annotate(citation, start=start, end=self._length) for citation in citations]
