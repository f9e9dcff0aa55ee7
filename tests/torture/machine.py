"""A long walk of the ledger's state machine: a hold ends exactly once, in whatever order its end is reported (R19).

The machine itself stands in tests/ledger; this run only takes many more steps of it than the test suite can afford.
"""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from random import Random
from typing import Final

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from tests.ledger.test_machine import Books
from tests.torture.findings import Finding, counted

STEPS_PER_WALK: Final = 50
WALKS_MAX: Final = 5_000


class _Counting(Books):
    """The machine, counting its steps."""

    steps = 0

    @invariant()
    def count(self) -> None:
        """Count: an invariant is asked after every step."""
        type(self).steps += 1


async def run(_folder: Path, chance: Random, *, steps: int = 50_000) -> list[Finding]:
    """Walk until so many steps are taken or one of them breaks the books."""
    _Counting.steps = 0
    walks = 0
    breaches: list[str] = []
    while _Counting.steps < steps and not breaches and walks < WALKS_MAX:
        wanted = math.ceil((steps - _Counting.steps) / STEPS_PER_WALK)
        walks += wanted
        breach = await asyncio.to_thread(_walk, wanted, chance.getrandbits(32))
        breaches += [breach] if breach else []
    return [
        counted(
            "R19: every hold ends once, balances are the sums, SQLite and its twin agree after every step",
            "0 broken",
            f"{_Counting.steps} steps in {walks} walks",
            breaches,
        )
    ]


def _walk(walks: int, number: int) -> str | None:
    """Take so many walks and give what broke, with the shortest way there."""
    chosen = settings(
        max_examples=walks,
        stateful_step_count=STEPS_PER_WALK,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(seed(number)(_Counting), settings=chosen)
    except AssertionError as error:
        notes = getattr(error, "__notes__", [])
        return "\n".join([f"seed {number}: {error!r}", *notes])
    return None
