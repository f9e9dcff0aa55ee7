"""Prices fetched while a gateway serves: when, what a failure changes, and who keeps the price of before."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.app import Gateway, prices
from proxy.app.prices import RETRY_S, PriceRefresher
from proxy.catalogue import REFRESHED_FILE, read_refreshed
from proxy.clock import ManualClock
from proxy.outbound.listing import FetchError
from proxy.routing.table import Provider, Table
from tests.app.house import KEY, ROUTES, opened, settle_in
from tests.app.test_serving import Start

LISTING = {"data": [{"id": "openai/gpt-4o", "pricing": {"prompt": "0.000005", "completion": "0.00002"}}]}
REFRESHING = "prices: {refresh: 24h}\n"
HOUR_S = 3_600.0


@dataclass
class Source:
    """Stands in for OpenRouter."""

    gives: Any = field(default_factory=lambda: LISTING)
    asked: list[str] = field(default_factory=list)

    async def __call__(self, provider: Provider) -> Any:
        self.asked.append(provider.name)
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives


class Log:
    """Keeps what would be logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    warn = info

    def take(self) -> list[str]:
        """Give the events so far and forget them."""
        events = [event for event, _ in self.lines]
        self.lines.clear()
        return events


def refresher_of(gateway: Gateway, source: Source, clock: ManualClock, log: Log) -> PriceRefresher:
    """Make the job of a gateway, with a source, a clock and a log of the test's."""
    return PriceRefresher(
        path=gateway.data / REFRESHED_FILE,
        table=lambda: gateway.routes.current,
        catalogue=gateway.catalogue,
        fetch=source,
        telemetry=log,  # type: ignore[arg-type]  # two of its methods are all that is asked
        clock=clock,
    )


def input_price(table: Table, alias: str = "gpt") -> Decimal | None:
    """Give the input price of an alias's first target."""
    found = table.routes[alias].targets[0].facts.prices
    return found.input if found is not None else None


GPT = ROUTES.replace("models:\n", "models:\n  gpt: openrouter/openai/gpt-4o\n")


async def test_without_the_word_nothing_is_fetched(tmp_path: Path) -> None:
    """And prices fetched earlier are not used."""
    async with opened(tmp_path, GPT) as gateway:
        source = Source()
        await refresher_of(gateway, source, ManualClock(), Log()).refresh()
        assert source.asked == []
        assert not (tmp_path / "data" / REFRESHED_FILE).exists()


async def test_prices_are_fetched_as_often_as_wanted(tmp_path: Path) -> None:
    """The age of the file counts, whoever wrote it: a restart fetches nothing."""
    async with opened(tmp_path, GPT + REFRESHING) as gateway:
        clock, source, log = ManualClock(gateway.clock.now_s()), Source(), Log()
        refresher = refresher_of(gateway, source, clock, log)
        await refresher.refresh()
        assert (source.asked, log.take()) == (["openrouter"], ["prices_refreshed"])
        await refresher.refresh()
        await refresher_of(gateway, source, clock, log).refresh()
        clock.advance(23 * HOUR_S)
        await refresher.refresh()
        assert len(source.asked) == 1
        clock.advance(2 * HOUR_S)
        await refresher.refresh()
        assert len(source.asked) == 2
        os.utime(refresher.path, (clock.now_s() + 25 * HOUR_S,) * 2)  # a clock that was wrong: not for ever
        await refresher.refresh()
        assert len(source.asked) == 3


@pytest.mark.parametrize("gives", [FetchError("the answer was HTTP 503"), {"error": "no"}, {"data": []}], ids=str)
async def test_a_fetch_that_fails_changes_nothing(tmp_path: Path, gives: Any) -> None:
    """It is told once and tried again later, not at every look."""
    async with opened(tmp_path, GPT + REFRESHING) as gateway:
        clock, source, log = ManualClock(gateway.clock.now_s()), Source(gives), Log()
        refresher = refresher_of(gateway, source, clock, log)
        for _ in range(3):
            await refresher.refresh()
        assert (len(source.asked), log.take()) == (1, ["prices_not_refreshed"])
        assert not refresher.path.exists()
        clock.advance(RETRY_S)
        source.gives = LISTING
        await refresher.refresh()
        assert log.take() == ["prices_refreshed"]


async def test_a_full_disk_is_told_without_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests go on."""

    def full(*_given: object, **_more: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(prices, "write_refreshed", full)
    async with opened(tmp_path, GPT + REFRESHING) as gateway:
        log = Log()
        await refresher_of(gateway, Source(), ManualClock(), log).refresh()
        ((event, told),) = log.lines
        assert (event, told["reason"]) == ("prices_not_refreshed", "cannot be written (No space left on device)")


async def test_refused_rows_are_named_and_the_rest_is_taken(tmp_path: Path) -> None:
    """A model that was paid for is not free because a list says so; what varies keeps its price."""
    data = [
        *LISTING["data"],
        {"id": "openai/gpt-4o-mini", "pricing": {"prompt": "0", "completion": "0"}},
        {"id": "anthropic/claude-sonnet-4.5", "pricing": {"prompt": "-1", "completion": "-1"}},
        {"id": "nobody/knows", "pricing": {"prompt": "0", "completion": "0"}},
    ]
    async with opened(tmp_path, GPT + REFRESHING) as gateway:
        log = Log()
        refresher = refresher_of(gateway, Source({"data": data}), ManualClock(gateway.clock.now_s()), log)
        await refresher.refresh()
        (_, done), (event, refused) = log.lines
        assert done == {"models": 2, "refused": 2}
        assert (event, len(refused["models"])) == ("prices_refused", 2)
        assert gateway.routes.reload()
        assert input_price(gateway.routes.current) == Decimal(5)
        kept = gateway.catalogue.find("openrouter", "openai/gpt-4o-mini").prices
        assert kept is not None
        assert kept.input == Decimal("0.15")


async def test_every_process_sees_what_one_has_fetched(tmp_path: Path) -> None:
    """By the file alone: here the other gateway has no job of its own."""
    async with opened(tmp_path, GPT + REFRESHING) as gateway:
        assert input_price(gateway.routes.current) == Decimal("2.5")
        told = asyncio.Event()

        async def on_change(_routes: object) -> None:
            told.set()

        watch = asyncio.create_task(gateway.routes.watch(on_change))
        await refresher_of(gateway, Source(), ManualClock(gateway.clock.now_s()), Log()).refresh()
        await asyncio.wait_for(told.wait(), 5)
        assert input_price(gateway.routes.current) == Decimal(5)
        watch.cancel()
        await asyncio.wait({watch})


async def test_a_server_fetches_while_it_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the provider's own address, within a moment of its start; then the models it lists have that price."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + json.dumps(LISTING).encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    listing = await asyncio.start_server(answer, "127.0.0.1", 0)
    base_url = f"http://127.0.0.1:{listing.sockets[0].getsockname()[1]}/api/v1"
    routes = GPT.replace("providers:\n", f"providers:\n  openrouter: {{base_url: '{base_url}', api_key: sk-or-x}}\n")
    settings = settle_in(tmp_path, routes + REFRESHING)
    async with Start(settings).running() as address, httpx.AsyncClient() as client:
        async with asyncio.timeout(10):
            while True:
                reply = await client.get(f"{address}/api/v1/models/gpt", headers={"authorization": f"Bearer {KEY}"})
                if reply.status_code == 200 and reply.json()["data"]["pricing"]["prompt"] == "0.000005":
                    break
                await asyncio.sleep(0.05)
    listing.close()
    found = read_refreshed(settings.data / REFRESHED_FILE)
    assert found is not None
    assert list(found.rows) == ["openai/gpt-4o"]
