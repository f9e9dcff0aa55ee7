"""Advisory file locks between processes, and the turnstile made of two of them (floor 2).

`flock` belongs to an open file, so two openings exclude each other within one process too, and the kernel lets go of it
when the process dies, however it dies: that is what tells a dead process from a living one. A forked child would share
its parent's locks and keep them alive, so every lock is closed in a child.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path
from types import TracebackType
from typing import Self

_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_CLOSED = -1


class FileLock:
    """One opening of a lock file; it holds nothing until acquired."""

    def __init__(self, path: Path, *, is_created: bool = True) -> None:
        """Open the file, mode 0600; FileNotFoundError when it is not to be created and not there."""
        self._path = path
        self._file = os.open(path, _FLAGS | (os.O_CREAT if is_created else 0), 0o600)
        _open_locks.add(self)

    def acquire(self) -> None:
        """Wait until it is ours; those who wait are let in one by one."""
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def try_acquire(self) -> bool:
        """Take it if nobody has it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Let the next one in."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    @property
    def is_open(self) -> bool:
        """Tell whether it was not closed yet."""
        return self._file != _CLOSED

    def is_in_place(self) -> bool:
        """Tell whether the path still leads to the file we have open, and was not removed or replaced."""
        try:
            return os.path.samestat(os.fstat(self._file), self._path.stat())
        except FileNotFoundError:
            return False

    def write(self, text: str) -> None:
        """Say something to people who look into the file; it means nothing to us."""
        os.truncate(self._file, 0)
        os.pwrite(self._file, text.encode(), 0)

    def remove(self) -> None:
        """Take the file away while it is ours, then let go; what we have let go of is not ours to remove."""
        if self._file != _CLOSED:
            self._path.unlink(missing_ok=True)
            self.close()

    def close(self) -> None:
        """Let go; calling it twice is harmless."""
        if self._file != _CLOSED:
            os.close(self._file)
            self._file = _CLOSED


class Turnstile:
    """The way into the store between processes: take A, take B, release A, commit, release B.

    SQLite's own busy handler polls, so a busy process can shut others out for seconds. Here the kernel wakes those who
    wait in turn: whoever has just committed finds somebody else already holding A and queues behind him.
    """

    def __init__(self, folder: Path) -> None:
        self._outer = FileLock(folder / "queue.lock")
        self._inner = FileLock(folder / "writer.lock")

    def __enter__(self) -> Self:
        """Wait for our turn."""
        self._outer.acquire()
        try:
            self._inner.acquire()
        finally:
            self._outer.release()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the next process in."""
        self._inner.release()

    def close(self) -> None:
        """Close both files; they stay where they are."""
        self._outer.close()
        self._inner.close()


_open_locks: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _close_in_child() -> None:
    for lock in list(_open_locks):
        lock.close()


os.register_at_fork(after_in_child=_close_in_child)
