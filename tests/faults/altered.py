"""The real command on a disk that fails when told to, or with a clock that is ahead of everybody's.

    async with altered(ROUTES, folder, clock_ahead_s=3600) as server:
        server.spoil(Fault.SYNC)

The server is a process of its own: `python -m tests.faults.altered FOLDER SECONDS serve ...`. Its disk fails as long as
a file of the fault's name lies in the folder.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path

from proxy import clock
from proxy.cli.main import run
from tests.faults.disk import Disk
from tests.faults.serving import TurnpikeServer


class Fault(StrEnum):
    """What the disk can do."""

    SYNC = "sync-fails"
    FULL = "disk-is-full"


class AlteredServer(TurnpikeServer):
    """A server whose disk or clock is not as it should be."""

    def __init__(self, routes: str, folder: Path, *, clock_ahead_s: float = 0.0) -> None:
        super().__init__(routes, folder)
        self._faults = folder
        self._clock_ahead_s = clock_ahead_s

    @property
    def command(self) -> list[str]:
        """The command line."""
        module = [sys.executable, "-m", "tests.faults.altered", str(self._faults), str(self._clock_ahead_s)]
        return [*module, *super().command[1:]]

    def spoil(self, fault: Fault) -> None:
        """Let the disk fail from now on."""
        (self._faults / fault).touch()

    def mend(self, fault: Fault) -> None:
        """Let it be well again."""
        (self._faults / fault).unlink()


@asynccontextmanager
async def altered(routes: str, folder: Path, *, clock_ahead_s: float = 0.0) -> AsyncIterator[AlteredServer]:
    """Run `turnpike serve` with an altered disk and clock; it is ended with SIGTERM on exit."""
    server = AlteredServer(routes, folder, clock_ahead_s=clock_ahead_s)
    await server.start()
    try:
        yield server
    finally:
        await server.terminate()


def main(arguments: Sequence[str]) -> int:
    """Alter disk and clock, then do what the rest of the arguments say."""
    faults, ahead_s = Path(arguments[0]), float(arguments[1])
    if ahead_s:
        clock.SystemClock.now_s = staticmethod(lambda: time.time() + ahead_s)
    disk = Disk(faults, is_noting=False)
    disk.fails_to_sync = (faults / Fault.SYNC).exists
    disk.is_full = (faults / Fault.FULL).exists
    with disk:
        return run(arguments[2:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
