"""Recorded provider traffic through the gateway: it arrives as it was sent, but for the listed rewrites."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.behaviours.gateway import Running, running
from tests.faults import client
from tests.faults.client import Ended
from tests.faults.framing import Framing
from tests.faults.replay import Recording, recordings, replay
from tests.faults.upstream import FaultUpstream

ROUTES = """
providers:
  plain: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $2/M}}}}
  router: {{dialect: openrouter, base_url: "{up}", api_key: sk-or-test-key, price: {{input: $1/M, output: $2/M}}}}
models:
  from-openai: plain/recorded
  from-openrouter: router/recorded
  "*": router/*
defaults: {{retry: {{attempts: 1}}}}
keys:
  - {{name: app, key: "{{key}}"}}
"""
RECORDINGS = recordings({"openai", "openrouter"})
SEEDS = (1, 2, 3)

pytestmark = pytest.mark.skipif(not RECORDINGS, reason="the folder of recordings is not beside this checkout")


class Replayed:
    """A gateway in front of a replaying upstream."""

    def __init__(self, gateway: Running, upstream: FaultUpstream) -> None:
        """Keep both."""
        self.gateway = gateway
        self.upstream = upstream


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replayed]:
    """One gateway for all recordings."""
    folder: Path = tmp_path_factory.mktemp("recordings")
    async with FaultUpstream() as upstream, running(ROUTES.format(up=upstream.base_url), folder) as gateway:
        yield Replayed(gateway, upstream)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.id)
async def test_a_recorded_answer_arrives_as_it_was_sent(stage: Replayed, recording: Recording, seed: int) -> None:
    """Split anywhere, inside UTF-8 too: the same data events, usage with its cost, errors as errors."""
    framing = Framing.LENGTH if seed == SEEDS[-1] and not recording.is_stream else Framing.CHUNKED
    stage.upstream.replace_script([replay(recording, seed=seed, framing=framing)])
    payload = {**recording.request, "model": f"from-{recording.dialect}", "stream": recording.is_stream}
    payload.setdefault("messages", [{"role": "user", "content": "Replay."}])
    if recording.is_stream:
        payload["stream_options"] = {"include_usage": True}
    async with client.call(stage.gateway.url, payload, key=stage.gateway.key) as reply:
        await reply.head()
        if not recording.is_stream or reply.status != 200:
            body = await reply.read()
            compare_reply(recording, reply.status, json.loads(body))
        else:
            events = [event.data async for event in reply.events() if event.data]
            compare_stream(recording, events, reply.end)
    (row,) = await stage.gateway.gateway.ledger.find_request(reply.headers["x-request-id"])
    assert row.state in ("posted", "voided")


def compare_reply(recording: Recording, status: int, got: dict[str, Any]) -> None:
    """Hold a JSON reply, or the error that stands for one, against the recording."""
    sent = json.loads(recording.body)
    if recording.status == 200 and sent.get("choices"):
        assert status == 200
        assert without_cost(got, sent) == sent
        assert not sent.get("usage") or got["usage"]["cost_source"] in ("reported", "computed")
        return
    assert status >= 400
    assert status != 401
    assert got["error"]["message"]
    if recording.status in (400, 413, 422):
        assert status == recording.status
        assert sent["error"]["message"][:40] in got["error"]["message"]


def compare_stream(recording: Recording, events: list[bytes], end: Ended | None) -> None:
    """Hold a stream against the recording, event by event."""
    sent = [json.loads(data) for data in data_events(recording.body) if data != b"[DONE]"]
    got = [json.loads(data) for data in events if data != b"[DONE]"]
    broken = next((index for index, chunk in enumerate(sent) if chunk.get("error")), None)
    if broken is not None:
        assert got[:broken] == sent[:broken]
        assert [chunk.keys() for chunk in got[broken:]] == [{"error"}]
        assert b"[DONE]" not in events
        assert end is not Ended.COMPLETE
        return
    assert len(got) == len(sent)
    for theirs, ours in zip(sent, got, strict=True):
        assert without_cost(ours, theirs) == theirs
        if theirs.get("usage"):
            assert ours["usage"]["cost_source"] in ("reported", "computed")
    assert events[-1] == b"[DONE]"
    assert end is Ended.COMPLETE


def without_cost(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Take out of a usage what we added to it; a cost the provider sent must have stayed, but for BYOK."""
    usage, sent = ours.get("usage"), theirs.get("usage") or {}
    if not isinstance(usage, dict):
        return ours
    if sent.get("is_byok"):
        total = sent["cost"] + sent["cost_details"]["upstream_inference_cost"]
        assert abs(usage["cost"] - total) < 2e-9
        usage["cost"] = sent["cost"]
    added = {"cost", "cost_source"} - set(sent)
    return {**ours, "usage": {name: value for name, value in usage.items() if name not in added}}


def data_events(body: bytes) -> list[bytes]:
    """Read a recorded body's events independently of the gateway's framer."""
    text = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    blocks = (block.split(b"\n") for block in text.split(b"\n\n"))
    lines = ([line[5:].strip() for line in block if line.startswith(b"data:")] for block in blocks)
    return [b"\n".join(parts) for parts in lines if parts]
