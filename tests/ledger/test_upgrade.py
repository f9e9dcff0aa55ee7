"""Books of older versions: brought to the newest schema whole, also when that is killed in the middle."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from proxy.clock import ManualClock
from proxy.ledger.folder import find_owners
from proxy.ledger.schema import find_file
from proxy.ledger.sql import load_migrations
from proxy.ledger.sqlite import SqliteLedger
from proxy.ledger.verification import verify
from proxy.money import Budget, Period
from tests.behaviours.test_crash import expect_kept
from tests.ledger.filling import FROM_S, KEYS, fill
from tests.torture import upgrade

NEWEST = load_migrations()[-1].version


@pytest.mark.parametrize("version", range(1, NEWEST))
async def test_books_of_every_older_schema_go_on(tmp_path: Path, version: int) -> None:
    """Every row and every budget is there, and it all adds up."""
    fill(tmp_path, 400, version=version)
    before = upgrade.look(tmp_path)
    assert len(before.versions) == version
    ledger = await SqliteLedger.open(tmp_path, clock=ManualClock(FROM_S))
    try:
        for number in range(KEYS):
            limits = await ledger.find_limits(f"key:key-{number}")
            assert limits.budgets == (Budget(1_000_000_000_000, Period.DAY),)
        assert {row.route for row in await ledger.export(since_s=None, after_seq=0, rows_max=999)} == {"chat"}
    finally:
        await ledger.close()
    after = upgrade.look(tmp_path)
    assert len(after.versions) == NEWEST
    assert after.sums == before.sums
    found = verify(find_file(tmp_path), owners=find_owners(tmp_path))
    assert found.findings == ()


async def test_an_upgrade_that_is_killed_leaves_the_old_schema_or_the_new(tmp_path: Path) -> None:
    """At random moments, in a process of its own; the next one finishes it."""
    expect_kept(await upgrade.run(tmp_path, Random(), requests=20_000, kills=4))
