"""Commands' way to the ledger (part of `cli`, floor 7): the same files a server may be using at this moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import typer

from proxy.app import open_ledger
from proxy.cli.places import LEDGER, Places
from proxy.errors import ClientError, LedgerUnavailable
from proxy.ledger.protocol import Ledger
from proxy.ledger.registry import Deed

T = TypeVar("T")
CLI = "cli"
"""Who does what a command does, in the audit log."""


def ask_ledger(places: Places, question: Callable[[Ledger], Awaitable[T]], *, may_begin: bool = False) -> T:
    """Open the ledger, ask, close it; raises `LedgerUnavailable` when there is none, unless this may begin one."""
    if not may_begin:
        expect_ledger(places)
    return asyncio.run(_ask(places, question))


def ask_registry(places: Places, deed: Deed[T], *, may_begin: bool = False) -> T:
    """Run a deed on the ledger; raises `BadParameter` for what was wished wrongly, `RequestError` when refused."""

    async def write(ledger: Ledger) -> T:
        return await ledger.registry.write(deed)

    try:
        return ask_ledger(places, write, may_begin=may_begin)
    except ClientError as error:
        if error.status != ClientError.status:
            raise
        raise typer.BadParameter(error.message) from error


def expect_ledger(places: Places) -> None:
    """Raise `LedgerUnavailable` when there is no ledger, before anything makes one."""
    if not (places.data / LEDGER).exists():
        raise LedgerUnavailable(
            f"there is no ledger in {places.data}; name the right folder with --data, "
            "or make a key (`turnpike keys create NAME`) or start a server to begin one"
        )


async def _ask(places: Places, question: Callable[[Ledger], Awaitable[T]]) -> T:
    ledger = await open_ledger(places.data)
    try:
        return await question(ledger)
    finally:
        await ledger.close()
