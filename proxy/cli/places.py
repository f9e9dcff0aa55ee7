"""Where a command finds its files (part of `cli`, floor 7)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROUTES = Path("routes.yaml")
LEDGER = "ledger.db"


@dataclass(frozen=True, slots=True)
class Places:
    """The routes file and the data folder of one invocation."""

    config: Path | None
    """None: routes.yaml of the working folder, if there is one."""
    data: Path


def find_places(config: Path | None, data: Path) -> Places:
    """Join the two: a relative data folder stands beside the routes file, wherever the command is run from."""
    return Places(config, (config or ROUTES).parent / data)
