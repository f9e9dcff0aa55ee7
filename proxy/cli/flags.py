"""Flags that many commands have (part of `cli`, floor 7)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Config = Annotated[
    Path | None,
    typer.Option("--config", envvar="TURNPIKE_CONFIG", help="The routing table. [default: routes.yaml]"),
]
Data = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="TURNPIKE_DATA",
        help="The data folder (ledger, keys); a relative one stands beside the routes file.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DATA = Path("data")

OPTIONS: dict[str, Any] = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}
"""Of every group of commands."""
