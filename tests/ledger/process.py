"""A process of its own on a data folder, for tests: `python -m tests.ledger.process DATA_DIR DUTY [COUNT]`.

It says on stdout what it has done, one word a line, so that a test knows what was durable when it kills it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import time
from pathlib import Path

from proxy.clock import ManualClock
from proxy.ledger.records import Admitted
from proxy.ledger.sqlite import SqliteLedger
from tests.ledger.entries import ask, over, posted

PATIENCE_S = 50


def say(word: str) -> None:
    """Tell the test."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def open_once(data_dir: Path, _count: int) -> None:
    """Open and close, as a start without requests does, saying before that it is about to."""
    say("ready")
    ledger = await SqliteLedger.open(data_dir, clock=ManualClock())
    await ledger.close()


async def hold(data_dir: Path, count: int) -> None:
    """Hold so many requests, then wait to be killed."""
    ledger = await SqliteLedger.open(data_dir, clock=ManualClock())
    for number in range(count):
        outcome = await ledger.admit(ask(f"held-{number}", 10))
        assert isinstance(outcome, Admitted)
        say(outcome.request_id)
    say("ready")
    await asyncio.sleep(PATIENCE_S)


async def rush(data_dir: Path, count: int) -> None:
    """Ask for so many admissions at once as soon as told to, and say how many came in."""
    ledger = await SqliteLedger.open(data_dir, clock=ManualClock())
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    outcomes = await asyncio.gather(*(ledger.admit(ask(f"rush-{number}", 10)) for number in range(count)))
    say(str(sum(isinstance(outcome, Admitted) for outcome in outcomes)))
    await ledger.close()


async def work(data_dir: Path, count: int) -> None:
    """Admit and settle for ever, several requests at a time, saying every id once it is durable."""
    ledger = await SqliteLedger.open(data_dir, clock=ManualClock())
    say("ready")

    async def serve(worker: int) -> None:
        for number in range(sys.maxsize):
            outcome = await ledger.admit(ask(f"work-{worker}-{number}", 10))
            assert isinstance(outcome, Admitted)
            say(f"admitted {outcome.request_id}")
            await ledger.settle(over(outcome.request_id, posted(1, 3)))
            say(f"settled {outcome.request_id}")

    await asyncio.gather(*(serve(worker) for worker in range(count)))


async def lock(data_dir: Path, count: int) -> None:
    """Lock the file for so many milliseconds, past the turnstile, as a careless program would."""
    with contextlib.closing(sqlite3.connect(data_dir / "ledger.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        say("ready")
        time.sleep(count / 1000)  # noqa: ASYNC251  # nobody else is on this loop
        connection.execute("COMMIT")
    say("released")


DUTIES = {"open": open_once, "hold": hold, "rush": rush, "work": work, "lock": lock}

if __name__ == "__main__":
    asyncio.run(DUTIES[sys.argv[2]](Path(sys.argv[1]), int(sys.argv[3])))
