"""Clocks that jump, rates of several processes, agents with long prompts: short forms of `make torture`."""

from __future__ import annotations

from pathlib import Path
from random import Random

from tests.behaviours.test_crash import expect_kept
from tests.torture import agents, clocks, rates


async def test_a_clock_that_jumps_breaks_neither_streams_nor_periods(tmp_path: Path) -> None:
    """Over DST, leap day and month end, back and forth: each period has its budget once, every stream its end."""
    expect_kept(await clocks.run(tmp_path, Random(), streams=5))


async def test_two_processes_keep_one_rate(tmp_path: Path) -> None:
    """Ten a minute: exactly ten of sixty at once; and never more than ten in any second of a rate of ten a second."""
    expect_kept(await rates.run(tmp_path, Random(), case=rates.Case(2, 30, limit=10, window_s=1, windows=3)))


async def test_a_generous_budget_refuses_no_agent(tmp_path: Path) -> None:
    """Long prompts and caps of 32,000 tokens on twenty times what is spent: all are answered."""
    cases = [agents.Case(agents=8, turns=turns, prompt_tokens=10_000) for turns in (2, 1)]
    expect_kept(await agents.run(tmp_path, Random(), cases=cases))
