"""Killed processes, several processes, more requests than money: short forms of `make torture`, wall-clock left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.torture import budget, crash, leaving, owners
from tests.torture.findings import Finding


def expect_kept(found: Sequence[Finding]) -> None:
    """Hold every finding that is no wall-clock figure; those are for a quiet machine to judge."""
    broken = [finding for finding in found if not finding.is_kept and not finding.is_timed]
    assert not broken, broken


async def test_a_kill_under_load_loses_no_row(tmp_path: Path) -> None:
    """After kill -9 every id a client saw has its rows, every cost told is booked, nothing stays pending or held."""
    expect_kept(await crash.run(tmp_path, Random(), rounds=3, rate_per_s=60, kill_after_s=(0.3, 0.9)))


async def test_two_processes_share_one_budget(tmp_path: Path) -> None:
    """200 at once on a key with room for 20, over two processes: 20 are let in, 180 get 402 and reach no upstream."""
    expect_kept(await budget.run(tmp_path, Random(), cases=[budget.Case(200, 20, 2)]))


async def test_a_budget_holds_across_a_crash(tmp_path: Path) -> None:
    """One of two processes is killed with requests under way: what it held still counts, and is then booked."""
    expect_kept(await budget.run(tmp_path, Random(), cases=[budget.Case(60, 20, 2, is_killed=True)]))


async def test_the_holds_of_the_living_are_left_alone(tmp_path: Path) -> None:
    """A second process starts, dies and starts again while the first one holds streams, even while that is stopped."""
    expect_kept(await owners.run(tmp_path, Random(), streams=5, quiet_s=0.6))


async def test_clients_that_leave_are_booked_once(tmp_path: Path) -> None:
    """Before the first byte and in mid-reply, by FIN, RST or half-close: one row each, nothing held, no fallback."""
    expect_kept(await leaving.run(tmp_path, Random(), times=2))
