"""The look at the pages before a start: what it finds, what it costs, and that nothing is changed."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from proxy.clock import ManualClock
from proxy.errors import LedgerUnavailable
from proxy.ledger import checkup
from proxy.ledger.checkup import check_pages
from proxy.ledger.schema import find_file
from proxy.ledger.sqlite import SqliteLedger
from tests.ledger.filling import fill

ROOT = Path(__file__).parents[2]
PAGE_BYTES = 4_096
LEAF = 13
"""How SQLite begins a page that holds rows."""
UNUSABLE = 3


def overwrite_pages(path: Path) -> None:
    """Put random bytes over 300 pages, the first one left alone."""
    chance = Random()
    pages = path.stat().st_size // PAGE_BYTES
    with path.open("r+b") as file:
        for page in chance.sample(range(1, pages), min(300, pages - 1)):
            file.seek(page * PAGE_BYTES)
            file.write(chance.randbytes(PAGE_BYTES))


def overwrite_rows(path: Path) -> None:
    """Spoil the last page that holds attempts and nothing else."""
    content = path.read_bytes()
    pages = [content[at : at + PAGE_BYTES] for at in range(0, len(content), PAGE_BYTES)]
    number = max(number for number, page in enumerate(pages) if page[0] == LEAF and b"openai/gpt-4o-mini" in page)
    with path.open("r+b") as file:
        file.seek(number * PAGE_BYTES)
        file.write(b"\xa5" * PAGE_BYTES)


def overwrite_head(path: Path) -> None:
    """Put random bytes over the file's first hundred."""
    with path.open("r+b") as file:
        file.write(Random().randbytes(100))


def make_newer(path: Path) -> None:
    """Let it have been written by a version to come."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO schema_versions VALUES (999, 0.0)")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (overwrite_pages, ("is damaged", "put a backup in its place")),
        (overwrite_head, ("is damaged", "put a backup in its place")),
        (make_newer, ("has schema 999", "upgrade, or restore")),
    ],
)
def test_a_server_does_not_start_on_it(tmp_path: Path, spoil: Callable[[Path], None], words: tuple[str, str]) -> None:
    """One line names the file and the remedy, the exit code is 3, and every byte is as it was."""
    fill(tmp_path / "data", 3_000)
    path = find_file(tmp_path / "data")
    spoil(path)
    before = path.read_bytes()
    (tmp_path / "routes.yaml").write_text("models: {chat: simulated/echo}\n")
    files = ["--config", str(tmp_path / "routes.yaml"), "--data", str(tmp_path / "data"), "--port", "0"]
    command = [sys.executable, "-m", "proxy", "serve", *files]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == UNUSABLE, ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line]
    assert len(lines) == 1, lines
    assert "ledger.db" in lines[0]
    assert all(word in lines[0] for word in words)
    assert "listening" not in ended.stdout
    assert path.read_bytes() == before


async def test_damage_that_nobody_would_meet_yet_is_found(tmp_path: Path) -> None:
    """A single page of rows long past: requests would not read it for days."""
    fill(tmp_path, 3_000)
    overwrite_rows(find_file(tmp_path))
    with pytest.raises(LedgerUnavailable, match=r"ledger\.db is damaged") as caught:
        await SqliteLedger.open(tmp_path, clock=ManualClock())
    assert "\n" not in caught.value.message


def test_a_large_ledger_is_read_for_so_long_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is behind that is left to `ledger verify`."""
    fill(tmp_path, 3_000)
    overwrite_rows(find_file(tmp_path))
    with pytest.raises(LedgerUnavailable):
        check_pages(find_file(tmp_path))
    monkeypatch.setattr(checkup, "CHECK_S_MAX", -1.0)
    monkeypatch.setattr(checkup, "STEPS_PER_LOOK", 1)
    check_pages(find_file(tmp_path))


def test_what_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    """A first start finds nothing to look at."""
    check_pages(find_file(tmp_path))
    assert list(tmp_path.iterdir()) == []
