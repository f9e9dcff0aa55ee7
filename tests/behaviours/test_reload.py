"""A routes.yaml that is spoilt while requests run: the short form of `make torture`, wall-clock left out."""

from __future__ import annotations

from pathlib import Path
from random import Random

from tests.torture import reload
from tests.torture.findings import Finding

QUICK = ("a syntax error", "an unknown provider, by rename", "emptied", "deleted", "half written")


async def test_broken_edits_under_load_fail_no_request(tmp_path: Path) -> None:
    """The table of before goes on, /health and the log say why, and the next good file is used without a restart."""
    found: list[Finding] = await reload.run(tmp_path, Random(), edits=QUICK, rate_per_s=30, left_broken_s=0.1)
    broken = [finding for finding in found if not finding.is_kept and not finding.is_timed]
    assert not broken, broken
