"""The bytes of one simulated reply, each with its moment, and how it ends: whole, cut, or never.

Tokens come `speed` a second, one event each; a JSON reply comes when its last token would have. A fault sets in after
`fail_after` events, at the latest before the finish reason: a simulated fault is always one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Any, Final, NamedTuple

import orjson

from proxy.routing.table import Simulation
from proxy.simulated.answers import Choice
from proxy.simulated.asks import Ask

DONE: Final = b"data: [DONE]\n\n"
NEVER_S: Final = float("inf")
_JSON: Final = {"content-type": "application/json"}
_STREAM: Final = {"content-type": "text/event-stream; charset=utf-8"}
_GARBAGE: Final = b'{"id": \x16\x03\x01 this is neither JSON nor anything else'
_SERVER_ERROR: Final = {
    "message": "The simulated provider failed, as it was told to.",
    "type": "server_error",
    "param": None,
    "code": "server_error",
}
_RATE_LIMITED: Final = {
    "message": "The simulated provider limits its rate, as it was told to.",
    "type": "requests",
    "param": None,
    "code": "rate_limit_exceeded",
}


class Ending(Enum):
    """What follows the last byte."""

    WHOLE = "whole"
    CUT = "cut"
    NEVER = "never"


class Beat(NamedTuple):
    """Bytes and their moment, in seconds after the call."""

    at_s: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Script:
    """One reply from its head to its end."""

    status: int = 200
    head_at_s: float = 0.0
    """When status and headers are in; NEVER_S for a provider that says nothing at all."""
    headers: Mapping[str, str] = field(default_factory=lambda: _JSON)
    beats: Iterator[Beat] = field(default_factory=lambda: iter(()))
    ending: Ending = Ending.WHOLE


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one reply from another."""

    id: str
    created: int


def refuse_ask(message: str, param: str | None) -> Script:
    """Answer a request that cannot be served."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": "invalid_value"}
    return _fail(400, error)


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes the script of one ask."""

    ask: Ask
    choices: Sequence[Choice]
    """At least one, and all of the same length."""
    simulation: Simulation
    stamp: Stamp

    def write(self, fault: str | None) -> Script:
        """Write the reply, with a fault of design.md section 5 other than `refuse`, or with none."""
        match fault:
            case "rate_limit":
                return _fail(429, _RATE_LIMITED, {"retry-after": "1"})
            case "server_error":
                return _fail(500, _SERVER_ERROR)
            case "hang" if not (self.ask.is_stream and self.simulation.fail_after_events):
                return Script(head_at_s=NEVER_S)
        return self._write_stream(fault) if self.ask.is_stream else self._write_json(fault)

    def _write_json(self, fault: str | None) -> Script:
        reply = self._reply(with_usage=fault != "no_usage")
        body = orjson.dumps(reply)
        ending = Ending.WHOLE
        match fault:
            case "cut":
                body, ending = body[: len(body) // 2], Ending.CUT
            case "error_event":
                body = orjson.dumps({"error": _SERVER_ERROR})
            case "garbage":
                body = _GARBAGE
            case "empty_choices":
                body = orjson.dumps({**reply, "choices": [], "usage": None})
        return Script(head_at_s=self._end_s, beats=iter((Beat(0.0, body),)), ending=ending)

    def _write_stream(self, fault: str | None) -> Script:
        beats: Iterator[Beat]
        spoken = islice(self._speak(), self.simulation.fail_after_events)
        ending = Ending.WHOLE
        match fault:
            case "cut":
                beats, ending = spoken, Ending.CUT
            case "hang":
                beats, ending = spoken, Ending.NEVER
            case "error_event":
                beats = self._break_off(spoken, _event({"error": _SERVER_ERROR}))
            case "garbage":
                beats = self._break_off(spoken, b"data: " + _GARBAGE + b"\n\n")
            case "empty_choices":
                beats = iter((Beat(self.simulation.first_token_s, self._chunk([])), Beat(self._end_s, DONE)))
            case _:
                beats = self._say_all(with_usage=fault != "no_usage")
        return Script(headers=_STREAM, beats=beats, ending=ending)

    def _say_all(self, *, with_usage: bool) -> Iterator[Beat]:
        """Give the whole stream."""
        yield from self._speak()
        end_s = self._end_s
        for index, choice in enumerate(self.choices):
            yield Beat(end_s, self._delta(index, {}, choice.finish_reason))
        if with_usage and self.ask.wants_usage:
            yield Beat(end_s, self._chunk([], usage=self._usage()))
        yield Beat(end_s, DONE)

    def _speak(self) -> Iterator[Beat]:
        """Give the events up to the finish reasons: who speaks, then a token of every choice at a time."""
        for index, choice in enumerate(self.choices):
            yield Beat(
                self.simulation.first_token_s, self._delta(index, _open_delta(choice, f"call_{self.stamp.id[-24:]}"))
            )
        for number, pieces in enumerate(zip(*(choice.pieces for choice in self.choices), strict=True)):
            at_s = self._moment(number)
            for index, piece in enumerate(pieces):
                yield Beat(at_s, self._delta(index, _piece_delta(self.choices[index], piece)))

    def _break_off(self, spoken: Iterator[Beat], last: bytes) -> Iterator[Beat]:
        """Give what was said and one last thing, at the moment of the next token."""
        number = -len(self.choices)
        for beat in spoken:
            number += 1
            yield beat
        yield Beat(self._moment(max(0, number // len(self.choices))), last)

    @property
    def _end_s(self) -> float:
        return self._moment(len(self.choices[0].pieces))

    def _moment(self, token: int) -> float:
        return self.simulation.first_token_s + token / self.simulation.speed_per_s

    def _usage(self) -> dict[str, Any]:
        prompt = self.ask.count_prompt_tokens()
        completion = sum(choice.output_tokens for choice in self.choices)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }

    def _reply(self, *, with_usage: bool) -> dict[str, Any]:
        call_id = f"call_{self.stamp.id[-24:]}"
        choices = [_whole_choice(index, choice, call_id) for index, choice in enumerate(self.choices)]
        usage = {"usage": self._usage()} if with_usage else {}
        return {**self._envelope("chat.completion"), "choices": choices, **usage}

    def _delta(self, index: int, delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
        return self._chunk([{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}])

    def _chunk(self, choices: Sequence[Mapping[str, Any]], **extra: object) -> bytes:
        return _event({**self._envelope("chat.completion.chunk"), "choices": choices, **extra})

    def _envelope(self, kind: str) -> dict[str, Any]:
        envelope = {"id": self.stamp.id, "object": kind, "created": self.stamp.created, "model": self.ask.model}
        is_fixed = self.simulation.content is not None  # the operator's own words come from no system
        return envelope if is_fixed else {**envelope, "system_fingerprint": "fp_simulated"}


def _open_delta(choice: Choice, call_id: str) -> dict[str, Any]:
    if choice.tool is None:
        return {"role": "assistant", "content": ""}
    function = {"name": choice.tool, "arguments": ""}
    call = {"index": 0, "id": call_id, "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _piece_delta(choice: Choice, piece: str) -> dict[str, Any]:
    if choice.tool is None:
        return {"content": piece}
    return {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


def _whole_choice(index: int, choice: Choice, call_id: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.tool is not None:
        function = {"name": choice.tool, "arguments": choice.text}
        message["content"] = None
        message["tool_calls"] = [{"id": call_id, "type": "function", "function": function}]
    return {"index": index, "message": message, "logprobs": None, "finish_reason": choice.finish_reason}


def _fail(status: int, error: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Script:
    body = Beat(0.0, orjson.dumps({"error": error}))
    return Script(status=status, headers={**_JSON, **(headers or {})}, beats=iter((body,)))


def _event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"
