"""Opening the file: made private, migrated whole or not at all, refused by name and left as it was."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.errors import LedgerUnavailable
from proxy.ledger import schema
from proxy.ledger.sql import STATEMENTS, Migration, load_migrations
from proxy.ledger.sqlite import SqliteLedger
from proxy.ledger.standing import fill_window, open_condition_of
from proxy.policy.calendar import Window
from tests.ledger.entries import key

NOBODY = 65_534


async def refusal(data_dir: Path) -> str:
    """What somebody is told who opens a folder that cannot be used."""
    with pytest.raises(LedgerUnavailable) as caught:
        await SqliteLedger.open(data_dir, clock=ManualClock())
    assert str(data_dir) not in caught.value.message
    return caught.value.message


def pragma(path: Path, name: str) -> object:
    """One setting of a database."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


async def test_the_file_is_private_and_durable(tmp_path: Path) -> None:
    """Mode 0600, with its write-ahead log while it is open; full synchronisation on every connection."""
    data_dir = tmp_path / "data"
    ledger = await SqliteLedger.open(data_dir, clock=ManualClock())
    await ledger.declare_keys([key()])
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data_dir.iterdir() if path.is_file()}
    names = {"ledger.db", "ledger.db-wal", "ledger.db-shm", "queue.lock", "writer.lock"}
    assert files == dict.fromkeys(names, 0o600)
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    await ledger.close()
    assert {path.name for path in data_dir.iterdir()} == {"ledger.db", "queue.lock", "writer.lock", "owners"}
    assert list((data_dir / "owners").iterdir()) == []
    with closing(schema.connect(schema.find_file(data_dir))) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


async def test_all_who_start_together_open_one_ledger(tmp_path: Path) -> None:
    """Ten openings of a folder that is not there yet make one schema."""
    ledgers = await asyncio.gather(*(SqliteLedger.open(tmp_path / "data", clock=ManualClock()) for _ in range(10)))
    await ledgers[0].declare_keys([key()])
    assert all([await ledger.list_keys() for ledger in ledgers])
    for ledger in ledgers:
        await ledger.close()


async def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    """The schema is written once, with the time at which that was."""
    data_dir = tmp_path / "data"
    for now_s in (10.0, 20.0):
        ledger = await SqliteLedger.open(data_dir, clock=ManualClock(now_s))
        await ledger.close()
    with closing(sqlite3.connect(data_dir / "ledger.db")) as connection:
        found = connection.execute("SELECT version, applied_at_s FROM schema_versions").fetchall()
    assert found == [(migration.version, 10.0) for migration in load_migrations()]


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """An older program must not write what it does not know."""
    ledger = await SqliteLedger.open(tmp_path, clock=ManualClock())
    await ledger.close()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection, connection:
        connection.execute("INSERT INTO schema_versions VALUES (999, 0.0)")
    before = (tmp_path / "ledger.db").read_bytes()
    message = await refusal(tmp_path)
    assert "ledger.db has schema 999" in message
    assert "upgrade" in message
    assert (tmp_path / "ledger.db").read_bytes() == before


@pytest.mark.parametrize("content", [b"garbage " * 1000, b"SQLite format 3\x00" + b"\xff" * 4096])
async def test_garbage_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    """A file that is no database may be all that somebody has left of one."""
    (tmp_path / "ledger.db").write_bytes(content)
    message = await refusal(tmp_path)
    assert "ledger.db is damaged or not a ledger" in message
    assert "backup" in message
    assert (tmp_path / "ledger.db").read_bytes() == content


async def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    """Tables are not added to what is not ours."""
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection, connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    before = (tmp_path / "ledger.db").read_bytes()
    assert "ledger.db is a database of something else" in await refusal(tmp_path)
    assert (tmp_path / "ledger.db").read_bytes() == before


async def test_a_folder_in_the_files_place_is_refused(tmp_path: Path) -> None:
    """What cannot be opened is named."""
    (tmp_path / "ledger.db").mkdir()
    assert "ledger.db cannot be used" in await refusal(tmp_path)


async def test_a_lock_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    """Without the turnstile several processes would not be safe, so nobody starts."""
    (tmp_path / "queue.lock").mkdir()
    assert "cannot be used" in await refusal(tmp_path)


@pytest.fixture
def foreign_folder() -> Iterator[Path]:
    """A folder in which this process, whoever runs it, may read and not write."""
    folder = Path(tempfile.mkdtemp())
    is_root = os.geteuid() == 0
    yield folder
    if is_root:
        os.seteuid(0)
    folder.chmod(0o700)
    shutil.rmtree(folder)


def make_read_only(folder: Path) -> None:
    """Let everybody in, and nobody write the ledger."""
    for path in (*folder.iterdir(), folder):
        path.chmod(0o777 if path.suffix == ".lock" or path.is_dir() else 0o444)
    if os.geteuid() == 0:
        os.seteuid(NOBODY)  # root may write everywhere


async def test_a_read_only_ledger_is_refused(foreign_folder: Path) -> None:
    """It is noticed at the start, not at the first request."""
    ledger = await SqliteLedger.open(foreign_folder, clock=ManualClock())
    await ledger.close()
    make_read_only(foreign_folder)
    message = await refusal(foreign_folder)
    assert "ledger.db cannot be used" in message
    assert "can be written" in message


def test_migrations_are_applied_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that fails leaves the schema before it, and the next start tries again."""
    path = tmp_path / "ledger.db"
    first = load_migrations()
    schema.prepare(path, 1.0)
    second = Migration(first[-1].version + 1, ("CREATE TABLE extra (a TEXT)", "CREATE TABLE extra (b TEXT)"))
    monkeypatch.setattr(schema, "load_migrations", lambda: (*first, second))
    with pytest.raises(LedgerUnavailable, match=r"ledger\.db cannot be used: table extra already exists"):
        schema.prepare(path, 2.0)
    mended = second._replace(statements=second.statements[:1])
    monkeypatch.setattr(schema, "load_migrations", lambda: (*first, mended))
    schema.prepare(path, 3.0)
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT version, applied_at_s FROM schema_versions").fetchall()
    assert found == [*((migration.version, 1.0) for migration in first), (mended.version, 3.0)]


IN_BATCHES = (
    "find_key_state",
    "find_limits",
    "find_flow",
    "correct_rate",
    "count_open",
    "open_balance",
    "find_balance",
    "list_windows",
    "write_balance",
    "is_kept",
    "is_request_taken",
    "clear_last_attempt",
    "begin_next_attempt",
    "find_pending",
    "find_pending_of_owner",
    "list_pending_owners",
    "end_attempt",
    "sum_window",
    "find_key_by_digest",
    "find_request",
    "list_rollable",
    "tag_day",
    "forget_tag",
    "forget_attempt",
    "drop_window",
)


@pytest.mark.parametrize("name", IN_BATCHES)
def test_statements_find_their_rows_by_an_index(tmp_path: Path, name: str) -> None:
    """What stands between a request and its answer never walks through a table."""
    schema.prepare(tmp_path / "ledger.db", 1.0)
    statement = STATEMENTS[name].replace("{places}", "?, ?")
    statement = statement.replace("{condition}", "key_name = ?").replace("{day_condition}", "key_name = ?")
    with closing(schema.connect(tmp_path / "ledger.db")) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", (None,) * statement.count("?")).fetchall()
    steps = [step[-1] for step in plan]
    assert steps
    assert all("SCAN" not in step or "INDEX attempts_pending" in step for step in steps)


def test_a_tags_past_is_not_read_again(tmp_path: Path) -> None:
    """Of what is under way each attempt is looked up, and a window reads its own time only."""
    scope, window = "tag:acme/job=1", Window(1_000, 2_000)
    open_condition, values = open_condition_of(scope)
    asked = [
        (STATEMENTS["count_open"].format(condition=open_condition), values, "(scope=? AND at_s=? AND seq=?)"),
        (*fill_window("open_balance", scope, window), "(scope=? AND at_s>? AND at_s<?)"),
        (*fill_window("sum_window", scope, window), "(scope=? AND at_s>? AND at_s<?)"),
    ]
    schema.prepare(tmp_path / "ledger.db", 1.0)
    with closing(schema.connect(tmp_path / "ledger.db")) as connection:
        for statement, parameters, search in asked:
            place = (None,) * (statement.count("?") - len(parameters))
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", (*place, *parameters)).fetchall()
            steps = [step[-1] for step in plan if "attempt_tags" in step[-1]]
            assert steps == [f"SEARCH attempt_tags USING PRIMARY KEY {search}"]


def test_a_migration_that_rolls_back_by_itself_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some failures end the transaction before we do."""
    ending = Migration(1, ("CREATE TABLE a (b TEXT)", "ROLLBACK", "nonsense"))
    monkeypatch.setattr(schema, "load_migrations", lambda: (ending,))
    with pytest.raises(LedgerUnavailable, match="nonsense"):
        schema.prepare(tmp_path / "ledger.db", 1.0)
    assert pragma(tmp_path / "ledger.db", "application_id") == 0


def test_a_connection_that_cannot_be_set_up_is_closed(tmp_path: Path) -> None:
    """The error comes through, the file is let go of."""
    (tmp_path / "ledger.db").write_bytes(b"garbage " * 1000)
    with pytest.raises(sqlite3.DatabaseError):
        schema.connect(tmp_path / "ledger.db")


def test_a_lock_is_told_from_damage(tmp_path: Path) -> None:
    """Each kind of trouble has its own remedy."""
    schema.prepare(tmp_path / "ledger.db", 1.0)
    holder, other = schema.connect(tmp_path / "ledger.db"), schema.connect(tmp_path / "ledger.db")
    other.execute("PRAGMA busy_timeout = 1")
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError) as caught:
        other.execute("BEGIN IMMEDIATE")
    unavailable = schema.explain(caught.value)
    assert "locked by another program" in unavailable.message
    assert unavailable.retry_after_s is not None
    holder.close()
    other.close()
