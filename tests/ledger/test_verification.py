"""The books worked out anew: what adds up is good, whatever does not is found and named."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from proxy.errors import LedgerUnavailable
from proxy.ledger import verification
from proxy.ledger.folder import find_owners
from proxy.ledger.schema import find_file
from proxy.ledger.sql import load_migrations
from proxy.ledger.verification import STATEMENTS, Check, Finding, Orphan, Verification, verify
from proxy.money import Period
from tests.ledger.entries import DAY_S, NOON_S, ask, key, onward, over, posted, start, voided
from tests.ledger.filling import fill
from tests.ledger.houses import SqliteHouse
from tests.torture import crash

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20
NEWEST = load_migrations()[-1].version
TODAY_S = 1_795_132_800
"""Midnight before noon."""


def look(data_dir: Path) -> Verification:
    """Verify the ledger of a data folder."""
    return verify(find_file(data_dir), owners=find_owners(data_dir))


def plant(data_dir: Path, *statements: str) -> None:
    """Change the books behind the ledger's back."""
    with closing(sqlite3.connect(find_file(data_dir), isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


async def write_books(house: SqliteHouse) -> None:
    """Write one attempt of every kind: posted, fallen back from, of unknown cost, above its hold, and open."""
    ledger = await house.open()
    await ledger.declare_keys(
        [key(limit=1_000), key("other", limit=1_000, period=Period.TOTAL), key("free", limit=None)]
    )
    await ledger.admit(ask("one"))
    await ledger.settle(over("one", posted(1, 5)))
    await ledger.admit(ask("two"))
    await ledger.advance(onward("two", voided(1), start(2, 10)))
    await ledger.settle(over("two", posted(2, 7)))
    await ledger.admit(ask("unknown", key_name="free", attempts=[start(1, 0, is_priced=False)]))
    await ledger.settle(over("unknown", posted(1, None)))
    await ledger.admit(ask("dear", key_name="other"))
    await ledger.settle(over("dear", posted(1, 11)._replace(is_overrun=True)))
    await ledger.admit(ask("open", 20))
    await ledger.admit(ask("tomorrow", at_s=NOON_S + DAY_S))
    await ledger.settle(over("tomorrow", posted(1, 9)))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[SqliteHouse]:
    """Books with a bit of everything, and a living process that has something open."""
    house = SqliteHouse(tmp_path)
    await write_books(house)
    yield house
    await house.close()


@pytest.fixture
def data_dir(house: SqliteHouse) -> Path:
    """The folder of these books."""
    return house.data_dir


def test_books_that_add_up_are_good(data_dir: Path) -> None:
    """Counted, and nothing found; what a living process holds is no orphan."""
    assert look(data_dir) == Verification(schema=NEWEST, attempts=7, requests=6, balances=3)


def test_an_empty_ledger_is_good(tmp_path: Path) -> None:
    """Nothing adds up to nothing."""
    fill(tmp_path / "data", 1)
    plant(tmp_path / "data", "DELETE FROM attempts", "DELETE FROM balances")
    assert look(tmp_path / "data") == Verification(schema=NEWEST)


def test_many_rows_add_up(tmp_path: Path) -> None:
    """The books by which its speed is measured, in small: days and all time, fallbacks, twenty keys."""
    fill(tmp_path, 2_000)
    found = look(tmp_path)
    assert (found.attempts, found.requests, found.balances, found.findings) == (2_100, 2_000, 640, ())
    plant(tmp_path, "UPDATE attempts SET at_s = at_s + 86400 WHERE seq = 1000")
    assert {finding.check for finding in look(tmp_path).findings} == {Check.BALANCE}
    assert len(look(tmp_path).findings) == 2


class Planted(NamedTuple):
    """A corruption, what it is found as, and where."""

    statement: str
    check: Check
    place: tuple[str | int | None, ...]
    expected: str
    found: str


ONE = "UPDATE attempts SET {} WHERE request_id = 'one'"
STATE_POSTED = "posted: an end, a source, and a cost unless the source is unknown"
LINES = [
    Planted(
        "UPDATE balances SET posted_nano_usd = posted_nano_usd + 1 WHERE scope = 'key:other'",
        Check.BALANCE,
        ("key:other", 0, None),
        "posted 11, held 0 nano-USD",
        "posted 12, held 0 nano-USD",
    ),
    Planted(
        "UPDATE balances SET held_nano_usd = held_nano_usd - 1 WHERE held_nano_usd > 0",
        Check.BALANCE,
        ("key:app", TODAY_S, TODAY_S + 86_400),
        "posted 12, held 20 nano-USD",
        "posted 12, held 19 nano-USD",
    ),
    Planted(
        "INSERT INTO balances VALUES ('key:nobody', 253402300800, 0, 5, 0)",
        Check.BALANCE,
        ("key:nobody", 0, None),
        "posted 0, held 0 nano-USD",
        "posted 5, held 0 nano-USD",
    ),
    Planted(
        "INSERT INTO balances VALUES ('team:a', 3600, 0, 5, 0)",
        Check.SCOPE,
        ("team:a", 0, 3600),
        "key:NAME, global and so on",
        "team:a",
    ),
    Planted(
        "UPDATE balances SET starts_s = starts_s - 14400 WHERE held_nano_usd > 0",
        Check.WINDOW,
        ("key:app", TODAY_S - 14_400, TODAY_S + 86_400),
        "an hour, day, week, month or all time",
        f"{TODAY_S - 14_400} to {TODAY_S + 86_400} (seconds since the epoch)",
    ),
    Planted(
        "UPDATE balances SET starts_s = 4000000000000000 WHERE scope = 'key:other'",
        Check.WINDOW,
        ("key:other", 4_000_000_000_000_000, None),
        "an hour, day, week, month or all time",
        "4000000000000000 to 253402300800 (seconds since the epoch)",
    ),
    Planted(
        "UPDATE attempts SET cost_nano_usd = 0 WHERE request_id = 'unknown'",
        Check.STATE,
        ("unknown", 1),
        STATE_POSTED,
        f"posted, ended {NOON_S}, cost 0, source unknown",
    ),
    Planted(
        ONE.format("cost_source = NULL"),
        Check.STATE,
        ("one", 1),
        STATE_POSTED,
        f"posted, ended {NOON_S}, cost 5, source none",
    ),
    Planted(
        ONE.format("cost_source = 'guessed'"),
        Check.STATE,
        ("one", 1),
        STATE_POSTED,
        f"posted, ended {NOON_S}, cost 5, source guessed",
    ),
    Planted(
        ONE.format("ended_at_s = NULL"),
        Check.STATE,
        ("one", 1),
        STATE_POSTED,
        "posted, ended none, cost 5, source computed",
    ),
    Planted(
        "UPDATE attempts SET cost_nano_usd = 1 WHERE state = 'voided'",
        Check.STATE,
        ("two", 1),
        "voided: an end, cost 0, no source",
        f"voided, ended {NOON_S}, cost 1, source none",
    ),
    Planted(
        "UPDATE attempts SET ended_at_s = 1.0 WHERE state = 'pending'",
        Check.STATE,
        ("open", 1),
        "pending: no end, no cost, no source",
        "pending, ended 1.0, cost none, source none",
    ),
    Planted(
        "UPDATE attempts SET is_overrun = 0 WHERE request_id = 'dear'",
        Check.HOLD,
        ("dear", 1),
        "marked as overrun exactly when the cost is above the hold",
        "hold 10, cost 11, not marked",
    ),
    Planted(
        ONE.format("is_overrun = 1"),
        Check.HOLD,
        ("one", 1),
        "marked as overrun exactly when the cost is above the hold",
        "hold 10, cost 5, marked",
    ),
    Planted(
        "UPDATE attempts SET hold_nano_usd = 3 WHERE request_id = 'unknown'",
        Check.HOLD,
        ("unknown", 1),
        "nothing held without a price",
        "hold 3",
    ),
    Planted(
        "UPDATE attempts SET number = 3 WHERE request_id = 'two' AND number = 2",
        Check.NUMBERS,
        ("two", None),
        "attempts 1, 2, 3 and so on",
        "attempts 1, 3",
    ),
    Planted(
        "DELETE FROM attempts WHERE state = 'voided'",
        Check.NUMBERS,
        ("two", None),
        "attempts 1, 2, 3 and so on",
        "attempts 2",
    ),
    Planted(
        "UPDATE attempts SET is_last = 1 WHERE request_id = 'two'",
        Check.LAST,
        ("two", 1),
        "attempt 2 is the last one",
        "attempt 1 is marked as it",
    ),
    Planted(
        "UPDATE attempts SET is_last = 0 WHERE request_id = 'two'",
        Check.LAST,
        ("two", 2),
        "marked as the last one",
        "not marked",
    ),
    Planted("DROP INDEX attempts_by_time", Check.SCHEMA, (), "index attempts_by_time", "none"),
    Planted("CREATE TABLE extra (a TEXT)", Check.SCHEMA, (), "no table extra", "one"),
]


@pytest.mark.parametrize("planted", LINES, ids=lambda planted: f"{planted.check}: {planted.statement[:60]}")
def test_a_corruption_is_found_and_named(data_dir: Path, planted: Planted) -> None:
    """One finding, with its place and with what is expected and found."""
    plant(data_dir, planted.statement)
    (finding,) = look(data_dir).findings
    assert (finding.check, finding.expected, finding.found) == (planted.check, planted.expected, planted.found)
    assert place(finding) == planted.place


def place(finding: Finding) -> tuple[str | int | None, ...]:
    """Where something was found."""
    if finding.window is not None:
        return (finding.scope, finding.window.starts_s, finding.window.ends_s)
    return () if finding.request_id is None else (finding.request_id, finding.attempt)


@pytest.mark.parametrize(
    ("statement", "checks"),
    [
        (ONE.format("cost_nano_usd = NULL"), [Check.BALANCE, Check.STATE]),
        (ONE.format("cost_nano_usd = 6"), [Check.BALANCE]),
        (ONE.format("key_name = 'other'"), [Check.BALANCE, Check.BALANCE]),
        (ONE.format("at_s = at_s + 86400"), [Check.BALANCE, Check.BALANCE]),
        (ONE.format("state = 'pending'"), [Check.BALANCE, Check.STATE]),
        (ONE.format("number = 0"), [Check.NUMBERS]),
        (
            "UPDATE attempts SET state = 'unresolved', cost_source = 'held' WHERE state = 'pending'",
            [Check.STATE, Check.LOOKUP],
        ),
        ("DELETE FROM attempts WHERE request_id = 'one'", [Check.BALANCE]),
        ("DELETE FROM attempts WHERE request_id = 'two' AND number = 2", [Check.BALANCE, Check.LAST]),
        ("UPDATE attempts SET is_last = 1 - is_last WHERE request_id = 'two'", [Check.LAST, Check.LAST]),
    ],
)
def test_what_contradicts_more_than_one_thing_is_found_in_each(
    data_dir: Path, statement: str, checks: list[Check]
) -> None:
    """A lost row is missing from its balance, a moved one from one and too much in the other."""
    plant(data_dir, statement)
    assert [finding.check for finding in look(data_dir).findings] == checks


def test_more_than_can_be_told_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand lines would help nobody; that there are more is said."""
    monkeypatch.setattr(verification, "FINDINGS_MAX", 3)
    fill(tmp_path, 40)
    plant(tmp_path, "UPDATE attempts SET cost_source = NULL WHERE seq <= 3 AND state = 'posted'")
    assert (len(look(tmp_path).findings), look(tmp_path).is_cut) == (2, False)
    plant(tmp_path, "UPDATE attempts SET cost_source = NULL")
    assert (len(look(tmp_path).findings), look(tmp_path).is_cut) == (3, True)


async def test_what_the_dead_left_open_is_told_and_no_mistake(house: SqliteHouse, data_dir: Path) -> None:
    """The next process that looks posts it."""
    dying = await house.open()
    await dying.admit(ask("left", 30))
    await dying.admit(ask("left too", 12))
    assert look(data_dir).orphans == ()
    await house.kill(dying)
    found = look(data_dir)
    assert found.is_good
    (orphan,) = found.orphans
    assert (orphan.attempts, orphan.held_nano_usd) == (2, 42)
    assert isinstance(orphan, Orphan)
    living = await house.open()
    assert await living.resolve_dead_owners(NOON_S) == 2
    assert look(data_dir) == Verification(schema=NEWEST, attempts=9, requests=8, balances=3)


def told_of_damage(data_dir: Path) -> bool:
    """Whether damage is told, and nothing else."""
    try:
        found = look(data_dir)
    except LedgerUnavailable as error:
        return "ledger.db is damaged" in error.message
    return {finding.check for finding in found.findings} == {Check.PAGES} and not found.attempts


def test_damaged_pages_are_found_and_nothing_is_made_of_them(tmp_path: Path) -> None:
    """Either SQLite's own check names them, or the file is refused; no sum over them is told."""
    fill(tmp_path, 3_000)
    path = find_file(tmp_path)
    whole = path.read_bytes()
    chance = Random(6)
    for pages in (1, 1, 1, 1, 2, 2, 20, 20):
        damaged = bytearray(whole)
        for _ in range(pages):
            page = chance.randrange(1, len(whole) // 4096)
            damaged[page * 4096 : (page + 1) * 4096] = chance.randbytes(4096)
        path.write_bytes(damaged)
        assert told_of_damage(tmp_path)


def test_a_state_nobody_knows_is_found(data_dir: Path) -> None:
    """SQLite would not have let it in."""
    plant(data_dir, "PRAGMA ignore_check_constraints = 1", ONE.format("state = 'lost'"))
    _, finding = look(data_dir).findings
    assert (finding.check, finding.expected) == (Check.STATE, "a known state")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("INSERT INTO schema_versions VALUES (999, 0.0)", "has schema 999"),
        ("PRAGMA application_id = 7", "database of something else"),
    ],
)
def test_what_is_not_ours_to_judge_is_refused(data_dir: Path, statement: str, words: str) -> None:
    """A newer ledger, somebody else's database."""
    plant(data_dir, statement)
    with pytest.raises(LedgerUnavailable, match=words):
        look(data_dir)


def test_books_of_an_older_release_are_told_as_that(data_dir: Path) -> None:
    """One finding says so: a list of all that is missing would look like damage."""
    plant(data_dir, "DELETE FROM schema_versions WHERE version > 1", "DROP VIEW postings", "DROP TABLE bills")
    (finding,) = look(data_dir).findings
    assert (finding.check, finding.expected) == (Check.SCHEMA, f"schema {NEWEST}")
    assert finding.found.startswith("schema 1, of an older release")


def test_a_file_that_is_not_there_is_refused_and_not_made(tmp_path: Path) -> None:
    """Reading begins nothing."""
    with pytest.raises(LedgerUnavailable, match=r"ledger\.db cannot be used"):
        look(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_cut_to_nothing_is_no_good_ledger(tmp_path: Path) -> None:
    """An empty file is not an empty ledger."""
    find_file(tmp_path).touch()
    assert {finding.check for finding in look(tmp_path).findings} == {Check.SCHEMA}


async def test_a_writing_process_is_looked_at_as_it_stood_at_one_moment(tmp_path: Path) -> None:
    """Again and again while another process writes; then it is killed, and its log is read and left as it was."""
    house = SqliteHouse(tmp_path)
    ledger = await house.open()
    await ledger.declare_keys([key(limit=10**12)])
    await ledger.close()
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.ledger.process", str(house.data_dir), "work", "8"),
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        seen: list[int] = []
        give_up_s = time.monotonic() + PATIENCE_S
        while len(set(seen)) < 10:
            found = await asyncio.to_thread(look, house.data_dir)
            assert (found.findings, found.orphans) == ((), ())
            seen.append(found.attempts)
            assert time.monotonic() < give_up_s
        assert seen == sorted(seen)
    finally:
        worker.kill()
        await worker.wait()
    files = [find_file(house.data_dir), house.data_dir / "ledger.db-wal"]
    before = [path.read_bytes() for path in files]
    assert look(house.data_dir).is_good
    assert [path.read_bytes() for path in files] == before


async def test_a_ledger_that_was_killed_under_load_adds_up(tmp_path: Path) -> None:
    """The books that `make torture` makes, in small."""
    await crash.run(tmp_path, Random(), rounds=2, rate_per_s=40, kill_after_s=(0.3, 0.6))
    found = look(tmp_path / "data")
    assert found.findings == ()
    assert found.attempts > 0


def test_every_question_is_a_statement() -> None:
    """No block is empty, and none hides a second statement."""
    assert STATEMENTS
    assert all(text and ";" not in text for text in STATEMENTS.values())
