"""Whole replies of Gemini in OpenAI's shape (part of the Google codec, pure; openrouter.md 4.1, 8.5)."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

from proxy.codecs.google.answer import Answer
from proxy.codecs.google.fields import is_whole, list_of, object_of, objects_of, text_of
from proxy.codecs.google.refusals import failure_inside
from proxy.codecs.google.request import model_of
from proxy.codecs.google.usage import write_usage
from proxy.codecs.objects import parse_object
from proxy.codecs.wire import JsonObject, Reading
from proxy.errors import UpstreamError

SEED_BYTES = 8


class Candidates:
    """Reads the candidates of one answer, in one piece or in many."""

    def __init__(self, reading: Reading) -> None:
        """Begin an answer."""
        self._reading = reading
        self._head: JsonObject = {}
        self._seed = ""
        self._answers: dict[int, Answer] = {}
        self._is_grounded = False
        self._queries: set[str] = set()
        self._counts: tuple[JsonObject, int] | None = None
        """The last counts, and how many searches had been made by then."""

    @property
    def usage(self) -> JsonObject | None:
        """Give the last counts in OpenAI's shape: each chunk brings some, so they are translated when asked for."""
        if self._counts is None:
            return None
        counts, searches = self._counts
        has_pictures = any(answer.has_pictures for answer in self._answers.values())
        return write_usage(counts, searches=searches, has_pictures=has_pictures)

    def read(self, reply: JsonObject) -> list[JsonObject]:
        """Give the choices for what a reply or chunk holds.

        Raises `UpstreamError` for an error in its place. A candidate that was broken off becomes a choice with an
        `error`, which is a failure too, but leaves the usage to be booked.
        """
        if reply.get("error"):
            raise UpstreamError(failure_inside(reply, has_begun=bool(self._head)))
        if not self._head:
            self._begin(reply)
        candidates = objects_of(reply.get("candidates"))
        for candidate in candidates:
            if "groundingMetadata" in candidate:
                self._is_grounded = True
                self._queries |= _queries_of(candidate["groundingMetadata"])
        if counts := object_of(reply.get("usageMetadata")):
            self._counts = counts, max(len(self._queries), int(self._is_grounded))
        reason = text_of(object_of(reply.get("promptFeedback")).get("blockReason"))
        if reason and not candidates:
            return [self._answer(0).block(reason)]
        return list(self._choices(candidates))

    def write_head(self, kind: str) -> JsonObject:
        """Give the fields that each object of this answer begins with."""
        return {**self._head, "object": kind}

    def _begin(self, reply: JsonObject) -> None:
        call = self._reading.call
        named = text_of(reply.get("responseId"))
        self._seed = blake2b(named.encode() or call.body, digest_size=SEED_BYTES).hexdigest()
        self._head = {
            "id": named or f"chatcmpl-{self._seed}",
            "object": "",
            "created": self._reading.created_s,
            "model": text_of(reply.get("modelVersion")) or model_of(call.path),
        }

    def _choices(self, candidates: list[JsonObject]) -> Iterator[JsonObject]:
        for place, candidate in enumerate(candidates):
            index = candidate.get("index")
            choice = self._answer(index if is_whole(index) else place).read(candidate)
            if choice is not None:
                yield choice

    def _answer(self, index: int) -> Answer:
        if index not in self._answers:
            self._answers[index] = Answer(index, seed=self._seed)
        return self._answers[index]


def read_reply(body: bytes, reading: Reading) -> JsonObject:
    """Read a whole reply; raises `UpstreamError` when it is none."""
    candidates = Candidates(reading)
    choices = [_whole(choice) for choice in candidates.read(parse_object(body))]
    reply: JsonObject = {**candidates.write_head("chat.completion"), "choices": choices}
    return {**reply, "usage": usage} if (usage := candidates.usage) is not None else reply


def _queries_of(grounding: object) -> set[str]:
    """Give what was searched for."""
    return {query for query in list_of(object_of(grounding).get("webSearchQueries")) if isinstance(query, str)}


def _whole(choice: JsonObject) -> JsonObject:
    """Turn a choice's delta into its message."""
    delta = choice.pop("delta")
    calls = [{name: value for name, value in call.items() if name != "index"} for call in delta.get("tool_calls", ())]
    message = {"role": "assistant", "content": None if calls else "", "refusal": None, **delta}
    return {"logprobs": None, **choice, "message": {**message, "tool_calls": calls} if calls else message}
