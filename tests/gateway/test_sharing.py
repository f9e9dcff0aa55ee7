"""Exchanges whose answers others get: what a story over sockets cannot bring about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.clock import SystemClock
from proxy.errors import IdempotencyInProgress, LedgerUnavailable, PolicyRefusal, RepliesUnavailable
from proxy.gateway import KeyChanged, SharedExchange, is_shared, recording, sharing
from proxy.gateway.exchange import Answer
from proxy.ledger.records import KeyGone, Refused
from proxy.replies import Kind, Replies, replies
from proxy.routing.caching import NO_WISH, CacheRule, Caching, Wish
from tests.gateway.stage import Script, Stage, a_stage, a_table, in_time, streamed, whole
from tests.replies.made import Warnings

KEYED = Wish(None, "k")
CACHED = Wish(cache=True)


@pytest_asyncio.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Replies]:
    """Keep answers."""
    made = await Replies.open(tmp_path, clock=SystemClock(), warn=Warnings())
    async with in_time():
        yield made
    await made.close()


async def keeping(kept: Replies | None, *scripts: Script, **fields: Any) -> Stage:
    """Make a stage that keeps answers."""
    stage = await a_stage(*(scripts or (whole(),)), **fields)
    return replace(stage, service=replace(stage.service, replies=kept))


async def ask(stage: Stage, wish: Wish, **fields: Any) -> tuple[Answer, bytes]:
    """Ask once and read the answer to its end."""
    async with SharedExchange(stage.asked(**fields), wish, stage.service) as exchange:
        answer = await exchange.answer()
        pieces = [] if answer.body is None else [answer.body]
        while answer.body is None and (piece := await exchange.next_piece()):
            pieces.append(piece)
        assert exchange.is_settled
    return answer, b"".join(pieces)


@pytest.mark.parametrize(
    ("wish", "is_used", "expected"),
    [
        (NO_WISH, False, False),
        (NO_WISH, True, True),
        (Wish(cache=False), True, False),
        (Wish(False, "k"), False, True),
        (CACHED, False, True),
    ],
)
def test_most_requests_are_not_looked_at(wish: Wish, *, is_used: bool, expected: bool) -> None:
    """Only those that ask for it, and those of a table that switches it on somewhere."""
    table = replace(a_table(), caching=Caching(is_used=is_used))
    assert is_shared(wish, table) is expected


async def test_where_nothing_is_kept_a_key_is_refused_and_the_cache_passed_by() -> None:
    """A promise that cannot be kept is not made; a cache that cannot be read is none."""
    stage = await keeping(None)
    with pytest.raises(RepliesUnavailable):
        await ask(stage, KEYED)
    assert not stage.upstream.calls
    answer, _ = await ask(stage, CACHED)
    assert answer.headers["x-turnpike-cache"] == "miss"


async def test_a_long_body_is_looked_for_like_any_other(kept: Replies, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its digest is made in a thread."""
    monkeypatch.setattr(sharing, "OFF_LOOP_BYTES", 1)
    stage = await keeping(kept)
    answers = [await ask(stage, CACHED) for _ in range(2)]
    assert [answer.headers["x-turnpike-cache"] for answer, _ in answers] == ["miss", "hit"]


@pytest.mark.parametrize("wish", [KEYED, CACHED], ids=["key", "cache"])
async def test_an_answer_that_is_too_long_is_given_once(
    kept: Replies, monkeypatch: pytest.MonkeyPatch, wish: Wish
) -> None:
    """And not kept; whoever waits for it goes on."""
    monkeypatch.setattr(recording, "CONTENT_BYTES_MAX", 100)
    stage = await keeping(kept, streamed())
    _, first = await ask(stage, wish, stream=True)
    _, again = await ask(stage, wish, stream=True)
    assert len(first) == len(again) > 100
    assert len(stage.upstream.calls) == 2


async def test_a_choice_that_does_not_say_why_it_ended_is_not_kept(kept: Replies) -> None:
    """It may be half an answer."""
    stage = await keeping(kept, whole(choices=[{"index": 0, "message": {"content": "half"}, "finish_reason": None}]))
    for _ in range(2):
        await ask(stage, KEYED)
    assert len(stage.upstream.calls) == 2


async def test_a_key_waited_for_in_vain_is_told_to_wait(kept: Replies, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first still runs: 409, and when to come again."""
    monkeypatch.setitem(replies.WAIT_S_MAX, Kind.IDEMPOTENCY, 0.05)
    stage = await keeping(kept)
    async with SharedExchange(stage.asked(), KEYED, stage.service) as first:
        await first._find_keyed("k")  # noqa: SLF001  # as far as a first goes before it has an answer
        with pytest.raises(IdempotencyInProgress) as caught:
            await ask(stage, KEYED)
    assert caught.value.retry_after_s


async def test_a_key_that_changed_is_planned_anew(kept: Replies, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hit is admitted under the key as it is now; nobody waits for what came to nothing."""
    stage = await keeping(kept)
    await ask(stage, CACHED)

    async def gone(_: object) -> KeyGone:
        return KeyGone(is_stale=True)

    with monkeypatch.context() as patch:
        patch.setattr(stage.ledger, "admit", gone)
        with pytest.raises(KeyChanged):
            await ask(stage, Wish(True, "k"))
    answer, _ = await ask(stage, Wish(True, "k"))
    assert answer.headers["x-turnpike-cache"] == "hit"


async def test_a_limit_that_holds_for_a_hit_is_told(kept: Replies, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget that was overrun has no room even for nothing."""
    stage = await keeping(kept)
    await ask(stage, CACHED)

    async def refuse(_: object) -> Refused:
        return Refused("key:app", 0, 0, 1, 0, None)

    monkeypatch.setattr(stage.ledger, "admit", refuse)
    with pytest.raises(PolicyRefusal):
        await ask(stage, CACHED)


async def test_a_ledger_that_cannot_settle_holds_no_hit_back(kept: Replies, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps the settlement."""
    stage = await keeping(kept)
    await ask(stage, CACHED)

    async def fail(_: object) -> bool:
        raise LedgerUnavailable("The ledger does not answer.")

    monkeypatch.setattr(stage.ledger, "settle", fail)
    answer, _ = await ask(stage, CACHED)
    assert answer.headers["x-turnpike-cache"] == "hit"


async def test_a_model_that_caches_needs_no_wish(kept: Replies) -> None:
    """Under a table that says so; a model that does not say is asked anew."""
    stage = await keeping(kept)
    (route,) = stage.table.routes.values()
    rule = replace(route, cache=CacheRule())
    cached = replace(stage, table=replace(stage.table, routes={"chat": rule}, caching=Caching(is_used=True)))
    for made, words in ((cached, ["miss", "hit"]), (stage, [None, None])):
        answers = [await ask(made, NO_WISH) for _ in range(2)]
        assert [answer.headers.get("x-turnpike-cache") for answer, _ in answers] == words


async def test_headers_that_change_the_answer_make_another_request(kept: Replies) -> None:
    """Those that providers are told."""
    stage = await keeping(kept)
    for beta in ("one", "two"):
        answer, _ = await ask(stage, CACHED, forwarded={"anthropic-beta": beta})
        assert answer.headers["x-turnpike-cache"] == "miss"


async def test_what_is_said_of_the_cache_is_no_part_of_a_request(kept: Replies) -> None:
    """Whatever else is said to us is."""
    stage = await keeping(kept)
    words = []
    for ours in (
        {"turnpike": {"cache": True}},
        {},
        {"turnpike": {"cache": True, "more": 1}},
        {"turnpike": {"more": 1}},
    ):
        answer, _ = await ask(stage, CACHED, **ours)
        words.append(answer.headers["x-turnpike-cache"])
    assert words == ["miss", "hit", "miss", "hit"]


async def test_an_exchange_that_is_left_early_sets_those_who_wait_free(kept: Replies) -> None:
    """Before its answer and in the midst of it; alone it does not go on."""
    stage = await keeping(kept, streamed())
    async with SharedExchange(stage.asked(stream=True), CACHED, stage.service) as exchange:
        assert not exchange.outlives_client()
        await exchange.answer()
        assert not exchange.outlives_client()
        follower = asyncio.create_task(ask(stage, CACHED, stream=True))
        await asyncio.sleep(0.05)
        assert exchange.outlives_client()
        assert exchange.outlives_client()
    answer, _ = await follower
    assert answer.headers["x-turnpike-cache"] == "miss"
    assert len(stage.upstream.calls) == 2
    assert kept.may_outlive()


async def test_with_a_key_it_goes_on_once_it_may_have_cost_something(kept: Replies) -> None:
    """A client that leaves before its request was let in has paid for nothing."""
    stage = await keeping(kept, streamed())
    async with SharedExchange(stage.asked(stream=True), KEYED, stage.service) as exchange:
        assert not exchange.outlives_client()
        await exchange.answer()
        assert exchange.outlives_client()
