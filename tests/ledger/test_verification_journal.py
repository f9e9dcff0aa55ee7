"""The journal worked out anew: postings that sum to zero, corrections that lead to what is booked, questions open."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from proxy.ledger.folder import find_owners
from proxy.ledger.resolution import Progress, Reason, Truth
from proxy.ledger.schema import find_file
from proxy.ledger.verification import Check, Verification, verify
from proxy.usage import CostSource, Usage
from tests.ledger.entries import NOON_S, ask, key, over, posted, start
from tests.ledger.houses import SqliteHouse

LOPSIDED = """CREATE VIEW attempt_postings (seq, at_s, account, amount_nano_usd) AS
SELECT seq, ended_at_s, 'key:' || key_name, cost_nano_usd FROM attempts"""


def look(data_dir: Path) -> Verification:
    """Verify the ledger of a data folder."""
    return verify(find_file(data_dir), owners=find_owners(data_dir))


def run(data_dir: Path, *statements: str) -> list[tuple[object, ...]]:
    """Ask or change the books behind the ledger's back."""
    with closing(sqlite3.connect(find_file(data_dir), isolation_level=None)) as connection:
        return [row for statement in statements for row in connection.execute(statement).fetchall()]


def truth(seq: int, cost: int, reason: Reason) -> Truth:
    """What came out later."""
    return Truth(seq, cost, CostSource.REPORTED, Usage(3, 4), reason, NOON_S + 60)


@pytest.fixture
async def data_dir(tmp_path: Path) -> AsyncIterator[Path]:
    """Books with an attempt corrected twice, one whose cost was unknown, one a tenant paid, and one unresolved."""
    house = SqliteHouse(tmp_path)
    dying, ledger = await house.open(), await house.open()
    await ledger.declare_keys([key(limit=1_000), key("free", limit=None)])
    asked = posted(1, 6)._replace(cost_source=CostSource.ESTIMATED, is_lookup_due=True)
    await ledger.admit(ask("corrected"))
    await ledger.settle(over("corrected", asked))
    await ledger.resolution.correct(truth(1, 4, Reason.LATE))
    await ledger.resolution.correct(truth(1, 5, Reason.LOOKUP))
    await ledger.admit(ask("unknown", key_name="free", attempts=[start(1, 0, is_priced=False)]))
    await ledger.settle(over("unknown", posted(1, None)))
    await ledger.resolution.correct(truth(2, 9, Reason.LOOKUP))
    await ledger.admit(ask("paid", attempts=[start(1)._replace(payer="tenant")]))
    await ledger.settle(over("paid", posted(1, 3)))
    await dying.admit(ask("open"))
    await dying.resolution.note_progress([Progress("open", 1, "gen-4", can_look_up=True, cost_nano_usd=1)])
    await house.kill(dying)
    await ledger.resolve_dead_owners(NOON_S)
    await ledger.admit(ask("running"))
    yield house.data_dir
    await house.close()


def test_the_journal_adds_up(data_dir: Path) -> None:
    """Every entry has two legs, one owed and one spent; what is open has none, and all of them sum to zero."""
    assert look(data_dir).findings == ()
    legs = run(data_dir, "SELECT kind, attempt_seq, account, amount_nano_usd FROM postings ORDER BY 2, 1, seq, 4")
    assert legs == [
        ("attempt", 1, "upstream:sim", -6),
        ("attempt", 1, "key:app", 6),
        ("correction", 1, "key:app", -2),
        ("correction", 1, "upstream:sim", 2),
        ("correction", 1, "upstream:sim", -1),
        ("correction", 1, "key:app", 1),
        ("correction", 2, "upstream:sim", -9),
        ("correction", 2, "key:free", 9),
        ("attempt", 3, "upstream:sim@acme", -3),
        ("attempt", 3, "key:app", 3),
    ]
    assert run(data_dir, "SELECT sum(amount_nano_usd) FROM postings") == [(0,)]
    spent = run(data_dir, "SELECT key_name, sum(cost_nano_usd) FROM attempts GROUP BY 1 ORDER BY 1")
    posted_by_key = (
        "SELECT substr(account, 5), sum(amount_nano_usd) FROM postings WHERE account LIKE 'key:%' GROUP BY 1"
    )
    assert run(data_dir, f"{posted_by_key} ORDER BY 1") == spent == [("app", 8), ("free", 9)]


@pytest.mark.parametrize(
    ("statement", "checks"),
    [
        ("UPDATE corrections SET delta_nano_usd = 0 WHERE reason = 'late_settlement'", [Check.CORRECTION]),
        ("DELETE FROM corrections WHERE seq = 2", [Check.CORRECTION]),
        ("UPDATE attempts SET cost_nano_usd = 7 WHERE seq = 1", [Check.BALANCE, Check.CORRECTION]),
        ("UPDATE corrections SET attempt_seq = 99 WHERE seq = 3", [Check.CORRECTION]),
        ("UPDATE corrections SET attempt_seq = 4 WHERE seq = 3", [Check.CORRECTION, Check.CORRECTION]),
        ("DELETE FROM lookups", [Check.LOOKUP]),
        ("UPDATE attempts SET generation_id = NULL WHERE state = 'unresolved'", [Check.LOOKUP]),
        ("INSERT INTO lookups VALUES (5, 0, 0, NULL, 0, 0)", [Check.LOOKUP]),
    ],
)
def test_what_does_not_add_up_is_found(data_dir: Path, statement: str, checks: list[Check]) -> None:
    """A correction too many, too few or of nothing; a hold that nobody will resolve."""
    run(data_dir, statement)
    assert [finding.check for finding in look(data_dir).findings] == checks


def test_legs_that_do_not_sum_to_zero_are_found(data_dir: Path) -> None:
    """Only another view could make such, and that is told."""
    run(data_dir, "DROP VIEW postings", "DROP VIEW attempt_postings", LOPSIDED)
    run(data_dir, "CREATE VIEW postings AS SELECT * FROM attempt_postings")
    found = look(data_dir).findings
    assert {finding.check for finding in found} == {Check.POSTINGS}
    assert [finding.found for finding in found] == [
        "5 nano-USD left of attempt 1",
        "9 nano-USD left of attempt 2",
        "3 nano-USD left of attempt 3",
    ]
