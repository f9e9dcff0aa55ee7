"""A store that goes away under load and comes back: short forms of `make torture ARGS=store`, wall-clock left out."""

from __future__ import annotations

from pathlib import Path
from random import Random

from tests.behaviours.test_crash import expect_kept
from tests.torture import store


async def test_syncs_that_fail_refuse_and_lose_nothing(tmp_path: Path) -> None:
    """503 and /health down as long as they fail; running streams end well; all that was told is booked."""
    expect_kept(await store.endure(tmp_path, Random(), store.failing_syncs(1.5), rate_per_s=20, calm_s=1.5))


async def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    """The same, and what was pending is settled soon after there is space again."""
    expect_kept(await store.endure(tmp_path, Random(), store.full_disk(1.5), rate_per_s=20, calm_s=1.5))
