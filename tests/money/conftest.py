"""A gateway for each test of another gateway's bug."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.behaviours.gateway import running
from tests.faults.upstream import FaultUpstream
from tests.money.stage import ROUTES, Stage


@pytest_asyncio.fixture
async def played(tmp_path: Path) -> AsyncIterator[Stage]:
    """Serve all providers from one upstream."""
    async with FaultUpstream() as up, running(ROUTES.format(up=up.base_url), tmp_path) as gateway:
        yield Stage(gateway, up)
