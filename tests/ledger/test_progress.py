"""Word of open attempts: written whole, mode 0600, beside the owner's lock; read from the dead, believed when sound."""

from __future__ import annotations

import stat
from pathlib import Path

import orjson
import pytest

from proxy.errors import LedgerUnavailable
from proxy.ledger import progress as under_test
from proxy.ledger.folder import find_owners
from proxy.ledger.progress import find_progress, read_progress, remove_progress, write_progress
from proxy.ledger.resolution import Progress
from tests.ledger.entries import NOON_S, ask, key
from tests.ledger.houses import SqliteHouse

WORD = Progress("r", 1, "gen-1", can_look_up=True, cost_nano_usd=5, input_tokens=3, output_tokens=4)


def test_a_word_is_read_as_it_was_written(tmp_path: Path) -> None:
    """The last one replaces what was said before, and nothing half-written stays."""
    path = find_progress(tmp_path, "abc")
    write_progress(path, [WORD, WORD._replace(number=2)])
    second = WORD._replace(number=2, generation_id=None, can_look_up=False, cost_nano_usd=None)
    write_progress(path, [second])
    assert read_progress(path) == {("r", 2): second}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["abc.progress"]
    remove_progress(path)
    remove_progress(path)
    assert read_progress(path) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"version": 2, "attempts": []}',
        b'{"version": 1}',
        orjson.dumps({"version": 1, "attempts": [1, ["r"], [*WORD, 1]]}),
        orjson.dumps({"version": 1, "attempts": [WORD._replace(number=-1)]}, default=list),
        orjson.dumps({"version": 1, "attempts": [list(WORD._replace(cost_nano_usd=-1))]}),
        orjson.dumps({"version": 1, "attempts": [[*WORD[:4], 1.5, 3, 4], [*WORD[:5], True, 4]]}),
        orjson.dumps(
            {"version": 1, "attempts": [[7, *WORD[1:]], [*WORD[:2], 7, *WORD[3:]], [*WORD[:3], 1, *WORD[4:]]]}
        ),
    ],
)
def test_what_is_no_word_says_nothing(tmp_path: Path, content: bytes) -> None:
    """Cut, of another version, or with figures that cannot be."""
    path = find_progress(tmp_path, "abc")
    path.write_bytes(content)
    assert read_progress(path) == {}


def test_a_file_beyond_all_sense_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not ours."""
    path = find_progress(tmp_path, "abc")
    write_progress(path, [WORD])
    monkeypatch.setattr(under_test, "FILE_BYTES_MAX", 10)
    assert read_progress(path) == {}


async def test_the_word_goes_with_its_owner(tmp_path: Path) -> None:
    """Who closes in order takes it back; whoever resolves the dead does it for them."""
    house = SqliteHouse(tmp_path)
    ending, dying, living = [await house.open() for _ in range(3)]
    owners = find_owners(house.data_dir)
    await living.declare_keys([key()])
    await dying.admit(ask("r"))
    for ledger in (ending, dying):
        await ledger.resolution.note_progress([WORD])
    assert len(list(owners.glob("*.progress"))) == 2
    await ending.close()
    await house.kill(dying)
    assert len(list(owners.glob("*.progress"))) == 1
    assert await living.resolve_dead_owners(NOON_S) == 1
    assert list(owners.glob("*.progress")) == []
    await house.close()


async def test_a_folder_that_takes_nothing_is_told(tmp_path: Path) -> None:
    """The caller decides what follows; requests go on."""
    house = SqliteHouse(tmp_path)
    ledger = await house.open()
    for path in find_owners(house.data_dir).iterdir():
        path.unlink()
    find_owners(house.data_dir).rmdir()
    with pytest.raises(LedgerUnavailable):
        await ledger.resolution.note_progress([WORD])
    find_owners(house.data_dir).mkdir()
    await house.close()
