"""Name look-ups: shared, bounded in time, remembered for when the name server is silent."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.upstream import resolver
from proxy.upstream.resolver import Address, Resolver

ANSWER = [Address(socket.AF_INET, 6, ("192.0.2.1", 443))]
INFO = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))


class NameServer:
    """Answers as it is told, and counts the questions."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.is_failing = False

    def __call__(self, *_question: object, **_options: object) -> list[Any]:
        self.asked += 1
        self.may_answer.wait()
        if self.is_failing:
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        return [INFO]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    """Put a name server of ours in the system's place, and let nobody hang on it afterwards."""
    server = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server)
    monkeypatch.setattr(resolver, "ADDRESS_S_MAX", 0.0)
    yield server
    server.may_answer.set()


async def test_an_answer_names_address_and_port(names: NameServer) -> None:
    """In the shape sockets take."""
    lookup = Resolver()
    assert await lookup.resolve("api.example", 443) == ANSWER
    lookup.close()


async def test_a_name_is_looked_up_once_however_many_wait(names: NameServer) -> None:
    """And one who leaves takes nothing from the others."""
    lookup = Resolver()
    names.may_answer.clear()
    waiting = [asyncio.create_task(lookup.resolve("api.example", 443)) for _ in range(5)]
    await asyncio.sleep(0.02)
    waiting[0].cancel()
    names.may_answer.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(isinstance(answer, list) for answer in answers[1:])
    assert names.asked == 1
    lookup.close()


async def test_an_answer_is_used_for_a_while_without_asking_again(
    names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is too old."""
    lookup = Resolver()
    monkeypatch.setattr(resolver, "ADDRESS_S_MAX", 30.0)
    for _ in range(3):
        assert await lookup.resolve("api.example", 443) == ANSWER
    assert names.asked == 1
    monkeypatch.setattr(resolver, "ADDRESS_S_MAX", 0.0)
    assert await lookup.resolve("api.example", 443) == ANSWER
    assert names.asked == 2
    lookup.close()


async def test_a_silent_name_server_is_waited_for_a_limited_time(
    names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First no answer and no memory: an error in time; an answer that comes later is remembered."""
    monkeypatch.setattr(resolver, "TIMEOUT_S", 0.02)
    lookup = Resolver()
    names.may_answer.clear()
    with pytest.raises(TimeoutError):
        await lookup.resolve("api.example", 443)
    names.may_answer.set()
    await asyncio.sleep(0.05)
    names.may_answer.clear()
    assert await lookup.resolve("api.example", 443) == ANSWER
    names.may_answer.set()
    await asyncio.sleep(0.02)
    lookup.close()


async def test_an_old_answer_serves_while_the_name_server_fails_but_not_for_ever(
    names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five minutes, then the failure is the answer."""
    lookup = Resolver()
    await lookup.resolve("api.example", 443)
    names.is_failing = True
    assert await lookup.resolve("api.example", 443) == ANSWER
    monkeypatch.setattr(resolver, "STALE_S", -1.0)
    with pytest.raises(socket.gaierror):
        await lookup.resolve("api.example", 443)
    with pytest.raises(socket.gaierror):
        await lookup.resolve("other.example", 443)
    lookup.close()


async def test_only_so_many_names_are_remembered(names: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes first."""
    monkeypatch.setattr(resolver, "NAMES_MAX", 1)
    lookup = Resolver()
    await lookup.resolve("one.example", 443)
    await lookup.resolve("two.example", 443)
    names.is_failing = True
    assert await lookup.resolve("two.example", 443)
    with pytest.raises(socket.gaierror):
        await lookup.resolve("one.example", 443)
    lookup.close()


async def test_a_look_up_not_begun_ends_with_the_resolver(names: NameServer) -> None:
    """Waiting behind busy threads, it is called off."""
    lookup = Resolver()
    names.may_answer.clear()
    count = resolver.THREADS_MAX + 1
    waiting = [asyncio.create_task(lookup.resolve(f"{number}.example", 443)) for number in range(count)]
    await asyncio.sleep(0.02)
    lookup.close()
    names.may_answer.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(answer) for answer in answers].count(asyncio.CancelledError) == 1
