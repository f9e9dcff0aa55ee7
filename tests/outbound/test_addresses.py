"""Names to addresses: what a name server says is believed once, and only when all of it may be called."""

from __future__ import annotations

import asyncio
import socket

import pytest

from proxy.outbound import addresses
from proxy.outbound.addresses import ADDRESSES_MAX, AddressRefused, Resolve, ask_system, find_addresses


def saying(*answers: str | list[str]) -> tuple[Resolve, list[str]]:
    """A name server that gives these answers in turn, and the names it was asked for."""
    asked: list[str] = []
    left = [[one] if isinstance(one, str) else one for one in answers]

    async def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return left.pop(0)

    return resolve, asked


async def test_a_public_name_is_asked_for_once() -> None:
    """What comes back is what will be connected to, without what stands twice, and not too much of it."""
    many = [f"8.8.8.{number}" for number in range(9)]
    resolve, asked = saying(["8.8.8.0", *many])
    assert await find_addresses("hooks.example", 443, allow_private=False, resolve=resolve) == many[:ADDRESSES_MAX]
    assert asked == ["hooks.example"]


async def test_a_literal_address_is_not_asked_for() -> None:
    """It is judged as it stands."""
    resolve, asked = saying()
    assert await find_addresses("8.8.8.8", 443, allow_private=False, resolve=resolve) == ["8.8.8.8"]
    assert await find_addresses("::1", 443, allow_private=True, resolve=resolve) == ["::1"]
    with pytest.raises(AddressRefused, match="its host is not a public address"):
        await find_addresses("10.0.0.1", 443, allow_private=False, resolve=resolve)
    assert asked == []


@pytest.mark.parametrize(
    "found",
    [
        ["10.0.0.1"],
        ["8.8.8.8", "127.0.0.1"],
        ["::ffff:192.168.0.1"],
        ["64:ff9b::a9fe:a9fe"],
        ["169.254.169.254"],
        ["fe80::1%2"],
    ],
)
async def test_a_name_that_leads_inside_is_refused(found: list[str]) -> None:
    """One such address among good ones is enough: the next connection might take it."""
    resolve, _ = saying(found)
    with pytest.raises(AddressRefused, match="its name leads to what is") as caught:
        await find_addresses("rebound.example", 443, allow_private=False, resolve=resolve)
    assert "rebound" not in str(caught.value)


async def test_private_names_are_the_operators_choice_but_for_some() -> None:
    """Not where a cloud keeps a machine's credentials."""
    resolve, _ = saying("10.0.0.1", "169.254.169.254")
    assert await find_addresses("mattermost", 80, allow_private=True, resolve=resolve) == ["10.0.0.1"]
    with pytest.raises(AddressRefused, match="nothing may be sent to"):
        await find_addresses("mattermost", 80, allow_private=True, resolve=resolve)


async def test_a_name_without_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown, empty, too long a label, or a name server that does not answer."""
    monkeypatch.setattr(addresses, "RESOLVE_S_MAX", 0.01)

    async def fail(_host: str, _port: int) -> list[str]:
        raise socket.gaierror

    async def choke(_host: str, _port: int) -> list[str]:
        raise UnicodeError

    async def hang(_host: str, _port: int) -> list[str]:
        await asyncio.sleep(60)
        return []

    for resolve in (fail, choke, hang):
        with pytest.raises(AddressRefused, match="cannot be resolved"):
            await find_addresses("hooks.example", 443, allow_private=False, resolve=resolve)
    nobody, _ = saying([[]][0])
    with pytest.raises(AddressRefused, match="has no address"):
        await find_addresses("hooks.example", 443, allow_private=False, resolve=nobody)


async def test_the_system_knows_loopback() -> None:
    """Without a network."""
    assert "127.0.0.1" in await ask_system("127.0.0.1", 80)
