"""A client key that changes while the gateway remembers it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.app import parts
from proxy.errors import LedgerUnavailable
from tests.behaviours.gateway import KEY, Running, running
from tests.faults import client

ROUTES = """
models: {m: simulated/fast}
keys: [{name: app, key: "{key}"}]
providers: {simulated: {first_token: 0ms, speed: 10000/s, length: 2}}
"""


@pytest_asyncio.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Running]:
    """Serve one key."""
    async with running(ROUTES, tmp_path) as gateway:
        yield gateway


async def status(gateway: Running) -> int:
    """Ask once."""
    answer = await client.ask(gateway.url, client.chat("m"), key=gateway.key)
    return answer.status


def edit(gateway: Running, old: str, new: str) -> None:
    """Change the routes file and take it up, as the watcher does."""
    path = gateway.gateway.routes.path
    path.write_text(path.read_text().replace(old, new))
    assert gateway.gateway.routes.reload()


async def test_a_renamed_key_goes_on_without_a_pause(gateway: Running) -> None:
    """The same secret under another name: no request is refused for what the gateway remembers of the old name."""
    assert await status(gateway) == 200
    edit(gateway, "name: app", "name: application")
    await parts.put_in_force(gateway.gateway, gateway.gateway.routes.current)
    assert [await status(gateway) for _ in range(3)] == [200, 200, 200]
    assert {row.key for row in await gateway.settled_rows(4)} == {"app", "application"}


async def test_a_removed_key_is_refused_and_forgotten(gateway: Running) -> None:
    """What is not in the file any more is 401, and let in again when it comes back."""
    assert await status(gateway) == 200
    edit(gateway, f'key: "{KEY}"', "key: sk-another-key")
    await parts.put_in_force(gateway.gateway, gateway.gateway.routes.current)
    assert [await status(gateway) for _ in range(2)] == [401, 401]
    edit(gateway, "key: sk-another-key", f'key: "{KEY}"')
    await parts.put_in_force(gateway.gateway, gateway.gateway.routes.current)
    assert await status(gateway) == 200


async def test_new_keys_wait_for_a_busy_ledger(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit while the ledger does not answer is declared when it does again; nothing ends before that."""
    ledger, tries = gateway.gateway.ledger, 0
    declare = ledger.declare_keys

    async def declare_at_last(keys: Any) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            msg = "ledger.db is locked by another program"
            raise LedgerUnavailable(msg)
        await declare(keys)

    monkeypatch.setattr(ledger, "declare_keys", declare_at_last)
    monkeypatch.setattr(parts, "DECLARE_AGAIN_S", 0.01)
    edit(gateway, "name: app", "name: application")
    await parts.put_in_force_at_last(gateway.gateway)
    assert await status(gateway) == 200
    assert tries == 3
