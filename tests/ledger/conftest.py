"""The books under test: each contract test runs on every kind of ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.ledger.records import Ledger
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
