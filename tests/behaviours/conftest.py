"""The stage on which OpenRouter's fields are played."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.behaviours.gateway import running
from tests.behaviours.openrouter import GOOD, PRICE, ROUTES, Stage
from tests.faults.upstream import FaultUpstream


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One gateway for all."""
    folder = tmp_path_factory.mktemp("openrouter-requests")
    async with (
        FaultUpstream() as router,
        FaultUpstream() as one,
        FaultUpstream() as two,
        FaultUpstream() as claude,
        FaultUpstream() as gemini,
    ):
        ups = {"router": router, "one": one, "two": two, "claude": claude, "gemini": gemini}
        routes = ROUTES.format(**{name: up.base_url for name, up in ups.items()}, price=PRICE)
        async with running(routes, folder) as gateway:
            yield Stage(gateway, ups)


@pytest.fixture
def stage(served: Stage) -> Stage:
    """Begin with good upstreams that have been asked nothing."""
    for name, up in served.ups.items():
        up.replace_script([GOOD[name]])
        up.exchanges.clear()
    return served
