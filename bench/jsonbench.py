"""JSON parsing and writing, in microseconds: stdlib, orjson, msgspec. Run with a Python that has the latter two."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import msgspec
import orjson

MEASURED_S_MIN = 0.04
ROUNDS = 7
CHUNK = (
    b'{"id":"chatcmpl-BenchMock0123456789abcdef","object":"chat.completion.chunk","created":1750000000,'
    b'"model":"mock-model-2025-01-01","system_fingerprint":"fp_bench","choices":[{"index":0,'
    b'"delta":{"content":" gateway"},"logprobs":null,"finish_reason":null}]}'
)
HEAD = [
    "input",
    "json.loads",
    "orjson.loads",
    "msgspec (any)",
    "msgspec (struct of 3 fields)",
    "json.dumps",
    "orjson.dumps",
    "msgspec encode",
    "`in` scan",
]


class Request(msgspec.Struct):
    """What a gateway must know of a request."""

    model: str
    stream: bool = False
    max_tokens: int | None = None


class Usage(msgspec.Struct):
    """The two counts of a reply."""

    prompt_tokens: int
    completion_tokens: int


class Chunk(msgspec.Struct):
    """What a gateway must know of a chunk."""

    usage: Usage | None = None


def request_of(size_bytes: int, turns: int = 1) -> bytes:
    """Write a chat request with about so much text in it."""
    text = ("Summarise the following document for me, please. \n" * (size_bytes // 50 + 1))[: size_bytes // turns]
    roles = ("user", "assistant")
    messages = [{"role": roles[turn % 2], "content": text} for turn in range(turns)]
    request = {"model": "mock", "messages": messages, "temperature": 0.7, "max_tokens": 512, "stream": True}
    return json.dumps(request).encode()


def median_us(call: Callable[[], Any]) -> float:
    """Give a call's median time, over rounds long enough to measure."""
    repeats = 1
    while _elapsed_s(call, repeats) < MEASURED_S_MIN:
        repeats *= 2
    return statistics.median(_elapsed_s(call, repeats) / repeats * 1e6 for _ in range(ROUNDS))


def _elapsed_s(call: Callable[[], Any], repeats: int) -> float:
    began_s = time.perf_counter()
    for _ in range(repeats):
        call()
    return time.perf_counter() - began_s


def row_of(name: str, raw: bytes, kind: type[msgspec.Struct]) -> list[str]:
    """Measure every library on one input."""
    parsed = orjson.loads(raw)
    anything, typed, encoder = msgspec.json.Decoder(), msgspec.json.Decoder(kind), msgspec.json.Encoder()
    calls: list[Callable[[], Any]] = [
        lambda: json.loads(raw),
        lambda: orjson.loads(raw),
        lambda: anything.decode(raw),
        lambda: typed.decode(raw),
        lambda: json.dumps(parsed).encode(),
        lambda: orjson.dumps(parsed),
        lambda: encoder.encode(parsed),
        lambda: b'"usage":{' in raw,
    ]
    return [name, *(f"{median_us(call):.2f}" for call in calls)]


def main() -> None:
    """Print the table."""
    inputs: list[tuple[str, bytes, type[msgspec.Struct]]] = [
        ("request 1 KB", request_of(1024), Request),
        ("request 100 KB, 1 message", request_of(102_400), Request),
        ("request 100 KB, 100 messages", request_of(102_400, 100), Request),
        ("SSE chunk 260 B", CHUNK, Chunk),
    ]
    for cells in (HEAD, ["---"] * len(HEAD), *(row_of(*each) for each in inputs)):
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
