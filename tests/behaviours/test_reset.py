"""A budget's day ends under load: the short form of `make torture ARGS=reset`."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.behaviours.test_crash import expect_kept
from tests.torture import reset


async def test_a_day_ends_for_all_processes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over two processes each charge counts in the day of its hold, one that ends in the next too; room is back."""
    monkeypatch.setattr(reset, "START_S", 6.0)
    expect_kept(await reset.run(tmp_path, Random(), processes=2, rate_per_s=60, around_s=(2.5, 1.3)))
