"""The golden table over sockets: what the client is told, the header and the row are one figure, the one by hand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.ledger.records import AttemptRow
from proxy.usage import CostSource, Usage
from tests.behaviours.gateway import Running, running
from tests.faults import client
from tests.faults.framing import EVENT_STREAM, JSON, Framing, framed
from tests.faults.steps import Ask, Hang, Mode, Outcome, Send, Step
from tests.faults.upstream import FaultUpstream
from tests.money.table import Row, load

ROWS = load()
CASES = [pytest.param(number, id=row.id) for number, row in enumerate(ROWS)]
FREE = "sk-test-without-budget"
USD = Decimal(1_000_000_000)
PIECES = ("request", "image", "search")
"""Prices of one thing each."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Stage:
    """A gateway in front of a vendor that sends what a row says."""

    gateway: Running
    upstream: FaultUpstream


@dataclass
class Told:
    """What a client learns about money."""

    status: int
    headers: dict[str, str]
    usage: dict[str, Any] | None = None
    """The last one of a stream."""

    @property
    def cost_nano_usd(self) -> int | None:
        """Read the amount in the body, to the nano-USD; a provider's own stays as it was, with digits below that."""
        assert self.usage is not None
        cost = self.usage["cost"]
        return None if cost is None else ceil(Decimal(repr(cost)) * USD)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One gateway with a provider and a model for each row."""
    folder: Path = tmp_path_factory.mktemp("golden")
    async with FaultUpstream() as up, running(routes(up.base_url), folder) as gateway:
        yield Stage(gateway, up)


def routes(base_url: str) -> str:
    """Write the routing table of all rows."""
    table = {
        "providers": dict(provider_of(number, base_url) for number in range(len(ROWS))),
        "models": {model_of(number): target_of(number) for number in range(len(ROWS))},
        "defaults": {"retry": {"attempts": 1}},
        "keys": [
            {"name": "app", "key": "{key}", "budget": "$100000/day", "models": ["priced*"]},
            {"name": "free", "key": FREE},
        ],
    }
    return json.dumps(table)


def provider_of(number: int, base_url: str) -> tuple[str, dict[str, Any]]:
    """Give each row a provider with its price; a maker's prices are the catalogue's under the maker's own name."""
    row = ROWS[number]
    account = {"dialect": row.dialect, "base_url": base_url, "api_key": "sk-test-upstream"}
    if row.price is None or row.model is not None:
        return target_of(number).partition("/")[0], account
    return f"vendor{number}", account | {"price": price_of(row.price)}


def target_of(number: int) -> str:
    """Name the one target of a row."""
    row = ROWS[number]
    return f"vendor{number}/recorded" if row.model is None else f"{row.dialect}/{row.model}"


def model_of(number: int) -> str:
    """Name the model of a row; one without a price is nothing for a key with a budget."""
    return f"priced{number}" if ROWS[number].price is not None else f"unpriced{number}"


def price_of(price: Mapping[str, Any]) -> dict[str, Any]:
    """Write a price as routes.yaml has it."""
    written: dict[str, Any] = {name: f"${value}" for name, value in price.items() if name in PIECES}
    written |= {name: f"${value}/M" for name, value in price.items() if isinstance(value, str) and name not in PIECES}
    if "tiers" in price:
        tiers = price["tiers"]
        written["above"] = {str(tier["above"]): price_of({**tier, "above": None}) for tier in tiers}
    if "service_tiers" in price:
        written["service_tiers"] = {name: price_of(row) for name, row in price["service_tiers"].items()}
    return written


def served(row: Row) -> Mode:
    """Send a row's bytes as they are; a client that is to leave is kept waiting behind them."""

    def plan(_ask: Ask) -> Iterator[Step]:
        pieces: list[Step] = [Send(row.raw), *([Hang()] if row.is_left else [])]
        kind = EVENT_STREAM if row.is_stream else JSON
        return framed(pieces, framing=Framing.CHUNKED, content_type=kind, headers=list(row.headers.items()))

    return Mode(f"golden {row.id}", plan, stream=Outcome.ANSWER, json=Outcome.ANSWER)


async def hear(stage: Stage, number: int) -> Told:
    """Ask for a row's answer and read it, or leave where the row says so."""
    row = ROWS[number]
    stage.upstream.replace_script([served(row)])
    payload = client.chat(model_of(number), stream=row.is_stream)
    if row.is_stream:
        payload["stream_options"] = {"include_usage": True}
    key = stage.gateway.key if row.price is not None else FREE
    async with client.call(stage.gateway.url, payload, key=key) as reply:
        await reply.head()
        told = Told(reply.status, reply.headers)
        if row.is_left:
            await anext(aiter(reply.events()))
            await reply.leave()
        elif row.is_stream and reply.status == 200:
            data = [event.data async for event in reply.events() if event.data]
            usages = [chunk["usage"] for chunk in map(json.loads, data[:-1]) if chunk.get("usage")]
            told.usage = usages[-1] if usages else None
        else:
            told.usage = json.loads(await reply.read()).get("usage")
    return told


async def row_of(stage: Stage, told: Told) -> AttemptRow:
    """Wait for the one row of a request."""
    await stage.gateway.settled_rows()
    (row,) = await stage.gateway.gateway.ledger.find_request(told.headers["x-request-id"])
    return row


@pytest.mark.parametrize("number", CASES)
async def test_body_header_and_books_tell_the_bill_by_hand(stage: Stage, number: int) -> None:
    """To the nano-USD; where the figure is counted here, all three tell the same one."""
    row, told = ROWS[number], await hear(stage, number)
    booked = await row_of(stage, told)
    expect_row(row, booked)
    if told.status != 200 or row.is_left:
        return
    if told.usage is not None:
        # What the provider does not charge for has no source in the books, and is told as its own 0.
        source = booked.cost_source or CostSource.REPORTED
        assert (told.cost_nano_usd, told.usage["cost_source"]) == (booked.cost_nano_usd, source)
    if row.is_stream or booked.cost_nano_usd is None:
        assert "x-turnpike-cost" not in told.headers
    else:
        assert told.headers["x-turnpike-cost"] == f"{booked.cost_nano_usd / USD:.9f}"


def expect_row(row: Row, booked: AttemptRow) -> None:
    """Hold a row of the books against one of the table."""
    assert booked.cost_source == row.source
    assert booked.state == ("posted" if row.source else "voided")
    if row.source == "held":
        assert booked.cost_nano_usd == booked.hold_nano_usd
    elif row.local and row.source == "estimated":
        assert booked.cost_nano_usd
        assert booked.usage.output_tokens
    else:
        assert booked.cost_nano_usd == row.nano_usd
        assert plain(booked.usage) == row.tokens
        assert booked.usage.is_byok is row.is_byok


def plain(usage: Usage) -> Mapping[str, Any]:
    """Give the counts above 0, named as the table names them."""
    told = set(Usage._fields) - {"cost_nano_usd", "is_byok", "anomalies"}
    counts = {name.removesuffix("_tokens"): getattr(usage, name) for name in told}
    return {name: count for name, count in counts.items() if count}


async def test_the_budget_is_what_the_rows_add_up_to(stage: Stage) -> None:
    """Whatever was told along the way: nothing stays held, and what is spent is the sum of the rows."""
    for number in (number for number, row in enumerate(ROWS) if row.source == "reported"):
        await row_of(stage, await hear(stage, number))
    rows = [row for row in await stage.gateway.settled_rows() if row.key == "app"]
    (budget,) = await stage.gateway.gateway.ledger.budgets("app", rows[-1].at_s)
    assert budget.held_nano_usd == 0
    assert budget.posted_nano_usd == sum(row.cost_nano_usd or 0 for row in rows) > 0
