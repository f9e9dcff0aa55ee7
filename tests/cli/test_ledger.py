"""`ledger verify` and `ledger backup`: whether the books add up, and a copy of them."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import stat
from contextlib import closing

import pytest

from proxy.app import open_ledger
from proxy.cli.ledger import NICENESS
from proxy.ledger import verification
from proxy.ledger.protocol import Ledger
from proxy.ledger.records import Admission, AttemptStart, KeyRecord
from proxy.ledger.sql import load_migrations
from proxy.money import Budget, Period
from proxy.policy.limits import Limits
from tests.cli.conftest import AT_S, Shell

NEWEST = load_migrations()[-1].version


@pytest.fixture(autouse=True)
def niceness(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Keep the tests' own process as it is, and tell how far it would have stood back."""
    asked: list[int] = []
    monkeypatch.setattr("os.nice", asked.append)
    return asked


def plant(shell: Shell, statement: str) -> None:
    """Change the books behind the ledger's back."""
    with closing(sqlite3.connect(shell.data / "ledger.db", isolation_level=None)) as connection:
        connection.execute(statement)


def leave_open(shell: Shell) -> None:
    """Let a process end with a hold open, under a budget."""

    async def hold() -> None:
        ledger: Ledger = await open_ledger(shell.data)
        await ledger.create_key(KeyRecord("left", digest="left", limits=Limits(budgets=(Budget(10**10, Period.DAY),))))
        start = AttemptStart(1, "sim", "echo", 10_000_000)
        await ledger.admit(
            Admission(
                "open", "left", 1, tenant=None, route="chat", app=None, is_stream=True, at_s=AT_S, attempts=(start,)
            )
        )
        await ledger.close()

    asyncio.run(hold())


def test_good_books_are_one_line(shell: Shell) -> None:
    """With counts and time."""
    shell.book()
    shell.book(key="other", cost=None)
    result = shell.here("ledger", "verify")
    assert (result.code, result.err) == (0, "")
    pattern = rf".*ledger\.db: good: 2 attempts of 2 requests, 0 balances, schema {NEWEST}, \d+\.\d s\n"
    assert re.fullmatch(pattern, result.out)


def test_good_books_can_be_read_by_a_program(shell: Shell) -> None:
    """The same as JSON."""
    shell.book()
    result = shell.here("ledger", "verify", "--json")
    found = result.json
    assert isinstance(found.pop("took_s"), float)
    assert (result.code, found) == (
        0,
        {
            "ok": True,
            "schema": NEWEST,
            "attempts": 1,
            "requests": 1,
            "balances": 0,
            "findings": [],
            "more": False,
            "orphans": [],
        },
    )


def test_what_does_not_add_up_is_named(shell: Shell) -> None:
    """1, a line each with key, window or request, with what is expected and what is found."""
    shell.book()
    leave_open(shell)
    plant(shell, "UPDATE balances SET held_nano_usd = held_nano_usd - 1")
    plant(shell, "UPDATE attempts SET is_last = 0, cost_source = NULL WHERE state = 'posted'")
    plant(shell, "INSERT INTO balances VALUES ('key:mobile', 253402300800, 0, 7, 0)")
    plant(shell, "INSERT INTO balances VALUES ('key:mobile', 5000000000000000, 4000000000000000, 7, 0)")
    result = shell.here("ledger", "verify")
    assert result.code == 1
    *lines, verdict, note = result.out.splitlines()
    day = "from 2026-11-18T00:00:00Z to 2026-11-19T00:00:00Z"
    window = "from 4000000000000000 to 5000000000000000"
    period, state = "an hour, day, week, month or all time", "an end, a source, and a cost unless the source is unknown"
    assert [tuple(re.split(r": expected |; found ", line)) for line in lines] == [
        (f"window: key:mobile {window}", period, f"{window.removeprefix('from ')} (seconds since the epoch)"),
        (f"balance: key:left {day}", "posted 0, held 10000000 nano-USD", "posted 0, held 9999999 nano-USD"),
        ("balance: key:mobile of all time", "posted 1500000, held 0 nano-USD", "posted 7, held 0 nano-USD"),
        ("state: request req attempt 1", f"posted: {state}", f"posted, ended {AT_S}, cost 1500000, source none"),
        ("last: request req attempt 1", "marked as the last one", "not marked"),
    ]
    assert "5 findings: 2 attempts of 2 requests, 3 balances" in verdict
    assert note.startswith("note: 1 attempts with $0.010000000 held are pending for a process that has ended")


def test_findings_can_be_read_by_a_program(shell: Shell) -> None:
    """Place, expected and found, and whose holds are left open."""
    leave_open(shell)
    plant(shell, "UPDATE balances SET posted_nano_usd = 1")
    plant(shell, "UPDATE attempts SET number = 2")
    result = shell.here("ledger", "verify", "--json")
    assert (result.code, result.json["ok"]) == (1, False)
    nothing = dict.fromkeys(("scope", "from", "to", "request_id", "attempt"))
    assert result.json["findings"] == [
        {
            **nothing,
            "check": "balance",
            "scope": "key:left",
            "from": "2026-11-18T00:00:00Z",
            "to": "2026-11-19T00:00:00Z",
            "expected": "posted 0, held 10000000 nano-USD",
            "found": "posted 1, held 10000000 nano-USD",
        },
        {
            **nothing,
            "check": "numbers",
            "request_id": "open",
            "expected": "attempts 1, 2, 3 and so on",
            "found": "attempts 2",
        },
    ]
    (orphan,) = result.json["orphans"]
    assert (orphan["attempts"], orphan["held_usd"]) == (1, "0.010000000")


def test_damage_without_a_place_and_more_of_it_than_is_shown_are_told(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands nowhere in the books has no place."""
    shell.book()
    monkeypatch.setattr(verification, "FINDINGS_MAX", 1)
    plant(shell, "DROP INDEX attempts_by_time")
    plant(shell, "DROP INDEX attempts_by_key")
    first, more, verdict = shell.here("ledger", "verify").out.splitlines()
    assert first == "schema: expected index attempts_by_key; found none"
    assert more == "there are more; at most 100 of a kind are shown"
    assert "1 findings" in verdict


@pytest.mark.parametrize("command", [["verify"], ["backup", "copy.db"]])
def test_what_cannot_be_read_is_told_from_what_does_not_add_up(shell: Shell, command: list[str]) -> None:
    """3: no ledger, one of a newer version, one that is damaged."""
    result = shell.here("ledger", *command)
    assert (result.code, result.out) == (3, "")
    assert "there is no ledger" in result.err
    assert not shell.data.exists()
    shell.book()
    plant(shell, "INSERT INTO schema_versions VALUES (999, 0.0)")
    result = shell.here("ledger", *command)
    assert (result.code, result.out) == (3, "")
    assert "upgrade" in result.err
    (shell.data / "ledger.db").write_bytes(b"garbage " * 1000)
    result = shell.here("ledger", *command)
    assert (result.code, result.out) == (3, "")
    assert "ledger.db is damaged" in result.err
    assert not (shell.folder / "copy.db").exists()


def test_a_backup_is_one_line_and_a_reminder(shell: Shell) -> None:
    """In the working folder, not in that of the routes file or the data; the pepper is spoken of."""
    shell.book()
    result = shell.here("ledger", "backup", "copy.db")
    assert result.code == 0
    assert re.fullmatch(r"copy\.db \([\d,]+ bytes\): good: 1 attempts of 1 requests, .*\n", result.out)
    assert "pepper" in result.err
    copy = shell.folder / "copy.db"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    shell.data.rename(shell.folder / "old")
    shell.data.mkdir(mode=0o700)
    copy.rename(shell.data / "ledger.db")
    assert shell.here("ledger", "verify").code == 0
    assert [json.loads(line)["request_id"] for line in shell.here("export").out.splitlines()] == ["req"]


@pytest.mark.parametrize("command", [["verify"], ["backup", "copy.db"]])
def test_servers_come_first(shell: Shell, niceness: list[int], command: list[str]) -> None:
    """Seconds of work at their side are done when they leave the processor free."""
    shell.book()
    assert shell.here("ledger", *command).code == 0
    assert niceness == [NICENESS]


def test_a_backup_is_never_overwritten(shell: Shell) -> None:
    """2, and the remedy."""
    shell.book()
    (shell.folder / "copy.db").write_text("sunday's")
    result = shell.here("ledger", "backup", "copy.db")
    assert (result.code, result.out) == (2, "")
    assert "there already" in result.err
    assert (shell.folder / "copy.db").read_text() == "sunday's"


def test_a_backup_can_be_read_by_a_program_and_says_what_is_wrong_with_it(shell: Shell) -> None:
    """1 with the findings: the copy is kept all the same."""
    shell.book()
    plant(shell, "UPDATE attempts SET is_last = 0")
    result = shell.here("ledger", "backup", "copy.db", "--json")
    assert (result.code, result.json["ok"], result.json["file"]) == (1, False, "copy.db")
    assert [finding["check"] for finding in result.json["findings"]] == ["last"]
    assert result.json["bytes"] == (shell.folder / "copy.db").stat().st_size
