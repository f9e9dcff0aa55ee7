"""The admin key's guard: what is counted, for whom, and for how long."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from proxy.clock import ManualClock
from proxy.edge import guard as guarding
from proxy.edge.guard import Guard
from proxy.errors import ClientError, RateLimited, Unauthenticated
from proxy.ledger.memory import MemoryLedger

KEY = "sk-tp-admin-1234567890"


class Door:
    """A guard and the books it writes into."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.ledger = MemoryLedger(clock=self.clock)
        self.guard = Guard(KEY, registry=self.ledger.registry, clock=self.clock)

    async def knock(self, key: str = "wrong", address: str | None = "10.0.0.1") -> str:
        """Try a key; gives who was let in, or why not."""
        try:
            return (await self.guard.admit(a_request(key, address))).actor
        except (RateLimited, Unauthenticated) as error:
            return error.code

    async def noted(self) -> int:
        """Count what was written down."""
        return len(await self.ledger.registry.read(lambda store: store.list_entries(after_seq=0, rows_max=9_999)))


def a_request(key: str | None, address: str | None = "10.0.0.1") -> Request:
    """Make a request with a key."""
    headers = [] if key is None else [(b"authorization", f"Bearer {key}".encode())]
    client = None if address is None else (address, 5)
    return Request({"type": "http", "method": "GET", "path": "/admin/keys", "headers": headers, "client": client})


async def test_an_address_waits_until_its_oldest_failure_is_a_minute_old() -> None:
    """Others do not; the right key waits as well."""
    door = Door()
    for _ in range(guarding.FAILURES_MAX):
        assert await door.knock() == "invalid_api_key"
        door.clock.advance(1.0)
    assert await door.knock(KEY) == "rate_limit_exceeded"
    assert not door.guard.holds(a_request(KEY))
    assert await door.knock(KEY, "10.0.0.2") == "admin"
    door.clock.advance(guarding.WINDOW_S - guarding.FAILURES_MAX)
    assert await door.knock(KEY) == "admin"


async def test_a_missing_key_is_no_guess() -> None:
    """Nor are two of them."""
    door = Door()
    for _ in range(guarding.FAILURES_MAX + 1):
        with pytest.raises(Unauthenticated):
            await door.guard.admit(a_request(None))
    twice = a_request(KEY)
    twice.scope["headers"].append((b"authorization", b"Bearer x"))
    with pytest.raises(ClientError, match="more than once"):
        await door.guard.admit(twice)
    assert not door.guard.holds(twice)
    assert await door.knock(KEY) == "admin"
    assert await door.noted() == 0


async def test_strangers_cannot_fill_the_audit_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many lines a minute, from however many addresses; memory has an end too."""
    monkeypatch.setattr(guarding, "NOTED_MAX", 5)
    monkeypatch.setattr(guarding, "ADDRESSES_MAX", 3)
    door = Door()
    for number in range(9):
        await door.knock(address=f"10.0.0.{number}")
    assert await door.noted() == 5
    door.clock.advance(guarding.WINDOW_S)
    await door.knock(address=None)
    assert await door.noted() == 6
