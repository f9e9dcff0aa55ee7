"""The chat endpoint and kept answers: clients whose connection breaks while somebody else may want the answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.replies import Replies
from tests.edge.site import Receiver, Sender, Site, a_scope, a_site_stage, stream_of
from tests.gateway.stage import in_time, streamed
from tests.replies.made import Warnings

KEYED = (b"idempotency-key", b"k")


@pytest.mark.parametrize("fails_at", [0, 1, 3])
async def test_a_connection_that_breaks_costs_a_key_nothing(tmp_path: Path, fails_at: int) -> None:
    """Before the head, behind it and in the midst: the answer is made to its end, and found by who comes again."""
    kept = await Replies.open(tmp_path, clock=SystemClock(), warn=Warnings())
    stage = await a_site_stage(streamed())
    made = Site(replace(stage, service=replace(stage.service, replies=kept)))
    body = stream_of()
    async with in_time():
        await made.endpoint(a_scope(KEYED), Receiver(body), Sender(fails_at=fails_at))
        sender = Sender()
        await made.endpoint(a_scope(KEYED), Receiver(body), sender)
    head, *pieces = sender.messages
    assert (b"idempotency-replayed", b"true") in head["headers"]
    assert b"".join(piece["body"] for piece in pieces).endswith(b"data: [DONE]\n\n")
    assert [piece["more_body"] for piece in pieces] == [False]
    assert len(stage.upstream.calls) == 1
    assert [line["status"] for line in made.log()] == [499, 200]
    await kept.close()
    await made.http.aclose()


async def test_a_connection_that_breaks_alone_cuts_the_call(tmp_path: Path) -> None:
    """Where nobody else wants the answer it ends as ever."""
    kept = await Replies.open(tmp_path, clock=SystemClock(), warn=Warnings())
    stage = await a_site_stage(streamed())
    made = Site(replace(stage, service=replace(stage.service, replies=kept)))
    async with in_time():
        await made.endpoint(a_scope((b"x-turnpike-cache", b"on")), Receiver(stream_of()), Sender(fails_at=2))
    (row,) = await stage.rows()
    assert row.error == "client_left"
    await kept.close()
    await made.http.aclose()
