"""The books under test: each contract test runs on every kind of ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.ledger import committer
from proxy.ledger.protocol import Ledger
from proxy.ledger.sqlite import SqliteLedger
from tests.ledger.entries import key
from tests.ledger.faults import Faults
from tests.ledger.houses import House, MemoryHouse, SqliteHouse


@pytest.fixture(params=["memory", "sqlite"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    """Books that several processes may open."""
    house: House = MemoryHouse() if request.param == "memory" else SqliteHouse(tmp_path)
    yield house
    await house.close()


@pytest.fixture
async def ledger(house: House) -> Ledger:
    """Empty books."""
    return await house.open()


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """What the writer's store will do wrong, nothing yet; trouble is retried fast."""
    faults = Faults()
    monkeypatch.setattr("proxy.ledger.sqlite.connect", faults.connect)
    monkeypatch.setattr(committer, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(committer, "BACKOFF_S_MAX", 0.02)
    return faults


@pytest.fixture
async def shaky_house(tmp_path: Path) -> AsyncIterator[SqliteHouse]:
    """A data folder for a store that will fail."""
    house = SqliteHouse(tmp_path)
    yield house
    await house.close()


@pytest.fixture
async def shaky(shaky_house: SqliteHouse, faults: Faults) -> SqliteLedger:
    """Books on a store with faults, with one key that may spend 100."""
    ledger = await shaky_house.open()
    await ledger.declare_keys([key(limit=100)])
    return ledger


@pytest.fixture
async def house_ledgers(house: House) -> list[Ledger]:
    """Two processes on the same empty books."""
    return [await house.open(), await house.open()]
