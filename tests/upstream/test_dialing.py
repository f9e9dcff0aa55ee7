"""Several addresses for one name: one that is broken or silent costs a moment, and nothing stays open behind us."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from urllib.parse import urlsplit

import pytest

from proxy.upstream import dialing
from proxy.upstream.connection import Connection
from proxy.upstream.dialing import Dialer, connect, interleave, is_address, make_context
from proxy.upstream.faults import NameFault
from proxy.upstream.request import Origin
from proxy.upstream.resolver import Address
from tests.faults.ports import blackhole_port, closed_port
from tests.upstream.conftest import answering, raw_server

LONG_S = 5.0


def at(base_url: str) -> Address:
    """Give the address of a server."""
    return Address(socket.AF_INET, socket.IPPROTO_TCP, ("127.0.0.1", urlsplit(base_url).port))


def v4(number: int) -> Address:
    """Make an address of the old family."""
    return Address(socket.AF_INET, 6, (f"192.0.2.{number}", 443))


def v6(number: int) -> Address:
    """Make an address of the new family."""
    return Address(socket.AF_INET6, 6, (f"2001:db8::{number}", 443, 0, 0))


def test_families_take_turns() -> None:
    """The system's favourite first, its order kept within each."""
    assert interleave([v6(1), v6(2), v6(3), v4(1)]) == [v6(1), v4(1), v6(2), v6(3)]
    assert interleave([v4(1), v4(2)]) == [v4(1), v4(2)]


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("::1", True), ("api.example", False), ("1.2.3", False)]
)
def test_an_address_is_not_looked_up(host: str, *, expected: bool) -> None:
    """Nor is a name taken for one."""
    assert is_address(host) is expected


async def test_a_refused_address_is_followed_by_the_next_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for its turn."""
    monkeypatch.setattr(dialing, "NEXT_ADDRESS_S", LONG_S)
    began_at = time.monotonic()
    with closed_port() as refusing:
        async with raw_server(answering(b"")) as base_url:
            sock = await connect([at(refusing), at(base_url)])
            assert sock.getpeername() == at(base_url).sockaddr
            sock.close()
    assert time.monotonic() - began_at < LONG_S / 2


async def test_a_silent_address_is_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its moment."""
    monkeypatch.setattr(dialing, "NEXT_ADDRESS_S", 0.02)
    with blackhole_port() as silent:
        async with raw_server(answering(b"")) as base_url:
            sock = await connect([at(silent), at(silent), at(base_url)])
            assert sock.getpeername() == at(base_url).sockaddr
            sock.close()


async def test_the_first_fault_is_told_when_no_address_answers() -> None:
    """All of them were tried."""
    with closed_port() as one, closed_port() as two, pytest.raises(ConnectionRefusedError):
        await connect([at(one), at(two)])


async def test_no_address_at_all_is_a_fault() -> None:
    """As a resolver might say."""
    with pytest.raises(NameFault):
        await connect([])


async def test_a_cancelled_race_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets are closed, also that of a try which had just succeeded."""
    monkeypatch.setattr(dialing, "NEXT_ADDRESS_S", LONG_S)
    made: list[socket.socket] = []
    make = dialing.make_socket

    def note(address: Address) -> socket.socket:
        made.append(make(address))
        return made[-1]

    monkeypatch.setattr(dialing, "make_socket", note)
    with blackhole_port() as silent:
        async with raw_server(answering(b"")) as base_url:
            for addresses, turns in (([at(silent), at(base_url)], 3), ([at(base_url), at(silent)], 1)):
                for _ in range(turns, turns + 4):
                    racing = asyncio.create_task(connect(addresses))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    racing.cancel()
                    for sock in await asyncio.gather(racing, return_exceptions=True):
                        if isinstance(sock, socket.socket):
                            sock.close()
            await asyncio.sleep(0.02)
    assert made
    assert [sock for sock in made if sock.fileno() != -1] == []


def test_certificates_are_checked_unless_told_otherwise() -> None:
    """Name and signature; only HTTP/1.1 is offered."""
    strict, trusting = make_context(verify=True), make_context(verify=False)
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (trusting.verify_mode, trusting.check_hostname) == (ssl.CERT_NONE, False)


# ---------------------------------------------------------------- contexts


CALLS = 100


class Maker:
    """Stands in for `make_context`: counts, and takes as long as it is held."""

    def __init__(self) -> None:
        self.made: list[bool] = []
        self.held = threading.Event()

    def __call__(self, *, verify: bool) -> ssl.SSLContext:
        self.made.append(verify)
        assert self.held.wait(LONG_S)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Maker:
    """Give one, in force."""
    made = Maker()
    monkeypatch.setattr(dialing, "make_context", made)
    return made


def call(dialer: Dialer, base_url: str, *, verify: bool = True) -> asyncio.Task[Connection]:
    """Dial a server that speaks no TLS: what fails is the handshake, behind the context."""
    port = urlsplit(base_url).port
    assert port is not None
    origin = Origin(is_tls=True, host="127.0.0.1", port=port, verify=verify)
    return asyncio.create_task(dialer.dial(origin, lambda _: None))


async def turns(count: int = 20) -> None:
    """Let the others go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_burst_of_first_calls_makes_one_context(maker: Maker) -> None:
    """Each takes a core for 50 ms; those that do not check certificates share another."""
    dialer = Dialer()
    with closed_port() as refusing:
        calls = [call(dialer, refusing, verify=index % 2 == 0) for index in range(CALLS)]
        await turns()
        assert not any(task.done() for task in calls)
        maker.held.set()
        faults = await asyncio.gather(*calls, return_exceptions=True)
        later = await asyncio.gather(call(dialer, refusing), return_exceptions=True)
    assert sorted(maker.made) == [False, True]
    assert {type(fault) for fault in (*faults, *later)} == {ConnectionRefusedError}
    dialer.close()


@pytest.mark.parametrize("leaving", [1, CALLS // 2, CALLS])
async def test_a_caller_that_gives_up_spoils_no_other(maker: Maker, leaving: int) -> None:
    """The first, some, or all of them: whoever waits, or comes later, gets the context that is being made."""
    dialer = Dialer()
    with closed_port() as refusing:
        calls = [call(dialer, refusing) for _ in range(CALLS)]
        await turns()
        for task in calls[:leaving]:
            task.cancel()
        gone = await asyncio.gather(*calls[:leaving], return_exceptions=True)
        calls.append(call(dialer, refusing))
        await turns()
        maker.held.set()
        faults = await asyncio.gather(*calls[leaving:], return_exceptions=True)
    assert {type(fault) for fault in gone} == {asyncio.CancelledError}
    assert {type(fault) for fault in faults} == {ConnectionRefusedError}
    assert maker.made == [True]
    dialer.close()


async def test_a_context_that_could_not_be_made_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files is no lasting state."""
    made: list[bool] = []

    def make(*, verify: bool) -> ssl.SSLContext:
        made.append(verify)
        if len(made) == 1:
            raise OSError("too many open files")
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    monkeypatch.setattr(dialing, "make_context", make)
    dialer = Dialer()
    with closed_port() as refusing:
        await asyncio.gather(call(dialer, refusing), return_exceptions=True)
        (fault,) = await asyncio.gather(call(dialer, refusing), return_exceptions=True)
    dialer.close()
    assert isinstance(fault, ConnectionRefusedError)
