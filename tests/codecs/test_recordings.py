"""Recorded answers through the codec: usage as an independent reader finds it, frames whatever the split."""

from __future__ import annotations

import json
from decimal import ROUND_CEILING, Decimal
from typing import Any

import pytest

from proxy.codecs.failures import find_fault
from proxy.codecs.intake import Batch, Intake
from proxy.codecs.openai import OpenAICodec
from proxy.codecs.wire import Call, Frame, Reading
from proxy.errors import FailureKind
from proxy.sse import DONE_EVENT
from proxy.usage import Usage
from tests.faults.framing import split_at, split_everywhere, torn
from tests.faults.replay import Recording, recordings

RECORDINGS = recordings({"openai", "openrouter"})
STREAMS = [recording for recording in RECORDINGS if recording.is_stream]
REPLIES = [recording for recording in RECORDINGS if not recording.is_stream]
SEEDS = range(8)
CALL = Call("/chat/completions", b"{}", is_stream=True)
EVERYWHERE_BYTES_MAX = 20_000
"""Longer streams are torn at random places only."""

pytestmark = pytest.mark.skipif(not RECORDINGS, reason="the folder of recordings is not beside this checkout")


def codec_of(recording: Recording) -> OpenAICodec:
    """Give the codec this answer is for."""
    return OpenAICodec(is_openrouter=recording.dialect == "openrouter")


def take_in(recording: Recording, pieces: list[bytes], *, parse_all: bool = False) -> tuple[Batch, Usage | None]:
    """Read pieces to the stream's end."""
    intake = Intake(codec_of(recording), Reading(CALL, parse_all=parse_all), choices=1)
    frames: list[Frame] = []
    for piece in pieces:
        batch = intake.feed(piece)
        frames += batch.frames
        if batch.failure is not None or batch.is_end:
            return Batch(frames, batch.failure, batch.is_end), intake.usage
    batch = intake.end()
    return Batch([*frames, *batch.frames], batch.failure, batch.is_end), intake.usage


def chunks_of(body: bytes) -> list[dict[str, Any]]:
    """Read a stream's chunks in the plainest way, amounts as exact decimals."""
    text = body.decode().replace("\r\n", "\n")
    lines = [line[5:].strip() for line in text.split("\n") if line.startswith("data:")]
    return [json.loads(line, parse_float=Decimal) for line in lines if line != "[DONE]"]


def bill_of(reply: dict[str, Any]) -> dict[str, Any] | None:
    """Read what a reply reports, independently of the codec: tokens in, out and cached, and the amount."""
    usage = reply.get("usage") or (reply.get("x_groq") or {}).get("usage")
    if not usage:
        return None
    into, out = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    missing = usage["total_tokens"] - usage["prompt_tokens"] - usage["completion_tokens"]
    assert missing in (0, out.get("reasoning_tokens", 0))
    amount = usage.get("cost")
    if amount is None and "cost_in_usd_ticks" in usage:
        amount = Decimal(usage["cost_in_usd_ticks"]) / 10**10
    elif usage.get("is_byok"):
        amount = Decimal(amount) + usage["cost_details"]["upstream_inference_cost"]
    return {
        "input_tokens": usage["prompt_tokens"],
        "output_tokens": usage["completion_tokens"] + missing,
        "cached_tokens": into.get("cached_tokens")
        or usage.get("prompt_cache_hit_tokens")
        or usage.get("num_cached_tokens")
        or 0,
        "cache_write_tokens": into.get("cache_write_tokens") or 0,
        "reasoning_tokens": out.get("reasoning_tokens") or 0,
        "cost_nano_usd": None if amount is None else int((Decimal(amount) * 10**9).to_integral_value(ROUND_CEILING)),
        "is_byok": bool(usage.get("is_byok")),
        "anomalies": (),
    }


def assert_bill(found: Usage | None, bill: dict[str, Any] | None) -> None:
    """Hold what the codec read against the independent reading."""
    assert (found is None) is (bill is None)
    assert {name: getattr(found, name) for name in bill or {}} == (bill or {})


@pytest.mark.parametrize("recording", REPLIES, ids=lambda recording: recording.id)
def test_the_usage_of_a_recorded_reply(recording: Recording) -> None:
    """Every figure of a whole answer is read as it stands; a refusal or an error inside is told."""
    codec = codec_of(recording)
    if recording.status != 200:
        failure = codec.read_failure(recording.status, {}, recording.body, asked=b"")
        assert failure.kind is FailureKind.BAD_REQUEST
        assert failure.message[:20] in recording.body.decode()
        return
    reply = codec.read_reply(recording.body, Reading(CALL))
    assert (find_fault(reply) is not None) is ("error" in reply)
    assert_bill(codec.read_usage(reply), bill_of(json.loads(recording.body, parse_float=Decimal)))


@pytest.mark.parametrize("recording", STREAMS, ids=lambda recording: recording.id)
def test_the_usage_and_end_of_a_recorded_stream(recording: Recording) -> None:
    """The last usage counts; an error inside is a failure behind the frames before it, anything else a whole answer."""
    batch, usage = take_in(recording, [recording.body])
    chunks = chunks_of(recording.body)
    bills = [bill for chunk in chunks if (bill := bill_of(chunk)) is not None]
    assert_bill(usage, bills[-1] if bills else None)
    broken = next((index for index, chunk in enumerate(chunks) if chunk.get("error")), None)
    assert batch.is_end is (broken is None)
    assert (batch.failure is not None) is (broken is not None)
    data_frames = [frame for frame in batch.frames if not frame.is_done and not frame.raw.startswith(b":")]
    assert len(data_frames) == (len(chunks) if broken is None else broken)


@pytest.mark.parametrize("recording", STREAMS, ids=lambda recording: recording.id)
def test_a_recorded_stream_is_relayed_byte_for_byte(recording: Recording) -> None:
    """Frames put together are the stream, as long as nothing in it has to be written again."""
    batch, _ = take_in(recording, [recording.body])
    if batch.failure is None and b"\r" not in recording.body:
        relayed = b"".join(frame.raw for frame in batch.frames).replace(DONE_EVENT, b"data: [DONE]")
        assert relayed.strip() == recording.body.strip()


@pytest.mark.parametrize("parse_all", [False, True])
@pytest.mark.parametrize("recording", STREAMS, ids=lambda recording: recording.id)
def test_a_torn_stream_is_the_same_stream(recording: Recording, parse_all: bool) -> None:
    """Cut anywhere, inside characters too: the same frames, usage and verdict."""
    whole = take_in(recording, [recording.body], parse_all=parse_all)
    for seed in SEEDS:
        assert take_in(recording, torn(recording.body, seed=seed), parse_all=parse_all) == whole
    if len(recording.body) <= EVERYWHERE_BYTES_MAX:
        assert take_in(recording, split_everywhere(recording.body), parse_all=parse_all) == whole


@pytest.mark.parametrize("recording", STREAMS, ids=lambda recording: recording.id)
def test_a_recorded_stream_cut_before_its_finish_is_broken(recording: Recording) -> None:
    """Wherever the connection ends before the finish reason is in: a failure, never an end (R31, R32)."""
    body = recording.body
    finished = [body.rfind(mark) for mark in (b'"finish_reason":"', b'"finish_reason": "', b"[DONE]")]
    last = max(finished[:2]) if max(finished[:2]) >= 0 else finished[2]
    for place in {*range(0, max(last, 0), max(1, last // 200)), max(last, 0)}:
        head = split_at(body, [place])[0] if place else b""
        batch, _ = take_in(recording, [head])
        assert batch.failure is not None
        assert not batch.is_end
