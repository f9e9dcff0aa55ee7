"""Who lives: locks that die with their process, names that are never mistaken."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from proxy.ledger.locks import FileLock, Turnstile
from proxy.ledger.owners import Owner, seize_dead


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where owners keep their locks."""
    return tmp_path


def dead(folder: Path, *pending: str) -> list[str]:
    """The names of the dead, left as they are."""
    with seize_dead(folder, pending) as found:
        return [owner.id for owner in found]


def test_the_living_are_not_seized(folder: Path) -> None:
    """Neither somebody else nor oneself, however often one looks."""
    owner, other = Owner(folder), Owner(folder)
    assert owner.id != other.id
    assert dead(folder, owner.id, other.id) == []
    assert dead(folder) == []
    owner.retire()
    other.retire()
    assert list(folder.iterdir()) == []


def test_the_dead_are_seized_until_buried(folder: Path) -> None:
    """A lock without a bearer is death; while one process sees to the dead, another does not."""
    owner = Owner(folder)
    owner.abandon()
    owner.retire()  # too late: what was let go of is not removed
    assert dead(folder) == [owner.id]
    with seize_dead(folder, []) as found:
        assert dead(folder, owner.id) == []
        found[0].bury()
    assert dead(folder) == []
    assert list(folder.iterdir()) == []


def test_a_name_without_a_file_is_dead(folder: Path) -> None:
    """A process that closed in order left no file; neither did one whose data came from a backup."""
    with seize_dead(folder, ["gone"]) as found:
        assert [owner.id for owner in found] == ["gone"]
        found[0].bury()
    assert dead(folder, "gone") == ["gone"]


def test_a_file_removed_while_it_is_claimed_is_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was taken for dead between opening and locking takes a fresh file."""
    acquire = FileLock.acquire
    removed: list[Path] = []

    def acquire_late(lock: FileLock) -> None:
        if not removed:
            (path,) = folder.iterdir()
            path.unlink()
            removed.append(path)
        acquire(lock)

    monkeypatch.setattr(FileLock, "acquire", acquire_late)
    owner = Owner(folder)
    assert removed == list(folder.iterdir())
    assert dead(folder, owner.id) == []
    owner.retire()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked by hand")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_does_not_keep_its_parent_alive(folder: Path) -> None:
    """A child shares its parent's open files; its locks are closed in it, and its own closing frees nothing."""
    owner = Owner(folder)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"!")
        signal.pause()
        os._exit(0)
    try:
        os.read(reading, 1)
        assert dead(folder, owner.id) == []
        owner.abandon()
        assert dead(folder, owner.id) == [owner.id]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def test_a_lock_file_is_no_way_out_of_the_folder(folder: Path) -> None:
    """A symbolic link in its place is refused."""
    (folder / "writer.lock").symlink_to(folder / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        Turnstile(folder)
    assert not (folder / "elsewhere").exists()


def test_the_turnstile_lets_in_one_by_one(folder: Path) -> None:
    """Several openings take turns, and one that hurries back does not overtake who waits."""
    turns: list[int] = []
    inside = threading.Lock()

    def enter(name: int) -> None:
        turnstile = Turnstile(folder)
        for _ in range(50):
            with turnstile:
                assert inside.acquire(blocking=False)
                turns.append(name)
                inside.release()
        turnstile.close()

    threads = [threading.Thread(target=enter, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(turns) == sorted([0, 1, 2] * 50)


def test_a_turn_ends_when_it_fails(folder: Path) -> None:
    """An error inside lets the next one in all the same."""
    turnstile = Turnstile(folder)
    with pytest.raises(KeyError), turnstile:
        raise KeyError
    other = Turnstile(folder)
    with other:
        pass
    other.close()
    turnstile.close()
    turnstile.close()
