"""Advisory locks: who has one, who dies with one, and the turnstile that lets processes through in turn."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from proxy.ledger.locks import FileLock, Turnstile

FORKING = """
import os, sys, time
from pathlib import Path
from proxy.ledger.locks import FileLock

lock = FileLock(Path(sys.argv[1]))
assert lock.try_acquire()
parent, (ready, told) = os.getpid(), os.pipe()
if os.fork():
    os.read(ready, 1)
    print("held", flush=True)
    sys.stdin.readline()
    os._exit(0)
os.write(told, b"x")
while os.getppid() == parent:
    time.sleep(0.01)
sys.stdin.read()
"""
"""Takes a lock and has a child that outlives it: the parent goes at the first line, the child at the end of stdin."""


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    """Two openings exclude each other, within one process too."""
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.try_acquire()
    assert not second.try_acquire()
    first.release()
    assert second.try_acquire()
    first.close()
    second.close()
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_closing_lets_go(tmp_path: Path) -> None:
    """Twice is once."""
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    first.acquire()
    first.close()
    first.close()
    assert second.try_acquire()
    second.close()


def test_a_file_is_made_only_when_asked_for(tmp_path: Path) -> None:
    """Who looks for another's lock makes none."""
    with pytest.raises(FileNotFoundError):
        FileLock(tmp_path / "lock", is_created=False)
    assert not (tmp_path / "lock").exists()


def test_a_link_is_no_lock_file(tmp_path: Path) -> None:
    """It could lead to a file of somebody else's."""
    (tmp_path / "lock").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic links"):
        FileLock(tmp_path / "lock")


def test_a_lock_knows_whether_its_file_is_still_there(tmp_path: Path) -> None:
    """Removed or replaced, it guards nothing any more."""
    lock = FileLock(tmp_path / "lock")
    assert lock.is_in_place()
    (tmp_path / "lock").unlink()
    assert not lock.is_in_place()
    (tmp_path / "lock").touch()
    assert not lock.is_in_place()
    lock.close()


def test_a_note_in_the_file_replaces_the_one_before(tmp_path: Path) -> None:
    """For people who look."""
    lock = FileLock(tmp_path / "lock")
    lock.write("a long note")
    lock.write("short")
    assert (tmp_path / "lock").read_text() == "short"
    lock.close()


def test_only_a_holder_removes_the_file(tmp_path: Path) -> None:
    """What was let go of may be somebody else's by now."""
    lock = FileLock(tmp_path / "lock")
    lock.remove()
    assert not (tmp_path / "lock").exists()
    (tmp_path / "lock").touch()
    lock.remove()
    assert (tmp_path / "lock").exists()


def test_a_turnstile_lets_one_in_at_a_time(tmp_path: Path) -> None:
    """Whoever waits comes in when the one before leaves."""
    first, second = Turnstile(tmp_path), Turnstile(tmp_path)
    order: list[str] = []

    def enter() -> None:
        with second:
            order.append("second")

    with first:
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join(0.05)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]
    first.close()
    second.close()


def test_a_turnstile_that_fails_half_way_blocks_nobody(tmp_path: Path) -> None:
    """The outer lock is let go of even when the inner one cannot be had."""
    broken, sound = Turnstile(tmp_path), Turnstile(tmp_path)
    broken._inner.close()  # noqa: SLF001  # as if the file had been lost
    with pytest.raises(ValueError, match="negative"):
        broken.__enter__()
    with sound:
        pass
    broken.close()
    sound.close()


def test_a_lock_dies_with_its_process_and_not_with_its_children(tmp_path: Path) -> None:
    """A forked child would keep its parent's locks alive, and a dead owner would be taken for a living one."""
    command = [sys.executable, "-c", FORKING, str(tmp_path / "lock")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    lock = FileLock(tmp_path / "lock")
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert not lock.try_acquire()
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.wait(5) == 0
        assert lock.try_acquire()  # the child still reads
        process.stdin.close()
        process.stdout.read()
    lock.close()
