"""A routes file that changes in every way files change, on a real folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.errors import ConfigError
from proxy.files import RoutesFile, watching
from tests.files.tables import CATALOGUE

FIRST = "models: {first: simulated/x}\n"
SECOND = "models: {second: simulated/x}\n"
BROKEN = "models: {third: nowhere/x}\n"
PATIENCE_S = 5.0


class Watched:
    """A routes file under watch, and how often its change was told."""

    def __init__(self, path: Path | None) -> None:
        self.clock = ManualClock()
        self.routes = RoutesFile(path, environ={}, catalogue=CATALOGUE, clock=self.clock)
        self.told = asyncio.Event()
        self.times_told = 0

    @property
    def names(self) -> list[str]:
        """Give the models of the table in use."""
        return list(self.routes.current.routes)

    async def note(self, routes: RoutesFile) -> None:
        """Be told."""
        assert routes is self.routes
        self.times_told += 1
        self.told.set()

    async def change(self, act: Callable[[], object]) -> None:
        """Change something and wait until it is told."""
        self.told.clear()
        act()
        await asyncio.wait_for(self.told.wait(), PATIENCE_S)


@contextlib.asynccontextmanager
async def watch(path: Path | None) -> AsyncIterator[Watched]:
    """Watch until the test is through."""
    watched = Watched(path)
    task = asyncio.create_task(watched.routes.watch(watched.note))
    await asyncio.sleep(0.1)  # until the watcher stands; a change before that is found by the poll
    try:
        yield watched
        assert not task.done()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a good routes.yaml."""
    path = tmp_path / "routes.yaml"
    path.write_text(FIRST)
    return path


def replace(path: Path, text: str) -> None:
    """Write beside and rename over, as careful editors do."""
    new = path.with_name("routes.yaml.new")
    new.write_text(text)
    new.replace(path)


async def test_a_replaced_file_is_taken_over(path: Path) -> None:
    """By rename, and in place; requests that hold the old table keep it."""
    async with watch(path) as watched:
        old = watched.routes.current
        watched.clock.advance(60)
        await watched.change(lambda: replace(path, SECOND))
        assert watched.names == ["second"]
        assert list(old.routes) == ["first"]
        assert watched.routes.loaded_at_s == watched.clock.now_s()
        await watched.change(lambda: path.write_text(FIRST))
        assert watched.names == ["first"]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda path: path.write_text(""), "the file is empty"),
        (lambda path: path.write_text(BROKEN), "there is no provider `nowhere`"),
        (lambda path: path.write_text(FIRST[:-5]), "not YAML"),
        (lambda path: path.unlink(), "the file does not exist"),
        (lambda path: path.write_bytes(b"#" * 2_000_000), "larger than 1024 KiB"),
        (lambda path: replace(path, "models: {a: b, b: a}"), "a -> b -> a"),
    ],
    ids=["emptied", "broken", "half-written", "deleted", "swollen", "a circle"],
)
async def test_a_bad_edit_keeps_the_old_table(path: Path, break_it: Callable[[Path], object], message: str) -> None:
    """It is told with its place, and over once the file is good again."""
    async with watch(path) as watched:
        loaded_at_s = watched.routes.loaded_at_s
        watched.clock.advance(60)
        await watched.change(lambda: break_it(path))
        assert watched.names == ["first"]
        assert watched.routes.is_stale
        assert watched.routes.loaded_at_s == loaded_at_s
        assert message in str(watched.routes.problem)
        await watched.change(lambda: replace(path, SECOND))
        assert (watched.names, watched.routes.problem, watched.routes.is_stale) == (["second"], None, False)


async def test_a_swapped_link_is_noticed(tmp_path: Path) -> None:
    """As Kubernetes does it: the file is a link through a folder link that is swapped."""
    for name, text in (("one", FIRST), ("two", SECOND)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "routes.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "routes.yaml").symlink_to("..data/routes.yaml")

    def swap() -> None:
        (tmp_path / "..new").symlink_to("two")
        (tmp_path / "..new").rename(tmp_path / "..data")

    async with watch(tmp_path / "routes.yaml") as watched:
        await watched.change(swap)
        assert watched.names == ["second"]


async def test_a_change_behind_a_link_is_found_by_the_poll(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No event comes from another folder."""
    monkeypatch.setattr(watching, "POLL_S", 0.1)
    (tmp_path / "here").mkdir()
    link = tmp_path / "here" / "routes.yaml"
    link.symlink_to(path)
    async with watch(link) as watched:
        await watched.change(lambda: path.write_text(SECOND))
        assert watched.names == ["second"]


async def test_without_a_watcher_the_poll_does_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system has no watches left."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(watching, "awatch", refuse)
    monkeypatch.setattr(watching, "POLL_S", 0.05)
    async with watch(path) as watched:
        await watched.change(lambda: replace(path, SECOND))
        assert watched.names == ["second"]


async def test_dotenv_is_watched_too(path: Path) -> None:
    """A key that comes makes its provider ready."""
    async with watch(path) as watched:
        assert watched.routes.current.providers["openai"].not_ready
        await watched.change(lambda: (path.parent / ".env").write_text("OPENAI_API_KEY=k\n"))
        assert watched.routes.current.providers["openai"].not_ready is None
        await watched.change((path.parent / ".env").unlink)
        assert watched.routes.current.providers["openai"].not_ready


async def test_other_files_of_the_folder_change_nothing(path: Path) -> None:
    """A busy data folder beside the file is no reason to reload."""
    async with watch(path) as watched:
        for number in range(5):
            (path.parent / f"ledger-{number}.db").touch()
        await watched.change(lambda: replace(path, SECOND))
        assert watched.times_told == 1


async def test_a_file_that_keeps_changing_is_read_in_the_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for it to come to rest has a limit."""
    monkeypatch.setattr(watching, "SETTLE_ROUNDS_MAX", 3)
    async with watch(path) as watched:
        deadline = time.monotonic() + PATIENCE_S
        # A look may fall between a write's emptying of the file and its end: a broken edit, and the next one counts.
        while watched.names != ["second"] and time.monotonic() < deadline:
            await asyncio.to_thread(path.write_text, SECOND + "#" * int(time.monotonic() * 1000 % 1000))
            await asyncio.sleep(0.01)
        assert watched.names == ["second"]


async def test_cancelling_ends_the_watch_soon(path: Path) -> None:
    """A server that stops does not wait for its poll."""
    task = asyncio.create_task(Watched(path).routes.watch(Watched(path).note))
    await asyncio.sleep(0.1)
    started = time.monotonic()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < PATIENCE_S


async def test_a_default_file_may_come_later_but_not_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one everything is simulated; once there was one, its loss keeps the old table."""
    monkeypatch.chdir(tmp_path)
    async with watch(None) as watched:
        assert watched.names == ["simulated"]
        assert watched.routes.reload()
        assert watched.names == ["simulated"]
        await watched.change(lambda: Path("routes.yaml").write_text(FIRST))
        assert watched.names == ["first"]
        await watched.change(lambda: Path("routes.yaml").unlink())
        assert watched.names == ["first"]
        assert "does not exist" in str(watched.routes.problem)


def test_without_a_first_table_there_is_nothing_to_hold(path: Path) -> None:
    """A start with a broken file fails."""
    path.write_text(BROKEN)
    with pytest.raises(ConfigError):
        RoutesFile(path, environ={}, catalogue=CATALOGUE, clock=ManualClock())


def test_reading_again_by_hand_tells_whether_it_worked(path: Path) -> None:
    """For a signal, or a command."""
    routes = RoutesFile(path, environ=dict(os.environ), catalogue=CATALOGUE, clock=ManualClock())
    assert (routes.reload(), routes.problem) == (True, None)
    path.write_text(BROKEN)
    assert not routes.reload()
    assert routes.problem is not None
