"""What a gateway does for its books from time to time: old detail goes, accounts are read and compared."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.app import Gateway
from proxy.app.upkeep import READ_AGAIN_S, list_accounts, list_upkeep, prune, reconcile
from proxy.clock import ManualClock
from proxy.ledger.bills import find_drifts
from proxy.ledger.records import UsageQuery
from proxy.telemetry import Telemetry
from tests.app.house import KEY, opened
from tests.ledger.entries import DAY_S, ask, key, over, posted, start
from tests.outbound.openrouter import Accounts, speaking

NOW_S = 1_795_176_000.0
"""2026-11-20 12:00 UTC."""
USD = 1_000_000_000
TABLE = """\
retention: %(retention)s
providers:
  openrouter: {api_key: "${ROUTER_KEY}", base_url: "%(url)s"}
  pooled: {dialect: openrouter, base_url: "%(url)s", api_keys: ["${FIRST}", {name: spare, key: "${SECOND}"}]}
  quiet: {dialect: openrouter, base_url: "%(url)s", api_key: "${ROUTER_KEY}", reconcile: false}
  keyless: {dialect: openrouter, base_url: "%(url)s", api_key: "${MISSING}"}
models: {chat: openrouter/openai/gpt-4o}
keys: [{name: declared, key: %(key)s}]
"""
ENVIRON = {"ROUTER_KEY": "sk-or-router", "FIRST": "sk-or-first", "SECOND": "sk-or-second"}
ALONE = {"ROUTER_KEY": "sk-or-router"}
"""Nobody in the pool: its provider is not ready."""


@asynccontextmanager
async def kept(
    folder: Path, accounts: Accounts | None = None, *, retention: str = "90d", environ: Mapping[str, str] = ALONE
) -> AsyncIterator[tuple[Gateway, ManualClock, Log]]:
    """Open a gateway, its clock and its log; nothing is done for it yet."""
    url = "http://127.0.0.1:1/api/v1" if accounts is None else accounts.base_url
    clock, log = ManualClock(NOW_S), Log()
    async with opened(folder, TABLE % {"retention": retention, "url": url, "key": KEY}, environ=environ) as gateway:
        yield replace(gateway, clock=clock, telemetry=log), clock, log
        log.close()


class Log(Telemetry):
    """Keeps what is told."""

    def __init__(self) -> None:
        super().__init__(stream=io.BytesIO())
        self.events: list[dict[str, Any]] = []

    def info(self, event: str, **fields: object) -> None:
        """Keep it."""
        self.events.append({"event": event, **fields})

    def warn(self, event: str, **fields: object) -> None:
        """Keep it."""
        self.events.append({"event": event, **fields})


async def spend(gateway: Gateway, request_id: str, at_s: float, cost: int, *, upstream_key: str | None = None) -> None:
    """One finished request at OpenRouter."""
    await gateway.ledger.create_key(key("app", None))
    begins = start(1, cost, provider="openrouter")._replace(upstream_key=upstream_key)
    await gateway.ledger.admit(ask(request_id, at_s=at_s, attempts=[begins]))
    await gateway.ledger.settle(over(request_id, posted(1, cost), at_s=at_s))


# ---------------------------------------------------------------- retention


@pytest.mark.parametrize(("retention", "left"), [("90d", 2), ("40d", 1), ("2y", 3), ("forever", 3)])
async def test_detail_goes_when_the_table_says_so(tmp_path: Path, retention: str, left: int) -> None:
    """And no money goes with it; what went is told."""
    async with kept(tmp_path, retention=retention) as (gateway, _clock, log):
        for days in (1, 60, 200):
            await spend(gateway, f"r{days}", NOW_S - days * DAY_S, 5)
        await prune(gateway)
        assert len(await gateway.ledger.export(since_s=None, after_seq=0, rows_max=9)) == left
        (total,) = await gateway.ledger.sum_usage(UsageQuery())
        assert (total.requests, total.cost_nano_usd) == (3, 15)
        told = [event["attempts"] for event in log.events if event["event"] == "detail_rolled_up"]
        assert told == ([3 - left] if left < 3 else [])


# ---------------------------------------------------------------- accounts


async def test_every_credential_of_openrouter_is_read_unless_the_table_says_not(tmp_path: Path) -> None:
    """Pools key by key; what is not ready is not asked."""
    async with speaking() as accounts, kept(tmp_path, accounts, environ=ENVIRON) as (gateway, _clock, _log):
        found = [(one.provider.name, one.upstream_key) for one in list_accounts(gateway.routes.current)]
        assert sorted(found) == [("openrouter", ""), ("pooled", "1"), ("pooled", "spare")]
        accounts.tell_key(5)
        await reconcile(gateway)
        assert {credential for _path, credential in accounts.asked} == {*ENVIRON.values()}
        read = await gateway.ledger.bills.list()
        assert [(one.provider, one.upstream_key) for one in read] == sorted(found)
        assert len({one.fingerprint for one in read}) == 3
        assert not any(secret in repr(read) for secret in ENVIRON.values())


async def test_books_that_agree_with_the_bill_are_not_told(tmp_path: Path) -> None:
    """Whatever was billed before the first bill."""
    async with speaking() as accounts, kept(tmp_path, accounts) as (gateway, clock, log):
        accounts.tell_key(1000, limit_remaining=20)
        accounts.tell_credits(2000, 1990)
        await spend(gateway, "before", NOW_S, 3 * USD)
        await reconcile(gateway)
        clock.advance(3600)
        await spend(gateway, "between", clock.now_s(), 4 * USD)
        accounts.tell_key(1004.001)
        await reconcile(gateway)
        (drift,) = find_drifts(await gateway.ledger.bills.list())
        assert (drift.ours_nano_usd, drift.theirs_nano_usd) == (4 * USD, 4 * USD + USD // 1000)
        assert [one.left_nano_usd for one in await gateway.ledger.bills.list()] == [10 * USD, 10 * USD]
        assert log.events == []


async def test_books_that_do_not_are_a_warning(tmp_path: Path) -> None:
    """With both amounts, detail or not."""
    async with speaking() as accounts, kept(tmp_path, accounts) as (gateway, clock, log):
        accounts.tell_key(1000)
        await spend(gateway, "before", NOW_S, 3 * USD)
        await reconcile(gateway)
        clock.advance(3600)
        await spend(gateway, "between", clock.now_s(), 4 * USD)
        await gateway.ledger.roll_up(clock.now_s() + DAY_S)
        accounts.tell_key(1004.5)
        await reconcile(gateway)
        (event,) = log.events
        assert (event["event"], event["provider"]) == ("books_drift", "openrouter")
        assert (event["booked_usd"], event["billed_usd"]) == ("4.000000000", "4.500000000")


async def test_an_account_is_not_asked_again_at_once(tmp_path: Path) -> None:
    """Servers may start often; another credential is another account."""
    async with speaking() as accounts, kept(tmp_path, accounts) as (gateway, clock, _log):
        accounts.tell_key(5)
        await reconcile(gateway)
        await reconcile(gateway)
        assert len(await gateway.ledger.bills.list()) == 1
        clock.advance(READ_AGAIN_S + 1)
        await reconcile(gateway)
        assert len(await gateway.ledger.bills.list()) == 2
    async with speaking() as accounts, kept(tmp_path, accounts, environ={"ROUTER_KEY": "other"}) as (gateway, *_):
        accounts.tell_key(5)
        gateway.clock.advance(READ_AGAIN_S + 2)  # type: ignore[attr-defined]  # it is a ManualClock
        await reconcile(gateway)
        assert len({one.fingerprint for one in await gateway.ledger.bills.list()}) == 2


async def test_an_account_that_cannot_be_read_is_told_and_nothing_is_kept(tmp_path: Path) -> None:
    """Another hour it may answer."""
    async with kept(tmp_path) as (gateway, _clock, log):
        await reconcile(gateway)
        (event,) = log.events
        assert (event["event"], event["provider"]) == ("account_not_read", "openrouter")
        assert "connection failed" in event["reason"]
        assert not await gateway.ledger.bills.list()


async def test_both_are_jobs_of_the_gateway(tmp_path: Path) -> None:
    """Done by one process per ledger; the first round comes at once."""
    async with speaking() as accounts, kept(tmp_path, accounts) as (gateway, _clock, log):
        accounts.tell_key(5)
        await spend(gateway, "old", NOW_S - 100 * DAY_S, 5)
        jobs = {job.name: job for job in list_upkeep(gateway)}
        assert jobs.keys() == {"retention", "accounts"}
        for job in jobs.values():
            await job.run()
        assert [event["event"] for event in log.events] == ["detail_rolled_up"]
        assert len(await gateway.ledger.bills.list()) == 1
