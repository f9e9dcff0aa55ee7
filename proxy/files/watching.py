"""The table in use, and its renewal when its file changes (part of `files`, floor 2).

The folder is watched and not the file: editors, deployments and ConfigMaps replace files by rename or by swapping a
symbolic link. Events only wake the watcher; what counts is whether the file or `.env` is another than the one read
last. What the system does not announce (a link into another folder, a network mount) a slow poll finds.

A change is read once it has come to rest, checked whole, and takes the place of the old table in one assignment; a
request that began under the old one keeps it. A bad file changes nothing but `problem`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path

from watchfiles import awatch

from proxy.clock import Clock
from proxy.errors import ConfigError
from proxy.files.loading import DEFAULT_PATH, DOTENV, load_table
from proxy.routing.table import Catalogue, Table

POLL_S = 1.0
"""How long a change that nobody announces can go unseen."""
SETTLE_S = 0.05
SETTLE_ROUNDS_MAX = 20
"""A file is read when it has not changed for SETTLE_S, or after this many rounds of waiting for that."""
GROUP_MS_MAX = 400
"""Events of one edit that are taken together."""

OnChange = Callable[["RoutesFile"], Awaitable[None]]
Stamp = tuple[object, ...]


class RoutesFile:
    """Holds the current table behind one reference."""

    def __init__(self, path: Path | None, *, environ: Mapping[str, str], catalogue: Catalogue, clock: Clock) -> None:
        """Load the first table; raises ConfigError, because without one there is nothing to keep.

        Without a path it is routes.yaml of the working folder, which may also appear later.
        """
        self.path = path or DEFAULT_PATH
        """The file that is watched."""
        self._may_be_absent = path is None and not DEFAULT_PATH.exists()
        self._environ = environ
        self._catalogue = catalogue
        self._clock = clock
        self._stamp = self._read_stamp()
        self.current: Table = self._load()
        """What the next request is planned with."""
        self.problem: ConfigError | None = None
        """Why the newest edit is not in use, None when it is."""
        self.loaded_at_s = clock.now_s()
        """When `current` was loaded, seconds since the epoch."""

    @property
    def is_stale(self) -> bool:
        """Tell whether the file says something else than the table in use."""
        return self.problem is not None

    def reload(self) -> bool:
        """Read everything again and swap; False when it cannot be used: `problem` then says why, `current` stays."""
        self._stamp = self._read_stamp()
        # Once it was there, a file that is gone is a finding and no reason to serve something else.
        self._may_be_absent = self._may_be_absent and not self.path.exists()
        try:
            table = self._load()
        except ConfigError as error:
            self.problem = error
            return False
        self.current, self.problem, self.loaded_at_s = table, None, self._clock.now_s()
        return True

    async def watch(self, on_change: OnChange) -> None:
        """Reload whenever the file, `.env` or the catalogue changes, and tell each time; runs until cancelled."""
        async with contextlib.aclosing(_wake_ups(self.path.parent)) as wake_ups:
            async for _ in wake_ups:
                if self._read_stamp() != self._stamp:
                    await self._settle()
                    await asyncio.to_thread(self.reload)
                    await on_change(self)

    async def _settle(self) -> None:
        stamp = self._read_stamp()
        for _ in range(SETTLE_ROUNDS_MAX):
            await asyncio.sleep(SETTLE_S)
            before, stamp = stamp, self._read_stamp()
            if stamp == before:
                return

    def _load(self) -> Table:
        path = None if self._may_be_absent else self.path
        return load_table(path, environ=self._environ, catalogue=self._catalogue)

    def _read_stamp(self) -> Stamp:
        return (*(_stamp(path) for path in (self.path, self.path.parent / DOTENV)), *self._catalogue.stamp())


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Tell one state of a file from another, None when there is none; the change time betrays even kept dates."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


async def _wake_ups(folder: Path) -> AsyncGenerator[None]:
    """Wake on every event in the folder and every POLL_S; only by the clock where events cannot be had."""
    poll_ms = int(POLL_S * 1000)
    with contextlib.suppress(OSError, RuntimeError):  # no such folder, no watches left, or the watcher gave up
        events = awatch(
            folder,
            recursive=False,
            watch_filter=None,
            debounce=GROUP_MS_MAX,
            rust_timeout=poll_ms,
            yield_on_timeout=True,
        )
        async with contextlib.aclosing(events):
            async for _ in events:
                yield
    while True:
        yield
        await asyncio.sleep(POLL_S)
