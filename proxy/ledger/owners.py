"""Which processes live (floor 2): each holds a lock on its own file for life and signs its holds with that file's name.

A name is random and never used again, so neither a process number that comes back nor a fork can be mistaken for
its bearer. Whoever gets a file's lock knows that its bearer is dead. A missing file counts as dead too: a living
process makes sure of its own before its first hold, and removes it only after its last.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from proxy.ledger.locks import FileLock
from proxy.ledger.progress import find_progress, remove_progress

_SUFFIX = ".lock"


class Owner:
    """This process's own name and the lock that proves its life."""

    def __init__(self, folder: Path) -> None:
        """Take a fresh name."""
        self.id = secrets.token_hex(8)
        self.progress = find_progress(folder, self.id)
        self._lock = _claim(folder / f"{self.id}{_SUFFIX}")
        self._lock.write(f"process {os.getpid()}\n")

    def retire(self) -> None:
        """Die in order: nothing will be written under this name any more."""
        if self._lock.is_open:
            remove_progress(self.progress)
        self._lock.remove()

    def abandon(self) -> None:
        """Die as a killed process does: the file stays, its lock does not."""
        self._lock.close()


class DeadOwner:
    """A name whose bearer is dead; its lock is ours until we let go, so nobody else resolves it meanwhile."""

    def __init__(self, folder: Path, owner_id: str, lock: FileLock | None) -> None:
        self.id = owner_id
        self.progress = find_progress(folder, owner_id)
        """Where its last word on its attempts is, if there is one."""
        self._lock = lock

    def bury(self) -> None:
        """Remove its files: nothing is pending under this name any more."""
        remove_progress(self.progress)
        if self._lock is not None:
            self._lock.remove()

    def release(self) -> None:
        """Leave it to the next one who looks."""
        if self._lock is not None:
            self._lock.close()


@contextmanager
def seize_dead(folder: Path, pending: Iterable[str]) -> Iterator[list[DeadOwner]]:
    """Find the dead among those who have a file or something pending; let go of all of them at the end."""
    names = {path.stem for path in folder.glob(f"*{_SUFFIX}")}
    dead = []
    with ExitStack() as stack:
        for name in sorted(names.union(pending)):
            owner = _seize(folder, name)
            if owner is not None:
                stack.callback(owner.release)
                dead.append(owner)
        yield dead


def _claim(path: Path) -> FileLock:
    while True:
        lock = FileLock(path)
        lock.acquire()
        # Between opening and locking it, somebody may have taken us for dead and removed the file.
        if lock.is_in_place():
            return lock
        lock.close()


def _seize(folder: Path, name: str) -> DeadOwner | None:
    try:
        lock = FileLock(folder / f"{name}{_SUFFIX}", is_created=False)
    except FileNotFoundError:
        return DeadOwner(folder, name, None)
    with ExitStack() as stack:
        stack.callback(lock.close)
        if lock.try_acquire():
            stack.pop_all()
            return DeadOwner(folder, name, lock)
    return None
