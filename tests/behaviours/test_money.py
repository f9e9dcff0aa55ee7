"""Budgets, ceilings and clamps as a client meets them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.ledger.records import KeyRecord
from proxy.money import Budget, Period
from proxy.policy.limits import Limits
from tests.behaviours.gateway import Running, running
from tests.faults import chunks, client
from tests.faults.replies import ok, plain
from tests.faults.steps import Mode, Outcome, Tokens
from tests.faults.upstream import FaultUpstream

ROUTES = """
providers:
  up: {{dialect: openai, base_url: "{up}", price: {{input: $1/M, output: $10/M}}}}
  dear: {{dialect: openai, base_url: "{up}", price: {{input: $100/M, output: $1000/M}}}}
  nameless: {{dialect: openai, base_url: "{up}"}}
models:
  m: {{targets: [{{target: up/one, context: 8k}}]}}
  capped: {{targets: [{{target: up/one, context: 8k}}], max_cost: $0.01}}
  tiny: {{targets: [{{target: up/one, context: 8k}}], max_cost: $0.0001}}
  chain: {{targets: ["up/fault:status_502", "up/fault:choices_empty_billed", up/one]}}
  pair: {{targets: [up/one, up/two], max_cost: $0.01}}
  backed: {{targets: ["up/fault:hang_before_headers", dear/one]}}
  backing: {{targets: ["dear/fault:status_502", up/one]}}
  late: {{targets: ["up/fault:hang_before_headers", up/one, up/two], timeouts: {{total: 150ms}}}}
  "unpriced/*": nameless/*
defaults: {{retry: {{attempts: 1}}}}
keys:
  - {{name: rich, key: "{{key}}", budget: $100/day}}
  - {{name: poor, key: sk-test-poor-key, budget: $0.02/day}}
  - {{name: twenty, key: sk-test-twenty-key, budget: $0.0212/day}}
  - {{name: free, key: sk-test-free-key}}
"""
POOR = "sk-test-poor-key"
TWENTY = "sk-test-twenty-key"
FREE = "sk-test-free-key"


class Stage:
    """A gateway and the upstream behind it."""

    def __init__(self, gateway: Running, up: FaultUpstream) -> None:
        """Keep both."""
        self.gateway = gateway
        self.up = up


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Serve keys with more and less money."""
    async with FaultUpstream() as up, running(ROUTES.format(up=up.base_url), tmp_path) as gateway:
        yield Stage(gateway, up)


async def ask(stage: Stage, model: str, *, key: str | None = None, **fields: Any) -> client.Answer:
    """Ask with the rich key unless told otherwise."""
    return await client.ask(stage.gateway.url, client.chat(model, **fields), key=key or stage.gateway.key)


async def test_a_request_that_fits_goes_on_unchanged(stage: Stage) -> None:
    """With money enough nothing is clamped and the client's own cap is sent."""
    answer = await ask(stage, "m", max_tokens=500)
    assert answer.status == 200
    assert "x-turnpike-clamped" not in answer.headers
    assert stage.up.exchanges[0].body["max_tokens"] == 500


async def test_what_does_not_fit_is_clamped_to_what_the_money_buys(stage: Stage) -> None:
    """Two cents buy fewer than the 8,000 tokens asked for: the cap is lowered and the client told."""
    answer = await ask(stage, "m", key=POOR, max_tokens=7900)
    assert answer.status == 200
    sent = stage.up.exchanges[0].body["max_tokens"]
    assert 64 <= sent < 2000
    assert answer.headers["x-turnpike-clamped"] == f"max_tokens={sent}"
    (row,) = await stage.gateway.settled_rows()
    assert row.hold_nano_usd <= 20_000_000


async def test_a_spent_budget_refuses_with_the_figures(stage: Stage) -> None:
    """Once the money is gone: 402 with needed, left and the start of the next day, and nothing goes upstream."""
    for _ in range(3):
        await ask(stage, "m", key=POOR, max_tokens=7900)
    await stage.gateway.gateway.ledger.declare_keys([_tight(await _record(stage, "poor"))])
    answer = await ask(stage, "m", key=POOR, max_tokens=7900)
    assert answer.status == 402
    assert answer.headers["x-should-retry"] == "false"
    error = answer.error
    assert (error["type"], error["code"]) == ("insufficient_quota", "budget_exceeded")
    assert error["metadata"]["left"] < error["metadata"]["needed"]
    assert error["metadata"]["resets_at"].endswith("T00:00:00Z")
    assert len(stage.up.exchanges) == 3


async def _record(stage: Stage, name: str) -> KeyRecord:
    return next(key for key in await stage.gateway.gateway.ledger.list_keys() if key.name == name)


def _tight(record: KeyRecord) -> KeyRecord:
    limits = Limits(budgets=(Budget(200_000, Period.DAY),))
    return KeyRecord(record.name, record.digest, limits=limits, is_declared=True)


async def test_a_changed_key_is_planned_anew(stage: Stage) -> None:
    """A budget given to a key while the gateway remembers it without one holds from the next request."""
    assert (await ask(stage, "m", key=FREE)).status == 200
    record = await _record(stage, "free")
    changed = KeyRecord("free", record.digest, limits=Limits(budgets=(Budget(1, Period.TOTAL),)), is_declared=True)
    await stage.gateway.gateway.ledger.declare_keys([changed])
    assert (await ask(stage, "m", key=FREE)).status == 402


async def test_a_revoked_key_is_refused_from_the_next_request_on(stage: Stage) -> None:
    """Whatever the process remembers, the admission reads the ledger."""
    assert (await ask(stage, "m", key=FREE)).status == 200
    await stage.gateway.gateway.ledger.revoke_key("free")
    answer = await ask(stage, "m", key=FREE)
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")


async def test_the_ceiling_of_a_model_clamps_and_refuses(stage: Stage) -> None:
    """A cent allows a shorter answer; a hundredth of a cent none."""
    answer = await ask(stage, "capped", max_tokens=7900)
    assert answer.status == 200
    assert stage.up.exchanges[0].body["max_tokens"] < 1000
    answer = await ask(stage, "tiny", max_tokens=7900)
    assert (answer.status, answer.error["code"]) == (402, "max_cost_exceeded")
    assert len(stage.up.exchanges) == 1


async def test_what_failed_attempts_cost_counts_against_the_ceiling(stage: Stage) -> None:
    """An attempt that failed and billed leaves less for the next one: 402 says how much, and what was tried."""
    usage = chunks.usage(Tokens(9_000, 0))
    empty = Mode(
        "empty",
        lambda ask: plain(chunks.answer(ask.model, choices=[], usage=usage)),
        stream=Outcome.FALLBACK,
        json=Outcome.FALLBACK,
    )
    stage.up.replace_script([empty, ok()])
    answer = await ask(stage, "pair", max_tokens=500)
    assert (answer.status, answer.error["code"]) == (402, "max_cost_exceeded")
    metadata = answer.error["metadata"]
    assert metadata["left"] == "0.001000000"
    assert metadata["needed"] > metadata["left"]
    assert [attempt["reason"] for attempt in metadata["attempts"]] == ["invalid_reply"]
    assert len(stage.up.exchanges) == 1


async def test_an_unknowable_cost_is_never_that_of_a_dearer_target(stage: Stage) -> None:
    """A JSON call that the client left is booked at the most it can have cost, not at the whole chain's hold."""
    async with client.call(stage.gateway.url, client.chat("backed", max_tokens=100), key=stage.gateway.key) as reply:
        await stage.up.received()
        await reply.leave()
    (row,) = await stage.gateway.settled_rows()
    assert (row.cost_source, row.provider) == ("held", "up")
    assert row.cost_nano_usd is not None
    assert 0 < row.cost_nano_usd * 50 < row.hold_nano_usd


async def test_a_later_attempt_holds_no_more_than_it_needs(stage: Stage) -> None:
    """Only the first hold covers what may follow; a cheap target behind a dear one is not refused for its neighbour."""
    assert (await ask(stage, "backing", max_tokens=100)).status == 200
    dear, cheap = await stage.gateway.settled_rows(2)
    assert cheap.hold_nano_usd * 50 < dear.hold_nano_usd


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
async def test_nobody_is_called_once_the_request_s_time_is_over(stage: Stage, *, is_stream: bool) -> None:
    """The total time ends the chain: no call with a moment left, whose prompt would be billed for nothing."""
    answer = await ask(stage, "late", stream=is_stream)
    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
    assert len(stage.up.exchanges) == 1
    (row,) = await stage.gateway.settled_rows()
    assert row.error == "timeout"


async def test_an_unknown_price_behind_a_budget_is_refused(stage: Stage) -> None:
    """A wall cannot be kept without a price: 400 says so, and nothing is sent."""
    answer = await ask(stage, "unpriced/thing")
    assert (answer.status, answer.error["code"]) == (400, "price_unknown")
    assert not stage.up.exchanges


async def test_an_unknown_price_without_a_budget_is_booked_as_unknown(stage: Stage) -> None:
    """Unknown is never 0: the row has no cost, and the sums count it."""
    answer = await ask(stage, "unpriced/thing", key=FREE)
    assert answer.status == 200
    assert answer.headers["x-turnpike-cost-source"] == "unknown"
    assert "x-turnpike-cost" not in answer.headers
    assert answer.json["usage"]["cost"] is None
    (row,) = await stage.gateway.settled_rows()
    assert (row.cost_nano_usd, row.cost_source, row.state) == (None, "unknown", "posted")


async def test_two_hundred_at_once_on_a_key_with_room_for_twenty(stage: Stage) -> None:
    """Holds are taken one after another: what is let in never passes the limit, the others get 402."""
    answers = await asyncio.gather(*(ask(stage, "m", key=TWENTY, max_tokens=64) for _ in range(200)))
    statuses = [answer.status for answer in answers]
    assert set(statuses) <= {200, 402}
    assert statuses.count(200) >= 20
    rows = await stage.gateway.settled_rows(statuses.count(200))
    (budget,) = await stage.gateway.gateway.ledger.budgets("twenty", rows[0].at_s)
    assert budget.held_nano_usd == 0
    assert budget.posted_nano_usd == sum(row.cost_nano_usd or 0 for row in rows) <= budget.limit_nano_usd
    assert len(stage.up.exchanges) == statuses.count(200)


async def test_every_attempt_of_a_chain_has_its_row_and_cost(stage: Stage) -> None:
    """A refused attempt is voided, an empty one that reports usage is posted, and the reply names the sum."""
    answer = await ask(stage, "chain", key=FREE)
    assert answer.status == 200
    rows = await stage.gateway.settled_rows(len(stage.up.exchanges))
    assert [row.attempt for row in rows] == list(range(1, len(rows) + 1))
    assert [row.state for row in rows] == ["voided", "posted", "posted"]
    assert rows[1].cost_nano_usd
    total = sum(row.cost_nano_usd or 0 for row in rows)
    assert answer.headers["x-turnpike-cost"] == f"{total / 1e9:.9f}"


async def test_a_repeated_request_id_gets_one_of_its_own(stage: Stage) -> None:
    """The client's id is kept where it is free, suffixed where it is not."""
    ids = []
    for _ in range(3):
        payload = client.chat("m")
        reply = await client.ask(stage.gateway.url, payload, key=FREE, headers={"x-request-id": "mine"})
        ids.append(reply.headers["x-request-id"])
    assert ids == ["mine", "mine-2", "mine-3"]
